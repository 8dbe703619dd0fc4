"""The cache of converted weights: paths, exclusive writing, removal of stale files. No torch here.

A file is converted/<hash of the source files and the target>/model.safetensors; its header names its sources.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, BinaryIO

from bilingual_chat.storage import atomic, lock, own_files, paths, safe_read, safe_stat

FILE = "model.safetensors"
SOURCE_KEY = "bchat.source"  # in the header's metadata
_PART = FILE + ".part"
_PAUSE_S = 0.2
_MOST_HEADER = 16 << 20  # bytes


def path_for(sources: Iterable[Path], target: str) -> Path:
    """Return the path of these files' conversion to `target`; it changes with every file. Raises OSError."""
    identity = json.dumps([identify(sources), target])
    return _root() / hashlib.sha256(identity.encode()).hexdigest()[:32] / FILE


def identify(sources: Iterable[Path]) -> list[list[Any]]:
    """Return path, size, mtime_ns and inode of each file. Raises OSError."""
    files = ((path, path.stat()) for path in sources)
    return [[os.path.realpath(path), found.st_size, found.st_mtime_ns, found.st_ino] for path, found in files]


def claim(path: Path, waiting: Callable[[int], None]) -> BinaryIO | None:
    """Return an empty, locked file beside `path`; None if `path` exists, or appeared while we waited.

    While another process writes it, waits and calls `waiting` with its size. Overwrites the part of a killed process;
    removes links and files of others. Raises OSError, also for a directory that others may write.
    End with `commit` or `abandon`.
    """
    part = path.with_name(_PART)
    while not is_kept(path):
        _root().mkdir(mode=0o700, parents=True, exist_ok=True)
        part.parent.mkdir(mode=0o700, exist_ok=True)
        own_files.require_our_directory(part.parent)
        try:
            fd = own_files.open_own(part)
        except FileNotFoundError:  # another process swept the folder
            continue
        file = os.fdopen(fd, "r+b")
        if not lock.try_lock(fd):
            waiting(os.fstat(fd).st_size)
            file.close()
            time.sleep(_PAUSE_S)
        elif not own_files.is_at(fd, part) or is_kept(path):  # finished or swept by another process
            file.close()
        else:
            file.truncate(0)
            return file
    return None


def is_kept(path: Path) -> bool:
    """Return True if this conversion exists and only this user can have written it."""
    return own_files.is_ours(path)


def commit(file: BinaryIO, path: Path) -> None:
    """Move a claimed file to `path`, atomically. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":  # Windows renames no open file
        file.close()
    path.with_name(_PART).replace(path)
    file.close()
    with contextlib.suppress(OSError):
        atomic.sync_directory(path.parent)


def abandon(file: BinaryIO, path: Path) -> None:
    """Remove a claimed file."""
    if sys.platform == "win32":
        file.close()
    _remove_file(path.with_name(_PART))
    # Closing flushes the buffer, which may not fit on the disk.
    with contextlib.suppress(OSError):
        file.close()
    _remove_folder(path.parent)


def remove(path: Path) -> None:
    """Remove one conversion."""
    _remove_file(path)
    _remove_folder(path.parent)


def sweep() -> int:
    """Remove conversions whose sources changed, and the parts of killed processes; return the bytes freed."""
    freed = 0
    for folder in safe_stat.entries(_root()):
        if safe_stat.is_link(folder) or not safe_stat.is_dir(folder):
            continue
        freed += _remove_if_abandoned(folder / _PART)
        result = folder / FILE
        if safe_stat.is_file(result) and not _is_current(result):
            freed += _remove_file(result)
        _remove_folder(folder)
    return freed


def _root() -> Path:
    return paths.cache_dir() / "converted"


def _is_current(result: Path) -> bool:
    """Return True if the source files are unchanged."""
    try:
        with result.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = safe_read.parse_json(file.read(min(length, _MOST_HEADER)))
        sources = json.loads(header["__metadata__"][SOURCE_KEY])
        return bool(identify(Path(source[0]) for source in sources) == sources)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False


def _remove_if_abandoned(part: Path) -> int:
    with contextlib.suppress(OSError), os.fdopen(own_files.open_own(part, create=False)) as file:
        return _remove_file(part) if lock.try_lock(file.fileno()) else 0
    return 0


def _remove_file(path: Path) -> int:
    with contextlib.suppress(OSError):
        size = path.lstat().st_size
        path.unlink()
        return size
    return 0


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # not empty
        folder.rmdir()
