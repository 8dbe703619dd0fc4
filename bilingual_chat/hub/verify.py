"""Verifies the files of a model. An unchanged file is read once only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from bilingual_chat.hub import state
from bilingual_chat.hub.download import OnProgress, Progress
from bilingual_chat.hub.state import FileState, Report, State
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, require_here
from bilingual_chat.storage import checksums, os_errors, safe_stat
from bilingual_chat.storage.checksums import MD5, SHA256


def verify(entry: ModelEntry, on_progress: OnProgress | None = None) -> Report:
    """Compare every file of a model with its known checksum. No network.

    Files of the same size, time and inode as at the last look are not read. A file of unknown checksum (in a directory
    of the user's own) is UNKNOWN; it is recorded, and CHANGED when it differs next time.
    Raise BchatError (MODEL) for a model that is not here or cannot be read.
    """
    directory = require_here(entry)
    names = dict.fromkeys([*state.model_files(directory), *state.pickles(entry, directory)])
    sizes = {name: safe_stat.size_of(directory / name) or 0 for name in names}
    total, done = sum(sizes.values()), 0

    def verify_one(name: str) -> FileState:
        nonlocal done
        start = done

        def count(size: int) -> None:
            nonlocal done
            done += size
            if on_progress is not None:
                on_progress(Progress(name, done - start, sizes.get(name, 0), done, total))

        return _verify(entry, directory, name, count)

    return state.report_of(entry, directory, verify_one)


def _verify(entry: ModelEntry, directory: Path, name: str, on_read: Callable[[int], None]) -> FileState:
    path = directory / name
    if not safe_stat.is_file(path):
        return FileState(name, 0, State.DAMAGED)
    record = checksums.find_record(path)
    expected = state.expected_digests(entry, path, name, record)
    algorithms = set(expected) | ({MD5} if state.wants_md5(entry, name) else set())
    try:
        digests = checksums.compute_digests(path, sorted(algorithms or {SHA256}), on_read)
        size = path.stat().st_size
    except OSError as error:
        raise BchatError("hub.not-read", status=ExitStatus.MODEL, path=path, reason=os_errors.reason(error)) from None
    found = state.compare(entry, name, size, digests, expected)
    recorded = record.digests if record is not None else {}
    has_changed = any(recorded.get(each, digests[each]) != digests[each] for each in digests)
    return replace(found, state=State.CHANGED) if has_changed and found.state is State.UNKNOWN else found
