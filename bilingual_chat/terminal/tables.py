"""Tables as lines of a screen."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from bilingual_chat.terminal.linebreak import break_lines, count_cells

MIN_WIDTH = 10  # cells; on narrower screens the terminal wraps
MIN_LAST_COLUMN = 16  # cells; below, a table becomes lines
GAP = "  "  # between columns
NOTE_INDENT = 4  # cells

Row = tuple[str, ...]


def format_table(rows: list[Row], width: int) -> list[str]:
    """Return the lines of a table on a screen of `width` cells: aligned columns, the last one wrapped.

    On a screen too narrow for that, each row is one wrapped line.
    """
    count = max((len(row) for row in rows), default=0)
    widths = [max(count_cells(row[column]) for row in rows if column < len(row)) for column in range(count)]
    indent = sum(widths[:-1]) + len(GAP) * (count - 1)
    if count and width - indent < min(MIN_LAST_COLUMN, widths[-1]):
        return [line for row in rows for line in wrap(GAP.join(filter(None, row)), width)]
    lines = []
    for row in rows:
        *before, last = (*row, *[""] * (count - len(row)))
        start = "".join(cell + " " * (widths[at] - count_cells(cell)) + GAP for at, cell in enumerate(before))
        first, *more = wrap(last, width - indent)
        lines += [(start + first).rstrip(" "), *(" " * indent + line for line in more)]
    return lines


def format_columns(rows: list[Row], width: int, count: int) -> list[str]:
    """Return the lines of a table with `count` rows side by side, read downwards; below each other if that is too wide.

    Each column of rows has an equal share of `width`, so that several tables have theirs at the same cells.
    """
    share = (width - 1) // count  # a terminal may wrap a line that fills it
    height = max(1, -(-len(rows) // count))
    parts = [format_table(rows[at : at + height], share) for at in range(0, len(rows), height)]
    fits = all(count_cells(line) <= share - len(GAP) for part in parts for line in part)
    if count == 1 or not fits or max(map(len, parts), default=0) > height:
        return format_table(rows, width)
    padded = ([line + " " * (share - count_cells(line)) for line in part] for part in parts)
    return ["".join(line).rstrip(" ") for line in zip_longest(*padded, fillvalue="")]


def format_noted_table(rows: Sequence[tuple[Row, str]], width: int) -> list[str]:
    """Return the lines of a table whose rows each have a note, which stands below the row."""
    columns = max((len(row) for row, _ in rows), default=0)
    widths = [max(count_cells(row[at]) for row, _ in rows if at < len(row)) for at in range(columns)]
    indent = " " * NOTE_INDENT if width >= NOTE_INDENT + MIN_LAST_COLUMN else ""
    lines: list[str] = []
    for row, note in rows:
        line = GAP.join(cell + " " * (widths[at] - count_cells(cell)) for at, cell in enumerate(row))
        lines += wrap(line.rstrip(" "), width)
        lines += [indent + part for part in wrap(note, width - len(indent)) if note]
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Wrap one line of text to `width` cells; at least one line."""
    return [line.rstrip(" ") for line in break_lines(text, width)] if width >= MIN_WIDTH else [untabbed(text)]


def untabbed(text: str) -> str:
    """Replace tabs: after a full line a tab makes terminals overwrite its last character."""
    return text.replace("\t", " ")
