"""Signals in a chat: Ctrl-C stops a reply, Ctrl-Z suspends the process until `fg`, the others end it."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol

from bilingual_chat.terminal.keyboard import KEYBOARD, is_in_background, is_in_foreground

# Every signal whose default action ends a process. (Python ignores SIGPIPE.)
ENDING: tuple[str, ...] = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF")
ENDING += ("SIGXCPU", "SIGPOLL", "SIGPWR", "SIGSTKFLT", "SIGABRT", "SIGBREAK")


MOST_STOPS = 20  # `bg` again and again


class Terminated(BaseException):
    """A signal ended the program. Handlers close the conversation and exit with `status`."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class Prompt(Protocol):
    """A line editor, which owns the terminal while it reads."""

    def is_reading(self) -> bool: ...

    def leave(self, error: BaseException) -> None: ...

    def between_keys(self, call: Callable[[], None]) -> None: ...

    def draw_again(self) -> None: ...


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Let Ctrl-C interrupt once; ignore a second one, which would disturb the saving of the turn."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if usual is not signal.default_int_handler or not is_main:  # the parent ignores it
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def signals_handled(prompt: Prompt | None, resumed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Raise Terminated for a signal that ends the process; give the terminal to the shell while it is suspended.

    `resumed` is called when the process resumes while no line is being read. Terminated also replaces the errors
    that follow when the terminal is gone.
    """
    received: list[Terminated] = []

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # once is enough
        # Setting modes in the background would stop the process; with a handler the call fails.
        _handle("SIGTTOU", lambda number, frame: None, before)
        received.append(Terminated(number))
        if prompt is not None and prompt.is_reading():
            prompt.leave(received[0])
        else:
            raise received[0]

    before: dict[int, Any] = {}
    for name in ENDING:
        _handle(name, end, before)
    if prompt is not None:
        _handle("SIGTSTP", lambda number, frame: _stop(prompt, resumed), before)
        _handle("SIGCONT", lambda number, frame: None if received else _resume(prompt, resumed), before)
    try:
        yield
    except (OSError, EOFError):
        if received:
            raise received[0] from None
        raise
    finally:
        for number, usual in before.items():
            signal.signal(number, usual)


def _handle(name: str, handler: Callable[[int, FrameType | None], None], before: dict[int, Any]) -> None:
    """Handle a signal, unless the system lacks it, this is not the main thread, or the parent ignores it (nohup)."""
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
        with suppress(ValueError, OSError):
            usual = signal.signal(number, handler)
            before.setdefault(number, usual)


def stop_group() -> None:
    """Suspend the process group, as Ctrl-Z does in a shell; do nothing on a system without SIGTSTP."""
    if hasattr(signal, "SIGTSTP"):
        os.kill(0, signal.SIGTSTP)


def wait_for_foreground() -> None:
    """Stop the process group until it is in the foreground, as reading a key would.

    Otherwise the line editor would be stopped while it sets modes, and fail when `fg` resumes it. A group without a
    shell is not stopped; it gets the error of reading.
    """
    for _ in range(MOST_STOPS):
        if not is_in_background():
            return
        os.kill(0, signal.SIGTTIN)
        time.sleep(0.05)  # the signal may reach another thread


def end_group() -> None:
    """Quit the process group, as Ctrl-\\ does."""
    if hasattr(signal, "SIGQUIT"):
        os.kill(0, signal.SIGQUIT)


def _stop(prompt: Prompt | None, resumed: Callable[[], None]) -> None:
    def stop() -> None:
        KEYBOARD.lend()
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        try:
            os.kill(os.getpid(), signal.SIGTSTP)  # until SIGCONT
        finally:
            signal.signal(signal.SIGTSTP, handler)
        _resume(prompt, resumed)  # at once if there is no shell: then nothing was stopped

    if prompt is not None and prompt.is_reading():
        prompt.between_keys(stop)
    else:
        stop()


def _resume(prompt: Prompt | None, resumed: Callable[[], None]) -> None:
    """Take the terminal back, also after SIGSTOP, which no handler sees.

    Not in the background (`bg`, `kill -CONT`): setting modes there would stop the process again. SIGCONT comes once
    more with `fg`.
    """
    if not is_in_foreground():
        return
    if prompt is not None and prompt.is_reading():
        prompt.draw_again()
    else:
        KEYBOARD.hold()
        resumed()
