"""Weights that were converted for this machine, in bchat's cache: where they are, who writes them, which are stale.

converted/<hash of the source files and the dtype>/model.safetensors; what it was made from is in its header.
No torch here.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

from bilingual_chat.storage import atomic, lock, own_files, paths, safe_read, safe_stat

FILE = "model.safetensors"
SOURCE_KEY = "bchat.source"  # in the header's metadata
_PART = FILE + ".part"
_PAUSE_S = 0.2
_MOST_HEADER = 16 << 20  # bytes


def place(sources: Iterable[Path], dtype: str) -> Path:
    """Where the conversion of these files to `dtype` is kept; another place as soon as one of them changes."""
    identity = json.dumps([describe(sources), dtype])
    return _root() / hashlib.sha256(identity.encode()).hexdigest()[:32] / FILE


def describe(sources: Iterable[Path]) -> list[list[Any]]:
    """What tells these files from any others: path, size, mtime_ns and inode of each. Raises OSError."""
    described: list[list[Any]] = []
    for path in sources:
        status = path.stat()
        described.append([os.path.realpath(path), status.st_size, status.st_mtime_ns, status.st_ino])
    return described


def claim(path: Path, waiting: Callable[[int], None]) -> BinaryIO | None:
    """An empty file beside `path` that only we write; None if `path` is there, or came while we waited.

    Waits while another process writes it, and calls `waiting` with the bytes that it has. What a
    killed process left is written over; what others put there, a link for example, is removed.
    Raises OSError, also for a directory in which others may write. End it with `keep` or `drop`.
    """
    part = path.with_name(_PART)
    while not is_kept(path):
        _root().mkdir(mode=0o700, parents=True, exist_ok=True)
        part.parent.mkdir(mode=0o700, exist_ok=True)
        own_files.require_our_directory(part.parent)
        try:
            fd = own_files.open_own(part)
        except FileNotFoundError:  # somebody swept the folder away in between
            continue
        file = os.fdopen(fd, "r+b")
        if not lock.try_lock(fd):
            waiting(os.fstat(fd).st_size)
            file.close()
            time.sleep(_PAUSE_S)
        elif not own_files.is_at(fd, part) or is_kept(path):  # its owner finished, or it was swept away
            file.close()
        else:
            file.truncate(0)
            return file
    return None


def is_kept(path: Path) -> bool:
    """Whether this conversion is there, and nobody but us can have written it."""
    return own_files.is_ours(path)


def keep(file: BinaryIO, path: Path) -> None:
    """Give a claimed file its name; only then is it there. Raises OSError."""
    file.flush()
    os.fsync(file.fileno())
    if sys.platform == "win32":  # an open file cannot be renamed there
        file.close()
    path.with_name(_PART).replace(path)
    file.close()
    with contextlib.suppress(OSError):
        atomic.sync_directory(path.parent)


def drop(file: BinaryIO, path: Path) -> None:
    """Give a claimed file up and remove it."""
    if sys.platform == "win32":
        file.close()
    _remove(path.with_name(_PART))
    # What is in its buffer may be just what did not fit on the disk.
    with contextlib.suppress(OSError):
        file.close()
    _remove_folder(path.parent)


def discard(path: Path) -> None:
    """Remove one conversion."""
    _remove(path)
    _remove_folder(path.parent)


def sweep() -> int:
    """Remove conversions whose source is gone or changed, and what killed ones left. Returns bytes freed.

    Also what `bchat rm` calls once a model is removed.
    """
    freed = 0
    for folder in _folders():
        freed += _remove_if_abandoned(folder / _PART)
        result = folder / FILE
        if safe_stat.is_file(result) and not _is_current(result):
            freed += _remove(result)
        _remove_folder(folder)
    return freed


def kept_bytes() -> int:
    """How much the cache of conversions takes."""
    return sum(safe_stat.total_size(safe_stat.entries(folder)) for folder in _folders())


def _root() -> Path:
    return paths.cache_dir() / "converted"


def _folders() -> Iterator[Path]:
    yield from (path for path in safe_stat.entries(_root()) if safe_stat.is_dir(path) and not safe_stat.is_link(path))


def _is_current(result: Path) -> bool:
    """Whether the files that it was made from are still the same."""
    try:
        with result.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = safe_read.parse_json(file.read(min(length, _MOST_HEADER)))
        sources = json.loads(header["__metadata__"][SOURCE_KEY])
        return bool(describe(Path(source[0]) for source in sources) == sources)
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return False


def _remove_if_abandoned(part: Path) -> int:
    try:
        fd = own_files.open_own(part, create=False)
    except OSError:
        return 0
    try:
        return _remove(part) if lock.try_lock(fd) else 0
    finally:
        os.close(fd)


def _remove(path: Path) -> int:
    try:
        size = path.lstat().st_size
        path.unlink()
    except OSError:
        return 0
    return size


def _remove_folder(folder: Path) -> None:
    with contextlib.suppress(OSError):  # mostly: not empty
        folder.rmdir()
