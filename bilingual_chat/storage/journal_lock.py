"""One writer per journal: a lock on a file of its own, since a lock dies with a rename."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import time
from pathlib import Path

from bilingual_chat.storage import atomic

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool) -> None:
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # knows no shared locks

else:
    import fcntl

    def _lock(fd: int, *, shared: bool) -> None:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
# Some network file systems know no locks. A chat that is saved without one is better than none.
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_FLAGS = os.O_RDWR | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_ATTEMPTS = 4
_PAUSE_S = 0.02  # another process may hold the lock for an instant, to look whether it is held


class Lock:
    """A lock that is held until `release`, or until the process ends, however it ends."""

    def __init__(self, path: Path, fd: int) -> None:
        self._path = path
        self._fd: int | None = fd

    def release(self) -> None:
        """Gives the lock back and removes its file."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        if sys.platform == "win32":  # an open file cannot be removed there
            atomic.close(fd)
            _remove(self._path)
        else:  # while it is held: nobody may lock the name between the removal and the release
            _remove(self._path)
            atomic.close(fd)


def lock_path(journal: Path) -> Path:
    return journal.with_name(journal.name + ".lock")


def acquire(journal: Path) -> Lock | None:
    """The lock of a journal; None if somebody holds it. Raises OSError when it cannot be told."""
    path = lock_path(journal)
    for attempt in range(_ATTEMPTS):
        if attempt:
            time.sleep(_PAUSE_S)
        fd = atomic.patient(os.open, path, _FLAGS | os.O_CREAT, 0o600)
        lock = Lock(path, fd)
        try:
            locked = _try_lock(fd)
        except OSError:
            atomic.close(fd)
            raise
        try:
            # The holder before may have removed the file between our open and our lock.
            if locked and _is_at(fd, path):
                return lock
        except OSError:
            lock.release()
            raise
        atomic.close(fd)
    return None


def is_held(journal: Path) -> bool:
    """Whether a process is writing this journal now. Creates nothing."""
    try:
        fd = os.open(lock_path(journal), _FLAGS)
    except OSError:
        return False
    try:
        return not _try_lock(fd, shared=True)
    except OSError:
        return False
    finally:
        atomic.close(fd)


def _try_lock(fd: int, *, shared: bool = False) -> bool:
    try:
        atomic.patient(_lock, fd, shared=shared)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), atomic.patient(os.stat, path))
    except FileNotFoundError:
        return False


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        atomic.remove(path)
