r"""Typed settings, split into words: blanks and commas separate, text in double quotes stays whole.

    stop "\n" "。" temperature=0.7      →  the words stop, "\n", "。", temperature=0.7

In a list of texts, \n, \t, \" and \\ are a newline, a tab, a quote and a backslash, in quotes or not.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from contextlib import suppress

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings import decoding

# The quotes of an input method, too.
_QUOTED = r'"(?:\\.|[^"\\])*+"|[“”＂](?:\\.|[^“”＂\\])*+[”＂]'
_WORD = re.compile(rf"(?:{_QUOTED}|[^\s,，、])+", re.DOTALL)
_PART = re.compile(rf"(?:{_QUOTED}|[^,，、])+", re.DOTALL)
_QUOTE = re.compile(_QUOTED, re.DOTALL)
_ESCAPE = re.compile(r"\\(.)", re.DOTALL)
_ESCAPED = {"n": "\n", "t": "\t", '"': '"', "\\": "\\"}
_NONE = ("none", "off", "なし")


def split_words(text: str) -> list[str]:
    """Return the words of `text` as typed. "=" joins: `top_p = 0.9` is one word."""
    words: list[str] = []
    for found in _WORD.finditer(text):
        if words and (found[0][0] in "=＝" or words[-1][-1] in "=＝"):
            words[-1] += found[0]
        else:
            words.append(found[0])
    return words


def split_parts(text: str) -> list[str]:
    """Return the parts between commas."""
    return [found[0] for found in _PART.finditer(text)]


def name_and_value(word: str) -> tuple[str, str, str]:
    """Split `NAME=VALUE` at its first "="; the sign and the value are "" without one."""
    name, sign, value = re.fullmatch(r"([^=＝]*)([=＝]?)(.*)", word, re.DOTALL).groups()  # type: ignore[union-attr]
    return name, sign, value


def is_setting(name: str) -> bool:
    """Return True if `name`, full-width or not, names a setting."""
    with suppress(BchatError):
        return bool(decoding.resolve_name(decoding.folded(name)))
    return False


def texts_of(words: Iterable[str]) -> list[str]:
    """Return the texts that words mean; none for "none" alone."""
    words = list(words)
    if len(words) == 1 and decoding.folded(words[0]).lower() in _NONE:
        return []
    return [_text(word) for word in words]


def _text(word: str) -> str:
    unquoted = _QUOTE.sub(lambda found: found[0][1:-1], word)
    return _ESCAPE.sub(lambda found: _ESCAPED.get(found[1], found[0]), unquoted)


def take_texts(words: list[str]) -> list[str]:
    """Remove from `words` those of a list of texts, up to the next setting, and return them as typed."""
    end = next((at for at, word in enumerate(words) if is_setting(name_and_value(word)[0])), len(words))
    taken, words[:end] = words[:end], []
    return taken
