"""Where a heat map puts each cell: by two settings, or one below the other."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bilingual_chat.explore.results import Cell

_FULL_ENOUGH = 0.5  # of a grid's positions; emptier, the cells are a list


@dataclass(frozen=True)
class Panel:
    """One grid: `cells` maps (row, column) to the index of a cell. `title` has the values of all further settings."""

    title: str
    cells: Mapping[tuple[int, int], int]


@dataclass(frozen=True)
class Layout:
    """Labels of rows and columns, the settings that they vary ("" for none), and the panels."""

    row_name: str
    column_name: str
    rows: Sequence[str]
    columns: Sequence[str]
    panels: Sequence[Panel]


def arrange(cells: Sequence[Cell], varied: Sequence[str]) -> Layout:
    """Return a grid by the settings that vary, the one with most values across; otherwise a list."""
    values = {name: _distinct([cell.settings.get(name) for cell in cells]) for name in varied}
    names = sorted((name for name in values if len(values[name]) > 1), key=lambda name: -len(values[name]))
    at = {tuple(show(cell.settings.get(name)) for name in names): number for number, cell in enumerate(cells)}
    size = 1
    for name in names:
        size *= len(values[name])
    if not names or len(at) < len(cells) or len(cells) < _FULL_ENOUGH * size:
        single = Panel("", {(number, 0): number for number in range(len(cells))})
        return Layout("", "", [cell.label for cell in cells], [""], [single])
    columns, rows = values[names[0]], values[names[1]] if len(names) > 1 else [""]
    panels = []
    for rest in itertools.product(*(values[name] for name in names[2:])):
        inside = {
            (r, c): at[key]
            for (r, row), (c, column) in itertools.product(enumerate(rows), enumerate(columns))
            if (key := (column, *([row] if len(names) > 1 else []), *rest)) in at
        }
        title = " ".join(f"{name}={value}" for name, value in zip(names[2:], rest, strict=True))
        panels.append(Panel(title, inside))
    return Layout("".join(names[1:2]), names[0], rows, columns, [panel for panel in panels if panel.cells])


def show(value: Any) -> str:
    """Return the value of a setting as text."""
    return f"{value:g}" if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def _distinct(values: Sequence[Any]) -> list[str]:
    """Return the values as text, numbers in order, otherwise as they come."""
    if all(isinstance(value, int | float) for value in values):
        values = sorted(set(values))
    return list(dict.fromkeys(map(show, values)))
