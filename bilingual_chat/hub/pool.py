"""A small thread pool that reports progress and can be interrupted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

THREADS = 4  # one connection each; more would compete for the same line
POLL_S = 0.1  # between two looks at progress and cancellation
_JOIN_S = 0.5  # a thread that hangs in a read notices later; it no longer writes anything

Task = Callable[[threading.Event], None]


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
    pool = _Pool(tasks)
    try:
        pool.start()
        _wait(pool, poll, timeout_s)
    finally:
        pool.stop()
    if pool.error is not None:
        raise pool.error


def _wait(pool: _Pool, poll: Callable[[], object], timeout_s: float) -> None:
    last, since = poll(), time.monotonic()
    while not pool.wait(POLL_S):
        current = poll()
        if current != last:
            last, since = current, time.monotonic()
        elif time.monotonic() - since > timeout_s:
            raise TimedOut
    if pool.error is None:
        poll()


class _Pool:
    """The threads, their remaining tasks, and the first error."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.error: BaseException | None = None
        self._tasks = deque(tasks)
        self._unfinished = len(tasks)
        self._cancel = threading.Event()
        self._changed = threading.Condition()
        # Daemons: a read that hangs must not keep the program from ending.
        count = min(THREADS, len(tasks))
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(count)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait(self, seconds: float) -> bool:
        """Return True if all is done, or a task failed, within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._unfinished or self.error is not None, seconds)

    def stop(self) -> None:
        self._cancel.set()
        until = time.monotonic() + _JOIN_S
        for thread in self._threads:
            if thread.ident is not None:  # started
                thread.join(max(until - time.monotonic(), 0.0))

    def _work(self) -> None:
        error: BaseException | None = None
        while error is None and not self._cancel.is_set():
            try:
                task = self._tasks.popleft()
            except IndexError:
                return
            try:
                task(self._cancel)
            except BaseException as raised:
                error = raised
            self._finish_one(error)

    def _finish_one(self, error: BaseException | None) -> None:
        with self._changed:
            self._unfinished -= 1
            if self.error is None:
                self.error = error
            self._changed.notify_all()
