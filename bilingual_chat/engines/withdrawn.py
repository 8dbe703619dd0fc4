"""Weights that their publisher withdrew: told by their MD5, which is computed once a file. No torch here."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from bilingual_chat import paths
from bilingual_chat.catalogue import PICKLES, ModelEntry
from bilingual_chat.engines.files import refused, unreadable
from bilingual_chat.errors import BchatError
from bilingual_chat.messages import Phrase

_BLOCK = 8 << 20  # bytes read at a time; Ctrl-C acts between two
_MOST_MEMORY = 4 << 20  # bytes of the file of digests
_MOST_FILES = 500
_ITEMSIZE = 2  # bytes of a weight in a pickle
_OF_WEIGHTS = (0.95, 1.25)  # a file's size, of that of its weights

Progress = Callable[[int, int], None]
Stamp = tuple[int, int, int]  # size, mtime_ns, inode: while they stay, the content does


def check_withdrawn(
    weights: Iterable[Path], entry: ModelEntry, *, accept: bool, progress: Progress | None = None
) -> bool:
    """Whether one of these files, or a pickle beside them, is withdrawn (only possible with `accept`).

    What lies beside withdrawn weights was made from them. Raises BchatError (MODEL) without `accept`.
    Reads nothing that was read before and has not changed since.
    """
    if not entry.withdrawn_md5:
        return False
    withdrawn = {digest.lower() for digest in entry.withdrawn_md5}
    listed = list(weights)
    beside = {path for each in listed for path in each.parent.glob(PICKLES)}
    for path, digest in md5_of([*listed, *sorted(beside - set(listed))], progress).items():
        if digest in withdrawn:
            if accept:
                return True
            raise _withdrawn(path, entry)
    return False


def with_suspicions(entry: ModelEntry, directory: Path, others: Iterable[ModelEntry]) -> ModelEntry:
    """`entry`, to be checked also for what was withdrawn of others: a directory's name says nothing of its weights.

    Judged by size, so that nothing is read where no file can be it: the withdrawn weights of a model are a
    pickle in 16 bits. Where one could be it, the entry that comes back names that model, whose good weights
    are what a person then needs.
    """
    sizes = [path.stat().st_size for path in directory.glob(PICKLES) if path.is_file()]
    for other in others:
        is_new = not set(other.withdrawn_md5) <= set(entry.withdrawn_md5)
        if is_new and any(_could_be(size, other) for size in sizes):
            withdrawn = (*entry.withdrawn_md5, *other.withdrawn_md5)
            entry = replace(entry, name=other.name, withdrawn_md5=withdrawn, weights_md5=other.weights_md5)
    return entry


def _could_be(size: int, entry: ModelEntry) -> bool:
    """By size; the older files' masks add a few percent, and a model without a known size may be of any."""
    least, most = _OF_WEIGHTS
    return not entry.parameters or least <= size / (entry.parameters * _ITEMSIZE) <= most


def md5_of(files: Iterable[Path], progress: Progress | None = None) -> dict[Path, str]:
    """The MD5 of each file in hexadecimal, remembered by size, time and inode in bchat's cache.

    progress: called with bytes read and bytes to read, if there are any. BchatError (MODEL) if one cannot be read.
    """
    files = list(files)
    known = _recall()
    stamps = {path: _stamp(path) for path in files}
    found = {path: known[_key(path)][1] for path in files if known.get(_key(path), (None,))[0] == stamps[path]}
    unread = [path for path in files if path not in found]
    total, done = sum(stamps[path][0] for path in unread), 0
    for path in unread:
        digest = hashlib.md5(usedforsecurity=False)
        for block in _blocks(path):
            digest.update(block)
            done += len(block)
            if progress is not None:
                progress(done, max(done, total))
        found[path] = digest.hexdigest()
        if _stamp(path) == stamps[path]:  # else somebody is writing to it
            known[_key(path)] = (stamps[path], found[path])
    if unread:
        _remember(known)
    return found


def _withdrawn(path: Path, entry: ModelEntry) -> BchatError:
    good = next(iter(entry.weights_md5.items()), None)
    named = Phrase("engine.good-weights", good=good[0], md5=good[1]) if good else Phrase("nothing")
    return refused("engine.withdrawn", path, name=entry.name, good=named)


def _blocks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb", buffering=0) as file:
            while block := file.read(_BLOCK):
                yield block
    except OSError as error:
        raise unreadable(path, error) from None


def _stamp(path: Path) -> Stamp:
    try:
        status = path.stat()
    except OSError as error:
        raise unreadable(path, error) from None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _key(path: Path) -> str:
    return str(path.resolve())


def _memory() -> Path:
    return paths.cache_dir() / "digests.json"


def _recall() -> dict[str, tuple[Stamp, str]]:
    """What was remembered, by path; nothing if the file is not as `_remember` writes it."""
    try:
        with _memory().open("rb") as file:
            raw = json.loads(file.read(_MOST_MEMORY))
        return {
            str(path): ((int(size), int(time), int(inode)), str(digest))
            for path, (size, time, inode, digest) in raw.items()
        }
    except (OSError, ValueError, TypeError, AttributeError, RecursionError):
        return {}


def _remember(known: dict[str, tuple[Stamp, str]]) -> None:
    """Replace the file of digests in one step, mode 0600. Not being able to costs time only."""
    import tempfile  # with what it imports, 5 ms that the first prompt need not wait for

    there = [(path, kept) for path, kept in known.items() if Path(path).exists()]
    data = json.dumps({path: [*stamp, digest] for path, (stamp, digest) in there[-_MOST_FILES:]}).encode()
    try:
        _memory().parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fd, temporary = tempfile.mkstemp(prefix="digests.", suffix=".part", dir=_memory().parent)
        try:
            with os.fdopen(fd, "wb") as file:
                file.write(data)
            Path(temporary).replace(_memory())
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    except OSError:
        return
