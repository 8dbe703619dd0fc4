"""The state of a model's files on disk: what is recorded of them, and what they should be."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from bilingual_chat.settings.catalogue import (
    CONFIG_FILE,
    OTHER_TOKENIZER_FILE,
    TOKENIZER_FILE,
    WEIGHT_FILES,
    ModelEntry,
    locate,
    pickles_in,
    shards_in,
)
from bilingual_chat.storage import checksums, safe_stat
from bilingual_chat.storage.checksums import MD5, Record, algorithm_of

_SMALL = (
    CONFIG_FILE,
    TOKENIZER_FILE,
    OTHER_TOKENIZER_FILE,
    "tokenizer_config.json",
    "special_tokens_map.json",
    "generation_config.json",
    "chat_template.jinja",
)


class State(Enum):
    """The state of a file, or of a model's worst file; from best to worst."""

    GOOD = "good"  # the content is what the hub, or the catalogue's MD5, says
    UNKNOWN = "unknown"  # never read, or no checksum is known
    CHANGED = "changed"  # another size, time, inode or content than at the last look
    DAMAGED = "damaged"  # the content is wrong


_FROM_BEST = tuple(State)


@dataclass(frozen=True)
class FileState:
    name: str
    size: int  # bytes; 0 if it is missing
    state: State
    withdrawn_md5: str = ""  # its MD5, if that is one of the entry's withdrawn_md5


@dataclass(frozen=True)
class Report:
    """The files of a model in `directory`."""

    directory: Path
    files: tuple[FileState, ...]

    @property
    def state(self) -> State:
        return max((file.state for file in self.files), key=_FROM_BEST.index, default=State.UNKNOWN)

    @property
    def withdrawn(self) -> FileState | None:
        """The first withdrawn file."""
        return next((file for file in self.files if file.withdrawn_md5), None)


def last_report(entry: ModelEntry) -> Report | None:
    """Return what `verify` found last, compared by size, time and inode; None if the model is not here.

    Reads no file of the model, so that a list of models can show it.
    """
    directory = locate(entry)
    if directory is None:
        return None
    return report_of(entry, directory, lambda name: _last_state(entry, directory, name))


def report_of(entry: ModelEntry, directory: Path, look: Callable[[str], FileState]) -> Report:
    """Return the report of the states that `look` finds.

    Of the pickles that no engine opens, only withdrawn ones count: the other weights were made from them.
    """
    files = [look(name) for name in model_files(directory)]
    names = {file.name for file in files}
    others = [look(name) for name in pickles(entry, directory) if name not in names]
    return Report(directory, (*files, *(file for file in others if file.withdrawn_md5)))


def pickles(entry: ModelEntry, directory: Path) -> list[str]:
    """Return the names of the files that could be withdrawn ones."""
    return [path.name for path in pickles_in(directory)] if entry.withdrawn_md5 else []


def _last_state(entry: ModelEntry, directory: Path, name: str) -> FileState:
    path = directory / name
    status, record = safe_stat.status(path), checksums.find_record(path)
    if status is None or not safe_stat.is_file(path):
        return FileState(name, 0, State.DAMAGED)
    if record is None or not record.digests:
        return FileState(name, status.st_size, State.UNKNOWN)
    if not record.matches(status):
        return FileState(name, status.st_size, State.CHANGED)
    return compare(entry, name, status.st_size, record.digests, expected_digests(entry, path, name, record))


def compare(
    entry: ModelEntry, name: str, size: int, digests: Mapping[str, str], expected: Mapping[str, str]
) -> FileState:
    """Return the state of a file by its digests and the expected ones, where both have the algorithm."""
    is_withdrawn = digests.get(MD5) in {md5.lower() for md5 in entry.withdrawn_md5}
    # A withdrawn file is whole and known, although it is not the one that the catalogue wants.
    shared = [each for each in expected if each in digests and not (is_withdrawn and each == MD5)]
    is_damaged = any(digests[each] != expected[each] for each in shared)
    state = State.DAMAGED if is_damaged else State.GOOD if shared or is_withdrawn else State.UNKNOWN
    return FileState(name, size, state, digests[MD5] if is_withdrawn else "")


def expected_digests(entry: ModelEntry, path: Path, name: str, record: Record | None) -> dict[str, str]:
    """Return the digests that a file should have: its ETag (the name of the blob, else as recorded), and its MD5."""
    real = Path(os.path.realpath(path))
    etag = real.name if real.parent.name == "blobs" else record.etag if record else ""
    algorithm, md5 = algorithm_of(etag), entry.weights_md5.get(name)
    return {**({algorithm: etag} if algorithm else {}), **({MD5: md5.lower()} if md5 else {})}


def wants_md5(entry: ModelEntry, name: str) -> bool:
    """Return True if the MD5 of a file is needed; MD5s are published of .bin files only."""
    return name in entry.weights_md5 or (bool(entry.withdrawn_md5) and name.endswith(".bin"))


def model_files(directory: Path) -> list[str]:
    """Return all files of a snapshot of the hub; of another directory, only those that bchat opens."""
    if directory.parent.name == "snapshots":
        below = safe_stat.files_below(directory)
        files = (path for path in below if safe_stat.is_link(path) or safe_stat.is_file(path))
        return sorted(path.relative_to(directory).as_posix() for path in files)
    return [name for name in _SMALL if safe_stat.is_file(directory / name)] + weight_files(directory)


def weight_files(directory: Path) -> list[str]:
    """Return the weight files that an engine opens, with the index and its shards."""
    name = next((name for name in WEIGHT_FILES if safe_stat.is_file(directory / name)), None)
    if name is None:
        return []
    return [name, *_shards(directory / name)] if name.endswith(".index.json") else [name]


def _shards(index: Path) -> list[str]:
    return [name for name in shards_in(index) if Path(name).name == name and safe_stat.is_file(index.parent / name)]
