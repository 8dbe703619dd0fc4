"""Messages and the question of the set-up, on stderr, in the language of the locale."""

from __future__ import annotations

import os
import sys
import unicodedata
from collections.abc import Sequence

from bilingual_chat import messages
from bilingual_chat.text.sanitize import outward_line

YES = ("y", "yes", "はい")


def say(key: str, **values: object) -> None:
    """Print the sentence `key` of `messages.TABLE`."""
    print("bchat:", _rendered(key, values), file=sys.stderr, flush=True)


def show_last(lines: Sequence[str]) -> None:
    """Print the end of another program's output."""
    for line in lines[-8:]:
        print("  |", outward_line(line), file=sys.stderr)


def confirms(key: str, **values: object) -> bool:
    """Ask the question `key`; return True if the answer is yes. Without a terminal, return False.

    Keys typed before the question do not count.
    """
    # Python sets a stream to None whose file descriptor is closed.
    if not all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stderr)):
        return False
    _discard_typed_keys()
    print("bchat:", _rendered(key, values), end=" ", file=sys.stderr, flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):  # Ctrl-D
        print(file=sys.stderr)
    return unicodedata.normalize("NFKC", answer).strip().casefold() in YES


def _rendered(key: str, values: dict[str, object]) -> str:
    return messages.render(key, messages.language_of(os.environ), **values)


def _discard_typed_keys() -> None:
    if sys.platform != "win32":
        import termios

        termios.tcflush(sys.stdin, termios.TCIFLUSH)
