"""Status and listings of files without exceptions, for any disk and any name. `find_trouble` returns the reason."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from bilingual_chat.messages import Phrase
from bilingual_chat.storage.os_errors import reason

_ABSENT = (errno.ENOENT, errno.ENOTDIR)
# Those of pathlib raise for some errors and names.
is_file, is_dir, is_link = os.path.isfile, os.path.isdir, os.path.islink


def status(path: Path) -> os.stat_result | None:
    """Return the status of a file, links followed; None if it is missing or unreadable."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: NUL, or a character that no file name has
        return None


def size_of(path: Path) -> int | None:
    """Return the size of a file in bytes; None if it is no file, or unreadable."""
    found = status(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else None


def total_size(paths: Iterable[Path]) -> int:
    """Return the bytes of those `paths` that are files."""
    return sum(size_of(path) or 0 for path in paths)


def free_space(directory: Path) -> int:
    """Return the free bytes of the disk where `directory` is or will be. Raise OSError."""
    existing = next(each for each in (directory, *directory.parents) if status(each) is not None)
    return shutil.disk_usage(existing).free


def entries(directory: Path) -> list[Path]:
    """Return the paths in a directory, sorted; none if it cannot be listed."""
    try:
        return sorted(directory.iterdir())
    except (OSError, ValueError):
        return []


def files_below(directory: Path) -> list[Path]:
    """Return every file and link below a directory, sorted; links to directories are not followed."""
    found: list[Path] = []
    waiting = [directory]
    while waiting:
        for path in entries(waiting.pop()):
            (waiting if is_dir(path) and not is_link(path) else found).append(path)
    return sorted(found)


def find_trouble(paths: Iterable[Path]) -> tuple[Path, Phrase] | None:
    """Return the first of `paths` that may exist but is unreadable (a directory: cannot be listed), and the reason."""
    for path in paths:
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                os.listdir(path)  # noqa: PTH208 - not an iterator that may raise later
        except (OSError, ValueError) as error:
            if not (isinstance(error, OSError) and error.errno in _ABSENT):
                return path, reason(error)
    return None
