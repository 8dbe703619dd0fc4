"""What is known of the files of a model that is here, and against what they are to be compared."""

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
)
from bilingual_chat.storage import checksums, safe_read, safe_stat
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
    """Of a file, or of a model as its worst file; from the best to the worst."""

    GOOD = "good"  # its content is what the hub, or the catalogue's MD5, says
    UNKNOWN = "unknown"  # never looked at, or nobody says what it should be
    CHANGED = "changed"  # not the file that was looked at last: another size, time, inode or content
    DAMAGED = "damaged"  # its content is not what it should be


_WORSE = tuple(State)


@dataclass(frozen=True)
class FileState:
    name: str
    size: int  # bytes; 0 for one that is gone
    state: State
    withdrawn_md5: str = ""  # its MD5, if that is one of the entry's withdrawn_md5

    @property
    def is_withdrawn(self) -> bool:
        return bool(self.withdrawn_md5)


@dataclass(frozen=True)
class Report:
    """The files of a model in `directory`."""

    directory: Path
    files: tuple[FileState, ...]

    @property
    def state(self) -> State:
        return max((file.state for file in self.files), key=_WORSE.index, default=State.UNKNOWN)

    @property
    def withdrawn(self) -> FileState | None:
        """The first file that was withdrawn."""
        return next((file for file in self.files if file.is_withdrawn), None)


def recall(entry: ModelEntry) -> Report | None:
    """What `check.verify` found last, compared by size, time and inode only; None if the model is not here.

    Reads no file of the model, so that a list of models can show it.
    """
    directory = locate(entry)
    if directory is None:
        return None
    return report_of(entry, directory, lambda name: _recall(entry, directory, name))


def report_of(entry: ModelEntry, directory: Path, look: Callable[[str], FileState]) -> Report:
    """By what `look` says of each file.

    Pickles that no engine opens count only if they were withdrawn: what lies beside them was made from them.
    """
    files = [look(name) for name in model_files(directory)]
    named = {file.name for file in files}
    beside = [look(name) for name in pickles(entry, directory) if name not in named]
    return Report(directory, (*files, *(file for file in beside if file.is_withdrawn)))


def pickles(entry: ModelEntry, directory: Path) -> list[str]:
    """Names of the files that could be withdrawn ones."""
    return [path.name for path in pickles_in(directory)] if entry.withdrawn_md5 else []


def _recall(entry: ModelEntry, directory: Path, name: str) -> FileState:
    path = directory / name
    stat, mark = safe_stat.status(path), checksums.find_record(path)
    if stat is None or not safe_stat.is_file(path):
        return FileState(name, 0, State.DAMAGED)
    if mark is None or not mark.digests:
        return FileState(name, stat.st_size, State.UNKNOWN)
    if not mark.matches(stat):
        return FileState(name, stat.st_size, State.CHANGED)
    return judge(entry, name, stat.st_size, mark.digests, expected(entry, path, name, mark))


def judge(entry: ModelEntry, name: str, size: int, digests: Mapping[str, str], wanted: Mapping[str, str]) -> FileState:
    """A file by its digests and those that it should have; kinds that only one of the two has say nothing."""
    is_withdrawn = digests.get(MD5) in {md5.lower() for md5 in entry.withdrawn_md5}
    compared = [
        digests[kind] == digest
        for kind, digest in wanted.items()
        if kind in digests and not (is_withdrawn and kind == MD5)
    ]
    # A withdrawn file is whole and known, although it is not the one that the catalogue would have.
    state = State.DAMAGED if not all(compared) else State.GOOD if compared or is_withdrawn else State.UNKNOWN
    return FileState(name, size, state, digests[MD5] if is_withdrawn else "")


def expected(entry: ModelEntry, path: Path, name: str, mark: Record | None) -> dict[str, str]:
    """The digests that a file should have, by kind: from the blob's name, else as the hub stated; and the MD5."""
    real = Path(os.path.realpath(path))
    etag = real.name if real.parent.name == "blobs" else mark.etag if mark else ""
    kind = algorithm_of(etag)
    wanted = {kind: etag} if kind else {}
    md5 = entry.weights_md5.get(name)
    return {**wanted, MD5: md5.lower()} if md5 else wanted


def wants_md5(entry: ModelEntry, name: str) -> bool:
    """Whether the MD5 of this file means anything: only .bin files have one that is published."""
    return name in entry.weights_md5 or (bool(entry.withdrawn_md5) and name.endswith(".bin"))


def model_files(directory: Path) -> list[str]:
    """The files of a model: all of a snapshot of the hub, else (it may hold anything) those that bchat opens."""
    if directory.parent.name == "snapshots":
        below = safe_stat.files_below(directory)
        there = (path for path in below if safe_stat.is_link(path) or safe_stat.is_file(path))
        return sorted(path.relative_to(directory).as_posix() for path in there)
    names = [name for name in _SMALL if safe_stat.is_file(directory / name)]
    return names + weight_files(directory)


def weight_files(directory: Path) -> list[str]:
    """The weights that an engine opens, an index and its shards included."""
    name = next((name for name in WEIGHT_FILES if safe_stat.is_file(directory / name)), None)
    if name is None:
        return []
    return [name, *_shards(directory / name)] if name.endswith(".index.json") else [name]


def _shards(index: Path) -> list[str]:
    try:
        places = safe_read.read_json(index).get("weight_map")
    except (OSError, ValueError):
        return []
    names = {str(name) for name in places.values()} if isinstance(places, dict) else set()
    return sorted(name for name in names if Path(name).name == name and safe_stat.is_file(index.parent / name))
