"""Bounded reads of files that others may have written: limits for bytes, JSON values and digits."""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any

from bilingual_chat.storage.os_errors import retry_interrupted

JSON_LIMIT = 16 << 20  # bytes: the index of the largest published model has 9 MB
VALUES_LIMIT = 500_000  # of one JSON text; each takes some 100 bytes of memory
_DIGITS_LIMIT = 100  # of one number
_OPTIONAL = ("O_CLOEXEC", "O_BINARY", "O_NONBLOCK", "O_NOCTTY")  # neither a FIFO nor a terminal may block us
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in _OPTIONAL)
_CHUNK = 1 << 20  # bytes


class Unfit(ValueError):
    """The content is not what it should be, or too large."""


class NotAFile(Unfit):
    """Not a regular file."""


class TooLarge(Unfit):
    """More bytes than the limit."""


def require_file(path: Path) -> None:
    """Raise NotAFile unless `path` is a regular file, or a link to one; OSError if that cannot be found out."""
    if not stat.S_ISREG(retry_interrupted(os.stat, path).st_mode):
        raise NotAFile


def read_bytes(path: Path, limit: int) -> bytes:
    """Return the content of a regular file of at most `limit` bytes. Raise OSError, NotAFile or TooLarge.

    Devices and FIFOs are not even opened.
    """
    require_file(path)
    fd = retry_interrupted(os.open, path, _FLAGS)
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise NotAFile
        # The bytes are counted too: some files do not state their size, or grow meanwhile.
        data = b"" if found.st_size > limit else _read_up_to(fd, limit + 1)
    finally:
        os.close(fd)
    if max(found.st_size, len(data)) > limit:
        raise TooLarge
    return data


def read_json(path: Path, limit: int = JSON_LIMIT, values_limit: int = VALUES_LIMIT) -> dict[str, Any]:
    """Return the JSON object in a file. Raise OSError, or Unfit if it is anything else or too large."""
    return parse_json(read_bytes(path, limit), values_limit)


def parse_json(data: bytes, values_limit: int = VALUES_LIMIT) -> dict[str, Any]:
    """Return the JSON object in `data`. Raise Unfit."""
    with suppress(ValueError, RecursionError):
        if sum(map(data.count, (b",", b"[", b"{"))) <= values_limit:
            value = _DECODER.decode(data.decode("utf-8-sig"))
            if isinstance(value, dict):
                return value
    raise Unfit


def _read_up_to(fd: int, limit: int) -> bytes:
    parts = []
    while limit > 0 and (part := retry_interrupted(os.read, fd, min(limit, _CHUNK))):
        parts.append(part)
        limit -= len(part)
    return b"".join(parts)


def _integer(digits: str) -> int:
    if len(digits) > _DIGITS_LIMIT:
        raise Unfit
    return int(digits)


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=int)  # int refuses NaN and Infinity
