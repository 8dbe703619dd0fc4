"""Models from the hub: the only room that imports huggingface_hub, and only inside its functions.

(Its import takes some 400 ms, and nothing but `bchat pull` wants it.) The hub's standard cache is used,
so that other programs find what is fetched here and the other way round; HF_HOME, HF_ENDPOINT,
HF_HUB_OFFLINE, HF_TOKEN and a token that `hf auth login` has stored mean what they mean there.

Who does what. huggingface_hub: the HTTP client (proxies, certificates), the token, the rules
for names, the addresses of files, the locks. bchat (in the modules beside this one): the list with one answer
for all files, redirects, retries, deadlines, the transfer itself, and the digests. Because huggingface_hub
2.4 compares sizes only, begins again at the first byte after a kill and leaves its half file behind, has no
limit for a line that drips, and waits for as long as a hub asks it to. Always plain HTTP, never Xet: what
has come of a file is then its beginning, which is what going on from there and checking it wants.

Modules: `crew` (threads), `wire` (HTTP), `listing` (what the hub has), `blob` (one file), `delivery` (all of it
while something else goes on), `state` and `check` (is it still what it was?),
`remove`.
"""

from __future__ import annotations

import contextlib
import errno
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
from bilingual_chat.hub.listing import Listing, look_up
from bilingual_chat.hub.pool import Meter, Silent, Stopped
from bilingual_chat.hub.state import State, model_files, recall, wants_md5
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, hub_folder, locate
from bilingual_chat.storage import atomic, paths, safe_stat
from bilingual_chat.storage.sizes import format_bytes

_MARGIN = 64 << 20  # bytes left free on the disk
_RATE_S = 10.0  # the rate is that of the last seconds


@dataclass(frozen=True)
class Progress:
    """Where one file and the whole stand; sizes are in bytes and count what was already here."""

    file: str
    file_done: int
    file_size: int
    done: int
    size: int
    rate: float = 0.0  # bytes a second over the network, of late; 0 while nothing comes

    @property
    def seconds_left(self) -> float | None:
        """None while it cannot be told."""
        return (self.size - self.done) / self.rate if self.rate else None

    @property
    def percent(self) -> int:
        return 100 * self.done // max(self.size, 1)

    @property
    def time_left(self) -> str:
        """As a clock that runs down says it, in any language: 8:53, or 1:02:10."""
        if self.seconds_left is None:
            return "–"
        minutes, seconds = divmod(math.ceil(self.seconds_left), 60)
        hours, minutes = divmod(minutes, 60)
        return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"


@dataclass(frozen=True)
class Size:
    """Of what bchat needs of a model, in bytes; `missing` is what is still to be fetched of it."""

    size: int
    missing: int


def download(
    entry: ModelEntry,
    progress: Callable[[Progress], None],
    *,
    begin: Callable[[Size], None] = lambda size: None,
    accept_withdrawn: bool = False,
    stop: threading.Event | None = None,
) -> Path:
    """Fetch what bchat needs of a model, verify it, and return its directory.

    Nobody is asked anything when the model is here, unless `check.verify` found it damaged: then the
    damaged files are fetched again. In a directory of the person's own (the entry's `directory`) what is
    missing is fetched, and what is there is compared with the hub's and otherwise left alone. The commit is
    fixed first, so that all files belong together; the snapshot appears when all of them are here and
    verified, and the commit gets its name last.
    `begin` is called when it is known how much there is to fetch, and that the disk has room for it; then
    `progress`, file by file. Both from this thread; what they raise ends the download, as Ctrl-C does.
    However it ends, a kill included, the next call goes on from the last byte that came.
    Raises BchatError (MODEL); Stopped within half a second when another thread sets `stop`.
    """
    here = locate(entry)
    if here is not None and is_settled(entry):
        return here
    require_source(entry)
    with _explained(entry):
        hub, listing = _look_up(entry, stop)
        errands = _plan(entry, hub, listing, accept_withdrawn)
        size = Size(listing.size, sum(map(file_download.missing_bytes, errands)))
        _check_space(size.missing, place_of(entry))
        begin(size)
        folder = hub_folder(entry.hub_id)
        try:
            _bring_all(errands, progress, stop)
        except BaseException:
            _tidy(folder, errands)
            raise
        if entry.directory:
            return place_of(entry)
        for number, errand in enumerate(errands):
            rest = errands[number + 1 :]
            file_download.link(errand, is_last=all(each.file.etag != errand.file.etag for each in rest))
        _name_commit(entry, listing.commit)
        file_download.sweep(folder)
    return folder / "snapshots" / listing.commit


def size_of(entry: ModelEntry) -> Size:
    """How large a model is and how much of it is missing; asks the hub if it is not here.

    Raises BchatError (MODEL).
    """
    here = locate(entry)
    if here is not None:
        return Size(safe_stat.total_size(here / name for name in model_files(here)), 0)
    require_source(entry)
    with _explained(entry):
        hub, listing = _look_up(entry)
        return Size(listing.size, sum(map(file_download.missing_bytes, _plan(entry, hub, listing, True))))


def require_source(entry: ModelEntry) -> None:
    """Raises BchatError (MODEL) where nothing can be fetched, as far as that is known without asking anybody."""
    if not entry.hub_id:
        raise BchatError("hub.nothing-to-fetch", status=ExitStatus.MODEL, name=entry.name)
    if paths.is_offline():
        raise BchatError("hub.offline", status=ExitStatus.MODEL)


def is_settled(entry: ModelEntry) -> bool:
    """Whether there is nothing to do for a model that is here: neither to be mended nor to be compared."""
    return not (is_damaged(entry) or _wants_comparing(entry))


def is_damaged(entry: ModelEntry) -> bool:
    """Whether the last look at the files found one that is not what it should be."""
    report = recall(entry) if entry.hub_id and not entry.directory else None
    return report is not None and report.state is State.DAMAGED


def _wants_comparing(entry: ModelEntry) -> bool:
    """Whether a model in a directory of its own could be compared with the hub's, and was not yet."""
    if not entry.directory or not entry.hub_id or paths.is_offline():
        return False
    report = recall(entry)
    return report is not None and report.state is not State.GOOD


def place_of(entry: ModelEntry) -> Path:
    """Below which a model's files lie."""
    return paths.expand(entry.directory) if entry.directory else paths.hub_cache()


def _look_up(entry: ModelEntry, stop: threading.Event | None = None) -> tuple[Hub, Listing]:
    hub = http.find_hub(entry)
    found: list[Listing] = []
    # In a thread: Ctrl-C then works while an answer is awaited, and an answer that never ends is given up.
    tasks = [lambda stop: found.append(look_up(hub, stop))]
    pool.work(tasks, lambda: _heed(stop), silence_s=http.TIMEOUTS.silence)
    return hub, found[0]


def _heed(stop: threading.Event | None) -> None:
    if stop is not None and stop.is_set():
        raise Stopped


def _plan(entry: ModelEntry, hub: Hub, listing: Listing, accept_withdrawn: bool) -> list[FileDownload]:
    folder, directory = hub_folder(entry.hub_id), place_of(entry) if entry.directory else None

    def judge(name: str, md5: str) -> None:
        if md5 in map(str.lower, entry.withdrawn_md5):
            if not accept_withdrawn:
                raise hub.error("hub.withdrawn", file=name)
        elif md5 != entry.weights_md5.get(name, md5).lower():
            raise hub.error("hub.other-weights", file=name, md5=md5, name=entry.name)

    return [
        FileDownload(hub, folder, listing.commit, file, judge if wants_md5(entry, file.name) else None, directory)
        for file in listing.files
    ]


def _bring_all(
    errands: Sequence[FileDownload], progress: Callable[[Progress], None], stop: threading.Event | None
) -> None:
    meters = [Meter(errand.file.name, errand.file.size) for errand in errands]
    tally = _Tally(meters, progress)
    # The largest first: it takes the longest. One after the other where the content, and so the blob, is the same.
    by_size = sorted(zip(errands, meters, strict=True), key=lambda pair: -pair[1].size)
    by_blob: dict[str, list[tuple[FileDownload, Meter]]] = {}
    for errand, meter in by_size:
        by_blob.setdefault(errand.file.etag, []).append((errand, meter))
    tasks = [partial(_bring, pairs) for pairs in by_blob.values()]

    def look() -> tuple[int, ...]:
        _heed(stop)
        return tally.look()

    pool.work(tasks, look, silence_s=http.TIMEOUTS.silence)


def _bring(pairs: Sequence[tuple[FileDownload, Meter]], stop: threading.Event) -> None:
    for errand, meter in pairs:
        file_download.bring(errand, meter, stop)
        meter.done = meter.size


class _Tally:
    """Tells `progress` of the files that have moved since the last look, and all at the end."""

    def __init__(self, meters: Sequence[Meter], progress: Callable[[Progress], None]) -> None:
        self._meters = meters
        self._progress = progress
        self._told = dict.fromkeys((meter.name for meter in meters), -1)
        self._seen = deque([(time.monotonic(), 0)])  # when, and how much had come over the network

    def look(self) -> tuple[int, ...]:
        done = {meter.name: meter.done for meter in self._meters}
        size, rate = sum(meter.size for meter in self._meters), self._rate()
        for meter in self._meters:
            if done[meter.name] not in (self._told[meter.name], 0) or meter.size == 0 > self._told[meter.name]:
                self._told[meter.name] = done[meter.name]
                self._progress(Progress(meter.name, done[meter.name], meter.size, sum(done.values()), size, rate))
        return tuple(done.values())

    def _rate(self) -> float:
        now, fetched = time.monotonic(), sum(meter.fetched for meter in self._meters)
        self._seen.append((now, fetched))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _RATE_S:
            self._seen.popleft()
        since, before = self._seen[0]
        return (fetched - before) / (now - since) if now > since else 0.0


def _check_space(needed: int, directory: Path) -> None:
    free = safe_stat.free_space(directory)
    if needed and needed + _MARGIN > free:
        raise BchatError(
            "hub.no-space",
            status=ExitStatus.MODEL,
            needed=format_bytes(needed),
            free=format_bytes(free),
            directory=directory,
        )


def _name_commit(entry: ModelEntry, commit: str) -> None:
    """Note, as huggingface_hub does, which commit the revision's name stands for."""
    if entry.revision == commit:
        return
    ref = hub_folder(entry.hub_id) / "refs" / entry.revision
    ref.parent.mkdir(parents=True, exist_ok=True)
    atomic.write(ref, commit.encode(), mode=0o666)


def _tidy(folder: Path, errands: Sequence[FileDownload]) -> None:
    """Remove the files and directories that a failed download made for nothing."""
    for errand in errands:
        with contextlib.suppress(OSError):
            if not errand.partial.lstat().st_size:
                errand.partial.unlink()
    own = [errand.directory for errand in errands[:1] if errand.directory]
    for directory in (folder / "blobs", folder, folder.parent / ".locks" / folder.name, *own):
        with contextlib.suppress(OSError):
            directory.rmdir()


@contextmanager
def _explained(entry: ModelEntry) -> Iterator[None]:
    """Whatever goes wrong within, in one sentence (BchatError, MODEL)."""
    try:
        yield
    except (BchatError, Stopped):
        raise
    except Silent:
        endpoint = http.shown(os.environ.get("HF_ENDPOINT") or "huggingface.co")
        raise BchatError("hub.slow", status=ExitStatus.MODEL, endpoint=endpoint, repo=entry.hub_id) from None
    except Exception as error:
        raise _explain(error, entry) from error


def _explain(error: Exception, entry: ModelEntry) -> BchatError:
    from huggingface_hub import errors

    if isinstance(error, errors.OfflineModeIsEnabled):
        return BchatError("hub.offline", status=ExitStatus.MODEL)
    directory = place_of(entry)
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)):
        return BchatError("hub.disk-full", status=ExitStatus.MODEL, directory=directory)
    if isinstance(error, OSError) and error.strerror:
        return BchatError("hub.not-written", status=ExitStatus.MODEL, directory=directory, reason=error.strerror)
    # Not its text, which may hold anything, the token included.
    return BchatError("hub.failed", status=ExitStatus.MODEL, repo=entry.hub_id, reason=type(error).__name__)
