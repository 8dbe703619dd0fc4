"""Recognises withdrawn weights by MD5; each file is hashed once. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from bilingual_chat.engines.protocol import Progress
from bilingual_chat.engines.weights.files import refused, unreadable
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.catalogue import ModelEntry, pickles_in
from bilingual_chat.storage import checksums, safe_stat
from bilingual_chat.storage.checksums import MD5

_PICKLE = ".bin"
_ITEMSIZE = 2  # bytes of a weight in a pickle
_SIZE_RATIO = (0.95, 1.25)  # of a file to its weights: older files add masks, a few percent


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
    withdrawn: dict[str, ModelEntry] = {}
    for model in (entry, *(each for each in others if any(_may_be(path, each) for path in pickles))):
        for digest in model.withdrawn_md5:
            withdrawn.setdefault(digest.lower(), model)
    for path, digest in md5_of(pickles, progress).items() if withdrawn else ():
        if digest in withdrawn:
            if accept:
                return True
            raise _withdrawn(path, withdrawn[digest])
    return False


def _may_be(path: Path, entry: ModelEntry) -> bool:
    """Return True if a pickle may hold the weights of `entry` by its size, or if their size is unknown."""
    least, most = (_ITEMSIZE * entry.parameters * ratio for ratio in _SIZE_RATIO)
    return not entry.parameters or least <= (safe_stat.size_of(path) or 0) <= most


def md5_of(files: Iterable[Path], progress: Progress | None = None) -> dict[Path, str]:
    """Return the hexadecimal MD5 of each file, from the store of checksums if known.

    progress: called with bytes read and bytes in all. Raises BchatError (MODEL) for an unreadable file.
    """
    files, digests = list(files), {}
    unread = [path for path in files if MD5 not in checksums.known_digests(path)]
    total, done = safe_stat.total_size(unread), 0

    def count(size: int) -> None:
        nonlocal done
        done += size
        if progress is not None:
            progress(done, max(done, total))

    for path in files:
        try:
            on_read = count if path in unread else lambda size: None
            digests[path] = checksums.compute_digests(path, (MD5,), on_read)[MD5]
        except OSError as error:
            raise unreadable(path, error) from None
    return digests


def _withdrawn(path: Path, entry: ModelEntry) -> BchatError:
    good = next(iter(entry.weights_md5.items()), None)
    named = Phrase("engine.good-weights", good=good[0], md5=good[1]) if good else Phrase("nothing")
    return refused("engine.withdrawn", path, name=entry.name, good=named)
