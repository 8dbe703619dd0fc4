"""Heat maps as inline SVG. Colours are classes of the style sheet: light, dark and print differ there."""

from __future__ import annotations

import math
from collections.abc import Sequence

from bilingual_chat.explore.report.analysis import Measured
from bilingual_chat.explore.report.layout import Layout, Panel
from bilingual_chat.explore.report.marks import LEVELS, escape, interval, level, number, shorten
from bilingual_chat.explore.report.svg import extent, svg, text, text_width

_CELL_W, _CELL_H, _GAP = 72, 44, 4
_LONGEST = 48  # characters of a label
_DETAILED = 120  # cells; with more, a heat map writes no intervals
BEST = "★"


def heat_maps(measured: Measured, layout: Layout, labels: Sequence[str], name: str) -> str:
    """Return one SVG for each panel; all share the shades. `labels`: of the cells; `name`: of the measure, escaped."""
    bounds = extent([each.mean for each in measured.estimates])
    drawn = []
    for panel in layout.panels:
        title = f'<figcaption class="panel">{escape(panel.title)}</figcaption>' if panel.title else ""
        drawn.append(f"<figure>{title}{_heat_map(measured, layout, panel, labels, bounds, name)}</figure>")
    return f'<div class="panels">{"".join(drawn)}</div>'


def _heat_map(
    measured: Measured, layout: Layout, panel: Panel, labels: Sequence[str], bounds: tuple[float, float], name: str
) -> str:
    rows = [shorten(row, _LONGEST) for row in layout.rows]
    left = text_width([*rows, layout.row_name if any(rows) else ""]) + 12 if any(rows) else 0
    top = 40 if layout.column_name else 8
    parts = [text(left - 8, top - 8, escape(layout.row_name), "axis", "end")] if layout.row_name else []
    if layout.column_name:
        middle = left + len(layout.columns) * _CELL_W / 2
        parts.append(text(middle, 12, escape(layout.column_name), "axis", "mid"))
    for at, column in enumerate(layout.columns):
        x = left + (at + 0.5) * _CELL_W - _GAP / 2
        parts.append(text(x, top - 8, escape(shorten(column, 12)), "label", "mid"))
    for at, row in enumerate(rows):
        parts.append(text(left - 8, top + at * _CELL_H + 24, escape(row), "label", "end"))
    for (row_at, column_at), cell in panel.cells.items():
        x, y = left + column_at * _CELL_W, top + row_at * _CELL_H
        parts.append(_heat_cell(measured, cell, x, y, labels[cell], bounds))
    return svg(left + len(layout.columns) * _CELL_W, top + len(rows) * _CELL_H, name, parts, "heat")


def _heat_cell(measured: Measured, cell: int, x: float, y: float, label: str, bounds: tuple[float, float]) -> str:
    found = measured.estimates[cell]
    shade = level(found.mean, *bounds)
    kind = f"h{shade}" if shade >= 0 else "none"
    kind += " near" if cell in measured.near else ""
    middle, range_ = (_CELL_W - _GAP) / 2, interval(found.low, found.high)
    mark = f" {BEST}" if cell == measured.best and not measured.is_constant else ""
    is_detailed = len(measured.estimates) <= _DETAILED and not math.isnan(found.low)
    parts = [
        f"<title>{escape(label)}: {number(found.mean)} [{range_}]</title>" if is_detailed else "",
        f'<rect width="{_CELL_W - _GAP}" height="{_CELL_H - _GAP}" rx="4"/>',
        text(middle, 18 if is_detailed else 25, number(found.mean) + mark, "value"),
        text(middle, 32, range_.replace(" … ", "–"), "range") if is_detailed else "",
    ]
    return f'<g class="{kind}" transform="translate({x:.0f},{y:.0f})">{"".join(parts)}</g>'


def legend(measured: Measured) -> str:
    """Return the shades from the lowest to the highest mean."""
    low, high = extent([each.mean for each in measured.estimates])
    shades = "".join(f'<i class="h{at}"></i>' for at in range(LEVELS))
    return f'<span class="legend">{number(low)} {shades} {number(high)}</span>'
