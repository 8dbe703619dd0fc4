"""Libraries print warnings, logs and progress bars by themselves; none of that belongs on a person's screen."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from functools import cache
from typing import TextIO


@contextmanager
def quiet_libraries(*, but_show: bool = False) -> Iterator[tuple[TextIO, TextIO]]:
    """stdout and stderr for bchat alone. Within, whatever else is printed goes nowhere.

    That holds for Python code that looks up sys.stdout or sys.stderr (warnings, logging, tqdm, print), and for
    native code that writes to file descriptor 2. `but_show` leaves everything as it is.
    """
    if but_show:
        yield sys.stdout, sys.stderr
        return
    out = sys.stdout
    with _off_descriptor_2(sys.stderr) as err, redirect_stdout(_nowhere()), redirect_stderr(_nowhere()):
        yield out, err


@cache
def _nowhere() -> TextIO:
    """Never closed: a library's log handler may keep it."""
    descriptor = os.open(os.devnull, os.O_WRONLY)
    return open(descriptor, "w", encoding="utf-8", closefd=False)


@contextmanager
def _off_descriptor_2(stream: TextIO) -> Iterator[TextIO]:
    """`stream` under another number, and nothing behind number 2."""
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
