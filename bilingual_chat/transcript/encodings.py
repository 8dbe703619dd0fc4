"""In which other encoding a file is that is not UTF-8, for a sentence that names it."""

from __future__ import annotations

import codecs
import re

_MARKED = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_JAPANESE = {"cp932": "Shift_JIS", "euc_jp": "EUC-JP", "iso2022_jp": "ISO-2022-JP"}
_LOOKED_AT = 2**20
_ASCII_PAIR = re.compile(rb"[\t\n\r -~]\0|\0[\t\n\r -~]")
_KANA = re.compile("[\u3041-\u3096\u30a1-\u30fa]")
_NOT_ASCII = re.compile("[^\0-\x7f]")


def likely_encoding(data: bytes) -> str:
    """The encoding that `data` is probably in, as people call it; "" where it may be UTF-8 or nothing is known."""
    for mark, name in _MARKED:
        if data.startswith(mark):
            return name
    begin = data[:_LOOKED_AT]
    if _ASCII_PAIR.match(begin):
        return "UTF-16"
    if _decoded(begin, "utf_8") is not None and b"\x1b$" not in begin:
        return ""
    kana = {name: _share_of_kana(_decoded(begin, codec)) for codec, name in _JAPANESE.items()}
    likely = max(kana, key=lambda name: kana[name])
    return likely if kana[likely] > 0 else ""


def _decoded(data: bytes, codec: str) -> str | None:
    """`data` as text, its last character perhaps cut; None if it is not in this encoding."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(data)
    except UnicodeDecodeError:
        return None


def _share_of_kana(text: str | None) -> float:
    """How much of what is not ASCII is kana: by this, Japanese text is told from bytes that only happen to decode."""
    if text is None:
        return 0.0
    others = len(_NOT_ASCII.findall(text))
    share = len(_KANA.findall(text)) / others if others else 0.0
    return share if share >= 0.1 else 0.0
