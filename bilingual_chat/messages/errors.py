"""BchatError, whose message is a key of `messages.TABLE`, and the exit statuses."""

from __future__ import annotations

from collections.abc import Iterable
from enum import IntEnum

from bilingual_chat import messages
from bilingual_chat.messages import Interface, Phrase


class ExitStatus(IntEnum):
    """Exit status of the process."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MODEL = 3
    DATA = 4
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class BchatError(Exception):
    """An error that the user can understand and fix.

    `key` names a sentence of `messages.TABLE`, and `values` fill its placeholders. Values may be untrusted text:
    sanitize them when you show the sentence (`text.sanitize.outward`). `str(error)` is English, for logs and tests.
    """

    def __init__(self, key: str, *, status: ExitStatus = ExitStatus.FAILED, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.status = status
        self.values = values

    def sentence(self, lang: str = "en", interface: Interface = "") -> str:
        """Return the problem and the remedy in `lang` ("en" or "ja")."""
        return messages.render(self.key, lang, interface, **self.values)

    @property
    def phrase(self) -> Phrase:
        """The error as a part of another sentence."""
        return Phrase(self.key, **self.values)

    def __str__(self) -> str:
        return self.sentence()


def unknown_name(
    key: str, name: str, known: Iterable[str], *, also: Iterable[str] = (), status: ExitStatus = ExitStatus.USAGE
) -> BchatError:
    """Return the error for a name that is not among `known`, with the nearest of these and of `also`."""
    names = list(known)
    suggestion = messages.did_you_mean(name, [*names, *also])
    return BchatError(key, status=status, name=name, known=", ".join(names), suggestion=suggestion)
