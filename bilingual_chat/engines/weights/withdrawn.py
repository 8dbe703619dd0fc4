"""Recognises withdrawn weights by MD5; each file is hashed once. Imports no torch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from bilingual_chat.engines.weights.files import refused, unreadable
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry, pickles_in
from bilingual_chat.storage import checksums, safe_stat
from bilingual_chat.storage.checksums import MD5

_PICKLE = ".bin"
_ITEMSIZE = 2  # bytes of a weight in a pickle
_SIZE_RATIO = (0.95, 1.25)  # of a file to its weights: older files add masks, a few percent

Progress = Callable[[int, int], None]


def check_withdrawn(
    weights: Sequence[Path],
    entry: ModelEntry,
    others: Iterable[ModelEntry] = (),
    *,
    accept: bool,
    progress: Progress | None = None,
) -> bool:
    """Return True if these weights are withdrawn and accepted. Raises BchatError (MODEL) without `accept`.

    All withdrawn weights were published as pickles, so only pickles are hashed, also those beside `weights`, which
    may be their source. A directory may hold the weights of `others` too: those are compared if a size fits.
    """
    beside = (path for directory in sorted({each.parent for each in weights}) for path in pickles_in(directory))
    pickles = dict.fromkeys([*(path for path in weights if path.suffix == _PICKLE), *beside])
    sizes = [safe_stat.size_of(path) or 0 for path in pickles]
    withdrawn: dict[str, ModelEntry] = {}
    for model in (entry, *(each for each in others if any(_may_be(size, each) for size in sizes))):
        for digest in model.withdrawn_md5:
            withdrawn.setdefault(digest.lower(), model)
    for path, digest in md5_of(pickles, progress).items() if withdrawn else ():
        if digest in withdrawn:
            if accept:
                return True
            raise _withdrawn(path, withdrawn[digest])
    return False


def _may_be(size: int, entry: ModelEntry) -> bool:
    """Return True if a pickle of `size` bytes may hold the weights of `entry`, or if their size is unknown."""
    least, most = _SIZE_RATIO
    return not entry.parameters or least <= size / (entry.parameters * _ITEMSIZE) <= most


def md5_of(files: Iterable[Path], progress: Progress | None = None) -> dict[Path, str]:
    """Return the hexadecimal MD5 of each file, from the store of checksums if known.

    progress: called with bytes read and bytes in all. Raises BchatError (MODEL) for an unreadable file.
    """
    files = list(files)
    unread = [path for path in files if MD5 not in checksums.known_digests(path)]
    total, done = safe_stat.total_size(unread), 0

    def add(count: int) -> None:
        nonlocal done
        done += count
        if progress is not None:
            progress(done, max(done, total))

    return {path: _md5(path, add if path in unread else lambda count: None) for path in files}


def _md5(path: Path, on_read: Callable[[int], None]) -> str:
    try:
        return checksums.compute_digests(path, (MD5,), on_read)[MD5]
    except OSError as error:
        raise unreadable(path, error) from None


def _withdrawn(path: Path, entry: ModelEntry) -> BchatError:
    good = next(iter(entry.weights_md5.items()), None)
    named = Phrase("engine.good-weights", good=good[0], md5=good[1]) if good else Phrase("nothing")
    return refused("engine.withdrawn", path, name=entry.name, good=named)
