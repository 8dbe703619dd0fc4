"""The offer to download the full model: made once, on a terminal, if no model was chosen or downloaded."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bilingual_chat.engines import memory
from bilingual_chat.engines.memory import least_memory
from bilingual_chat.settings.catalogue import DEFAULT_MODEL, ModelEntry, hub_folder, locate
from bilingual_chat.storage import atomic, paths, safe_read, safe_stat

SHOWN, DECLINED = "shown", "declined"
_MARGIN = 1 << 30  # bytes of disk to leave free
_MOST = 100  # bytes of the note
_PARTIAL = 50_000_000  # bytes; with fewer, only small files have been downloaded


@dataclass(frozen=True)
class Offer:
    """A model to download. Sizes are in bytes."""

    entry: ModelEntry
    size: int
    here: int  # already downloaded
    free: int  # on the disk
    directory: Path


def find_offer(catalogue: Mapping[str, ModelEntry]) -> Offer | None:
    """Return the offer to make, or None. Uses no network and no slow import: the first prompt waits for it.

    The offer is made once, and again while a download is partial, until the user declines.
    It is not made if disk or memory is too small.
    """
    entry = catalogue[DEFAULT_MODEL]
    if paths.is_offline() or not entry.hub_id or entry.directory or locate(entry) is not None:
        return None
    size, here, note = entry.stored_bytes, _partial_bytes(entry), _note()
    if note == DECLINED or (note == SHOWN and not here):
        return None
    free, available = _free_disk(), memory.available_memory()
    if size - here + _MARGIN > free or least_memory(entry) > (available or memory.UNLIMITED):
        return None
    return Offer(entry, size, here, free, paths.hub_cache())


def remember(note: str) -> None:
    """Write SHOWN or DECLINED to disk. If that fails, bchat asks again next time."""
    with suppress(OSError):
        _note_path().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(_note_path(), note.encode("ascii"))


def _note() -> str:
    try:
        return safe_read.read_bytes(_note_path(), _MOST).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""


def _note_path() -> Path:
    return paths.state_dir() / "offer"


def _partial_bytes(entry: ModelEntry) -> int:
    """Return the size of a partial download."""
    here = safe_stat.total_size(safe_stat.entries(hub_folder(entry.hub_id) / "blobs"))
    return here if here >= _PARTIAL else 0


def _free_disk() -> int:
    try:
        return safe_stat.free_space(paths.hub_cache())
    except OSError:
        return 0
