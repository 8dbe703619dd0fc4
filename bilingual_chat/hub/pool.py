"""A small thread pool that reports progress and can be interrupted."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

THREADS = 4  # one connection each; more would compete for the same line
POLL_S = 0.1  # between two looks at progress and cancellation
_JOIN_S = 0.5  # a thread that hangs in a read notices later; it no longer writes anything

Task = Callable[[threading.Event], None]
Results = queue.SimpleQueue[BaseException | None]  # of each task, None for success


class Cancelled(Exception):
    """Another thread failed, or the user pressed Ctrl-C: stop here."""


class TimedOut(Exception):
    """Nothing has changed for too long."""


@dataclass
class FileProgress:
    """Progress of one file in bytes. Its thread writes it; the waiting thread reads it."""

    name: str
    size: int
    done: int = 0  # on disk and hashed, no matter when it was downloaded
    fetched: int = 0  # downloaded by this process


def raise_if_cancelled(cancel: threading.Event | None) -> None:
    """Raise Cancelled if `cancel` is set."""
    if cancel is not None and cancel.is_set():
        raise Cancelled


def run(tasks: Sequence[Task], poll: Callable[[], object], *, timeout_s: float) -> None:
    """Run all tasks; each gets an event that is set when it has to stop.

    `poll` is called every tenth of a second in the calling thread. Its result must change within `timeout_s`, else
    TimedOut is raised. The first exception of a task, of `poll`, or Ctrl-C stops the other tasks and is raised.
    """
    cancel = threading.Event()
    waiting, results = deque(tasks), Results()
    # Daemons: a read that hangs must not keep the program from ending.
    threads = [threading.Thread(target=_work, args=(waiting, results, cancel), daemon=True) for _ in tasks[:THREADS]]
    try:
        for thread in threads:
            thread.start()
        _wait(len(tasks), results, poll, timeout_s)
    finally:
        cancel.set()
        until = time.monotonic() + _JOIN_S
        for thread in threads:
            if thread.ident is not None:  # started
                thread.join(max(until - time.monotonic(), 0.0))


def _work(waiting: deque[Task], results: Results, cancel: threading.Event) -> None:
    error: BaseException | None = None
    with suppress(IndexError):
        while error is None and not cancel.is_set():
            task = waiting.popleft()
            try:
                task(cancel)
            except BaseException as raised:
                error = raised
            results.put(error)


def _wait(unfinished: int, results: Results, poll: Callable[[], object], timeout_s: float) -> None:
    last, since = poll(), time.monotonic()
    while unfinished:
        with suppress(queue.Empty):
            error = results.get(timeout=POLL_S)
            if error is not None:
                raise error
            unfinished -= 1
        current = poll()
        if current != last:
            last, since = current, time.monotonic()
        elif time.monotonic() - since > timeout_s:
            raise TimedOut
