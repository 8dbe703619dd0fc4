"""The lock between processes, for journals, caches, downloads, the line history and the set-up.

The system releases a lock at every end of its process. The syntax is that of Python 3.8: the set-up imports this
module before it checks the version.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from bilingual_chat.storage import atomic, own_files
from bilingual_chat.storage.os_errors import retry_interrupted

if sys.platform == "win32":
    import msvcrt

    def _lock(fd: int, *, shared: bool) -> None:
        os.lseek(fd, 0, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)  # has no shared locks

else:
    import fcntl

    def _lock(fd: int, *, shared: bool) -> None:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)


_HELD = (errno.EAGAIN, errno.EWOULDBLOCK, errno.EACCES, errno.EDEADLK)
_UNSUPPORTED = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
_PAUSE_S = 0.02
_TIMEOUT_S = 0.06  # another process may hold the lock for a moment, to look whether it is held
_BEST_EFFORT_TIMEOUT_S = 2.0


class Lock:
    """A lock that is held until `release`, or until the process ends.

    `is_exclusive` is False if the file system has no locks. Its users then work without a lock: a chat that is saved
    without one is better than none.
    """

    def __init__(self, path: Path, fd: int, *, is_shared: bool) -> None:
        self._path = path
        self._fd: int | None = fd
        self._is_shared = is_shared
        self.is_exclusive = is_supported(fd)

    def release(self) -> None:
        """Release the lock, and remove its file unless it is shared with other programs."""
        if self._fd is None:
            return
        fd, self._fd = self._fd, None
        if sys.platform == "win32":  # an open file cannot be removed there
            atomic.close(fd)
        if not self._is_shared:  # while the lock is held, so that nobody locks a file that has lost its name
            with contextlib.suppress(OSError):
                atomic.remove(self._path)
        if sys.platform != "win32":
            atomic.close(fd)


def acquire(path: Path, *, timeout_s: float = _TIMEOUT_S, is_shared: bool = False) -> Lock | None:
    """Return the lock whose file is `path`, or None if another process still holds it after `timeout_s`.

    Raise OSError. `is_shared`: other programs and other users take the same lock, so the file stays after the release
    and its group may write to it (as huggingface_hub does it).
    """
    until = time.monotonic() + timeout_s
    while True:
        fd = own_files.open_own(path, any_owner=True)
        try:
            # The holder before us may have removed the file between our open and our lock.
            if try_lock(fd) and own_files.is_at(fd, path):
                if is_shared:
                    atomic.set_mode(fd, stat.S_IMODE(os.fstat(fd).st_mode) | 0o664)
                return Lock(path, fd, is_shared=is_shared)
        except OSError:
            Lock(path, fd, is_shared=is_shared).release()
            raise
        atomic.close(fd)
        if time.monotonic() >= until:
            return None
        time.sleep(_PAUSE_S)


def is_held(path: Path) -> bool:
    """Return True if a process holds the lock whose file is `path`. Create nothing."""
    with contextlib.suppress(OSError):
        fd = own_files.open_existing(path)
        try:
            return not try_lock(fd, shared=True)
        finally:
            atomic.close(fd)
    return False


@contextlib.contextmanager
def best_effort(path: Path) -> Iterator[None]:
    """Hold the lock whose file is `path`; without it after two seconds, or where it cannot be had.

    For work of milliseconds that does little harm if two processes do it at once.
    """
    lock = None
    with contextlib.suppress(OSError):
        lock = acquire(path, timeout_s=_BEST_EFFORT_TIMEOUT_S)
    try:
        yield
    finally:
        if lock is not None:
            lock.release()


def try_lock(fd: int, *, shared: bool = False) -> bool:
    """Lock an open file. Return False if another process has locked it; True also if the file system has no locks."""
    try:
        retry_interrupted(_lock, fd, shared=shared)
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno not in _UNSUPPORTED:
            raise
    return True


def is_supported(fd: int) -> bool:
    """Return True if the file system of a file that we have locked has locks."""
    try:
        retry_interrupted(_lock, fd, shared=False)
    except OSError as error:
        return error.errno not in _UNSUPPORTED
    return True
