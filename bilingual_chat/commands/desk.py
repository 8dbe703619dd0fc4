"""What a command works on, what it may give the loop to do, and one row of the table of commands."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilingual_chat import messages
from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.config import Config
from bilingual_chat.errors import BchatError
from bilingual_chat.messages import Phrase
from bilingual_chat.session import Model, Session, open_model

Rows = list[tuple[str, ...]]


@dataclass
class Desk:
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

    def text(self, phrase: Phrase) -> str:
        return messages.render(phrase.key, self.lang, **phrase.values)


# -- what the loop is to do after a command -----------------------------------------------------------


@dataclass(frozen=True)
class Say:
    """Send this to the model."""

    text: str


@dataclass(frozen=True)
class Retry:
    """Answer the last message again, with these settings for that reply alone."""

    changes: Mapping[str, Any]


@dataclass(frozen=True)
class Edit:
    """Put this into the line editor; with `replaces_last`, sending it takes the last turn back first."""

    text: str
    replaces_last: bool


@dataclass(frozen=True)
class Leave:
    """Close the conversation and end."""


Action = Say | Retry | Edit | Leave | None


@dataclass(frozen=True)
class Command:
    """One row of the table. `arguments` is how /help and the README write what may follow the name.

    Its description is the message "command.NAME". `choices` offers arguments for completion, each
    with a remark; None where there are none, "file" where it is a path.
    """

    name: str
    run: Callable[[Desk, str], Action]
    arguments: str = ""
    aliases: tuple[str, ...] = ()
    choices: Callable[[Desk, str], Iterable[tuple[str, str]]] | str | None = None

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


def shortened(text: str, limit: int = 40) -> str:
    """The beginning of `text`, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"
