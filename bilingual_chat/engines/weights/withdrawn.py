"""Weights that their publisher withdrew: told by their MD5, which is computed once a file. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from bilingual_chat.engines.weights.files import refused, unreadable
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry, pickles_in
from bilingual_chat.storage import checksums, safe_stat
from bilingual_chat.storage.checksums import MD5

_PICKLE = ".bin"
_ITEMSIZE = 2  # bytes of a weight in a pickle
_OF_WEIGHTS = (0.95, 1.25)  # a file's size, of that of its weights

Progress = Callable[[int, int], None]


def check_withdrawn(
    weights: Iterable[Path], entry: ModelEntry, *, accept: bool, progress: Progress | None = None
) -> bool:
    """Whether one of these files, or a pickle beside them, is withdrawn (only possible with `accept`).

    What was withdrawn was published as a pickle, so that no safetensors file is read for this. What lies beside
    withdrawn weights was made from them. Raises BchatError (MODEL) without `accept`.
    Reads nothing that was read before, by `pull` for example, and has not changed since.
    """
    if not entry.withdrawn_md5:
        return False
    withdrawn = {digest.lower() for digest in entry.withdrawn_md5}
    listed = list(weights)
    beside = (path for directory in sorted({each.parent for each in listed}) for path in pickles_in(directory))
    pickles = dict.fromkeys([*(path for path in listed if path.suffix == _PICKLE), *beside])
    for path, digest in md5_of(pickles, progress).items():
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
    sizes = [safe_stat.size_of(path) or 0 for path in pickles_in(directory)]
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
    """The MD5 of each file in hexadecimal, from the store of checksums where it is known.

    progress: called with bytes read and bytes to read, if there are any. BchatError (MODEL) if one cannot be read.
    """
    files = list(files)
    unread = [path for path in files if MD5 not in checksums.known_digests(path)]
    total, done = safe_stat.total_size(unread), 0

    def came(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, max(done, total))

    return {path: _md5(path, came if path in unread else lambda count: None) for path in files}


def _md5(path: Path, came: Callable[[int], None]) -> str:
    try:
        return checksums.compute_digests(path, (MD5,), came)[MD5]
    except OSError as error:
        raise unreadable(path, error) from None


def _withdrawn(path: Path, entry: ModelEntry) -> BchatError:
    good = next(iter(entry.weights_md5.items()), None)
    named = Phrase("engine.good-weights", good=good[0], md5=good[1]) if good else Phrase("nothing")
    return refused("engine.withdrawn", path, name=entry.name, good=named)
