"""Differences between two texts, by words; where words have no spaces between them (Japanese), by characters."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from enum import Enum

# Kana, kanji and their iteration marks: no spaces stand between words.
_UNSPACED = "\u3005-\u3007\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
_WORD = rf"[^\W{_UNSPACED}]+"
_UNITS = re.compile(rf"{_WORD}(?:['’-]{_WORD})*|[ァ-ヺー]+|\s+|.", re.DOTALL)
_ZWJ = "\u200d"
_MAX_PAIRS = 300_000  # equal units in both texts, which SequenceMatcher visits at each level: about 0.1 s
_LEAST_SAME = 2  # characters between two differences; fewer agree by chance


class Kind(Enum):
    SAME = "same"
    ADDED = "added"  # not in the first text
    OMITTED = "omitted"  # of the first text, not in the other


@dataclass(frozen=True)
class Span:
    kind: Kind
    text: str


def differences(first: str, other: str) -> list[Span]:
    """Return the spans of `other`, and what it omits of `first`, in order.

    SAME and ADDED spans together are `other`; SAME and OMITTED ones are `first`, except that ADDED and OMITTED
    text may hold a few equal characters. Time and memory are bounded: texts with too many equal units in too many
    places count as different between their common beginning and end.
    """
    before, after = _units(first), _units(other)
    begin = _common(before, after)
    end = _common(before[begin:][::-1], after[begin:][::-1])
    middle = _compared(before[begin : len(before) - end], after[begin : len(after) - end])
    spans = [Span(Kind.SAME, "".join(after[:begin])), *middle, Span(Kind.SAME, "".join(after[len(after) - end :]))]
    return [span for span in spans if span.text]


def _units(text: str) -> list[str]:
    """Split text into words and characters; marks and emoji sequences stay with their first character."""
    units: list[str] = []
    for unit in _UNITS.findall(text):
        if units and (_extends(unit[0]) or units[-1].endswith(_ZWJ)):
            units[-1] += unit
        else:
            units.append(unit)
    return units


def _extends(character: str) -> bool:
    return unicodedata.category(character)[0] == "M" or character == _ZWJ or "\U0001f3fb" <= character <= "\U0001f3ff"


def _common(before: Sequence[str], after: Sequence[str]) -> int:
    """Return the number of equal units at the beginning."""
    pairs = enumerate(zip(before, after, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(before), len(after)))


def _compared(before: list[str], after: list[str]) -> Iterator[Span]:
    """Yield the differences, each with the short equal spans inside it: first what is omitted, then what is added."""
    omitted = added = ""
    for kind, a, b in _operations(before, after):
        old, new = "".join(before[a]), "".join(after[b])
        if kind == "equal" and len(new.strip()) >= _LEAST_SAME:
            yield from (Span(Kind.OMITTED, omitted), Span(Kind.ADDED, added), Span(Kind.SAME, new))
            omitted = added = ""
        else:
            omitted, added = omitted + old, added + new
    yield from (Span(Kind.OMITTED, omitted), Span(Kind.ADDED, added))


def _operations(before: list[str], after: list[str]) -> Iterator[tuple[str, slice, slice]]:
    counts = Counter(after)
    if sum(counts[unit] for unit in before) > _MAX_PAIRS:
        yield "replace", slice(len(before)), slice(len(after))
        return
    for kind, a1, a2, b1, b2 in SequenceMatcher(None, before, after, autojunk=False).get_opcodes():
        yield kind, slice(a1, a2), slice(b1, b2)
