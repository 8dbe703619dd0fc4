"""Deletes a model."""

from __future__ import annotations

import shutil
from pathlib import Path

from bilingual_chat.hub.file_download import try_all_locks
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, hub_folder
from bilingual_chat.storage import checksums, os_errors, safe_stat

# Names go before content, so that an interrupted removal leaves no model that looks whole.
_ORDER = ("refs", "snapshots")


def remove(entry: ModelEntry) -> int:
    """Delete a model's folder in the hub's cache, with all revisions and partial files. Return the freed bytes.

    Return 0 if there is no such folder. Nothing outside the folder is touched, such as the targets of its links.
    Raise BchatError (MODEL) if the model is not in the cache, is being downloaded, or cannot be removed.
    """
    if entry.embedded:
        raise BchatError("hub.embedded", status=ExitStatus.MODEL, name=entry.name)
    if entry.directory or not entry.hub_id:
        raise BchatError("hub.not-ours", status=ExitStatus.MODEL, name=entry.name, path=entry.directory or "?")
    folder = hub_folder(entry.hub_id)
    if not safe_stat.is_dir(folder) and not safe_stat.is_link(folder):
        return 0
    if safe_stat.is_link(folder) or not _is_in_cache(folder):
        raise BchatError("hub.not-ours", status=ExitStatus.MODEL, name=entry.name, path=folder)
    try:
        return _remove(entry, folder)
    except OSError as error:
        reason = os_errors.reason(error)
        raise BchatError("hub.not-removed", status=ExitStatus.MODEL, path=folder, reason=reason) from None


def _remove(entry: ModelEntry, folder: Path) -> int:
    with try_all_locks(folder) as is_free:
        if not is_free:
            raise BchatError("hub.in-use", status=ExitStatus.MODEL, name=entry.name)
        freed = sum(_freed_bytes(path) for path in safe_stat.files_below(folder))
        for part in _ORDER:
            if (folder / part).is_dir() and not (folder / part).is_symlink():
                shutil.rmtree(folder / part)
        shutil.rmtree(folder)
    checksums.forget(folder)
    return freed


def _is_in_cache(folder: Path) -> bool:
    """Return True if the folder lies directly in the cache, for any hub id."""
    return folder.name.startswith("models--") and Path(folder.name).name == folder.name and ".." not in folder.parts


def _freed_bytes(path: Path) -> int:
    """Return the bytes that a removal frees: 0 for a link, or a file that has another name elsewhere."""
    has_other_name = safe_stat.is_link(path) or getattr(safe_stat.status(path), "st_nlink", 0) > 1
    return 0 if has_other_name else safe_stat.size_of(path) or 0
