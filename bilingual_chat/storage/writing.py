"""Files of bchat's own, in directories where others may write: a link, or another person's file, is never written to.

What lies in the way is removed, never followed: whoever may not remove it gets the OSError.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

_OWN = getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)
_NEW = os.O_CREAT | os.O_EXCL | _OWN
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # for a FIFO in the way
_IN_THE_WAY = (errno.ELOOP, errno.EMLINK, errno.ENXIO)  # a link (EMLINK: BSD), a socket
_TRIES = 10


def write(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace the content of `path` in one step, or leave it as it was. Raises OSError."""
    new = beside(path)
    fd = os.open(new, os.O_WRONLY | _NEW, mode)
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(data)
        new.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
        raise


def beside(path: Path) -> Path:
    """A name in the same directory that nobody can foresee, and so prepare."""
    return path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}.new")


def open_own(path: Path, mode: int = 0o600, *, create: bool = True) -> int:
    """`path` to read and write, made if need be. Raises OSError.

    A link, another person's file, or one that has a second name somewhere, is removed, and a new one made.
    """
    for _ in range(_TRIES):
        with contextlib.suppress(FileExistsError):
            if create:
                return os.open(path, os.O_RDWR | _NEW, mode)
        try:
            fd = os.open(path, os.O_RDWR | _OWN | _NO_WAITING)
        except FileNotFoundError:
            if not create:
                raise
            continue
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        else:
            if _is_our_file(os.fstat(fd), path.parent):
                return fd
            os.close(fd)
        path.unlink(missing_ok=True)
    raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))


def make_way(path: Path) -> None:
    """Remove what lies at `path` if it is no ordinary file of one name, before somebody else's code opens it."""
    with contextlib.suppress(FileNotFoundError):
        found = path.lstat()
        if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
            path.unlink()


def is_ours(path: Path) -> bool:
    """Whether nobody else can have put this file there, or can write to it: what is in it may be trusted."""
    try:
        found = path.lstat()
        return _is_our_file(found, path.parent) and not found.st_mode & stat.S_IWOTH and is_our_directory(path.parent)
    except (OSError, ValueError):
        return False


def is_our_directory(directory: Path) -> bool:
    """Whether this is a directory of ours in which not everybody may write."""
    try:
        found = directory.stat()
        return stat.S_ISDIR(found.st_mode) and not found.st_mode & stat.S_IWOTH and _is_by_us(found, directory)
    except (OSError, ValueError):
        return False


def require_our_directory(directory: Path) -> None:
    """Raises OSError for a directory in which others may write."""
    if not is_our_directory(directory):
        raise OSError(errno.EPERM, "others may write there", str(directory))


def _is_our_file(found: os.stat_result, directory: Path) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1 and _is_by_us(found, directory)


def _is_by_us(found: os.stat_result, directory: Path) -> bool:
    """Whether the owner is who owns what we create in `directory`: on some file systems, not the user that we are."""
    if os.name == "nt" or found.st_uid == os.geteuid():
        return True
    probe = beside(directory / "owner")
    try:
        os.close(os.open(probe, os.O_WRONLY | _NEW, 0o600))
        is_same = probe.lstat().st_uid == found.st_uid
        probe.unlink()
    except OSError:
        return False
    return is_same
