"""Every sentence that bchat says, in English and Japanese.

The sentences are data: `ROOM.json` holds those of one room, `forms.json` the singular and plural of counted nouns.
Placeholders are those of `str.format`; `{count:turn}` takes its noun from `forms.json`. `KEY@shell` or `KEY@chat`
replaces `KEY` where a remedy differs: `/retry` means nothing in a shell.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from string import Formatter
from typing import Any, Literal, NamedTuple

LANGUAGES = ("en", "ja")
Interface = Literal["", "chat", "shell"]  # where the sentence is shown; "" for logs and tests

_ROOMS = (
    *("text", "settings", "transcript", "hub", "engines", "server", "session"),
    *("terminal", "commands", "cli", "bench", "sweep", "report", "replay", "duel", "bootstrap"),
)


class Message(NamedTuple):
    """One sentence in both languages."""

    en: str
    ja: str


class Forms(NamedTuple):
    """A counted noun: for 1, and for any other number."""

    one: Message
    other: Message


class Phrase:
    """A sentence, or a part of another sentence, that is rendered later in the language of the whole."""

    def __init__(self, key: str, **values: object) -> None:
        self.key = key
        self.values = values


class _Writer(Formatter):
    """Fill the placeholders of one language.

    A format that names an entry of `FORMS` writes a count; `parameters` writes the size of a model.
    """

    def __init__(self, lang: str) -> None:
        self._lang = lang

    def write(self, message: Message, values: Mapping[str, object]) -> str:
        return self.vformat(message.ja if self._lang == "ja" else message.en, (), values)

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec == "parameters":
            millions = round(int(value) / 1e6, 1)
            return f"{millions * 100:.0f} 万パラメーター" if self._lang == "ja" else f"{millions} million parameters"
        forms = FORMS.get(format_spec)
        if forms is None:
            return str(super().format_field(value, format_spec))
        return self.write(forms.one if str(value) == "1" else forms.other, {"n": value})


def language_of(environ: Mapping[str, str]) -> str:
    """Return "ja" or "en" from the locale variables; as in POSIX, the first that is set decides."""
    locale = next((environ[name] for name in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(name)), "")
    return "ja" if locale.lower().startswith("ja") else "en"


def render(key: str, lang: str, interface: Interface = "", /, **values: object) -> str:
    """Return the sentence `key` in `lang` as shown in `interface`. Raises KeyError for an unknown key."""
    message = TABLE.get(f"{key}@{interface}") or TABLE[key]
    rendered = {
        name: render(value.key, lang, interface, **value.values) if isinstance(value, Phrase) else value
        for name, value in values.items()
    }
    return _Writer(lang).write(message, rendered)


def did_you_mean(name: str, known: Iterable[str]) -> Phrase:
    """Return the clause " Did you mean X?" for the nearest known name, or an empty one."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return Phrase("suggestion", name=close[0]) if close else Phrase("nothing")


def _load(name: str) -> dict[str, Any]:
    entries: dict[str, Any] = json.loads((Path(__file__).parent / f"{name}.json").read_text(encoding="utf-8"))
    return entries


FORMS = {name: Forms(Message(**forms["one"]), Message(**forms["other"])) for name, forms in _load("forms").items()}
TABLE = {key: Message(**sentence) for room in _ROOMS for key, sentence in _load(room).items()}
