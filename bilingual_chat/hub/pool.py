"""Several things at once, in a few threads, while one thread waits, tells how far it is, and can be interrupted."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass

AT_ONCE = 4  # one connection each; more only compete for the same line
_LOOK_S = 0.1  # between two looks at how far it is
_FAREWELL_S = 0.5  # a thread that hangs in a read notices later; it writes nothing any more

Task = Callable[[threading.Event], None]


class Stopped(Exception):
    """Somebody else failed, or the person pressed Ctrl-C: nothing more is to be done here."""


class Silent(Exception):
    """Nothing has moved for too long."""


@dataclass
class Meter:
    """How far one file is, in bytes. Its thread writes it, the one that waits reads it."""

    name: str
    size: int
    done: int = 0  # here and looked at, whether it came now or earlier
    fetched: int = 0  # of these, what came over the network now


def work(tasks: Sequence[Task], look: Callable[[], object], *, silence_s: float, at_once: int = AT_ONCE) -> None:
    """Run the tasks, each with an event that says "stop"; return when all are done.

    `look` is called every tenth of a second in the calling thread; what it returns must change within
    `silence_s`, else Silent is raised. The first exception of a task stops the others and is raised;
    so does one of `look`, and Ctrl-C.
    """
    crew = _Pool(tasks)
    for _ in range(min(at_once, len(tasks))):
        crew.hire()
    try:
        _wait(crew, look, silence_s)
    finally:
        crew.dismiss()
    if crew.failure is not None:
        raise crew.failure


def _wait(crew: _Pool, look: Callable[[], object], silence_s: float) -> None:
    seen, since = look(), time.monotonic()
    while not crew.wait(_LOOK_S):
        now = look()
        if now != seen:
            seen, since = now, time.monotonic()
        elif time.monotonic() - since > silence_s:
            raise Silent
    if crew.failure is None:
        look()


class _Pool:
    """The threads, what they have still to do, and the first thing that went wrong."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        self.failure: BaseException | None = None
        self._left = deque(tasks)
        self._undone = len(tasks)
        self._stop = threading.Event()
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []

    def hire(self) -> None:
        # Daemons: a read that hangs must not keep the program from ending.
        thread = threading.Thread(target=self._work, daemon=True)
        self._threads.append(thread)
        thread.start()

    def wait(self, seconds: float) -> bool:
        """Whether all is done, or something failed, within `seconds`."""
        with self._changed:
            return self._changed.wait_for(lambda: not self._undone or self.failure is not None, seconds)

    def dismiss(self) -> None:
        self._stop.set()
        until = time.monotonic() + _FAREWELL_S
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0.0))

    def _work(self) -> None:
        while not self._stop.is_set():
            try:
                task = self._left.popleft()
            except IndexError:
                return
            try:
                task(self._stop)
            except BaseException as error:
                self._report(error)
                return
            self._report(None)

    def _report(self, error: BaseException | None) -> None:
        with self._changed:
            self._undone -= 1
            if error is not None and self.failure is None:
                self.failure = error
            self._changed.notify_all()
