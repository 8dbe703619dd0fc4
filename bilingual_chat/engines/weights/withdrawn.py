"""Recognises weights that their publisher withdrew, by MD5, computed once per file. No torch here."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
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
_SIZE_RATIOS = (0.95, 1.25)  # least and most size of a file, relative to its weights


def check_withdrawn(
    weights: Iterable[Path], entry: ModelEntry, *, accept: bool, progress: Progress | None = None
) -> bool:
    """Return True if one of these files, or a pickle beside them, is withdrawn. Raises BchatError without `accept`.

    Only pickles were withdrawn, so no safetensors file is read; one beside a withdrawn pickle was converted from it.
    Known checksums of unchanged files, from `pull` for example, are not computed again.
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
    """Return `entry` with the withdrawn checksums of other models too, whose weights the directory may hold.

    Only of models whose size fits a pickle in the directory, so that no other file is read. The entry then has the
    name of that model, whose good weights the error recommends.
    """
    sizes = [safe_stat.size_of(path) or 0 for path in pickles_in(directory)]
    for other in others:
        is_new = not set(other.withdrawn_md5) <= set(entry.withdrawn_md5)
        if is_new and any(_could_be(size, other) for size in sizes):
            withdrawn = (*entry.withdrawn_md5, *other.withdrawn_md5)
            entry = replace(entry, name=other.name, withdrawn_md5=withdrawn, weights_md5=other.weights_md5)
    return entry


def _could_be(size: int, entry: ModelEntry) -> bool:
    """Return True if the size fits, or is unknown; masks in older files add a few percent."""
    least, most = _SIZE_RATIOS
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
