"""JSON values to bytes and back: output that is safe to show, input that is not trusted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from itertools import pairwise
from typing import Any, NoReturn

from bilingual_chat.messages import Phrase
from bilingual_chat.text.encodings import likely_encoding

MAX_DEPTH = 64
MAX_VALUES = 1_000_000  # at some 250 bytes each
MAX_NEEDED = 176 * 2**20  # bytes, for a text and the strings cut out of it
MAX_PER_BYTE = 14  # of UTF-8, when a wide text has surrogate halves to mend
MAX_NUMBER_CHARACTERS = 100
BOM = b"\xef\xbb\xbf"

_TOO_LONG = 10 ** (MAX_NUMBER_CHARACTERS - 1)  # with its sign
_SPACE = " \t\r\n"

# Legal in JSON strings as they are, but a terminal or an editor would act on them.
_UNFIT_TO_SHOW = re.compile(
    "[\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2064\u2066-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
# A list of numbers as json.dumps indents it: one line each, thousands for a reply.
_NUMBERS = re.compile(r"\[\n[-\d,\s]+\]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_HALF = re.compile(rb"\\u[dD][89a-fA-F]")
_WIDEST = re.compile(rb"[\xf0-\xf7]")
_CONTINUATION_BYTES = bytes(range(0x80, 0xC0))
_MARKS = (b",", b"[", b"{")
_JSON_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)


class JsonError(ValueError):
    """Bytes that are no acceptable JSON; `reason` is a clause for a sentence."""

    def __init__(self, reason: Phrase) -> None:
        super().__init__(reason.key)
        self.reason = reason


def encode(value: object, *, indent: int | None = None) -> bytes:
    """Return `value` as UTF-8 JSON without a final newline. Never fails because of a text.

    Japanese stays readable. Surrogate halves are joined or replaced; NaN and infinities become null; values of other
    types become their `str`.
    """
    text = json.dumps(_plain(value), ensure_ascii=False, allow_nan=False, indent=indent)
    if indent:  # no newline is inside a string
        text = _NUMBERS.sub(lambda numbers: f"[{' '.join(numbers[0][1:-1].split())}]", text)
    return mend_surrogates(_UNFIT_TO_SHOW.sub(_escape, text)).encode("utf-8")


def parse(data: bytes) -> Any:
    """Return the JSON value of `data`, in bounded time and memory. A byte-order mark is skipped.

    Raises JsonError: another encoding, NaN, infinity, a number of more than 100 characters, a key twice, more than 64
    levels, more than a million values, text that takes more than MAX_NEEDED bytes.
    """
    if too_many := excess(data):
        raise JsonError(too_many)
    try:
        text = data.decode("utf-8-sig")
        start = len(text) - len(text.lstrip(_SPACE)) if text[:1] in _SPACE else 0
        value, end = parse_prefix(text, start)
        if text[end:].strip(_SPACE):
            raise json.JSONDecodeError("Extra data", text, end)
    except UnicodeDecodeError as error:
        raise JsonError(other_encoding(data) or _not_utf8(data, error)) from None
    except json.JSONDecodeError as error:
        broken = Phrase("json.syntax", line=error.lineno, column=error.colno)
        raise JsonError(other_encoding(data) or broken) from None
    return value


def parse_prefix(text: str, start: int = 0) -> tuple[Any, int]:
    """Return the JSON value at `start` of `text`, and its end. Raises json.JSONDecodeError or JsonError."""
    try:
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        raise JsonError(Phrase("json.depth", limit=MAX_DEPTH)) from None
    if isinstance(value, list | dict) and text.count("[") + text.count("{") > MAX_DEPTH:
        _check_depth(value, MAX_DEPTH)
    return _mended(value) if "\\u" in text else value, end


def memory_needed(data: bytes) -> int:
    """Return the most bytes that decoding and parsing `data` take, without its values.

    Python stores a text with as many bytes for each character as its widest character needs.
    """
    length = len(data) if data.isascii() else len(data.translate(None, _CONTINUATION_BYTES))
    width = 1 if data.isascii() else 4 if _WIDEST.search(data) else 2
    if b"\\u" not in data:
        return length * 2 * width
    escapes = 0 if b"\\\\u" in data else data.count(b"\\u")
    # Surrogate halves are mended in a copy.
    return length * width + max(length - 5 * escapes, 0) * (10 if _HALF.search(data) else max(width, 2))


def excess(data: bytes) -> Phrase | None:
    """Return the reason if `data` would take too much memory, before anything is decoded."""
    if len(data) > MAX_NEEDED // MAX_PER_BYTE and memory_needed(data) > MAX_NEEDED:
        return Phrase("json.memory")
    if len(data) <= MAX_VALUES or _marks(data, 0, len(data)) <= MAX_VALUES:
        return None
    # The slower count skips commas inside strings.
    count = strings = end = 0
    for string in _JSON_STRING.finditer(data):
        count += _marks(data, end, string.start())
        end = string.end()
        strings += 1
        if count > MAX_VALUES or strings > 2 * MAX_VALUES:
            break
    count += _marks(data, end, len(data)) if count <= MAX_VALUES else 0
    return Phrase("json.values", limit=MAX_VALUES) if count > MAX_VALUES or strings > 2 * MAX_VALUES else None


def _marks(data: bytes, start: int, end: int) -> int:
    return sum(data.count(mark, start, end) for mark in _MARKS)


def mend_surrogates(text: str) -> str:
    """Return `text` with surrogate pairs joined, and U+FFFD for a lone half."""
    if not _SURROGATE.search(text):
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _escape(match: re.Match[str]) -> str:
    return json.dumps(match.group())[1:-1]


def other_encoding(data: bytes) -> Phrase | None:
    """Return the reason if `data` is text in another encoding than UTF-8."""
    name = likely_encoding(data)
    return Phrase("json.encoding", name=name) if name else None


def _not_utf8(data: bytes, error: UnicodeDecodeError) -> Phrase:
    return Phrase("json.utf8", line=data.count(b"\n", 0, error.start) + 1)


def _plain(value: object, depth: int = 0) -> object:
    """Return `value` as `parse` accepts it: null for values too deep and for numbers too long."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if abs(value) < _TOO_LONG else None
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if not isinstance(value, Mapping | list | tuple | set | frozenset):
        return str(value)
    if depth >= MAX_DEPTH:
        return None
    if isinstance(value, Mapping):
        return {mend_surrogates(str(name)): _plain(part, depth + 1) for name, part in value.items()}
    return [_plain(part, depth + 1) for part in value]


def _check_depth(value: Any, levels: int) -> None:
    if levels == 0:
        raise JsonError(Phrase("json.depth", limit=MAX_DEPTH))
    for part in value.values() if isinstance(value, dict) else value:
        if isinstance(part, list | dict):
            _check_depth(part, levels - 1)


def _mended(value: Any) -> Any:
    """Return `value` with the surrogate halves in its texts mended."""
    if isinstance(value, str):
        return mend_surrogates(value)
    if isinstance(value, list):
        return [_mended(part) for part in value]
    if isinstance(value, dict):
        return {mend_surrogates(name): _mended(part) for name, part in value.items()}
    return value


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        names = sorted(name for name, _ in pairs)
        twice = next(name for name, following in pairwise(names) if name == following)
        raise JsonError(Phrase("json.duplicate", name=twice[:60]))
    return value


def _whole_number(text: str) -> int:
    _refuse_long(text)
    return int(text)


def _fraction(text: str) -> float:
    _refuse_long(text)
    number = float(text)
    if not math.isfinite(number):
        _refuse_number(text)
    return number


def _refuse_long(text: str) -> None:
    if len(text) > MAX_NUMBER_CHARACTERS:
        _refuse_number(text)


def _refuse_number(text: str) -> NoReturn:
    raise JsonError(Phrase("json.number", number=text[:20]))


_DECODER = json.JSONDecoder(
    object_pairs_hook=_unique, parse_int=_whole_number, parse_float=_fraction, parse_constant=_refuse_number
)
