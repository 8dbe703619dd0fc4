"""Texts side by side on a screen, all growing at once.

Each column only gains text: a cell that is written is not written again, except that a word too long for its line
moves to the next. The cursor rests on the lowest line, where the next output belongs, whatever interrupts.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass, field
from typing import Protocol

from bilingual_chat.terminal.linebreak import Erase, LineBreaker, break_lines, count_cells
from bilingual_chat.terminal.tables import untabbed

MIN_COLUMN = 24  # cells
GAP = 3  # cells between two columns
MIN_LINES = 4  # of a screen; on a lower one, columns could not wait for each other

Styled = tuple[str, str]  # text, style


class Canvas(Protocol):
    """A screen whose cursor rests on the lowest line. `terminal.display.Display` is one."""

    def draw_above(self, up: int, column: int, text: str, style: str = "") -> None:
        """Write `text` `up` lines above the cursor from cell `column` on; the cursor rests where it was."""

    def begin_line(self) -> None:
        """Move the cursor to a new line."""


def columns_in_row(count: int, width: int) -> int:
    """Return how many of `count` columns stand side by side on a screen of `width` cells, evenly over the rows."""
    fitting = max(1, (_usable(width) + GAP) // (MIN_COLUMN + GAP))
    rows = -(-count // fitting)
    return -(-count // rows)


def column_width(count: int, width: int) -> int:
    """Return the cells of each of `count` columns side by side."""
    return (_usable(width) - GAP * (count - 1)) // count


def _usable(width: int) -> int:
    """Without the last cell of the screen, behind which a cursor does not go."""
    return width - 1


@dataclass
class _Column:
    """State: where the next text goes, and what is not drawn yet."""

    left: int  # cell
    breaker: LineBreaker
    row: int = 0
    line: str = ""  # the text of the row
    waiting: deque[tuple[str | Erase, str]] = field(default_factory=deque)  # with style
    is_ended: bool = False

    @property
    def is_drawn(self) -> bool:
        return self.is_ended and not self.waiting


class Columns:
    """Columns that grow side by side. State: their texts, and how many lines they take.

    A column may be so many lines ahead of the slowest one that both are on the screen; further text waits.
    """

    def __init__(self, canvas: Canvas, count: int, cells: int, lines: int) -> None:
        """cells: of each column. lines: of the screen."""
        self._canvas, self._cells, self._max_ahead = canvas, cells, lines - 2
        self._columns = [_Column(index * (cells + GAP), LineBreaker(cells)) for index in range(count)]
        self._lowest = 0

    def add_headings(self, headings: list[str], style: str) -> None:
        """Begin each column with its heading, all equally high."""
        wrapped = [break_lines(untabbed(each), self._cells) for each in headings]
        for index, lines in enumerate(wrapped):
            missing = max(map(len, wrapped)) - len(lines)
            self.add(index, "\n".join(lines) + "\n" * (missing + 1), style)

    def add(self, index: int, text: str, style: str = "") -> None:
        """Add text to a column."""
        column = self._columns[index]
        for event in column.breaker.push(untabbed(text)):
            parts = [event] if isinstance(event, Erase) else filter(None, re.split("(\n)", event))
            column.waiting.extend((part, style) for part in parts)
        self._draw()

    def end(self, index: int, note: str, style: str) -> None:
        """End a column with a note on a line of its own."""
        column = self._columns[index]
        begun = "\n" if column.line or column.waiting else ""
        self.add(index, begun + note, style)
        column.is_ended = True
        self._draw()

    def _draw(self) -> None:
        while sum(self._draw_column(column) for column in self._columns):
            pass

    def _draw_column(self, column: _Column) -> bool:
        """Draw what has a line on the screen; return True if something was drawn."""
        is_drawn = False
        while column.waiting:
            event, style = column.waiting[0]
            if event == "\n":
                if not self._has_line(column.row + 1):
                    break
                column.row, column.line = column.row + 1, ""
            elif isinstance(event, Erase):
                column.line = _shortened(column.line, event.column)
                self._put(column, " " * event.cells, "")
            else:
                self._put(column, event, style)
                column.line += event
            column.waiting.popleft()
            is_drawn = True
        return is_drawn

    def _put(self, column: _Column, text: str, style: str) -> None:
        self._canvas.draw_above(self._lowest - column.row, column.left + count_cells(column.line), text, style)

    def _has_line(self, row: int) -> bool:
        """Return True if there is such a line; add it unless it would move a column off the screen."""
        if row <= self._lowest:
            return True
        if row - min(column.row for column in self._columns if not column.is_drawn) > self._max_ahead:
            return False
        self._canvas.begin_line()
        self._lowest += 1
        return True


def _shortened(line: str, cells: int) -> str:
    """Return the beginning of `line` that takes at most `cells` cells."""
    while count_cells(line) > cells:
        line = line[:-1]
    return line


def styled_lines(text: list[Styled], width: int) -> list[list[Styled]]:
    """Break styled text into lines of at most `width` cells."""
    whole = untabbed("".join(part for part, _ in text))
    styles = [style for part, style in text for _ in part]
    lines, at = [], 0
    for line in break_lines(whole, width):
        start = whole.find(line, at)  # between two lines lie a newline and spaces
        at = start + len(line)
        lines.append([(character, styles[start + index]) for index, character in enumerate(line)])
    return lines


def side_by_side(texts: list[list[Styled]], cells: int) -> list[list[Styled]]:
    """Return the lines of finished columns of `cells` cells."""
    columns = [styled_lines(text, cells) for text in texts]
    lines = []
    for row in range(max(map(len, columns))):
        line: list[Styled] = []
        for number, column in enumerate(columns):
            used = count_cells("".join(character for character, _ in line))
            line.append((" " * (number * (cells + GAP) - used), ""))
            line += column[row] if row < len(column) else []
        lines.append(line)
    return lines
