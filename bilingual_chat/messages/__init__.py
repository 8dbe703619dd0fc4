"""Every sentence bchat says, in English and Japanese.

A plain table at the bottom of the house, so that any room can raise an error that speaks both
languages. Placeholders are filled as by `str.format`; both languages must use the same ones (test).

A remedy depends on the place: `/retry` means nothing in a shell. The key `KEY@shell` or `KEY@chat` holds
the sentence for one place, where it differs from `KEY`. A count takes its noun from `FORMS`: `{count:turn}`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from string import Formatter
from typing import Any, Literal, NamedTuple

from bilingual_chat.messages import (
    bench,
    bootstrap,
    cli,
    commands,
    engines,
    hub,
    session,
    settings,
    terminal,
    text,
    transcript,
)
from bilingual_chat.messages.message import Message

LANGUAGES = ("en", "ja")
Place = Literal["", "chat", "shell"]  # where a sentence is read; "" for logs and tests


def language_of(environ: Mapping[str, str]) -> str:
    """ "ja" or "en", as the locale's variables say; the first that is set decides, as in POSIX."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "ja" if locale.lower().startswith("ja") else "en"


class Phrase:
    """A part of a sentence that is itself in the table; it speaks the language of the whole."""

    def __init__(self, key: str, **values: object) -> None:
        self.key = key
        self.values = values


class Forms(NamedTuple):
    """How a count is said: of one, and of any other number."""

    one: Message
    other: Message


class _Writer(Formatter):
    """Fills the placeholders of one language; a format that names `FORMS` says a count."""

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def write(self, message: Message, values: Mapping[str, object]) -> str:
        return self.vformat(message.ja if self._lang == "ja" else message.en, (), values)

    def format_field(self, value: Any, format_spec: str) -> str:
        forms = FORMS.get(format_spec)
        if forms is None:
            return str(super().format_field(value, format_spec))
        return self.write(forms.one if str(value) == "1" else forms.other, {"n": value})


def render(key: str, lang: str, place: Place = "", /, **values: object) -> str:
    """The sentence `key` in `lang`, as it is said in `place`; raises KeyError for a key that is not in the table."""
    message = TABLE.get(f"{key}@{place}") or TABLE[key]
    spoken = {
        name: render(value.key, lang, place, **value.values) if isinstance(value, Phrase) else value
        for name, value in values.items()
    }
    return _Writer(lang).write(message, spoken)


def did_you_mean(name: str, known: Iterable[str]) -> Phrase:
    """The clause " Did you mean X?" for the nearest known name, or an empty one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return Phrase("suggestion", name=close[0]) if close else Phrase("nothing")


FORMS: dict[str, Forms] = {
    "turn": Forms(Message("1 turn", "1 往復"), Message("{n} turns", "{n} 往復")),
    "first-turns": Forms(Message("first turn", "最初の 1 往復"), Message("first {n} turns", "最初の {n} 往復")),
    "character": Forms(Message("1 character", "1 文字"), Message("{n} characters", "{n} 文字")),
    "first-characters": Forms(
        Message("first character", "最初の 1 文字"), Message("first {n} characters", "最初の {n} 文字")
    ),
    "token": Forms(Message("1 token", "1 トークン"), Message("{n} tokens", "{n} トークン")),
    "tensor": Forms(Message("1 tensor", "テンソル 1 個"), Message("{n} tensors", "テンソル {n} 個")),
    "position": Forms(Message("1 position", "位置 1"), Message("{n} positions", "位置 {n}")),
    "damaged-line": Forms(Message("1 damaged line", "壊れた 1 行"), Message("{n} damaged lines", "壊れた {n} 行")),
    # What may be chosen, where the numbers begin at 1.
    "choice": Forms(Message("1", "1"), Message("1–{n}", "1〜{n}")),
    "number": Forms(Message("the number 1", "番号 1 "), Message("a number from 1 to {n}", "1 〜 {n} の番号")),
}

TABLE: dict[str, Message] = {
    **text.SENTENCES,
    **settings.SENTENCES,
    **transcript.SENTENCES,
    **hub.SENTENCES,
    **engines.SENTENCES,
    **session.SENTENCES,
    **terminal.SENTENCES,
    **commands.SENTENCES,
    **cli.SENTENCES,
    **bench.SENTENCES,
    **bootstrap.SENTENCES,
}
