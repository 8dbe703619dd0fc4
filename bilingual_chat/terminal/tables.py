"""Tables as lines of a screen."""

from __future__ import annotations

from collections.abc import Sequence

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


def format_noted_table(rows: Sequence[tuple[Row, str]], width: int) -> list[str]:
    """Return the lines of a table whose rows each have a note, which stands below the row."""
    columns = max((len(row) for row, _ in rows), default=0)
    widths = [max(count_cells(row[at]) for row, _ in rows if at < len(row)) for at in range(columns)]
    indent = " " * NOTE_INDENT if width >= NOTE_INDENT + MIN_LAST_COLUMN else ""
    lines: list[str] = []
    for row, note in rows:
        line = GAP.join(cell + " " * (widths[at] - count_cells(cell)) for at, cell in enumerate(row))
        lines += wrap(line.rstrip(" "), width)
        lines += [indent + part for part in wrap(note, width - len(indent))]
    return lines


def wrap(text: str, width: int) -> list[str]:
    """Wrap one line of text to `width` cells; at least one line."""
    return [line.rstrip(" ") for line in break_lines(text, width)] if width >= MIN_WIDTH else [untabbed(text)]


def untabbed(text: str) -> str:
    """Replace tabs: after a full line a tab makes terminals overwrite its last character."""
    return text.replace("\t", " ")
