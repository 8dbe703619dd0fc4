"""Makes text from outside harmless: `inward` before bchat keeps it, `outward` before bchat shows it.

`outward` applies to all text that bchat did not write: replies, transcripts, file names, exception texts.
"""

from __future__ import annotations

import re

# Characters that control a terminal, reorder a line or are invisible. ZWJ, ZWNJ, variation selectors and U+3000 are
# ordinary writing and stay; unassigned characters may become emoji and stay too.
_HIDDEN: tuple[tuple[int, int], ...] = (
    (0x00, 0x08),
    (0x0B, 0x1F),
    (0x7F, 0x9F),
    (0x061C, 0x061C),
    (0x200B, 0x200B),
    (0x200E, 0x200F),
    (0x2028, 0x2029),
    (0x202A, 0x202E),
    (0x2060, 0x2064),
    (0x2066, 0x206F),
    (0xD800, 0xDFFF),
    (0xFEFF, 0xFEFF),
    (0xFFF9, 0xFFFB),
    (0xE0000, 0xE007F),
)


def inward(text: str) -> str:
    """Return `text` with "\\n" newlines, joined surrogate pairs, U+FFFD for lone ones, and without NUL.

    The result can be encoded in UTF-8. The function is idempotent.
    """
    text = text.replace("\0", "")
    text = text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def outward(text: str) -> str:
    """Return `text` with a visible mark for each control or invisible character; newline and tab stay.

    C0 controls become control pictures (ESC is "␛"), others "‹U+202E›". Text may come in pieces of any length.
    """
    return _UNFIT.sub(_mark, text)


def outward_line(text: str) -> str:
    """Like `outward`, for one line: newline and tab become marks too."""
    return _UNFIT_IN_LINE.sub(_mark, text)


def _mark(found: re.Match[str]) -> str:
    return MARKS[found[0]]


def _visible(code: int) -> str:
    if code < 0x20:
        return chr(0x2400 + code)
    return "␡" if code == 0x7F else f"‹U+{code:04X}›"


def _pattern(ranges: tuple[tuple[int, int], ...]) -> re.Pattern[str]:
    return re.compile("[" + "".join(f"\\U{first:08x}-\\U{last:08x}" for first, last in ranges) + "]")


_NEWLINE_AND_TAB = (0x09, 0x0A)
# The mark of each character.
MARKS = {chr(code): _visible(code) for first, last in (_NEWLINE_AND_TAB, *_HIDDEN) for code in range(first, last + 1)}
# Usually nothing matches; then a search is ten times as fast as str.translate.
_UNFIT = _pattern(_HIDDEN)
_UNFIT_IN_LINE = _pattern((_NEWLINE_AND_TAB, *_HIDDEN))
