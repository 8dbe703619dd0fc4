"""Text encodings: decode bytes from outside, and name the encoding of text that is not UTF-8.

Bytes that are not text in the expected encoding are never replaced silently: bchat refuses them and names a remedy.
"""

from __future__ import annotations

import codecs
import os
import re

from bilingual_chat.messages.errors import BchatError, ExitStatus, unknown_name

UTF8 = "utf-8-sig"
_BOMS = (  # UTF-32 first: its little-endian BOM begins like that of UTF-16
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# The supersets in use: Shift_JIS from Windows has its vendor's characters, as in the WHATWG encoding standard.
_SUPERSETS = {
    "windows_31j": "cp932",
    "x_sjis": "cp932",
    "shift_jis": "cp932",
    "euc_jp": "euc_jis_2004",
    "iso2022_jp": "iso2022_jp_ext",
}
_JAPANESE = {"cp932": "Shift_JIS", "euc_jis_2004": "EUC-JP", "iso2022_jp_ext": "ISO-2022-JP"}
_WIDE = {"utf-16-le": "UTF-16LE", "utf-16-be": "UTF-16BE", "utf-32-le": "UTF-32LE", "utf-32-be": "UTF-32BE"}
_KNOWN = ("shift_jis", "euc-jp", "iso-2022-jp", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-8", "cp932")
_SAMPLE = 2**16  # bytes that are enough for a guess
_LIKELY, _LIKELY_WIDE = 0.4, 0.7  # the lowest scores of a guess
_SURROGATE = re.compile("[\ud800-\udfff]")
# Kana in UTF-16 can be pairs of ASCII bytes; the Japanese comma and full stop then are control characters.
_SUSPECT = re.compile("[\0-\x08\x0e-\x1a\ud800-\udfff]|\x1b[$(]")
_HALFWIDTH_KANA = re.compile("[\uff66-\uff9f]{2,}")
_UNDECODED = "bchat-undecoded"

codecs.register_error(_UNDECODED, lambda error: ("\udcff", error.end))  # type: ignore[attr-defined]


def find_codec(name: str) -> str:
    """Return Python's codec for an encoding's name. Raises BchatError (USAGE) for a name that is not known."""
    simple = name.strip().lower().replace("-", "_")
    try:
        found = codecs.lookup(_SUPERSETS.get(simple, simple))
        if found._is_text_encoding and found.name not in ("idna", "punycode", "undefined", "mbcs", "oem"):
            codec = found.name.replace("-", "_")
            return UTF8 if codec in ("utf_8", "utf_8_sig") else _SUPERSETS.get(codec, found.name)
    except (LookupError, ValueError):
        pass
    raise unknown_name("encoding.unknown", name, _KNOWN)


def choose_codec(begin: bytes, encoding: str | None = None) -> tuple[str, str]:
    """Return the codec and the error handler for bytes that begin with `begin`: `encoding`, else by BOM, else UTF-8.

    Both handlers leave lone surrogates, which `require_decoded` finds.
    """
    codec = find_codec(encoding) if encoding else next((name for bom, name in _BOMS if begin.startswith(bom)), UTF8)
    return codec, "surrogateescape" if codec == UTF8 else _UNDECODED


def decode(data: bytes, encoding: str | None = None) -> str:
    """Return `data` as text without its BOM. Raises BchatError (DATA) if it is not text in that encoding."""
    codec, errors = choose_codec(data, encoding)
    text = data.decode(codec, errors)
    require_decoded(text, codec)
    return text.removeprefix("\ufeff")


def decode_argument(text: str, encoding: str | None = None) -> str:
    """Return a word of the command line; a word that is not UTF-8 is decoded with `encoding`. Raises BchatError (DATA).

    Python keeps the bytes of such a word as lone surrogates.
    """
    if not _SUSPECT.search(text):
        return text
    try:
        data = os.fsencode(text)
    except UnicodeEncodeError:  # no bytes stand for these surrogates
        raise BchatError("encoding.not-utf8", status=ExitStatus.DATA) from None
    return decode(data, encoding)


def has_undecoded_bytes(text: str) -> bool:
    """Return True if `text` has lone surrogates, which stand for bytes; pairs are characters."""
    return bool(_SURROGATE.search(text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "surrogatepass")))


def require_decoded(text: str, codec: str = UTF8) -> None:
    """Raise BchatError (DATA) for text that `codec` could not decode, naming its likely encoding."""
    if codec != UTF8:
        if _SURROGATE.search(text) or _is_utf8_misread(text, codec):
            raise BchatError("encoding.not-that", status=ExitStatus.DATA, name=_JAPANESE.get(codec, codec.upper()))
        return
    if not _SUSPECT.search(text):
        return
    if name := likely_encoding(text.encode("utf-8", "surrogateescape")):
        option = name.lower()
        raise BchatError("encoding.likely", status=ExitStatus.DATA, name=name, option=option)
    if _SURROGATE.search(text):
        raise BchatError("encoding.not-utf8", status=ExitStatus.DATA)


def likely_encoding(data: bytes) -> str:
    """Return the common name of the encoding that `data` is probably in; "" for UTF-8 and where no guess is good."""
    for bom, codec in _BOMS:
        if data.startswith(bom):
            return codec.upper()
    sample = data[:_SAMPLE]
    lenient = sample.decode("utf-8", "surrogateescape")
    if not _SUSPECT.search(lenient) or _is_mostly_utf8(sample, lenient):
        return ""
    for codec, name in _WIDE.items():
        text = _decoded(sample, codec)
        if ("\0" in lenient or len(text) >= 3) and _score(text, counts_ascii=True) >= _LIKELY_WIDE:
            return name
    scores = {name: _score_of_sample(sample, codec) for codec, name in _JAPANESE.items()}
    likely = max(scores, key=lambda name: scores[name])
    return likely if scores[likely] >= _LIKELY else ""


def _score_of_sample(data: bytes, codec: str) -> float:
    """Return the score in an encoding that leaves ASCII as it is; less if the last character is incomplete."""
    if text := _decoded(data, codec):
        return _score(text, counts_ascii=False)
    return 0.6 * _score(_decoded(data, codec, final=False), counts_ascii=False)


def _is_utf8_misread(text: str, codec: str) -> bool:
    """Return True if `text` is Japanese in UTF-8 that `codec` decoded by accident, as "縺薙ｓ" for "こん"."""
    try:
        original = text.encode({"utf-16": "utf-16-le", "utf-32": "utf-32-le"}.get(codec, codec)).decode("utf-8")
    except UnicodeError:
        return False
    return _score(original, counts_ascii=False) > _score(text, counts_ascii=False)


def _is_mostly_utf8(data: bytes, lenient: str) -> bool:
    """Return True for UTF-8 that is cut or has some bad bytes: others hardly ever form its sequences of three bytes."""
    bad = len(_SURROGATE.findall(lenient))
    good = sum("\u0800" <= char < "\ud800" for char in lenient)
    return good > bad or (good > 0 and bool(_decoded(data, "utf-8", final=False)))


def _decoded(data: bytes, codec: str, *, final: bool = True) -> str:
    """Return `data` as text, "" if it is not in this encoding. The last character may be incomplete unless `final`."""
    try:
        return codecs.getincrementaldecoder(codec)().decode(data, final)
    except UnicodeDecodeError:
        return ""


def _score(text: str, *, counts_ascii: bool) -> float:
    """Return from 0 to 1 how much `text` looks like Japanese: mostly kana and the common kanji of JIS level 1.

    ASCII says nothing about an encoding that leaves it as it is.
    """
    halfwidth = sum(map(len, _HALFWIDTH_KANA.findall(text)))
    total = _LIKELY * halfwidth
    count = halfwidth
    for char in text:
        if char < "\x80":
            if counts_ascii:
                count += 1
                total += char.isprintable() or char in "\t\n\r"
        elif not "\uff66" <= char <= "\uff9f":
            count += 1
            total += _familiarity(char)
        elif counts_ascii:
            count += 1
    return total / count if count else 0.0


def _familiarity(char: str) -> float:
    """Return the weight of a character by its row in JIS X 0208."""
    try:
        row = char.encode("euc_jp")[0] - 0xA0
    except UnicodeEncodeError:
        return 0.0
    if row in (4, 5):  # hiragana, katakana
        return 1.0
    if 16 <= row <= 47:  # kanji of level 1
        return 0.8
    return 0.6 if row in (1, 3) else 0.4  # punctuation, full-width letters; the rest is rare
