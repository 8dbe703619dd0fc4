"""Keeps keys typed ahead, unseen, while bchat works; restores the terminal modes.

The kernel keeps typed-ahead keys until a line is read. bchat takes them only where another reader would get
them: before the process stops, and before a question of bchat's own.
"""

from __future__ import annotations

import codecs
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

try:
    import termios
except ImportError:  # Windows
    termios = None  # type: ignore[assignment]

AT_ONCE = 65_536  # bytes
REST_S = 0.05  # for the rest of a character
PASTE_ON, PASTE_OFF = b"\x1b[?2004h", b"\x1b[?2004l"


class Keyboard:
    """State: the terminal's modes before bchat (None while they are in force), and the keys taken."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        self._typed = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    @property
    def is_held(self) -> bool:
        return self._before is not None

    def hold(self) -> None:
        """Set modes without echo and line editing, in which Ctrl-C keeps typed keys.

        If the kernel or a shell edited lines until now, Return was a newline; it becomes Return again.
        """
        modes = _modes()
        if modes is None:
            return
        if self._before is None:
            self._before = modes
        _set_modes(_quiet(modes))
        if modes[3] & termios.ICANON:
            kept, self._typed = self._typed, ""
            self._take_from_kernel()
            self._typed = kept + self._typed.replace("\n", "\r")
        _write_to_terminal(PASTE_ON)

    def hold_again(self) -> None:
        """Set the modes again after the line editor, which has its own; unless bchat has given them back."""
        if self._before is not None:
            self.hold()

    def lend(self) -> None:
        """Restore the modes while the process is stopped, and keep the keys typed for bchat."""
        if self._before is not None:
            self._take_from_kernel()
            _write_to_terminal(PASTE_OFF)
            _set_modes(self._before)

    def give_back(self) -> None:
        """Restore the modes and discard unread keys, which must not become commands of the shell."""
        if self._before is None or termios is None:
            return
        before, self._before = self._before, None
        if not is_in_foreground():  # another process has set its modes
            return
        with suppress(termios.error, OSError, ValueError):
            termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)
        _write_to_terminal(PASTE_OFF)
        _set_modes(before)

    def take(self) -> str:
        """Return the keys typed ahead, and forget them."""
        if self._before is not None:
            self._take_from_kernel()
            while self._decoder.getstate()[0] and self._take_from_kernel(REST_S):
                pass
        typed, self._typed = self._typed, ""
        return typed

    def _take_from_kernel(self, seconds: float = 0) -> bool:
        """Return True if there were keys."""
        taken = False
        with suppress(OSError, ValueError):
            fd = sys.stdin.fileno()
            while is_in_foreground() and select.select([fd], [], [], 0 if taken else seconds)[0]:
                data = os.read(fd, AT_ONCE)
                if not data:
                    break
                self._typed += self._decoder.decode(data)
                taken = True
        return taken


KEYBOARD = Keyboard()


@contextmanager
def quiet_keys() -> Iterator[None]:
    """Keep typed keys out of the output and for the next line. Ctrl-C still interrupts."""
    KEYBOARD.hold()
    try:
        yield
    finally:
        KEYBOARD.give_back()


def _quiet(modes: list[Any]) -> list[Any]:
    quiet = [*modes]
    quiet[0] &= ~(termios.ICRNL | termios.INLCR | termios.IGNCR)  # the line editor expects "\r"
    quiet[3] &= ~(termios.ECHO | termios.ICANON | termios.IEXTEN)
    quiet[3] |= termios.ISIG | termios.NOFLSH
    quiet[6] = [*quiet[6]]
    quiet[6][termios.VMIN], quiet[6][termios.VTIME] = 1, 0
    return quiet


def _modes() -> list[Any] | None:
    """Return the modes of stdin; None on Windows, without stdin, and if it is no terminal."""
    if termios is None:
        return None
    try:
        return termios.tcgetattr(sys.stdin.fileno())
    except (AttributeError, OSError, ValueError, termios.error):
        return None


def _set_modes(modes: list[Any]) -> None:
    with suppress(termios.error, OSError, ValueError):  # the terminal is gone
        termios.tcsetattr(sys.stdin.fileno(), termios.TCSANOW, modes)


def is_in_foreground() -> bool:
    """Return True if this process is in the foreground of its terminal.

    Only then may it read keys and set modes: the system stops a background process that does.
    """
    return _is_foreground_group() is True


def is_in_background() -> bool:
    """Return True if another process group is in the foreground of this process's terminal."""
    return _is_foreground_group() is False


def _is_foreground_group() -> bool | None:
    try:
        return os.tcgetpgrp(sys.stdin.fileno()) == os.getpgrp()
    except (AttributeError, OSError, ValueError):  # Windows; no terminal
        return None


def _write_to_terminal(sequence: bytes) -> None:
    """Switch bracketed paste, so that a paste typed ahead is one message."""
    if os.environ.get("TERM", "") in ("dumb", "unknown"):
        return
    with suppress(OSError, ValueError, AttributeError):
        os.write(sys.stdin.fileno(), sequence)
