"""Taking a model away again."""

from __future__ import annotations

import shutil
from pathlib import Path

from bilingual_chat.hub.file_download import every_lock
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry, hub_folder
from bilingual_chat.storage import checksums, os_errors, safe_stat

# What names the rest goes first: a removal that is interrupted leaves no model that looks whole.
_ORDER = ("refs", "snapshots")


def remove(entry: ModelEntry) -> int:
    """Delete the model's folder in the hub's cache, all revisions and half-done downloads; bytes that freed.

    Nothing outside that folder is touched: what links in it point to stays. 0 if there is no such folder.
    Raises BchatError (MODEL) for what is not bchat's to remove, what is being downloaded, and what resists.
    """
    if entry.embedded:
        raise BchatError("hub.embedded", status=ExitStatus.MODEL, name=entry.name)
    if entry.directory or not entry.hub_id:
        raise BchatError("hub.not-ours", status=ExitStatus.MODEL, name=entry.name, path=entry.directory or "?")
    folder = hub_folder(entry.hub_id)
    if not safe_stat.is_dir(folder) and not safe_stat.is_link(folder):
        return 0
    if safe_stat.is_link(folder) or not _is_direct(folder):
        raise BchatError("hub.not-ours", status=ExitStatus.MODEL, name=entry.name, path=folder)
    try:
        return _remove(entry, folder)
    except OSError as error:
        raise BchatError(
            "hub.not-removed", status=ExitStatus.MODEL, path=folder, reason=os_errors.reason(error)
        ) from None


def _remove(entry: ModelEntry, folder: Path) -> int:
    with every_lock(folder) as is_free:
        if not is_free:
            raise BchatError("hub.in-use", status=ExitStatus.MODEL, name=entry.name)
        freed = sum(_bytes(path) for path in safe_stat.files_below(folder))
        for part in _ORDER:
            if (folder / part).is_dir() and not (folder / part).is_symlink():
                shutil.rmtree(folder / part)
        shutil.rmtree(folder)
    checksums.forget(folder)
    return freed


def _is_direct(folder: Path) -> bool:
    """Whether the name stays in the cache, whatever was written as the model's hub id."""
    return folder.name.startswith("models--") and Path(folder.name).name == folder.name and ".." not in folder.parts


def _bytes(path: Path) -> int:
    """What deleting this name frees: nothing for a link, or for a file that has another name elsewhere."""
    stat = None if safe_stat.is_link(path) else safe_stat.status(path)
    return stat.st_size if stat is not None and safe_stat.is_file(path) and stat.st_nlink == 1 else 0
