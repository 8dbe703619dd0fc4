"""A terminal that wraps its lines anew when it becomes narrower, and the draft that is to be drawn anew there."""

from __future__ import annotations

import os
from collections.abc import Mapping

from prompt_toolkit.application import Application
from prompt_toolkit.data_structures import Point
from prompt_toolkit.layout import Layout
from prompt_toolkit.layout.screen import Char
from prompt_toolkit.renderer import Renderer

# Terminals that wrap every line anew, and say who they are. xterm and the Linux console cut lines off; where
# nobody knows, too little is erased (a copy of the draft stays) rather than too much (the conversation).
_WRAPPING = ("TMUX", "VTE_VERSION")


def wraps_anew(environ: Mapping[str, str]) -> bool:
    return any(environ.get(name) for name in _WRAPPING) or environ.get("TERM", "").startswith("tmux")


def follow_the_terminal(app: Application[str]) -> None:
    """Erase the draft from where it begins now; prompt_toolkit goes up by the rows that it once had."""
    renderer = app.renderer
    erase, render = renderer.erase, renderer.render

    def erase_it(leave_alternate_screen: bool = True) -> None:
        _find_cursor(renderer)
        erase(leave_alternate_screen)

    def render_it(app: Application[str], layout: Layout, is_done: bool = False) -> None:
        _find_cursor(renderer)  # also where a key comes before the signal does
        render(app, layout, is_done)

    if wraps_anew(os.environ):
        renderer.erase, renderer.render = erase_it, render_it  # type: ignore[method-assign]


def _find_cursor(renderer: Renderer) -> None:
    """Where the cursor is from the draft's first row, after the terminal has become narrower."""
    columns, drawn, size = renderer.output.get_size().columns, renderer._last_screen, renderer._last_size
    if drawn is None or size is None or columns >= size.columns:
        return
    x, y = renderer._cursor_pos
    above = sum(rows_of(drawn.data_buffer[row], columns) for row in range(y))
    within = rows_of({at: char for at, char in drawn.data_buffer[y].items() if at < x}, columns) - 1
    renderer._cursor_pos = Point(x=columns, y=above + within)  # x: enough to go back to the first column


def rows_of(row: Mapping[int, Char], columns: int) -> int:
    """In how many rows of `columns` cells a row stands that was drawn when the screen was wider."""
    used = max((at for at, char in row.items() if char.char.strip(" ")), default=-1)
    rows, column = 1, 0
    for at in range(used + 1):
        cells = row[at].width if at in row else 1
        if column + cells > columns:
            rows, column = rows + 1, 0
        column += cells
    return rows
