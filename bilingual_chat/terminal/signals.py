"""Signals in a chat: Ctrl-C stops a reply once, Ctrl-Z stops the process and `fg` continues it, others end it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, Protocol

from bilingual_chat.terminal.keyboard import KEYBOARD

# Every signal that ends a process unless it is caught, as far as this system has it. (SIGPIPE is ignored by Python.)
ENDING: tuple[str, ...] = ("SIGTERM", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGVTALRM", "SIGPROF")
ENDING += ("SIGXCPU", "SIGPOLL", "SIGPWR", "SIGSTKFLT", "SIGABRT", "SIGBREAK")


class Terminated(BaseException):
    """A signal that ends the program: close the conversation and go."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.status = 128 + number


class Prompt(Protocol):
    """A line editor, which has the terminal to itself while it reads."""

    def is_reading(self) -> bool: ...

    def leave(self, error: BaseException) -> None: ...

    def between_keys(self, call: Callable[[], None]) -> None: ...

    def draw_again(self) -> None: ...


@contextmanager
def interrupted_once() -> Iterator[None]:
    """Ctrl-C acts once: a second one must not disturb the keeping of what was said."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    usual = signal.getsignal(signal.SIGINT)
    is_main = threading.current_thread() is threading.main_thread()
    if usual is not signal.default_int_handler or not is_main:  # whoever started us wants it otherwise
        yield
        return
    signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)


@contextmanager
def signals_handled(prompt: Prompt | None, resumed: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Signals that end a process close the conversation and put the terminal back first; those that stop it
    give the terminal to the shell meanwhile. `resumed` is called when it continues outside of the prompt.

    Raises Terminated, also where the terminal is gone and everything else fails because of it.
    """
    received: list[Terminated] = []

    def end(number: int, frame: FrameType | None) -> None:
        for each in before:
            signal.signal(each, signal.SIG_IGN)  # once is enough
        # A process in the background that sets modes would be stopped for it; so it fails to.
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
    """Unless the system lacks it, the thread may not, or whoever started us ignores it, as nohup does."""
    number = getattr(signal, name, None)
    if number is not None and signal.getsignal(number) not in (signal.SIG_IGN, None):
        with suppress(ValueError, OSError):
            usual = signal.signal(number, handler)
            before.setdefault(number, usual)


def stop_group() -> None:
    """What Ctrl-Z does on a terminal that makes a signal of it; nothing on a system without."""
    if hasattr(signal, "SIGTSTP"):
        os.kill(0, signal.SIGTSTP)


def end_group() -> None:
    """What Ctrl-\\ does."""
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
        _resume(prompt, resumed)  # at once where no shell could continue it, and nothing was stopped

    if prompt is not None and prompt.is_reading():
        prompt.between_keys(stop)
    else:
        stop()


def _resume(prompt: Prompt | None, resumed: Callable[[], None]) -> None:
    """Also after a stop that nobody could prepare for, as SIGSTOP is."""
    if prompt is not None and prompt.is_reading():
        prompt.draw_again()
    else:
        KEYBOARD.hold()
        resumed()
