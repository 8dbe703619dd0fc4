"""Downloads one file into the hub's standard cache: resumes it, verifies it, and only then gives it its name.

The partial file is `blobs/<etag>.incomplete`, which earlier versions of huggingface_hub resume too. The lock is the
one that huggingface_hub takes for the same file.
"""

from __future__ import annotations

import contextlib
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from bilingual_chat.hub import http
from bilingual_chat.hub.http import Hub, Response, Retryable
from bilingual_chat.hub.listing import RemoteFile, file_url
from bilingual_chat.hub.pool import POLL_S, FileProgress, raise_if_cancelled
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import checksums, lock, own_files, safe_stat
from bilingual_chat.storage.checksums import MD5, Digester, algorithm_of
from bilingual_chat.storage.lock import Lock

_CHUNK = 4 << 20  # bytes read back from the disk
_ENOUGH = 1 << 20  # bytes that make an attempt worthwhile, or a hundredth of a smaller file
_STALE_S = 3600.0
_SUFFIX = ".incomplete"


@dataclass(frozen=True)
class FileDownload:
    """A file to download. `check_md5(name, md5)` raises BchatError for weights that are not wanted."""

    hub: Hub
    folder: Path  # of the repository, in the hub's cache
    commit: str
    file: RemoteFile
    check_md5: Callable[[str, str], None] | None = None
    directory: Path | None = None  # the user's own directory, in place of the cache
    token: str = ""  # separates the partial files of processes where there are no locks

    @property
    def blob(self) -> Path:
        return self.directory / self.file.name if self.directory else self.folder / "blobs" / self.file.etag

    @property
    def partial(self) -> Path:
        return self.blob.with_name(self.file.etag + self.token + _SUFFIX)

    @property
    def pointer(self) -> Path:
        return self.blob if self.directory else self.folder / "snapshots" / self.commit / self.file.name

    @property
    def algorithms(self) -> tuple[str, ...]:
        algorithm = algorithm_of(self.file.etag)
        assert algorithm is not None
        return (algorithm, MD5) if self.check_md5 else (algorithm,)

    @property
    def missing(self) -> int:
        """The bytes still to download, judged by sizes alone."""
        if any(safe_stat.size_of(path) == self.file.size for path in (self.blob, self.pointer)):
            return 0
        return max(self.file.size - (safe_stat.size_of(self.partial) or 0), 0)

    def verify(self, digests: dict[str, str]) -> bool:
        """Return True if these are the hub's digests. Raise BchatError for weights that are, but are not wanted."""
        if digests[self.algorithms[0]] != self.file.etag:
            return False
        if self.check_md5 is not None:
            self.check_md5(self.file.name, digests[MD5])
        return True


def fetch(download: FileDownload, progress: FileProgress, cancel: threading.Event) -> None:
    """Download the file unless it is here, and verify it; it is then a blob (without links: in the snapshot).

    Raise BchatError (MODEL), OSError, Cancelled. Partial files are kept, wrong ones are not.
    """
    download.blob.parent.mkdir(parents=True, exist_ok=True)
    with _locked(download, progress, cancel) as held:
        if not held.is_exclusive:  # two processes must not write one file
            download = replace(download, token=f".{secrets.token_hex(4)}")
        if download.directory is not None and os.path.lexists(download.blob):
            _compare_own(download, progress, cancel)
        elif any(_is_whole(download, path, progress, cancel) for path in (download.blob, download.pointer)):
            download.partial.unlink(missing_ok=True)
        elif not _transfer(download, progress, cancel) and not _transfer(download, progress, cancel):
            raise download.hub.error("hub.wrong-digest", file=download.file.name)


def link_into_snapshot(download: FileDownload, *, is_last: bool) -> None:
    """Give the blob its name in the snapshot. Where links are impossible, move it there.

    It is copied unless `is_last`: other files have the same content.
    """
    pointer, blob = download.pointer, download.blob
    if pointer == blob:
        return
    pointer.parent.mkdir(parents=True, exist_ok=True)
    if not blob.is_file() or (pointer.is_symlink() and pointer.exists() and pointer.samefile(blob)):
        return
    new, known = own_files.temporary_beside(pointer), checksums.known_digests(blob)
    try:
        try:
            new.symlink_to(os.path.relpath(blob, pointer.parent))
        except (OSError, NotImplementedError):
            if is_last and not _is_linked(download):
                blob.replace(new)
            else:
                shutil.copy2(blob, new)
        new.replace(pointer)
    finally:
        new.unlink(missing_ok=True)
    if not pointer.is_symlink():
        etag = download.file.etag
        checksums.record(pointer, {**known, download.algorithms[0]: etag}, etag=etag)


def remove_abandoned(folder: Path) -> None:
    """Remove the partial files of other commits, and of other programs that were killed."""
    for partial in safe_stat.entries(folder / "blobs"):
        if not partial.name.endswith(_SUFFIX):
            continue
        etag, _, rest = partial.name.partition(".")
        has_token = rest != _SUFFIX[1:]  # huggingface_hub's, or without locks: it may be in use
        with contextlib.suppress(OSError), _try_lock(folder, etag) as held:
            if held is not None and not (has_token and time.time() - partial.lstat().st_mtime < _STALE_S):
                partial.unlink()


@contextmanager
def try_all_locks(folder: Path) -> Iterator[bool]:
    """Hold all locks of a repository; give False if that is impossible because of a download."""
    with ExitStack() as stack:
        etags = [path.stem for path in safe_stat.entries(_lock_folder(folder)) if path.suffix == ".lock"]
        yield all(stack.enter_context(_try_lock(folder, etag)) is not None for etag in etags)


def _is_whole(download: FileDownload, path: Path, progress: FileProgress, cancel: threading.Event) -> bool:
    """Return True if the file is already here. Remove one of the right size and wrong content."""
    if safe_stat.size_of(path) != download.file.size:
        return False
    if download.verify(_digests_of(download, path, progress, cancel)):
        return True
    path.unlink()
    progress.done = 0
    return False


def _compare_own(download: FileDownload, progress: FileProgress, cancel: threading.Event) -> None:
    """Raise BchatError if a file in the user's own directory is not the hub's. It may be the user's work: keep it."""
    if safe_stat.size_of(download.blob) == download.file.size:
        digests = _digests_of(download, download.blob, progress, cancel)
        if download.verify(digests):
            checksums.record(download.blob, digests, etag=download.file.etag)
            return
    raise download.hub.error("hub.own-file", file=download.file.name, directory=download.directory)


def _digests_of(download: FileDownload, path: Path, progress: FileProgress, cancel: threading.Event) -> dict[str, str]:
    progress.done = 0

    def count(size: int) -> None:
        raise_if_cancelled(cancel)
        progress.done += size

    return checksums.compute_digests(path, download.algorithms, count)


def _transfer(download: FileDownload, progress: FileProgress, cancel: threading.Event) -> bool:
    """Download the missing bytes and name the blob. Return False if the bytes of an earlier run were wrong.

    Raise BchatError if bytes that all came now are wrong. Wrong bytes are deleted.
    """
    with _Partial(download, progress, cancel) as partial:
        has_earlier = partial.size > 0
        url = file_url(download.hub, download.commit, download.file.name)
        http.retry(lambda: _resume(download, partial, url, cancel), cancel, partial.has_progressed)
        digests = partial.digester.digests()
        try:
            is_right = download.verify(digests)
        except BchatError:
            partial.restart()
            raise
        if not is_right:
            partial.restart()
            if has_earlier:
                return False
            raise download.hub.error("hub.wrong-digest", file=download.file.name)
        os.fsync(partial.fd)  # before the name says that the file is whole
    download.partial.replace(download.blob)
    checksums.record(download.blob, digests, etag=download.file.etag)
    return True


def _resume(download: FileDownload, partial: _Partial, url: str, cancel: threading.Event) -> None:
    hub, size = download.hub, download.file.size
    if partial.size == size:
        return
    with http.request(hub, url, cancel, start=partial.size) as response:
        if response.status_code == 200:
            partial.restart()  # the server ignores ranges and sends the whole file
        elif not _continues(response, partial.size, size):
            partial.restart()
            raise Retryable(hub.error("hub.cut"))
        for chunk in http.read_body(hub, response, cancel):
            if partial.size + len(chunk) > size:
                partial.restart()
                raise Retryable(hub.error("hub.wrong-digest", file=download.file.name))
            partial.append(chunk)
    if partial.size < size:
        raise Retryable(hub.error("hub.cut"))


def _continues(response: Response, start: int, size: int) -> bool:
    """Return True if the response is the rest of the file, from byte `start` on."""
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    is_plain = response.status_code == 206 and response.headers.get("content-encoding", "identity") == "identity"
    return is_plain and found is not None and int(found[1]) == start and found[2] in ("*", str(size))


class _Partial:
    """The partial file and its digests. Writes are unbuffered, so that a kill loses nothing."""

    def __init__(self, download: FileDownload, progress: FileProgress, cancel: threading.Event) -> None:
        self._download = download
        self._progress = progress
        self._cancel = cancel
        self._most = 0  # bytes ever here, when `has_progressed` was last called
        self.fd = own_files.open_own(download.partial, 0o666)
        try:
            self._read_back()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *ignored: object) -> None:
        os.close(self.fd)
        if self.size == 0 and self._download.file.size:
            self._download.partial.unlink(missing_ok=True)

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self.fd, rest)
            self._progress.fetched += written
            self._count(rest[:written])
            rest = rest[written:]

    def restart(self) -> None:
        """Delete all bytes."""
        os.ftruncate(self.fd, 0)
        os.lseek(self.fd, 0, os.SEEK_SET)
        self._reset()

    def has_progressed(self) -> bool:
        """Return True if enough new bytes came since the last call."""
        before, self._most = self._most, max(self._most, self.size)
        return self.size - before >= max(min(_ENOUGH, self._download.file.size // 100), 1)

    def _reset(self) -> None:
        self.size = self._progress.done = 0
        self.digester = Digester(self._download.algorithms, self._download.file.size)

    def _read_back(self) -> None:
        self._reset()
        if os.fstat(self.fd).st_size > self._download.file.size:
            self.restart()
        while data := os.read(self.fd, _CHUNK):
            raise_if_cancelled(self._cancel)
            self._count(data)
        self._most = self.size

    def _count(self, data: bytes | memoryview) -> None:
        self.digester.update(data)
        self.size += len(data)
        self._progress.done = self.size


@contextmanager
def _locked(download: FileDownload, progress: FileProgress, cancel: threading.Event) -> Iterator[Lock]:
    """Hold the file's lock; while another process holds it, show that one's progress."""
    while True:
        with _try_lock(download.folder, download.file.etag) as held:
            if held is not None:
                yield held
                return
        progress.done = safe_stat.size_of(download.partial) or 0
        raise_if_cancelled(cancel)


@contextmanager
def _try_lock(folder: Path, etag: str) -> Iterator[Lock | None]:
    """Hold the lock of a blob; give None if it is not free within 0.1 s."""
    path = _lock_folder(folder) / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock.acquire(path, timeout_s=POLL_S, is_shared=True)
    try:
        yield held
    finally:
        if held is not None:
            held.release()


def _lock_folder(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name


def _is_linked(download: FileDownload) -> bool:
    """Return True if another snapshot links to the blob, which then must stay."""
    links = filter(safe_stat.is_link, safe_stat.files_below(download.folder / "snapshots"))
    return any(os.path.realpath(each) == os.path.realpath(download.blob) for each in links)
