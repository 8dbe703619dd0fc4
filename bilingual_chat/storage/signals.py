"""Signals during a write that must be whole."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def postpone_signals() -> Iterator[None]:
    """Call the handlers of signals only after the block.

    A handler may raise (Ctrl-C does), and would otherwise skip the rest of the block. A signal mask would not do:
    another thread can receive the signal, and Python still runs the handler in the main thread.
    """
    if threading.current_thread() is not threading.main_thread():  # handlers run in the main thread only
        yield
        return
    received: list[tuple[int, FrameType | None]] = []
    handlers = {number: found for number in signal.valid_signals() if callable(found := signal.getsignal(number))}
    for number in handlers:
        signal.signal(number, lambda number, frame: received.append((number, frame)))
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    for arrived, frame in received:
        handlers[signal.Signals(arrived)](arrived, frame)
