"""The real model, offered once: on a terminal, to a person who chose none, while it is not on the machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from bilingual_chat.engines import memory
from bilingual_chat.engines.precision import least_memory
from bilingual_chat.settings.catalogue import DEFAULT_MODEL, ModelEntry, hub_folder, locate
from bilingual_chat.storage import atomic, paths, safe_read, safe_stat

SHOWN, DECLINED = "shown", "declined"
_MARGIN = 1 << 30  # bytes of disk that are to stay free beside what is fetched
_MOST = 100  # bytes of the note
_WORTH = 50_000_000  # bytes that make a download half-done: the small files are nothing to speak of


@dataclass(frozen=True)
class Offer:
    """A model to fetch. In bytes: its size, what of it is here from a download that was stopped, the free disk."""

    entry: ModelEntry
    size: int
    here: int
    free: int
    directory: Path


def find_offer(catalogue: Mapping[str, ModelEntry]) -> Offer | None:
    """What there is to offer. No network, and nothing imported that the first prompt would wait for.

    Nothing that would come to no good: without room on the disk, or memory to open it. Once for each
    machine, and again where a download stands half-way, until the person declines.
    """
    entry = catalogue[DEFAULT_MODEL]
    if paths.is_offline() or not entry.hub_id or entry.directory or locate(entry) is not None:
        return None
    size, here, note = entry.stored_bytes, _half_here(entry), _note()
    if note == DECLINED or (note == SHOWN and not here):
        return None
    free, available = _free_disk(), memory.available_memory()
    if size - here + _MARGIN > free or least_memory(entry) > (available or memory.UNLIMITED):
        return None
    return Offer(entry, size, here, free, paths.hub_cache())


def remember(note: str) -> None:
    """SHOWN or DECLINED. Where it cannot be written, the person is asked again."""
    with suppress(OSError):
        _place().parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        atomic.write(_place(), note.encode("ascii"))


def _note() -> str:
    try:
        return safe_read.read_bytes(_place(), _MOST).decode("ascii", "replace").strip()
    except (OSError, ValueError):
        return ""


def _place() -> Path:
    return paths.state_dir() / "offer"


def _half_here(entry: ModelEntry) -> int:
    """Bytes of the model that an earlier download left."""
    here = safe_stat.total_size(safe_stat.entries(hub_folder(entry.hub_id) / "blobs"))
    return here if here >= _WORTH else 0


def _free_disk() -> int:
    try:
        return safe_stat.free_space(paths.hub_cache())
    except OSError:
        return 0
