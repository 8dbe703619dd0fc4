"""TOML tables: read from a file, checked value by value, and refused with file, line and key.

The only room that imports tomllib. `explained` runs what reads the tables; a reader is a function
from where a value stands and the value to what it means, or WrongValue.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bilingual_chat import paths
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase, did_you_mean

KeyPath = tuple[str, ...]
Read = Callable[[KeyPath, Any], Any]
Result = TypeVar("Result")

_LIMIT = 256  # KiB of one file
_LONGEST = 200  # lines of one value
_CANDIDATES = 50  # lines that may hold a wrong key, tried before giving up on its number


class WrongValue(Exception):
    """A key or value that cannot be used; `explained` adds the file and the line.

    `path` leads to it from the top of the file: ("models", "sft", "prompt", "kind").
    """

    def __init__(self, path: KeyPath, problem: Phrase) -> None:
        super().__init__(path, problem.key)
        self.path = path
        self.problem = problem

    def below(self, *path: str) -> WrongValue:
        """The same, for a table that itself lies at `path`."""
        return WrongValue((*path, *self.path), self.problem)


def explained(path: Path, load: Callable[[Mapping[str, Any]], Result]) -> Result:
    """`load` of the tables in `path`; the WrongValue that it raises is told with file and line.

    Raises BchatError (DATA), also for a file that cannot be read or is not TOML.
    """
    text = _read(path)
    try:
        return load(_parse(path, text))
    except WrongValue as wrong:
        where = _where(path, line_of(text, wrong.path))
        raise BchatError("config.wrong", status=ExitStatus.DATA, where=where, problem=wrong.problem) from None


def _read(path: Path) -> str:
    try:
        if (not path.is_file() and path.exists()) or path.stat().st_size > _LIMIT << 10:
            raise BchatError("config.not-a-file", status=ExitStatus.DATA, path=path, limit=_LIMIT)
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        reason = error.strerror or str(error)
        raise BchatError("config.unreadable", status=ExitStatus.DATA, path=path, reason=reason) from error
    except UnicodeDecodeError as error:
        raise BchatError("config.not-utf8", status=ExitStatus.DATA, path=path) from error


def _parse(path: Path, text: str) -> dict[str, Any]:
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        where = _where(path, int(found[1]) if found else text.count("\n") + 1)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, tables without end
        reason, where = type(error).__name__, _where(path, None)
    raise BchatError("config.syntax", status=ExitStatus.DATA, where=where, reason=reason)


def _where(path: Path, line: int | None) -> str:
    return paths.shorten(path) if line is None else f"{paths.shorten(path)}:{line}"


def line_of(text: str, path: KeyPath) -> int | None:
    """The number of the line on which the key at `path` is set in a TOML text; None if not found.

    tomllib tells no positions, so beginnings of the text are parsed: the line is the first without
    which the key is not there yet.
    """
    lines = [f"{line}\n" for line in text.split("\n")]
    candidates = [number for number, line in enumerate(lines) if path[-1] in line][:_CANDIDATES]
    for number in candidates:
        if _holds(_beginning(lines[:number]), path):  # set before, in a spelling that was not found
            continue
        ends = range(number + 1, min(number + _LONGEST, len(lines)) + 1)
        after = next((tables for end in ends if (tables := _beginning(lines[:end])) is not None), None)
        if after is not None and _holds(after, path):
            return number + 1
    return line_of(text, path[:-1]) if len(path) > 1 else None


def _beginning(lines: list[str]) -> dict[str, Any] | None:
    try:
        return tomllib.loads("".join(lines))
    except (ValueError, RecursionError):
        return None


def _holds(tables: Any, path: KeyPath) -> bool:
    for key in path:
        if not isinstance(tables, dict) or key not in tables:
            return False
        tables = tables[key]
    return True


def check_key(path: KeyPath, key: str, known: Iterable[str]) -> None:
    """Raises WrongValue for a `key` of the table at `path` that is not one of `known`."""
    names = list(known)
    if key not in names:
        problem = Phrase("config.key", field=key, suggestion=did_you_mean(key, names), known=", ".join(names))
        raise WrongValue((*path, key), problem)


def text(path: KeyPath, value: Any) -> str:
    """Text, not empty (it may well be nothing but a newline)."""
    if not isinstance(value, str):
        raise _wrong_type(path, "str")
    if not value:
        raise _empty(path)
    return value


def name(path: KeyPath, value: Any) -> str:
    """Text that is more than spaces."""
    if not text(path, value).strip():
        raise _empty(path)
    return str(value)


def flag(path: KeyPath, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(path, "bool")
    return value


def count(path: KeyPath, value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise _wrong_type(path, "int")
    return value


def number(path: KeyPath, value: Any) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(path, "float")
    return float(value)


def texts(path: KeyPath, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) and each.strip() for each in value):
        raise _wrong_type(path, "texts")
    return tuple(value)


def table(path: KeyPath, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_type(path, "table")
    return value


def choice(*choices: str) -> Callable[[KeyPath, Any], str]:
    """A reader of a text that must be one of `choices`."""

    def read(path: KeyPath, value: Any) -> str:
        if text(path, value) not in choices:
            known, suggestion = ", ".join(choices), did_you_mean(value, choices)
            raise WrongValue(
                path, Phrase("config.choice", field=path[-1], known=known, value=value, suggestion=suggestion)
            )
        return str(value)

    return read


def mapping(read: Read, *keys: str) -> Callable[[KeyPath, Any], Mapping[str, Any]]:
    """A reader of a table whose values `read` reads, and whose keys are among `keys` if there are any."""

    def read_all(path: KeyPath, value: Any) -> Mapping[str, Any]:
        for key in table(path, value):
            check_key(path, key, keys or value)
        return MappingProxyType({key: read((*path, key), each) for key, each in value.items()})

    return read_all


def _wrong_type(path: KeyPath, kind: str) -> WrongValue:
    return WrongValue(path, Phrase("config.type", field=path[-1], kind=Phrase(f"kind.{kind}")))


def _empty(path: KeyPath) -> WrongValue:
    return WrongValue(path, Phrase("config.empty", field=path[-1]))
