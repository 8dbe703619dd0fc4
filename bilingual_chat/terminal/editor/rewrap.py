"""Redraws the draft after a terminal has rewrapped its lines to a narrower width."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout import Layout
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.renderer import Renderer

# Set by terminals that rewrap every line. xterm and the Linux console cut lines off. On an unknown terminal it is
# better to erase too little (a copy of the draft stays) than too much (the conversation).
_REWRAPPING = ("TMUX", "VTE_VERSION")


def rewraps(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in _REWRAPPING) or environ.get("TERM", "").startswith("tmux")


def erase_rewrapped_draft(app: Application[str]) -> None:
    """Make `app` erase the draft from its present first row; prompt_toolkit uses the row before the resize."""
    renderer = app.renderer
    erase, render = renderer.erase, renderer.render

    def erase_it(leave_alternate_screen: bool = True) -> None:
        _find_cursor(renderer)
        erase(leave_alternate_screen)

    def render_it(app: Application[str], layout: Layout, is_done: bool = False) -> None:
        _find_cursor(renderer)  # a key may arrive before the resize signal
        render(app, layout, is_done)

    if rewraps(os.environ):
        renderer.erase, renderer.render = erase_it, render_it  # type: ignore[method-assign]


def _find_cursor(renderer: Renderer) -> None:
    """Set the renderer's cursor position relative to the draft's first row, after the terminal became narrower."""
    columns, drawn, size = renderer.output.get_size().columns, renderer._last_screen, renderer._last_size
    if drawn is None or size is None or columns >= size.columns:
        return
    x, y = renderer._cursor_pos
    above = sum(count_rows(drawn.data_buffer[row], columns) for row in range(y))
    within = count_rows({cell: char for cell, char in drawn.data_buffer[y].items() if cell < x}, columns) - 1
    renderer._cursor_pos = Point(x=columns, y=above + within)  # x: large enough to return to the first column


def count_rows(row: Mapping[int, Char], columns: int) -> int:
    """Return the rows of `columns` cells that a row drawn on a wider screen takes."""
    used = max((cell for cell, char in row.items() if char.char.strip(" ")), default=-1)
    rows, column = 1, 0
    for cell in range(used + 1):
        cells = row[cell].width if cell in row else 1
        if column + cells > columns:
            rows, column = rows + 1, 0
        column += cells
    return rows
