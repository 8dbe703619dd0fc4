"""The store of checksums, so that gigabytes are read once only: digests by path, size, time and inode.

It lies in bchat's cache; losing it costs time only. The hub identifies a file by its ETag: the SHA-256 of its content
if it is kept in LFS (64 digits), else git's SHA-1 of it (40 digits).
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from bilingual_chat.storage import atomic, lock, paths, safe_read, safe_stat

SHA256, GIT_SHA1, MD5 = "sha256", "git-sha1", "md5"
_DIGITS = {SHA256: 64, GIT_SHA1: 40, MD5: 32}
_ALGORITHM_OF_ETAG = {64: SHA256, 40: GIT_SHA1}
_CHUNK = 4 << 20  # bytes
_STORE_LIMIT = 4 << 20  # bytes
_MAX_FILES = 2000
_THREADS = threading.Lock()


@dataclass(frozen=True)
class Record:
    """A file when it was read: size in bytes, time, inode, digests in hexadecimal by algorithm.

    `etag` is the one that the hub stated for it; "" if it is not from the hub.
    """

    size: int
    mtime_ns: int
    inode: int
    digests: Mapping[str, str] = field(default_factory=dict)
    etag: str = ""

    def matches(self, status: os.stat_result) -> bool:
        """Return True if the file is still the one that was read, by size, time and inode."""
        return (self.size, self.mtime_ns, self.inode) == (status.st_size, status.st_mtime_ns, status.st_ino)


class Digester:
    """Computes several digests in one pass over a file of `size` bytes (git's SHA-1 begins with the size)."""

    def __init__(self, algorithms: Iterable[str], size: int) -> None:
        self._hashes: dict[str, Any] = {}
        for name in algorithms:
            plain = "sha1" if name == GIT_SHA1 else name
            self._hashes[name] = hashlib.new(plain, usedforsecurity=name == SHA256)
        if GIT_SHA1 in self._hashes:
            self._hashes[GIT_SHA1].update(b"blob %d\0" % size)

    def update(self, data: bytes | memoryview) -> None:
        for each in self._hashes.values():
            each.update(data)

    def digests(self) -> dict[str, str]:
        return {name: each.hexdigest() for name, each in self._hashes.items()}


def short_digest(*parts: bytes) -> str:
    """Return the first 64 bits of the SHA-256 of `parts`, in hexadecimal: enough to tell records apart."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()[:16]


def algorithm_of(etag: str) -> str | None:
    """Return the algorithm of an ETag; None if it says nothing about the content."""
    return _ALGORITHM_OF_ETAG.get(len(etag)) if _is_hexadecimal(etag) else None


def compute_digests(path: Path, algorithms: Iterable[str], on_read: Callable[[int], None]) -> dict[str, str]:
    """Return the digests of a file, from the store if the file has not changed since.

    `on_read` gets the bytes done, piece by piece. A file that changes meanwhile is not recorded. Raise OSError, and
    what `on_read` raises.
    """
    wanted = tuple(algorithms)
    before = path.stat()
    known = known_digests(path, before)
    if set(wanted) <= set(known):
        on_read(before.st_size)
        return {name: known[name] for name in wanted}
    digester = Digester(wanted, before.st_size)
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(_CHUNK):
            digester.update(chunk)
            on_read(len(chunk))
        after = os.fstat(file.fileno())
    if Record(before.st_size, before.st_mtime_ns, before.st_ino).matches(after):
        record(path, digester.digests(), status=after)
    return digester.digests()


def find_record(path: Path) -> Record | None:
    """Return the record of a file, even if the file has changed since."""
    return _parse(_read().get(_key(path)))


def known_digests(path: Path, status: os.stat_result | None = None) -> Mapping[str, str]:
    """Return the recorded digests of a file that has not changed since; else none."""
    found, status = find_record(path), status or safe_stat.status(path)
    return found.digests if found is not None and status is not None and found.matches(status) else {}


def record(path: Path, digests: Mapping[str, str], *, etag: str = "", status: os.stat_result | None = None) -> None:
    """Record digests of a file, computed when it had `status`. Those recorded of the same content stay."""
    status = status or safe_stat.status(path)
    if status is None:
        return
    with _locked():
        records = {name: each for name, each in _read().items() if _parse(each)}
        old = _parse(records.pop(_key(path), None))
        kept = old.digests if old is not None and old.matches(status) else {}
        etag = etag or (old.etag if old is not None else "")
        new = Record(status.st_size, status.st_mtime_ns, status.st_ino, {**kept, **digests}, etag)
        _write({**records, _key(path): asdict(new)})


def forget(folder: Path) -> None:
    """Delete the records of the files below `folder`, and of those that no longer exist."""
    prefix = _key(folder) + os.sep
    with _locked():
        records = _read()
        left = {path: each for path, each in records.items() if not path.startswith(prefix) and Path(path).exists()}
        if left != records:
            _write(left)


def _key(path: Path) -> str:
    return os.path.realpath(path)


def _parse(value: object) -> Record | None:
    """Return a record as `record` writes it; None for anything else."""
    match value:
        case {"size": int(size), "mtime_ns": int(time), "inode": int(inode), "digests": dict(digests), **others}:
            etag = others.get("etag", others.get("stated"))  # "stated": up to bchat 0.1
            is_etag = isinstance(etag, str) and (not etag or algorithm_of(etag) is not None)
            is_whole = all(_is_hexadecimal(each) and len(each) == _DIGITS.get(name) for name, each in digests.items())
            return Record(size, time, inode, digests, str(etag)) if is_etag and is_whole else None
    return None


def _is_hexadecimal(value: object) -> bool:
    return isinstance(value, str) and set(value) <= set("0123456789abcdef")


def _store() -> Path:
    return paths.cache_dir() / "checked.json"


def _read() -> dict[str, Any]:
    try:
        return safe_read.read_json(_store(), _STORE_LIMIT)
    except (OSError, ValueError):
        return {}


@contextmanager
def _locked() -> Iterator[None]:
    """Keep other threads and, where there are locks, other processes from writing the store."""
    with suppress(OSError):
        _store().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _THREADS, lock.best_effort(_store().with_suffix(".lock")):
        yield


def _write(records: Mapping[str, Any]) -> None:
    """Write the latest records. A failure costs time only."""
    kept = dict(list(records.items())[-_MAX_FILES:])
    with suppress(OSError):
        atomic.write(_store(), json.dumps(kept, ensure_ascii=True, indent=0).encode())
