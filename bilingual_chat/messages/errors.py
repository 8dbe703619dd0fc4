"""The one exception for people, and the exit statuses.

A sentence is named by its key in `messages`, so that the same error speaks English or Japanese;
`str(error)` is the English one, for logs and tests.
"""

from __future__ import annotations

from enum import IntEnum

from bilingual_chat import messages
from bilingual_chat.messages import Place


class ExitStatus(IntEnum):
    """What the process tells its parent."""

    OK = 0
    FAILED = 1
    USAGE = 2
    MODEL = 3
    DATA = 4
    INTERRUPTED = 130
    CLOSED_PIPE = 141


class BchatError(Exception):
    """Something a person can understand and mend.

    `key` names a sentence of `messages.TABLE`; `values` fill its placeholders. They may hold
    untrusted text: whoever shows the sentence cleans it (`untrusted.outward`).
    """

    def __init__(self, key: str, *, status: ExitStatus = ExitStatus.FAILED, **values: object) -> None:
        super().__init__(key)
        self.key = key
        self.status = status
        self.values = values

    def sentence(self, lang: str = "en", place: Place = "") -> str:
        """What is wrong, and how to mend it where the table knows, in `lang` ("en" or "ja")."""
        return messages.render(self.key, lang, place, **self.values)

    def __str__(self) -> str:
        return self.sentence()
