"""Downloads models from the hub. This room alone imports huggingface_hub, and only inside functions (0.4 s).

Models go into the hub's standard cache, which other programs share. HF_HOME, HF_ENDPOINT, HF_HUB_OFFLINE, HF_TOKEN and
the token of `hf auth login` work as in huggingface_hub.

huggingface_hub provides the HTTP client (proxies, certificates), the token, the rules for names and the URLs of files.
bchat does the rest (listing, redirects, retries, timeouts, transfer, locks, checksums), because huggingface_hub 2.4
compares sizes only, does not resume after a kill, leaves its partial file behind, never gives up on a slow line, and
waits as long as a hub asks it to. Plain HTTP is used, never Xet: a partial file is then the beginning of the file, and
can be resumed and verified.
"""

from __future__ import annotations

import contextlib
import math
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bilingual_chat.hub import file_download, http, pool
from bilingual_chat.hub.file_download import FileDownload
from bilingual_chat.hub.http import Hub
from bilingual_chat.hub.listing import Listing, fetch_listing
from bilingual_chat.hub.pool import Cancelled, FileProgress, TimedOut, raise_if_cancelled
from bilingual_chat.hub.state import State, last_report, wants_md5
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, hub_folder, locate
from bilingual_chat.storage import atomic, os_errors, paths, safe_stat
from bilingual_chat.storage.sizes import format_bytes

_DISK_MARGIN = 64 << 20  # bytes left free
_RATE_S = 10.0  # the rate is the mean of that time


@dataclass(frozen=True)
class Progress:
    """Progress of one file and of the whole download, in bytes, with what was already on disk."""

    file: str
    file_done: int
    file_size: int
    done: int
    size: int
    rate: float = 0.0  # bytes a second over the network; 0 while nothing comes

    @property
    def seconds_left(self) -> float | None:
        """None if unknown."""
        return (self.size - self.done) / self.rate if self.rate else None

    @property
    def percent(self) -> int:
        return 100 * self.done // max(self.size, 1)

    @property
    def time_left(self) -> str:
        """8:53, or 1:02:10; "–" if unknown."""
        if self.seconds_left is None:
            return "–"
        minutes, seconds = divmod(math.ceil(self.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@dataclass(frozen=True)
class Size:
    """The bytes of the files that bchat needs of a model; `missing` is the part still to download."""

    size: int
    missing: int


OnProgress = Callable[[Progress], None]


def download(
    entry: ModelEntry,
    on_progress: OnProgress,
    *,
    on_start: Callable[[Size], None] = lambda size: None,
    accept_withdrawn: bool = False,
    without_weights: bool = False,
    cancel: threading.Event | None = None,
) -> Path:
    """Download the files that bchat needs of a model, verify them, and return their directory.

    A model that is here is returned without a request, unless `verify` found it damaged. In a directory of the user's
    own (`entry.directory`) missing files are downloaded and existing ones compared with the hub's, never changed.
    All files are of one commit. The snapshot appears when all of them are verified; the commit gets its name last.
    However a download ends, even by a kill, the next one resumes it. `without_weights`: the tokenizer and the
    configuration are enough for a model that a server computes.

    `on_start` is called when the size is known and fits on the disk, then `on_progress` file by file, both in this
    thread; an exception of theirs ends the download. Raise BchatError (MODEL); Cancelled within half a second after
    `cancel` is set.
    """
    directory = locate(entry)
    if directory is not None and is_complete(entry):
        return directory
    require_downloadable(entry)
    with _explain_errors(entry):
        hub, listing = _fetch_listing(entry, cancel)
        listing = listing.without_weights() if without_weights else listing
        downloads = _plan(entry, hub, listing, accept_withdrawn=accept_withdrawn)
        size = Size(listing.size, sum(each.missing for each in downloads))
        _require_space(size.missing, target_directory(entry))
        on_start(size)
        folder = hub_folder(entry.hub_id)
        try:
            _download_all(downloads, on_progress, cancel)
        except BaseException:
            _remove_empty(folder, downloads)
            raise
        if entry.directory:
            return target_directory(entry)
        last = {each.file.etag: each for each in downloads}
        for each in downloads:
            file_download.link_into_snapshot(each, is_last=last[each.file.etag] is each)
        _name_commit(entry, listing.commit)
        file_download.remove_abandoned(folder)
    return folder / "snapshots" / listing.commit


def require_downloadable(entry: ModelEntry) -> None:
    """Raise BchatError (MODEL) if the model is not on the hub, or downloads are forbidden."""
    if not entry.hub_id:
        raise BchatError("hub.nothing-to-fetch", status=ExitStatus.MODEL, name=entry.name)
    if paths.is_offline():
        raise BchatError("hub.offline", status=ExitStatus.MODEL)


def is_complete(entry: ModelEntry) -> bool:
    """Return True if nothing of a model that is here has to be repaired, or compared with the hub."""
    report = last_report(entry) if entry.hub_id else None
    if report is not None and entry.directory:
        return paths.is_offline() or report.state is State.GOOD
    return report is None or report.state is not State.DAMAGED


def target_directory(entry: ModelEntry) -> Path:
    """Return the directory below which a model is stored."""
    return paths.expand(entry.directory) if entry.directory else paths.hub_cache()


def _fetch_listing(entry: ModelEntry, cancel: threading.Event | None) -> tuple[Hub, Listing]:
    hub = http.find_hub(entry)
    found: list[Listing] = []
    # In a thread, so that Ctrl-C works during a request, and an endless one times out.
    tasks = [lambda cancel: found.append(fetch_listing(hub, cancel))]
    pool.run(tasks, lambda: raise_if_cancelled(cancel), timeout_s=http.TIMEOUTS.stall)
    return hub, found[0]


def _plan(entry: ModelEntry, hub: Hub, listing: Listing, *, accept_withdrawn: bool) -> list[FileDownload]:
    folder, directory = hub_folder(entry.hub_id), target_directory(entry) if entry.directory else None

    def check_md5(name: str, md5: str) -> None:
        if md5 in map(str.lower, entry.withdrawn_md5):
            if not accept_withdrawn:
                raise hub.error("hub.withdrawn", file=name)
        elif md5 != entry.weights_md5.get(name, md5).lower():
            raise hub.error("hub.other-weights", file=name, md5=md5, name=entry.name)

    return [
        FileDownload(hub, folder, listing.commit, file, check_md5 if wants_md5(entry, file.name) else None, directory)
        for file in listing.files
    ]


def _download_all(downloads: Sequence[FileDownload], on_progress: OnProgress, cancel: threading.Event | None) -> None:
    files = {each.file.name: FileProgress(each.file.name, each.file.size) for each in downloads}
    reporter = _Reporter(list(files.values()), on_progress)
    # The largest first: it takes the longest. Files of the same content share a blob and are not downloaded at once.
    by_blob: dict[str, list[FileDownload]] = {}
    for each in sorted(downloads, key=lambda each: -each.file.size):
        by_blob.setdefault(each.file.etag, []).append(each)

    def fetch(group: Sequence[FileDownload], cancel: threading.Event) -> None:
        for each in group:
            file_download.fetch(each, files[each.file.name], cancel)
            files[each.file.name].done = each.file.size

    def poll() -> tuple[int, ...]:
        raise_if_cancelled(cancel)
        return reporter.report()

    pool.run([partial(fetch, group) for group in by_blob.values()], poll, timeout_s=http.TIMEOUTS.stall)


class _Reporter:
    """Reports the files that have progressed since the last report."""

    def __init__(self, files: Sequence[FileProgress], on_progress: OnProgress) -> None:
        self._files = files
        self._on_progress = on_progress
        self._reported = dict.fromkeys((file.name for file in files), -1)
        self._history = deque([(time.monotonic(), 0)])  # time, bytes downloaded until then

    def report(self) -> tuple[int, ...]:
        """Call `on_progress` for each file that has progressed. Return the bytes done, by file."""
        done = {file.name: file.done for file in self._files}
        size, rate = sum(file.size for file in self._files), self._rate()
        for file in self._files:
            is_news = done[file.name] not in (self._reported[file.name], 0)
            if is_news or file.size == 0 > self._reported[file.name]:
                self._reported[file.name] = done[file.name]
                self._on_progress(Progress(file.name, done[file.name], file.size, sum(done.values()), size, rate))
        return tuple(done.values())

    def _rate(self) -> float:
        now, fetched = time.monotonic(), sum(file.fetched for file in self._files)
        self._history.append((now, fetched))
        while len(self._history) > 2 and now - self._history[1][0] >= _RATE_S:
            self._history.popleft()
        since, before = self._history[0]
        return (fetched - before) / (now - since) if now > since else 0.0


def _require_space(needed: int, directory: Path) -> None:
    free = safe_stat.free_space(directory)
    if needed and needed + _DISK_MARGIN > free:
        sizes = {"needed": format_bytes(needed), "free": format_bytes(free)}
        raise BchatError("hub.no-space", status=ExitStatus.MODEL, directory=directory, **sizes)


def _name_commit(entry: ModelEntry, commit: str) -> None:
    """Record the commit of the revision, as huggingface_hub does."""
    if entry.revision != commit:
        ref = hub_folder(entry.hub_id) / "refs" / entry.revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        atomic.write(ref, commit.encode(), mode=0o666)


def _remove_empty(folder: Path, downloads: Sequence[FileDownload]) -> None:
    """Remove the empty files and directories of a failed download."""
    for each in downloads:
        with contextlib.suppress(OSError):
            if not each.partial.lstat().st_size:
                each.partial.unlink()
    own = [each.directory for each in downloads[:1] if each.directory]
    for directory in (folder / "blobs", folder, folder.parent / ".locks" / folder.name, *own):
        with contextlib.suppress(OSError):
            directory.rmdir()


@contextmanager
def _explain_errors(entry: ModelEntry) -> Iterator[None]:
    """Raise BchatError (MODEL) in place of any other error."""
    try:
        yield
    except (BchatError, Cancelled):
        raise
    except TimedOut:
        endpoint = http.without_credentials(os.environ.get("HF_ENDPOINT") or "huggingface.co")
        raise BchatError("hub.slow", status=ExitStatus.MODEL, endpoint=endpoint, repo=entry.hub_id) from None
    except Exception as error:
        raise _explain(error, entry) from error


def _explain(error: Exception, entry: ModelEntry) -> BchatError:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return BchatError("hub.offline", status=ExitStatus.MODEL)
    directory = target_directory(entry)
    if isinstance(error, OSError) and error.errno in os_errors.DISK_FULL:
        return BchatError("hub.disk-full", status=ExitStatus.MODEL, directory=directory)
    if isinstance(error, OSError) and error.strerror:
        reason = os_errors.reason(error)
        return BchatError("hub.not-written", status=ExitStatus.MODEL, directory=directory, reason=reason)
    # Not its text, which may hold the token.
    return BchatError("hub.failed", status=ExitStatus.MODEL, repo=entry.hub_id, reason=type(error).__name__)
