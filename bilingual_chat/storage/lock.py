"""Locks on files of bchat's own, which end with the process that holds them."""

from __future__ import annotations

import errno
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bilingual_chat.storage import writing

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int) -> None:
        os.lseek(fd, 1 << 40, os.SEEK_SET)  # far behind the data: a locked byte cannot be written there
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_PAUSE_S = 0.01
_PATIENCE_S = 2.0


def is_locked(fd: int) -> bool:
    """Whether the lock is ours now. Where the file system knows no locks, it counts as ours."""
    try:
        _lock(fd)
    except OSError as error:
        return error.errno not in _HELD
    return True


@contextmanager
def waited_for(path: Path) -> Iterator[None]:
    """With the lock at `path`, for which a moment is waited; where it cannot be had, without it.

    For what is done in milliseconds, and comes to little if two do it at once.
    """
    fd = None
    with suppress(OSError):
        fd = writing.open_own(path)
    try:
        end = time.monotonic() + _PATIENCE_S
        while fd is not None and not is_locked(fd) and time.monotonic() < end:
            time.sleep(_PAUSE_S)
        yield
    finally:
        if fd is not None:
            os.close(fd)
