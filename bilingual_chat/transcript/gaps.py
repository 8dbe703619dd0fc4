"""The damaged bytes between the good records of a journal: counted in lines, left out of the repaired file."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterator
from functools import cached_property

from bilingual_chat.transcript.safe_json import BOM

_BLANK = b" \t\r"
_MARKED = re.compile(rb"[^ \t\r\n]")
_ANY_BUT_NEWLINE = bytes(code if code == 0x0A else ord("x") for code in range(256))
_MOST_LINES = 5
_BEGINNING = 2**20


class Gaps:
    """The gaps between good records that are not exactly one newline."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._starts, self._ends = array("Q"), array("Q")  # a list of tuples would take eight times the memory

    def note(self, start: int, end: int) -> None:
        self._starts.append(start)
        self._ends.append(end)

    def __iter__(self) -> Iterator[tuple[int, int]]:
        return zip(self._starts, self._ends, strict=True)

    @property
    def hide_everything(self) -> bool:
        """Return True if there is no record at all."""
        return bool(self._starts) and (self._starts[0], self._ends[0]) == (0, len(self._data))

    @property
    def is_torn(self) -> bool:
        """Return True if the last line is damaged and has no newline: its writer was killed."""
        begin = self._data.rfind(b"\n") + 1
        last = max(begin, self._starts[-1]) if self._starts else len(self._data)
        return _MARKED.search(self._data, last) is not None

    @property
    def damaged(self) -> int:
        """The number of damaged lines, without a torn last one."""
        return self._lines[0] - self.is_torn

    @property
    def first_lines(self) -> list[int]:
        """The numbers of the first damaged lines."""
        return self._lines[1][: min(self.damaged, _MOST_LINES)]

    def startup(self) -> bytes:
        """Return up to 1 MiB of the damaged bytes."""
        parts, room = [], _BEGINNING
        for start, end in self:
            parts.append(self._data[start : min(end, start + room)])
            room -= len(parts[-1])
            if room <= 0:
                break
        return b"".join(parts)

    def without(self, first: bytes = b"") -> bytes | bytearray:
        """Return `first`, then every good record on a line of its own."""
        if not self._starts and not first:
            return self._data
        kept, position, data = bytearray(first), 0, memoryview(self._data)
        for start, end in self:
            if start > position:
                kept += data[position:start]
                kept += b"\n"
            position = end
        kept += data[position:]
        return kept

    @cached_property
    def _lines(self) -> tuple[int, list[int]]:
        """The number of damaged lines, and the numbers of the first ones."""
        count, first = 0, list[int]()
        line, position, last_counted = 1, 0, 0
        for start, end in self:
            line += self._data.count(b"\n", position, start)
            position = start
            text = self._data[start:end]
            if start == 0:
                text = text.removeprefix(BOM)
            found = text.translate(_ANY_BUT_NEWLINE, _BLANK)
            lines = found.count(b"x\n") + found.endswith(b"x")
            if not lines:
                continue
            numbers = _numbers(text, line, _MOST_LINES + 1)
            again = numbers[0] == last_counted  # damage before and after one record
            first += numbers[again : _MOST_LINES + 1 - len(first) + again] if len(first) <= _MOST_LINES else []
            count += lines - again
            last_counted = line + text.count(b"\n") if found.endswith(b"x") else 0
        return count, first


def _numbers(text: bytes, line: int, most: int) -> list[int]:
    """Return the numbers of the first lines in `text` that are not blank; `line` is the number of its first line."""
    numbers: list[int] = []
    position, found = 0, _MARKED.search(text)
    while found and len(numbers) < most:
        line += text.count(b"\n", position, found.start())
        numbers.append(line)
        position = text.find(b"\n", found.start())
        found = _MARKED.search(text, position) if position >= 0 else None
    return numbers
