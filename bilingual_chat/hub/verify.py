"""Whether the files of a model are what they should be. What was read once is read again only if it changed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from bilingual_chat.hub import state
from bilingual_chat.hub.download import Progress
from bilingual_chat.hub.state import FileState, Report, State
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, require_here
from bilingual_chat.storage import checksums, os_errors, safe_stat
from bilingual_chat.storage.checksums import MD5, SHA256

Tell = Callable[[Progress], None]


def verify(entry: ModelEntry, progress: Tell | None = None) -> Report:
    """Compare every file of a model with its recorded digest; no network.

    Costs nothing where size, time and inode are those of the last look. A file for which nobody states a
    digest (a directory of one's own) is UNKNOWN; it is remembered, and CHANGED when it is another next time.
    Raises BchatError (MODEL) for a model that is not here or cannot be read.
    """
    directory = require_here(entry)
    names = dict.fromkeys([*state.model_files(directory), *state.pickles(entry, directory)])
    told = _Told(directory, list(names), progress)
    return state.report_of(entry, directory, lambda name: _verify(entry, directory, name, told))


def _verify(entry: ModelEntry, directory: Path, name: str, told: _Told) -> FileState:
    path = directory / name
    told.begin(name)
    if not safe_stat.is_file(path):
        return FileState(name, 0, State.DAMAGED)
    before = checksums.find_record(path)
    wanted = state.expected(entry, path, name, before)
    kinds = set(wanted) | ({MD5} if state.wants_md5(entry, name) else set())
    try:
        digests = checksums.compute_digests(path, sorted(kinds or {SHA256}), told.came)
        size = path.stat().st_size
    except OSError as error:
        raise BchatError("hub.not-read", status=ExitStatus.MODEL, path=path, reason=os_errors.reason(error)) from None
    found = state.judge(entry, name, size, digests, wanted)
    is_other = before is not None and any(before.digests.get(kind, digests[kind]) != digests[kind] for kind in digests)
    if found.state is State.UNKNOWN and is_other:
        return FileState(name, size, State.CHANGED, found.withdrawn_md5)
    return found


class _Told:
    """How far the looking is, told to `progress`."""

    def __init__(self, directory: Path, names: Sequence[str], progress: Tell | None) -> None:
        self._sizes = {name: (safe_stat.size_of(directory / name) or 0) for name in names}
        self._progress = progress
        self._name = ""
        self._done = self._before = 0

    def begin(self, name: str) -> None:
        self._before, self._name = self._done, name

    def came(self, count: int) -> None:
        self._done += count
        if self._progress is not None:
            size, total = self._sizes.get(self._name, 0), sum(self._sizes.values())
            self._progress(Progress(self._name, self._done - self._before, size, self._done, total))
