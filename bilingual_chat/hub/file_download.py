"""One file of the hub in the standard cache: fetched where it stopped, verified, and only then given its name.

What has come lies in `blobs/<etag>.incomplete`, which earlier versions of huggingface_hub take up too;
the lock is the one that huggingface_hub takes for the same file.
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
from typing import Any

from bilingual_chat.hub import http
from bilingual_chat.hub.http import Broken, Hub
from bilingual_chat.hub.listing import RemoteFile, file_url
from bilingual_chat.hub.pool import Meter, Stopped
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import checksums, lock, own_files, safe_stat
from bilingual_chat.storage.checksums import MD5, Digester, algorithm_of
from bilingual_chat.storage.lock import Lock

_CHUNK = 4 << 20  # bytes, of what is read back from the disk
_ENOUGH = 1 << 20  # bytes that make an attempt worth while, or a hundredth of a smaller file
_LOCK_S = 0.1  # between two looks at a lock, and at how far its holder is
_STALE_S = 3600.0
_SUFFIX = ".incomplete"

# Told of the MD5 of a file; raises BchatError for one that is not wanted.
Judge = Callable[[str, str], None]


@dataclass(frozen=True)
class FileDownload:
    """All that is to be known to fetch a file. `judge` is given for weights of which an MD5 is known."""

    hub: Hub
    folder: Path  # of the repository, in the hub's cache
    commit: str
    file: RemoteFile
    judge: Judge | None = None
    directory: Path | None = None  # where it is to lie if not in the cache: one of the person's own
    token: str = ""  # tells the partial file of one process from others, where there are no locks

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
    def kinds(self) -> tuple[str, ...]:
        kind = algorithm_of(self.file.etag)
        assert kind is not None
        return (kind, MD5) if self.judge else (kind,)

    def check(self, digests: dict[str, str]) -> bool:
        """Whether these are the hub's; BchatError for weights that are, but are not wanted."""
        if digests[self.kinds[0]] != self.file.etag:
            return False
        if self.judge is not None:
            self.judge(self.file.name, digests[MD5])
        return True


def missing_bytes(errand: FileDownload) -> int:
    """How much is still to be fetched, judged by sizes alone."""
    if any(safe_stat.size_of(path) == errand.file.size for path in (errand.blob, errand.pointer)):
        return 0
    return max(errand.file.size - (safe_stat.size_of(errand.partial) or 0), 0)


def bring(errand: FileDownload, meter: Meter, stop: threading.Event) -> None:
    """Make the file be here, whole and verified, as a blob (or, where there are no links, in the snapshot).

    Raises BchatError (MODEL), OSError, Stopped. What has come stays for the next time, but not what is wrong.
    """
    errand.blob.parent.mkdir(parents=True, exist_ok=True)
    with _locked(errand, meter, stop) as held:
        if not held.is_exclusive:  # two processes must not write one file
            errand = replace(errand, token=f".{secrets.token_hex(4)}")
        if errand.directory is not None and os.path.lexists(errand.blob):
            _compare_own(errand, meter, stop)
            return
        if any(_is_whole(errand, path, meter, stop) for path in (errand.blob, errand.pointer)):
            errand.partial.unlink(missing_ok=True)
            return
        if not _fetch(errand, meter, stop) and not _fetch(errand, meter, stop):
            raise errand.hub.error("hub.wrong-digest", file=errand.file.name)


def link(errand: FileDownload, *, is_last: bool) -> None:
    """Give the blob its name in the snapshot; where links are impossible, the file goes there itself.

    Unless this `is_last` of the files that have this content: then it is copied.
    """
    pointer, blob = errand.pointer, errand.blob
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
            if is_last and not _is_linked(errand):
                blob.replace(new)
            else:
                shutil.copy2(blob, new)
        new.replace(pointer)
    finally:
        new.unlink(missing_ok=True)
    if not pointer.is_symlink():
        checksums.record(pointer, {**known, errand.kinds[0]: errand.file.etag}, etag=errand.file.etag)


def sweep(folder: Path) -> None:
    """Remove what downloads of other commits, or of other programs that were killed, have left half-done."""
    for partial in safe_stat.entries(folder / "blobs"):
        if not partial.name.endswith(_SUFFIX):
            continue
        etag, _, rest = partial.name.partition(".")
        # Names with a random part are huggingface_hub's; on a file system without locks one may be in use.
        is_foreign = rest != _SUFFIX[1:]
        with contextlib.suppress(OSError), _try_lock(folder, etag) as held:
            if held is not None and not (is_foreign and time.time() - partial.lstat().st_mtime < _STALE_S):
                partial.unlink()


@contextmanager
def every_lock(folder: Path) -> Iterator[bool]:
    """All locks of a repository; whether they could be had, that is, whether nobody is downloading it."""
    with ExitStack() as stack:
        etags = [path.stem for path in safe_stat.entries(_lock_folder(folder)) if path.suffix == ".lock"]
        yield all(stack.enter_context(_try_lock(folder, etag)) is not None for etag in etags)


def _is_whole(errand: FileDownload, path: Path, meter: Meter, stop: threading.Event) -> bool:
    """Whether the file is already here; one that is here and wrong is thrown away."""
    if safe_stat.size_of(path) != errand.file.size:
        return False
    meter.done = 0
    if errand.check(checksums.compute_digests(path, errand.kinds, _counted(meter, stop))):
        return True
    path.unlink()
    meter.done = 0
    return False


def _compare_own(errand: FileDownload, meter: Meter, stop: threading.Event) -> None:
    """A file of the person's own is only looked at: it may be their own work. BchatError if it is not the hub's."""
    path = errand.blob
    digests = {}
    if safe_stat.size_of(path) == errand.file.size:
        digests = checksums.compute_digests(path, errand.kinds, _counted(meter, stop))
    if not digests or not errand.check(digests):
        raise errand.hub.error("hub.own-file", file=errand.file.name, directory=errand.directory)
    checksums.record(path, digests, etag=errand.file.etag)


def _fetch(errand: FileDownload, meter: Meter, stop: threading.Event) -> bool:
    """Fetch what is missing and name the blob. False if the bytes of an earlier run were wrong: it begins anew.

    Raises BchatError for wrong bytes that all came now. Wrong bytes are thrown away.
    """
    with _Partial(errand, meter, stop) as partial:
        was_here = partial.size
        url = file_url(errand.hub, errand.commit, errand.file.name)
        http.persist(lambda: _go_on(errand, partial, url, stop), stop, partial.has_moved)
        digests = partial.digests()
        try:
            if errand.check(digests):
                partial.sync()
            else:
                partial.discard()
                if was_here:
                    return False
                raise errand.hub.error("hub.wrong-digest", file=errand.file.name)
        except BchatError:
            partial.discard()
            raise
    errand.partial.replace(errand.blob)
    checksums.record(errand.blob, digests, etag=errand.file.etag)
    return True


def _go_on(errand: FileDownload, partial: _Partial, url: str, stop: threading.Event) -> None:
    if partial.size == errand.file.size:
        return
    with http.ask(errand.hub, url, stop, start=partial.size) as response:
        if response.status_code == 200:
            partial.restart()  # the server knows no ranges: all of it comes
        elif not _continues(response, partial.size, errand.file.size):
            partial.restart()
            raise Broken(errand.hub.error("hub.cut"))
        for chunk in http.read(errand.hub, response, stop):
            if partial.size + len(chunk) > errand.file.size:
                partial.restart()
                raise Broken(errand.hub.error("hub.wrong-digest", file=errand.file.name))
            partial.append(chunk)
    if partial.size < errand.file.size:
        raise Broken(errand.hub.error("hub.cut"))


def _continues(response: Any, start: int, size: int) -> bool:
    found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("content-range", "").strip())
    is_plain = response.headers.get("content-encoding", "identity") == "identity"
    return (
        response.status_code == 206
        and is_plain
        and found is not None
        and int(found[1]) == start
        and found[2] in ("*", str(size))
    )


class _Partial:
    """What has come of a file: on the disk, and in the digests. Unbuffered, so that a kill loses nothing."""

    def __init__(self, errand: FileDownload, meter: Meter, stop: threading.Event) -> None:
        self._errand = errand
        self._meter = meter
        self._stop = stop
        self._most = 0  # that were ever here, when has_moved was last asked
        self._fd = own_files.open_own(errand.partial, 0o666)
        self.restart(truncate=False)
        try:
            self._read_back()
        except BaseException:
            self.__exit__()
            raise

    def __enter__(self) -> _Partial:
        return self

    def __exit__(self, *ignored: object) -> None:
        os.close(self._fd)
        if self.size == 0 and self._errand.file.size:
            self._errand.partial.unlink(missing_ok=True)

    def append(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            written = os.write(self._fd, rest)
            self._meter.fetched += written
            self._count(rest[:written])
            rest = rest[written:]

    def restart(self, *, truncate: bool = True) -> None:
        """From the first byte again."""
        if truncate:
            os.ftruncate(self._fd, 0)
            os.lseek(self._fd, 0, os.SEEK_SET)
        self.size = self._meter.done = 0
        self._digester = Digester(self._errand.kinds, self._errand.file.size)

    def has_moved(self) -> bool:
        """Whether enough came since this was last asked, beyond what was here before."""
        before, self._most = self._most, max(self._most, self.size)
        return self.size - before >= max(min(_ENOUGH, self._errand.file.size // 100), 1)

    def digests(self) -> dict[str, str]:
        return self._digester.digests()

    def sync(self) -> None:
        """Onto the disk, before the name says that it is whole."""
        os.fsync(self._fd)

    def discard(self) -> None:
        self.restart()

    def _read_back(self) -> None:
        if os.fstat(self._fd).st_size > self._errand.file.size:
            self.restart()
        while data := os.read(self._fd, _CHUNK):
            if self._stop.is_set():
                raise Stopped
            self._count(data)
        self._most = self.size

    def _count(self, data: bytes | memoryview) -> None:
        self._digester.update(data)
        self.size += len(data)
        self._meter.done = self.size


@contextmanager
def _locked(errand: FileDownload, meter: Meter, stop: threading.Event) -> Iterator[Lock]:
    """The file's lock; while another process has it, how far that one is."""
    while True:
        with _try_lock(errand.folder, errand.file.etag) as held:
            if held is not None:
                yield held
                return
        meter.done = safe_stat.size_of(errand.partial) or 0
        if stop.is_set():
            raise Stopped


@contextmanager
def _try_lock(folder: Path, etag: str) -> Iterator[Lock | None]:
    """Hold the lock of a blob, the one that huggingface_hub takes too; None if it is not free within 0.1 s."""
    path = _lock_folder(folder) / f"{etag}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    held = lock.acquire(path, timeout_s=_LOCK_S, is_shared=True)
    try:
        yield held
    finally:
        if held is not None:
            held.release()


def _lock_folder(folder: Path) -> Path:
    return folder.parent / ".locks" / folder.name


def _counted(meter: Meter, stop: threading.Event) -> Callable[[int], None]:
    def came(count: int) -> None:
        if stop.is_set():
            raise Stopped
        meter.done += count

    return came


def _is_linked(errand: FileDownload) -> bool:
    """Whether another snapshot links to the blob, which then must stay."""
    blob = safe_stat.status(errand.blob)
    names = safe_stat.files_below(errand.folder / "snapshots")
    links = [safe_stat.status(path) for path in names if safe_stat.is_link(path)]
    return blob is not None and any(each is not None and os.path.samestat(each, blob) for each in links)
