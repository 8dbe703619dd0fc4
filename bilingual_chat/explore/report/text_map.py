"""The heat map of one measure as styled lines for a terminal; its marks say the same without colour."""

from __future__ import annotations

from collections.abc import Iterator

from bilingual_chat.explore.report.analysis import Measured
from bilingual_chat.explore.report.layout import Layout, Panel
from bilingual_chat.explore.report.marks import LEVELS, level, number
from bilingual_chat.explore.report.svg import extent

BEST, NEAR = "★", "○"
BARS = "▁▂▃▄▅▆▇█"
_COLORS = (254, 195, 152, 116, 80, 73, 37, 30, 23)  # of xterm's 256
_WHITE_FROM = 6  # the level from which text is white

Line = list[tuple[str, str]]  # parts: text, style


def text_lines(measured: Measured, layout: Layout, width: int | None) -> Iterator[Line]:
    """Yield the lines of each panel. A grid wider than `width` columns becomes a list of its cells."""
    bounds = extent([each.mean for each in measured.estimates])
    size = 6 + max(len(number(each.mean)) for each in measured.estimates)
    left = max(len(label) for label in (*layout.rows, layout.row_name)) + 2
    for panel in layout.panels:
        if panel.title:
            yield [(panel.title, "bold")]
        if width is not None and left + size * len(layout.columns) >= width:
            yield from _list(measured, layout, panel, bounds, size)
        else:
            yield from _grid(measured, layout, panel, bounds, (left, size))


def _grid(
    measured: Measured, layout: Layout, panel: Panel, bounds: tuple[float, float], sizes: tuple[int, int]
) -> Iterator[Line]:
    left, size = sizes
    if layout.column_name:
        yield [(f"{'':{left}}{layout.column_name}", "dim")]
    if any(layout.columns):
        heads = "".join(f"{column:^{size}}" for column in layout.columns)
        yield [(f"{layout.row_name:>{left - 2}}  ", "dim"), (heads, "")]
    for at, row in enumerate(layout.rows):
        cells = [panel.cells.get((at, column)) for column in range(len(layout.columns))]
        parts = [_cell(measured, cell, bounds, size) for cell in cells]
        yield [(f"{row:>{left - 2}}  ", ""), *parts]


def _list(measured: Measured, layout: Layout, panel: Panel, bounds: tuple[float, float], size: int) -> Iterator[Line]:
    for (row, column), cell in sorted(panel.cells.items()):
        names = ((layout.row_name, layout.rows[row]), (layout.column_name, layout.columns[column]))
        label = " ".join(f"{name}={value}" if name else value for name, value in names if value)
        yield [_cell(measured, cell, bounds, size), (f"  {label}", "")]


def _cell(measured: Measured, cell: int | None, bounds: tuple[float, float], size: int) -> tuple[str, str]:
    shade = -1 if cell is None else level(measured.estimates[cell].mean, *bounds)
    if cell is None or shade < 0:
        return f"{'–':^{size}}", "dim"
    mark = " " if measured.is_constant else BEST if cell == measured.best else NEAR if cell in measured.near else " "
    bar = BARS[min(shade * len(BARS) // LEVELS, len(BARS) - 1)]
    text = f"{bar} {number(measured.estimates[cell].mean)} {mark}"
    ink = 231 if shade >= _WHITE_FROM else 16
    return f" {text:<{size - 1}}", f"color({ink}) on color({_COLORS[shade]})"
