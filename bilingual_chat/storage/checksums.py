"""What files were found to hold, so that nobody reads gigabytes twice: digests by path, size, time and inode.

Kept in bchat's cache: losing it costs time only. A file of the hub is known by its ETag: the SHA-256 of
its content if it is kept in LFS (64 digits), else the SHA-1 that git gives it (40).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from bilingual_chat.storage import lock, paths, reading, safe_stat, writing

SHA256, GIT, MD5 = "sha256", "git-sha1", "md5"
_KIND_OF_LENGTH = {64: SHA256, 40: GIT}
_LENGTHS = {SHA256: 64, GIT: 40, MD5: 32}
_HEX = frozenset("0123456789abcdef")
_CHUNK = 4 << 20  # bytes
_MOST_BYTES = 4 << 20  # of the store itself
_MOST_FILES = 2000
_GUARD = threading.Lock()


@dataclass(frozen=True)
class Mark:
    """A file as it was when it was read. `stated` is the ETag that the hub gave it, "" if not from the hub."""

    size: int
    mtime_ns: int
    inode: int
    digests: Mapping[str, str] = field(default_factory=dict)
    stated: str = ""

    def fits(self, stat: os.stat_result) -> bool:
        """Whether the file is, by size, time and inode, still the one that was read."""
        return (self.size, self.mtime_ns, self.inode) == (stat.st_size, stat.st_mtime_ns, stat.st_ino)


class Digester:
    """Several digests in one pass over a file of `size` bytes (git's SHA-1 begins with the size)."""

    def __init__(self, kinds: Iterable[str], size: int) -> None:
        self._made: dict[str, Any] = {}
        for kind in kinds:
            name = {SHA256: "sha256", GIT: "sha1", MD5: "md5"}[kind]
            self._made[kind] = hashlib.new(name, usedforsecurity=kind == SHA256)
        if GIT in self._made:
            self._made[GIT].update(b"blob %d\0" % size)

    def update(self, data: bytes | memoryview) -> None:
        for digest in self._made.values():
            digest.update(data)

    def result(self) -> dict[str, str]:
        return {kind: digest.hexdigest() for kind, digest in self._made.items()}


def kind_of(etag: str) -> str | None:
    """Which digest an ETag is; None for one that says nothing about the content."""
    return _KIND_OF_LENGTH.get(len(etag)) if set(etag) <= _HEX else None


def digests_of(path: Path, kinds: Iterable[str], came: Callable[[int], None]) -> dict[str, str]:
    """The digests of a file, from the store if it has not changed since; `came` is told of bytes looked at.

    A file that changes while it is read is not remembered. Raises OSError, and what `came` raises.
    """
    wanted = tuple(kinds)
    before = path.stat()
    known = recall_current(path, before)
    if set(wanted) <= set(known):
        came(before.st_size)
        return {kind: known[kind] for kind in wanted}
    digester = Digester(wanted, before.st_size)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digester.update(chunk)
            came(len(chunk))
        after = os.fstat(file.fileno())
    if Mark(before.st_size, before.st_mtime_ns, before.st_ino).fits(after):
        remember(path, digester.result(), stat=after)
    return digester.result()


def recall(path: Path) -> Mark | None:
    """What is remembered of a file, whether it still `fits` or not."""
    return _parse(_read().get(_key(path)))


def recall_current(path: Path, stat: os.stat_result | None = None) -> Mapping[str, str]:
    """The digests that are known of a file as it is now."""
    mark, stat = recall(path), stat or safe_stat.status(path)
    return mark.digests if mark is not None and stat is not None and mark.fits(stat) else {}


def remember(path: Path, digests: Mapping[str, str], *, stated: str = "", stat: os.stat_result | None = None) -> None:
    """Note what a file was found to hold (when `stat` was taken). What was known of the same content stays known."""
    stat = stat or safe_stat.status(path)
    if stat is None:
        return
    with _alone():
        files = {name: mark for name, mark in _read().items() if _parse(mark)}
        old = _parse(files.pop(_key(path), None))
        same = old is not None and old.fits(stat)
        kept = {**(old.digests if old and same else {}), **digests}
        mark = Mark(stat.st_size, stat.st_mtime_ns, stat.st_ino, kept, stated or (old.stated if old else ""))
        _write({**files, _key(path): asdict(mark)})


def forget(folder: Path) -> None:
    """Strike out every file below `folder`, and those that are no longer there."""
    below = _key(folder) + os.sep
    with _alone():
        files = _read()
        left = {path: mark for path, mark in files.items() if not path.startswith(below) and Path(path).exists()}
        if left != files:
            _write(left)


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _parse(value: object) -> Mark | None:
    """A mark as `remember` writes it; None for anything else."""
    if not isinstance(value, dict):
        return None
    size, mtime, inode, digests, stated = (value.get(each.name) for each in fields(Mark))
    if not (isinstance(size, int) and isinstance(mtime, int) and isinstance(inode, int) and isinstance(digests, dict)):
        return None
    is_known = all(_is_digest(digest, _LENGTHS.get(kind)) for kind, digest in digests.items())
    is_stated = isinstance(stated, str) and (not stated or kind_of(stated) is not None)
    return Mark(size, mtime, inode, digests, str(stated)) if is_known and is_stated else None


def _is_digest(value: object, length: int | None) -> bool:
    return isinstance(value, str) and len(value) == length and set(value) <= _HEX


def _store() -> Path:
    return paths.cache_dir() / "checked.json"


def _read() -> dict[str, Any]:
    try:
        return reading.read_json(_store(), _MOST_BYTES)
    except (OSError, ValueError):
        return {}


@contextmanager
def _alone() -> Iterator[None]:
    """While nobody else writes the store, in this process or another; where there are no locks, without."""
    with suppress(OSError):
        _store().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _GUARD, lock.waited_for(_store().with_suffix(".lock")):
        yield


def _write(files: Mapping[str, Any]) -> None:
    """Not being able to costs time only. The latest of too many stay."""
    kept = dict(list(files.items())[-_MOST_FILES:])
    with suppress(OSError):
        writing.write(_store(), json.dumps(kept, ensure_ascii=True, indent=0).encode())
