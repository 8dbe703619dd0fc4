"""Files that are whole or not there: every system call on the user's data, but for the lock.

Functions that write raise OSError; their callers say what it means. `os` is looked up at each call,
so that the tests can let the k-th one fail.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import stat
from collections.abc import Callable
from pathlib import Path
from typing import ParamSpec, TypeVar

from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus

MAX_BYTES = 64 * 1024 * 1024
_P = ParamSpec("_P")
_T = TypeVar("_T")
_INTERRUPTIONS = 100
# Constants that some systems lack are 0 there. O_NONBLOCK: a FIFO must not hang who opens it.
_ALWAYS = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)
_READ = os.O_RDONLY | _ALWAYS | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)
_NO_DIRECTORY_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)
_REASONS = {
    errno.ENOSPC: "reason.full",
    getattr(errno, "EDQUOT", errno.ENOSPC): "reason.full",
    errno.EROFS: "reason.read-only",
    errno.EACCES: "reason.denied",
    errno.EPERM: "reason.denied",
    errno.ENOENT: "reason.missing",
    errno.EMFILE: "reason.too-many-open",
    errno.ENFILE: "reason.too-many-open",
}


def reason(error: OSError | ValueError) -> Phrase:
    """Why a system call failed, as a clause in the reader's language where there is one."""
    code = error.errno if isinstance(error, OSError) else None
    if code in _REASONS:
        return Phrase(_REASONS[code])
    return Phrase("reason.other", text=os.strerror(code) if code else str(error))


def patient(call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
    """`call(*args)`, again when a signal interrupted it; InterruptedError if that never ends."""
    for _ in range(_INTERRUPTIONS):
        with contextlib.suppress(InterruptedError):
            return call(*args, **kwargs)
    raise InterruptedError(errno.EINTR, os.strerror(errno.EINTR))


def demand_file(path: Path) -> None:
    """Raises BchatError (DATA) unless `path` is a regular file, or a link to one."""
    try:
        status = patient(os.stat, path)
    except (OSError, ValueError) as error:
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(status.st_mode):
        raise BchatError("transcript.not-a-file", status=ExitStatus.DATA, path=path)


def read_file(path: Path) -> bytes:
    """All bytes of a regular file; BchatError (DATA) for anything else and for more than 64 MiB."""
    demand_file(path)
    try:
        fd = patient(os.open, path, _READ)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise BchatError("transcript.not-a-file", status=ExitStatus.DATA, path=path)
            # Counted too: some files do not tell their size, or grow while they are read.
            data = b"" if status.st_size > MAX_BYTES else _read_up_to(fd, MAX_BYTES + 1)
        finally:
            close(fd)
    except OSError as error:
        raise _unreadable(path, error) from error
    if max(status.st_size, len(data)) > MAX_BYTES:
        raise BchatError("transcript.too-large", status=ExitStatus.DATA, path=path, limit=MAX_BYTES // 2**20)
    return data


def make_private_directory(path: Path) -> None:
    """`path` and its missing parents, mode 0700, on disk. One that is there already stays as it is."""
    if path.is_dir():
        return
    if path.parent != path:
        make_private_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        patient(os.mkdir, path, 0o700)
    sync_directory(path.parent)


def open_new(path: Path) -> int:
    """A descriptor of a new file, mode 0600; FileExistsError if there is one."""
    return patient(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _ALWAYS, 0o600)


def open_existing(path: Path) -> int:
    return patient(os.open, path, os.O_RDWR | _ALWAYS)


def write_at(fd: int, offset: int, data: bytes) -> None:
    """`data` at byte `offset`, complete and on disk when this returns."""
    patient(os.lseek, fd, offset, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        written = patient(os.write, fd, rest)
        if written <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]
    patient(os.fsync, fd)


def cut(fd: int, length: int) -> None:
    """The file ends at byte `length`; on disk with the next write."""
    patient(os.ftruncate, fd, length)


def demand_length(path: Path, length: int) -> None:
    """Raises OSError if the file was removed or cut under its writer's hands."""
    if patient(os.stat, path).st_size < length:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def close(fd: int) -> None:
    """What matters was fsynced before; a failing close has nothing more to tell."""
    with contextlib.suppress(OSError):
        os.close(fd)


def sync_directory(path: Path) -> None:
    """Makes the names in a directory durable, where the system can do that."""
    if os.name == "nt":
        return
    fd = patient(os.open, path, os.O_RDONLY | _ALWAYS)
    try:
        patient(os.fsync, fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        close(fd)


def write_whole(path: Path, data: bytes) -> None:
    """A file with exactly `data`, mode 0600, in place of what was there: the old one or the new one,
    never a part. Raises OSError, and leaves no other file behind."""
    temporary = path.parent / f".bchat-{secrets.token_hex(8)}.tmp"
    fd = open_new(temporary)
    try:
        try:
            write_at(fd, 0, data)
        finally:
            close(fd)
        patient(os.replace, temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            patient(os.unlink, temporary)
        raise
    sync_directory(path.parent)


def remove(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        patient(os.unlink, path)


def make_private(fd: int) -> None:
    """Mode 0600, for a file that came from elsewhere; where that cannot be, it stays as it is."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(fd, 0o600)


def _read_up_to(fd: int, limit: int) -> bytes:
    parts = []
    while limit > 0 and (part := patient(os.read, fd, min(limit, 2**20))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _unreadable(path: Path, error: OSError | ValueError) -> BchatError:
    return BchatError("transcript.unreadable", status=ExitStatus.DATA, path=path, reason=reason(error))
