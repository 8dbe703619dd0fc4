"""Files that somebody else may have written, read up to a bound: of bytes, of JSON values, of digits."""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Any, NoReturn

MOST_JSON = 16 << 20  # bytes: the index of the largest model that is published has 9
MOST_VALUES = 500_000  # of one JSON text, at some 100 bytes each in memory
_MOST_DIGITS = 100  # of one number
_MARKS = (b",", b"[", b"{")
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)


class Unfit(ValueError):
    """Not a regular file, too large, or not what it should hold."""


def read_bytes(path: Path, most: int) -> bytes:
    """The content of a regular file of at most `most` bytes. Raises OSError, and Unfit (a ValueError).

    A FIFO is not waited for, and a device not read without end.
    """
    with os.fdopen(os.open(path, _FLAGS), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_size > most:
            raise Unfit
        data = file.read(most + 1)
    if len(data) > most:
        raise Unfit
    return data


def read_json(path: Path, most: int = MOST_JSON, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """The JSON object in a file. Raises OSError, and Unfit for anything else than one of bounded size."""
    return parse_json(read_bytes(path, most), most_values)


def parse_json(data: bytes, most_values: int = MOST_VALUES) -> dict[str, Any]:
    """The JSON object of `data`. Raises Unfit."""
    if sum(data.count(mark) for mark in _MARKS) > most_values:
        raise Unfit
    try:
        value = _DECODER.decode(data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        raise Unfit from None
    if not isinstance(value, dict):
        raise Unfit
    return value


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS:
        raise Unfit
    return int(digits)


def _constant(name: str) -> NoReturn:
    raise Unfit(name)


_DECODER = json.JSONDecoder(parse_int=_integer, parse_constant=_constant)  # no NaN, no infinities
