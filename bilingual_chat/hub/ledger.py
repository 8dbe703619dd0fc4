"""What files were found to hold, so that nobody reads gigabytes twice: digests by path, size, time and inode.

Kept in bchat's cache: losing it costs time only. A file of the hub is known by its ETag: the SHA-256 of
its content if it is kept in LFS (64 digits), else the SHA-1 that git gives it (40).
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bilingual_chat import paths

SHA256, GIT, MD5 = "sha256", "git-sha1", "md5"
_KIND_OF_LENGTH = {64: SHA256, 40: GIT}
_HEX = frozenset("0123456789abcdef")
_CHUNK = 4 << 20  # bytes
_MOST = 16 << 20  # bytes of the ledger itself
_LOCK = threading.Lock()


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
    """The digests of a file, from the ledger if it has not changed since; `came` is told of bytes looked at.

    A file that changes while it is read is not remembered. Raises OSError, and what `came` raises.
    """
    wanted = tuple(kinds)
    known = recall(path)
    before = path.stat()
    if known is not None and known.fits(before) and set(wanted) <= set(known.digests):
        came(before.st_size)
        return {kind: known.digests[kind] for kind in wanted}
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


def remember(path: Path, digests: Mapping[str, str], *, stated: str = "", stat: os.stat_result | None = None) -> None:
    """Note what a file was found to hold (when `stat` was taken). What was known of the same content stays known."""
    try:
        stat = stat or path.stat()
    except OSError:
        return
    with _LOCK:
        files = _read()
        old = _parse(files.get(_key(path)))
        same = old is not None and old.fits(stat)
        kept = {**(old.digests if old and same else {}), **digests}
        mark = Mark(stat.st_size, stat.st_mtime_ns, stat.st_ino, kept, stated or (old.stated if old else ""))
        _write({**files, _key(path): asdict(mark)})


def forget(folder: Path) -> None:
    """Strike out every file below `folder`, and those that are no longer there."""
    below = _key(folder) + os.sep
    with _LOCK:
        files = _read()
        left = {path: mark for path, mark in files.items() if not path.startswith(below) and Path(path).exists()}
        if left != files:
            _write(left)


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _parse(value: object) -> Mark | None:
    try:
        mark = Mark(**value) if isinstance(value, dict) else None
    except TypeError:
        return None
    return mark if mark is not None and isinstance(mark.digests, dict) and isinstance(mark.stated, str) else None


def _ledger() -> Path:
    return paths.cache_dir() / "checked.json"


def _read() -> dict[str, Any]:
    try:
        value = json.loads(_ledger().read_bytes()) if _ledger().stat().st_size <= _MOST else None
    except (OSError, ValueError, RecursionError):
        value = None
    return value if isinstance(value, dict) else {}


def _write(files: Mapping[str, Any]) -> None:
    """Two processes at once may lose a line of each other's; that costs one reading."""
    path = _ledger()
    new = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(json.dumps(files, ensure_ascii=True, indent=0), encoding="utf-8")
        new.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            new.unlink(missing_ok=True)
