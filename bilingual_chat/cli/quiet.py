"""Keeps what libraries print (warnings, logs, progress bars) off the screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from typing import TextIO


@contextmanager
def quiet_libraries(*, but_show: bool = False) -> Iterator[tuple[TextIO, TextIO]]:
    """Yield stdout and stderr for bchat alone; discard what anything else prints.

    This covers Python code that looks up sys.stdout or sys.stderr (warnings, logging, tqdm, print) and native code
    that writes to file descriptor 2. `but_show` disables it.
    """
    if but_show:
        yield sys.stdout, sys.stderr
        return
    out = sys.stdout
    with _stderr_moved(sys.stderr) as err, redirect_stdout(_nowhere()), redirect_stderr(_nowhere()):
        yield out, err


@cache
def _nowhere() -> TextIO:
    """Return the null device. It stays open: a library's log handler may keep it."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    return open(descriptor, "w", encoding="utf-8", closefd=False)


@contextmanager
def _stderr_moved(stream: TextIO) -> Iterator[TextIO]:
    """Move `stream` to another descriptor, and let descriptor 2 lead nowhere."""
    try:
        is_second = stream.fileno() == 2
    except (OSError, ValueError):  # io.UnsupportedOperation is both
        is_second = False
    if not is_second:
        yield stream
        return
    stream.flush()
    moved = open(os.dup(2), "w", buffering=1, encoding=stream.encoding, errors="replace")  # noqa: PTH123, SIM115
    os.dup2(_nowhere().fileno(), 2)
    try:
        yield moved
    finally:
        os.dup2(moved.fileno(), 2)
        with suppress(OSError):  # the terminal is gone
            moved.close()
