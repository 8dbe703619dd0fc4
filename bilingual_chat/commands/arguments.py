"""The arguments of commands: words, numbers, paths, presets and settings, full-width or not."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from bilingual_chat import messages
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings import decoding
from bilingual_chat.settings.config import RESET, SettingsChange
from bilingual_chat.settings.decoding import RANGES
from bilingual_chat.settings.presets import Preset, find_preset
from bilingual_chat.settings.words import is_setting, name_and_value, split_words, take_texts, texts_of

_YES = ("y", "yes", "ok", "はい", "うん", "お願いします")
_NO = ("n", "no", "いいえ", "いや", "いらない")
_NUMBER = re.compile(r"[-+.\d\N{MINUS SIGN}]")
_DEFAULT_WORDS = (RESET, "既定", "既定値", "デフォルト")


def folded(text: str) -> str:
    """Return `text` in NFKC: full-width letters, digits, signs and spaces become ASCII."""
    return unicodedata.normalize("NFKC", text)


def word(text: str) -> str:
    """Return `text` folded, stripped and in lower case, for comparisons."""
    return folded(text).strip().lower()


def agrees(answer: str) -> bool:
    return word(answer) in _YES


def declines(answer: str) -> bool:
    return word(answer) in _NO


def unquoted(argument: str) -> str:
    """Return an argument without surrounding quotes."""
    for quote in "'\"":
        if len(argument) > 2 and argument[0] == argument[-1] == quote:
            return argument[1:-1]
    return argument


def parse_number(argument: str, most: int) -> int | None:
    """Return the argument as a number from 1 to `most`, or None."""
    typed = word(argument)
    is_number = typed.isascii() and typed.isdecimal() and 1 <= int(typed[:9]) <= most
    return int(typed) if is_number else None


def shortened(text: str, limit: int = 40) -> str:
    """Return the beginning of `text` on one line."""
    line = " ".join(text.split())
    return line if len(line) <= limit else line[: limit - 1] + "…"


def split_variants(text: str) -> list[str]:
    """Split the argument of /compare at blanks. A comma or "=" joins: `temperature 0.3, top_p=0.9` is one word."""
    words: list[str] = []
    for typed in re.sub(r"[,、]\s*", ",", re.sub(r"\s*=\s*", "=", folded(text))).split():
        name = words[-1].rpartition(",")[2] if words else ""
        if is_setting(name) or name.lower() == "seeds":  # NAME VALUE
            words[-1] += f"={typed}"
        elif words and words[-1].endswith(","):
            words[-1] += typed
        else:
            words.append(typed)
    return [word.strip(",") for word in words if word.strip(",")]


def is_number(typed: str) -> bool:
    """Return True if `typed` begins like a number, as no setting and no preset does."""
    return bool(_NUMBER.match(typed))


def parse_change(text: str, presets: Mapping[str, Preset]) -> SettingsChange:
    """Parse `creative temperature=0.7`: settings as for `parse_settings`, with at most one preset among them."""
    preset, before = "", ""
    settings: list[str] = []
    typed = split_words(text)
    while typed:
        each = typed.pop(0)
        name, equals, value = name_and_value(each)
        is_of_setting = is_setting(each) or is_setting(before) or (equals and folded(name).lower() != "preset")
        if is_of_setting or (settings and is_number(folded(each))):
            settings.append(each)
            settings += take_texts(typed) if _listed(name) else []
        elif preset:
            raise BchatError("command.one-value", status=ExitStatus.USAGE, name="preset", value=shortened(each))
        else:
            preset = _preset_of(folded(value if equals else each), presets)
        before = each
    return SettingsChange(preset, parse_settings(" ".join(settings)))


def _listed(typed: str) -> str:
    """Return the setting that `typed` names, if it is a list of texts."""
    name = decoding.resolve_name(folded(typed)) if is_setting(typed) else ""
    return name if name in decoding.TEXTS else ""


def _preset_of(typed: str, presets: Mapping[str, Preset]) -> str:
    with suppress(BchatError):
        return find_preset(presets, typed).name
    suggestion = messages.did_you_mean(typed.lower(), [*presets, *RANGES])
    name, known = shortened(typed), ", ".join(presets)
    raise BchatError("command.no-choice", status=ExitStatus.USAGE, name=name, suggestion=suggestion, known=known)


def parse_settings(text: str) -> dict[str, Any]:
    """Parse and check `temperature=0.7,top_p 0.9`, full-width or not. "default" becomes RESET.

    After the name of a list of texts, all words up to the next setting are its texts: `stop "\\n" "。" top_k 0`.
    """
    typed = split_words(text)
    changes: dict[str, Any] = {}
    name = ""
    while typed:
        word = folded(typed[0])
        if name and is_number(word):  # no setting begins like a number
            raise BchatError("command.one-value", status=ExitStatus.USAGE, name=name, value=shortened(word))
        first, equals, value = name_and_value(typed.pop(0))
        name = decoding.resolve_name(folded(first))
        values = [value] if equals else []
        if name in decoding.TEXTS:
            values += take_texts(typed)
        elif not equals:
            values, typed = typed[:1], typed[1:]
        if not values:
            raise BchatError("command.value-missing", status=ExitStatus.USAGE, name=name, example=RANGES[name].example)
        changes[name] = _value(name, values)
    return changes


def _value(name: str, typed: list[str]) -> Any:
    if folded(typed[0]).lower() in _DEFAULT_WORDS:
        return RESET
    return decoding.checked(name, texts_of(typed) if name in decoding.TEXTS else folded(typed[0]))
