"""Files and directories that may be anything: what looks at them never raises, what reads them has a bound.

A disk may refuse any call at any moment, and a name may be one that no file can have. Whoever only wants to know
what is there asks here, and passes over what cannot be looked at; `trouble` says why it could not be.

`reading`: files up to a size, JSON up to a number of values. `writing`: nothing of anybody else's is written
through. `checksums`: what files were found to hold.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path

_ABSENT = (errno.ENOENT, errno.ENOTDIR)


def status(path: Path) -> os.stat_result | None:
    """None for what is not there or cannot be looked at, whatever the reason."""
    try:
        return path.stat()
    except (OSError, ValueError):  # ValueError: NUL, or a character that no file name has
        return None


def is_file(path: Path) -> bool:
    found = status(path)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_dir(path: Path) -> bool:
    found = status(path)
    return found is not None and stat.S_ISDIR(found.st_mode)


def is_link(path: Path) -> bool:
    try:
        return stat.S_ISLNK(path.lstat().st_mode)
    except (OSError, ValueError):
        return False


def size_of(path: Path) -> int:
    """In bytes; -1 for what is no file, or cannot be looked at."""
    found = status(path)
    return found.st_size if found is not None and stat.S_ISREG(found.st_mode) else -1


def entries(directory: Path) -> list[Path]:
    """What lies in a directory, by name; nothing where that cannot be listed."""
    try:
        return sorted(directory.iterdir())
    except (OSError, ValueError):
        return []


def below(directory: Path) -> list[Path]:
    """Every file and link below a directory, by name; links to directories are not followed."""
    found: list[Path] = []
    waiting = [directory]
    while waiting:
        for path in entries(waiting.pop()):
            (waiting if is_dir(path) and not is_link(path) else found).append(path)
    return sorted(found)


def trouble(paths: Iterable[Path]) -> tuple[Path, str] | None:
    """The first of `paths` that may be there but cannot be looked at (a directory: listed), and why."""
    for path in paths:
        try:
            if stat.S_ISDIR(path.stat().st_mode):
                os.listdir(path)  # noqa: PTH208 - not an iterator that may raise later
        except OSError as error:
            if error.errno not in _ABSENT:
                return path, reason(error)
        except ValueError as error:
            return path, str(error)
    return None


def reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__
