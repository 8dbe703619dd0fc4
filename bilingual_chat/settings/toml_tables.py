"""TOML tables: read from a file, checked value by value, and refused with file, line and key.

The only room that imports tomllib. `explained` runs what reads the tables; a reader is a function
from where a value stands and the value to what it means, or WrongValue.
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from bilingual_chat.messages import Phrase, did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, paths, safe_read
from bilingual_chat.text import encodings

KeyPath = tuple[str, ...]
Read = Callable[[KeyPath, Any], Any]
Result = TypeVar("Result")

_LIMIT = 256  # KiB of one file
_DEEPEST = 50  # parts of one dotted key: tomllib takes the square of their number in time
_MOST_ENTRIES = 500  # of a table whose keys are anybody's
_MOST_TEXT = 20_000  # characters of one value
_SHOWN = 60  # characters of a wrong one


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
        data = safe_read.read_bytes(path, _LIMIT << 10)
    except OSError as error:
        reason = os_errors.reason(error)
        raise BchatError("config.unreadable", status=ExitStatus.DATA, path=path, reason=reason) from error
    except ValueError:
        raise BchatError("config.not-a-file", status=ExitStatus.DATA, path=path, limit=_LIMIT) from None
    try:
        return encodings.decode(data, "utf-8")
    except BchatError:
        name = encodings.likely_encoding(data)
        likely = Phrase("config.seems", name=name) if name else Phrase("nothing")
        raise BchatError("config.not-utf8", status=ExitStatus.DATA, path=path, likely=likely) from None


def _parse(path: Path, text: str) -> dict[str, Any]:
    _check_depth(path, text)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        reason, _, place = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", place)
        where = _where(path, int(found[1]) if found else text.count("\n") + 1)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits, tables without end
        reason, where = type(error).__name__, _where(path, None)
    raise BchatError("config.syntax", status=ExitStatus.DATA, where=where, reason=reason[:_MOST_TEXT])


def _check_depth(path: Path, text: str) -> None:
    if not any(line.count(".") + line.count("{") >= _DEEPEST for line in text.split("\n")):
        return
    deep = next((line for line, key in _keys(text) if len(key) > _DEEPEST), None)
    if deep is not None:
        where, problem = _where(path, deep), Phrase("config.too-deep", limit=_DEEPEST)
        raise BchatError("config.wrong", status=ExitStatus.DATA, where=where, problem=problem)


def _where(path: Path, line: int | None) -> str:
    return paths.shorten(path) if line is None else f"{paths.shorten(path)}:{line}"


def line_of(text: str, path: KeyPath) -> int | None:
    """The number of the line on which the key at `path` is first set in a TOML text; else that of its table, or None.

    tomllib tells no positions, so the text is gone through once more, for its keys alone.
    """
    lines: dict[KeyPath, int] = {}
    for line, key in _keys(text):
        for end in range(1, min(len(key), _DEEPEST) + 1):
            lines.setdefault(key[:end], line)
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)


# What a TOML text consists of, as far as keys are concerned. No part of it can be matched in two ways.
_TOKEN = re.compile(
    r"""
      (?P<space>[ \t\r]++|\#[^\n]*+)
    | (?P<newline>\n)
    | (?P<text>\"{3}(?:[^"\\]|\\.|"(?!""))*+(?:"{3,5}|\Z)|'{3}(?:[^']|'(?!''))*+(?:'{3,5}|\Z)
              |"(?:[^"\\\n]|\\.)*+"?|'[^'\n]*+'?)
    | (?P<bare>[A-Za-z0-9_-]++)
    | (?P<mark>.)
    """,
    re.VERBOSE | re.DOTALL,
)


def _keys(text: str) -> Iterator[tuple[int, KeyPath]]:
    """Every key and table header of a TOML text, whole paths, with the number of its line; inline tables included.

    One pass. What is not TOML gives some keys or none; escapes in a key are not looked into.
    """
    header: KeyPath = ()
    key: list[str] = []
    inside: list[tuple[str, KeyPath]] = []  # the brackets that are open in a value, each with the key it belongs to
    line, is_value, is_header = 1, False, False
    for found in _TOKEN.finditer(text):
        kind, token = found.lastgroup, found[0]
        if kind == "newline" and not inside:
            key, is_value, is_header = [], False, False
        elif kind in ("bare", "text") and not is_value:
            key.append(token if kind == "bare" else token.strip(token[0]))
        elif token == "[" and not is_value and not key:
            header, is_header = (), True
        elif token == "]" and is_header and key:
            header, key = tuple(key), []
            yield line, header
        elif token == "=" and not is_value:
            is_value = True
            yield line, (*(inside[-1][1] if inside else header), *key)
        elif token in ("[", "{") and (is_value or inside):
            inside.append((token, (*(inside[-1][1] if inside else header), *key)))
            key, is_value = [], token == "["
        elif token in ("]", "}", ",") and inside:
            closed = inside.pop() if token != "," else inside[-1]
            key, is_value = [], token != "," or closed[0] == "["
        line += token.count("\n")


def check_key(path: KeyPath, key: str, known: Iterable[str]) -> None:
    """Raises WrongValue for a `key` of the table at `path` that is not one of `known`."""
    names = list(known)
    if key not in names:
        problem = Phrase("config.key", field=key[:_SHOWN], suggestion=did_you_mean(key, names), known=", ".join(names))
        raise WrongValue((*path, key), problem)


def check_size(path: KeyPath, value: Sized) -> None:
    """Raises WrongValue for a table at `path` of more entries than anybody writes."""
    if len(value) > _MOST_ENTRIES:
        raise WrongValue(path, Phrase("config.too-many", limit=_MOST_ENTRIES))


def text(path: KeyPath, value: Any) -> str:
    """Text, not empty (it may well be nothing but a newline)."""
    if not isinstance(value, str):
        raise _wrong_type(path, "str")
    if not value:
        raise _empty(path)
    if len(value) > _MOST_TEXT:
        raise WrongValue(path, Phrase("config.too-long", field=path[-1], limit=f"{_MOST_TEXT:,}"))
    return value


def name(path: KeyPath, value: Any) -> str:
    """Text that is more than spaces."""
    if not text(path, value).strip():
        raise _empty(path)
    return str(value)


def path(where: KeyPath, value: Any) -> str:
    """Text that can be the name of a file."""
    if "\0" in name(where, value):
        raise WrongValue(where, Phrase("config.path", field=where[-1]))
    return str(value)


def shaped(pattern: re.Pattern[str], kind: str) -> Read:
    """A reader of text that `pattern` matches, as `kind` says."""

    def read(path: KeyPath, value: Any) -> str:
        if not pattern.fullmatch(name(path, value)):
            raise _wrong_type(path, kind)
        return str(value)

    return read


def flag(path: KeyPath, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong_type(path, "bool")
    return value


def count(most: int) -> Read:
    """A reader of whole numbers from 0 to `most`."""

    def read(path: KeyPath, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(path, "int")
        if not 0 <= value <= most:
            raise WrongValue(path, Phrase("config.range", field=path[-1], most=f"{most:,}"))
        return value

    return read


def number(path: KeyPath, value: Any) -> float:
    """A number that a float can be: neither infinite nor NaN."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(path, "float")
    try:
        if math.isfinite(read := float(value)):
            return read
    except OverflowError:
        pass
    raise _wrong_type(path, "float")


def list_of(read: Read) -> Callable[[KeyPath, Any], tuple[Any, ...]]:
    """A reader of a list whose elements `read` reads."""

    def read_all(path: KeyPath, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong_type(path, "texts")
        check_size(path, value)
        return tuple(read(path, each) for each in value)

    return read_all


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
                path, Phrase("config.choice", field=path[-1], known=known, value=value[:_SHOWN], suggestion=suggestion)
            )
        return str(value)

    return read


def mapping(read: Read, *keys: str) -> Callable[[KeyPath, Any], Mapping[str, Any]]:
    """A reader of a table whose values `read` reads, and whose keys are among `keys` if there are any."""

    def read_all(path: KeyPath, value: Any) -> Mapping[str, Any]:
        check_size(path, table(path, value))
        for key in value:
            check_key(path, key, keys or value)
        return MappingProxyType({key: read((*path, key), each) for key, each in value.items()})

    return read_all


def _wrong_type(path: KeyPath, kind: str) -> WrongValue:
    return WrongValue(path, Phrase("config.type", field=path[-1][:_SHOWN], kind=Phrase(f"kind.{kind}")))


def _empty(path: KeyPath) -> WrongValue:
    return WrongValue(path, Phrase("config.empty", field=path[-1]))
