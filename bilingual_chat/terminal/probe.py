"""Asks the terminal how many cells a text takes."""

from __future__ import annotations

import os
import re
import select
import time

try:
    import termios
    import tty
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

ANSWER_S = 0.5
_REPORT = re.compile(rb"\x1b\[\d+;(\d+)R")


def measured_cells(text: str) -> int | None:
    """Return the cells that the terminal takes for `text`, by its cursor position report; None without an answer."""
    if termios is None:
        return None
    fd = 0
    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        os.write(fd, b"\r" + text.encode() + b"\x1b[6n")
        column = _reported_column(fd)
        os.write(fd, b"\r\x1b[K")
    finally:
        termios.tcsetattr(fd, termios.TCSANOW, before)
    return column - 1 if column else None


def _reported_column(fd: int) -> int | None:
    answer, until = b"", time.monotonic() + ANSWER_S
    while (found := _REPORT.search(answer)) is None:
        if not select.select([fd], [], [], max(0.0, until - time.monotonic()))[0]:
            return None
        answer += os.read(fd, 64)
    return int(found[1])
