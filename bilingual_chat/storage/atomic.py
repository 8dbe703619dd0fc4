"""Durable writes: a file has its old content or its new content, on disk, and never a part.

Functions raise OSError; the callers explain it.
"""

from __future__ import annotations

import contextlib
import errno
import os
from pathlib import Path

from bilingual_chat.storage.os_errors import retry_interrupted
from bilingual_chat.storage.own_files import open_new, temporary_beside

_NO_DIRECTORY_FSYNC = (errno.EINVAL, errno.ENOTSUP, errno.EBADF)


def write(path: Path, data: bytes | bytearray, *, mode: int = 0o600) -> None:
    """Replace the content of `path` in one step. On failure, `path` is unchanged and no other file is left."""
    temporary = temporary_beside(path)
    fd = open_new(temporary, mode)
    try:
        try:
            write_at(fd, 0, data)
        finally:
            close(fd)
        retry_interrupted(os.replace, temporary, path)
    except BaseException:
        with contextlib.suppress(OSError):
            remove(temporary)
        raise
    sync_directory(path.parent)


def write_at(fd: int, offset: int, data: bytes | bytearray) -> None:
    """Write all of `data` at byte `offset`; it is on disk on return."""
    retry_interrupted(os.lseek, fd, offset, os.SEEK_SET)
    rest = memoryview(data)
    while rest:
        written = retry_interrupted(os.write, fd, rest)
        if written <= 0:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        rest = rest[written:]
    retry_interrupted(os.fsync, fd)


def truncate(fd: int, length: int) -> None:
    """Cut the file to `length` bytes; on disk with the next write."""
    retry_interrupted(os.ftruncate, fd, length)


def require_length(path: Path, length: int) -> None:
    """Raise OSError if the file was removed, or is shorter than `length` bytes."""
    if retry_interrupted(os.stat, path).st_size < length:
        raise OSError(errno.EIO, os.strerror(errno.EIO))


def close(fd: int) -> None:
    """Close a descriptor. Errors are ignored: what matters was synced before."""
    with contextlib.suppress(OSError):
        os.close(fd)


def remove(path: Path) -> None:
    """Remove a file, if it is there."""
    with contextlib.suppress(FileNotFoundError):
        retry_interrupted(os.unlink, path)


def set_mode(fd: int, mode: int) -> None:
    """Set the permissions of an open file, where the system permits it."""
    if hasattr(os, "fchmod"):
        with contextlib.suppress(OSError):
            os.fchmod(fd, mode)


def make_private_directory(path: Path) -> None:
    """Make `path` and its missing parents, with mode 0700, on disk. An existing directory is not changed."""
    if path.is_dir():
        return
    if path.parent != path:
        make_private_directory(path.parent)
    with contextlib.suppress(FileExistsError):
        retry_interrupted(os.mkdir, path, 0o700)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable, where the system can do that."""
    if os.name == "nt":
        return
    fd = retry_interrupted(os.open, path, os.O_RDONLY | getattr(os, "O_CLOEXEC", 0))
    try:
        retry_interrupted(os.fsync, fd)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_FSYNC:
            raise
    finally:
        close(fd)
