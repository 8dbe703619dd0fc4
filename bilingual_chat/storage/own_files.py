"""Opens bchat's own files in directories where others may write; never writes to a link or another user's file.

A link or file in the way is removed, or OSError raised. Modules call `os.…` by attribute, for tests with failing calls.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from bilingual_chat.storage.os_errors import retry_interrupted

_FLAGS = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_BINARY", "O_NOFOLLOW"))  # 0 where a system lacks it
_NO_WAITING = getattr(os, "O_NONBLOCK", 0)  # a FIFO in the way must not block us
_IN_THE_WAY = (errno.ELOOP, errno.EMLINK, errno.ENXIO)  # a link (EMLINK: BSD), a socket
_ATTEMPTS = 10


def open_new(path: Path, mode: int = 0o600, flags: int = 0) -> int:
    """Return a descriptor of a new file, to read and write. Raise FileExistsError if the name is taken."""
    return retry_interrupted(os.open, path, os.O_RDWR | os.O_CREAT | os.O_EXCL | _FLAGS | flags, mode)


def open_existing(path: Path, flags: int = 0) -> int:
    """Return a descriptor of an existing file, to read and write. Raise OSError, also for a link."""
    return retry_interrupted(os.open, path, os.O_RDWR | _FLAGS | _NO_WAITING | flags)


def open_own(path: Path, mode: int = 0o600, *, create: bool = True, any_owner: bool = False, flags: int = 0) -> int:
    """Return a descriptor of the file at `path`, to read and write. Raise OSError. `flags`: more flags of os.open.

    A link, a file with a second name, and (unless `any_owner`) a file of another user are removed, and a new file is
    made if `create`.
    """
    for _ in range(_ATTEMPTS):
        with contextlib.suppress(FileExistsError):
            if create:
                return open_new(path, mode, flags)
        try:
            fd = open_existing(path, flags)
        except FileNotFoundError:
            if not create:
                raise
            continue
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
        else:
            found = os.fstat(fd)
            if _is_plain(found) and (any_owner or _is_by_us(found, path.parent)):
                return fd
            os.close(fd)
            if not found.st_nlink:  # removed since; the name may be another process's new file
                continue
        path.unlink(missing_ok=True)
    raise OSError(errno.EPERM, os.strerror(errno.EPERM), str(path))


def is_at(fd: int, path: Path) -> bool:
    """Return True if `path` still names the open file."""
    try:
        return os.path.samestat(os.fstat(fd), retry_interrupted(os.stat, path, follow_symlinks=False))
    except FileNotFoundError:
        return False


def temporary_beside(path: Path) -> Path:
    """Return a new, unpredictable name in the same directory."""
    return path.with_name(f".{path.name[:100]}.{os.urandom(8).hex()}.tmp")


def is_ours(path: Path) -> bool:
    """Return True if only we can have made this file and can write to it, so that it can be trusted."""
    try:
        found = path.lstat()
        require_our_directory(path.parent)
        return _is_plain(found) and not found.st_mode & stat.S_IWOTH and _is_by_us(found, path.parent)
    except (OSError, ValueError):
        return False


def require_our_directory(directory: Path) -> None:
    """Raise OSError for a directory of another user, or where others may write."""
    found = directory.stat()
    if not stat.S_ISDIR(found.st_mode) or found.st_mode & stat.S_IWOTH or not _is_by_us(found, directory):
        raise OSError(errno.EPERM, "others may write there", str(directory))


def _is_plain(found: os.stat_result) -> bool:
    return stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def _is_by_us(found: os.stat_result, directory: Path) -> bool:
    """Return True if the owner is the one that the file system gives to our new files; on some shares, not our user."""
    if os.name == "nt" or found.st_uid == os.geteuid():
        return True
    probe = temporary_beside(directory / "owner")
    with contextlib.suppress(OSError):
        os.close(open_new(probe))
        is_same = probe.lstat().st_uid == found.st_uid
        probe.unlink()
        return is_same
    return False
