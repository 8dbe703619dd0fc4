"""`python -m bilingual_chat`: bchat, and its set-up first where its libraries are missing.

Also what the command `bchat` calls: Ctrl-C while Python still imports is an end like any other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

INTERRUPTED = 130  # ExitStatus.INTERRUPTED, before anything can be imported


def main() -> int | None:
    """The exit status of bchat, run by this Python or by that of the checkout's .venv."""
    try:
        with _interrupted_at_once():
            from bilingual_chat import bootstrap

            is_ready = bootstrap.is_ready()
        if not is_ready:
            return bootstrap.run(["-m", "bilingual_chat", *sys.argv[1:]])
    except KeyboardInterrupt:
        return INTERRUPTED
    return bchat()


def bchat() -> int:
    """The exit status of bchat where its libraries are installed."""
    with _interrupted_at_once():
        from bilingual_chat.cli import command_line
    try:
        return command_line.main()
    except KeyboardInterrupt:
        return INTERRUPTED


@contextmanager
def _interrupted_at_once() -> Iterator[None]:
    """End at once: nothing is to save yet, and Python may print and swallow a KeyboardInterrupt during an import."""

    def leave(number: int, frame: FrameType | None) -> None:
        os._exit(INTERRUPTED)

    is_usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if is_usual:
        signal.signal(signal.SIGINT, leave)
    try:
        yield
    finally:
        if is_usual:
            signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    sys.exit(main())
