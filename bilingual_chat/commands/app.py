"""What a command works on, what it may give the loop to do, and one row of the table of commands."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from bilingual_chat import messages
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.compare import Variant
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import Config, SettingsChange

# hub would keep the first prompt waiting for 20 ms.
if TYPE_CHECKING:
    from bilingual_chat.commands.first_run import Offer
    from bilingual_chat.hub.background import BackgroundDownload
    from bilingual_chat.hub.download import Progress

Rows = list[tuple[str, ...]]
_YES = ("y", "yes", "ok", "はい", "うん", "お願いします")
_NO = ("n", "no", "いいえ", "いや", "いらない")


@dataclass
class Downloads:
    """What a chat fetches. `foreground`: told how far it is where nobody chats meanwhile (a pipe), else None."""

    offer: Offer | None = None  # that stands: the next line may answer it
    delivery: BackgroundDownload | None = None  # that is on its way, or has ended and nobody has said so yet
    on_finished: Callable[[], None] = lambda: None  # called from another thread
    foreground: Callable[[Progress], None] | None = None

    @property
    def is_running(self) -> bool:
        return self.delivery is not None and not self.delivery.is_finished


@dataclass
class App:
    """What the commands work on: the session, what it was started with, and how to speak to the person."""

    session: Session
    config: Config
    conversations: Path
    lang: str
    say: Callable[[Phrase | BchatError], None]  # a sentence
    show: Callable[[str], None]  # text of any origin
    show_rows: Callable[[Rows], None]  # a table
    ask: Callable[[Phrase], str] = lambda question: ""  # where nobody can answer, the answer is nothing
    load: Callable[[ModelEntry], Callable[[], Model]] = lambda entry: lambda: open_model(entry)
    model_ready: Callable[[], Model | None] = lambda: None
    downloads: Downloads = field(default_factory=Downloads)
    has_line: bool = True  # that text can be put into, for the person to send
    compared: tuple[Variant, ...] = ()  # what /take chooses from
    compared_words: str = ""  # and the message that they answered

    def text(self, phrase: Phrase) -> str:
        return messages.render(phrase.key, self.lang, "chat", **phrase.values)


# -- what the loop is to do after a command -----------------------------------------------------------


@dataclass(frozen=True)
class Say:
    """Send this to the model."""

    text: str


@dataclass(frozen=True)
class Retry:
    """Answer the last message again, with a change of settings for that reply alone."""

    change: SettingsChange


@dataclass(frozen=True)
class Edit:
    """Put this into the line editor; with `replaces_last`, sending it takes the last turn back first."""

    text: str
    replaces_last: bool


@dataclass(frozen=True)
class Leave:
    """Close the conversation and end."""


@dataclass(frozen=True)
class Compare:
    """Answer the last message once for each of these, beside the conversation."""

    variants: tuple[Variant, ...]


Action = Say | Retry | Edit | Compare | Leave | None


@dataclass(frozen=True)
class Command:
    """One row of the table. `arguments` is how /help and the README write what may follow the name.

    Its description is the message "command.NAME". `choices` offers arguments for completion, each
    with a remark; None where there are none, "file" where it is a path.
    """

    name: str
    run: Callable[[App, str], Action]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    choices: Callable[[App, str], Iterable[tuple[str, str]]] | str | None = None
    takes_several: bool = False  # of `choices`, one after the other

    @property
    def usage(self) -> str:
        return f"/{self.name} {self.arguments}".rstrip()

    @property
    def description(self) -> Phrase:
        return Phrase(f"command.{self.name}")


def folded(text: str) -> str:
    """Full-width letters, digits, signs and the ideographic space as ASCII (NFKC)."""
    return unicodedata.normalize("NFKC", text)


def word(text: str) -> str:
    """`folded`, in lower case, without space around it: for what is compared."""
    return folded(text).strip().lower()


def agrees(answer: str) -> bool:
    return word(answer) in _YES


def declines(answer: str) -> bool:
    return word(answer) in _NO


def unquoted(argument: str) -> str:
    """An argument without the quotes that a person may have put around it."""
    for quote in "'\"":
        if len(argument) > 2 and argument[0] == argument[-1] == quote:
            return argument[1:-1]
    return argument


def number_in(argument: str, most: int) -> int | None:
    """The number from 1 to `most` that an argument is; None for anything else."""
    typed = word(argument)
    is_one = typed.isascii() and typed.isdecimal() and 1 <= int(typed[:9]) <= most
    return int(typed) if is_one else None


def shortened(text: str, limit: int = 40) -> str:
    """The beginning of `text`, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
