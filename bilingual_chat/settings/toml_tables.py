"""Reads TOML files and checks each value; errors name file, line and key. The only importer of tomllib.

`explained` runs a function that reads the tables. A reader takes a key path and a value, and returns the checked value
or raises WrongValue.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
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
    """A wrong key or value; `explained` adds the file and the line.

    `path`: its keys from the top of the file, for example ("models", "sft", "prompt", "kind").
    """

    def __init__(self, path: KeyPath, problem: Phrase) -> None:
        super().__init__(path, problem.key)
        self.path = path
        self.problem = problem

    def below(self, *path: str) -> WrongValue:
        """Return the same for a table that is itself at `path`."""
        return WrongValue((*path, *self.path), self.problem)


def explained(path: Path, load: Callable[[Mapping[str, Any]], Result]) -> Result:
    """Return `load` of the tables in `path`.

    Raises BchatError (DATA): a WrongValue with file and line, an unreadable file, invalid TOML.
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
        reason, _, position = str(error).partition(" (at ")
        found = re.match(r"line (\d+)", position)
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
    """Return the line number where the key at `path` is first set, otherwise that of its table, or None.

    tomllib reports no positions, so this scans the text again for keys.
    """
    lines: dict[KeyPath, int] = {}
    for line, key in _keys(text):
        for end in range(1, min(len(key), _DEEPEST) + 1):
            lines.setdefault(key[:end], line)
    return next((lines[path[:end]] for end in range(len(path), 0, -1) if path[:end] in lines), None)


# The tokens of TOML, as far as keys need them. Nothing matches in two ways, so matching is linear.
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
    """Yield (line number, key path) of every key and table header, inline tables included, in one pass.

    Invalid TOML yields some keys or none. Escapes in keys are not decoded.
    """
    header: KeyPath = ()
    key: list[str] = []
    inside: list[tuple[str, KeyPath]] = []  # open brackets in a value, each with its key path
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
    """Raise WrongValue for an unknown `key` of the table at `path`."""
    names = list(known)
    if key not in names:
        problem = Phrase("config.key", field=key[:_SHOWN], suggestion=did_you_mean(key, names), known=", ".join(names))
        raise WrongValue((*path, key), problem)


def check_size(path: KeyPath, value: Sized) -> None:
    """Raise WrongValue for too many entries."""
    if len(value) > _MOST_ENTRIES:
        raise WrongValue(path, Phrase("config.too-many", limit=_MOST_ENTRIES))


def text(path: KeyPath, value: Any) -> str:
    """Return text that is not empty; a newline alone is fine."""
    if not isinstance(value, str):
        raise _wrong_type(path, "str")
    if not value:
        raise _empty(path)
    if len(value) > _MOST_TEXT:
        raise WrongValue(path, Phrase("config.too-long", field=path[-1], limit=f"{_MOST_TEXT:,}"))
    return value


def name(path: KeyPath, value: Any) -> str:
    """Return text that is more than spaces."""
    if not text(path, value).strip():
        raise _empty(path)
    return str(value)


def path(where: KeyPath, value: Any) -> str:
    """Return text that can be a file name."""
    if "\0" in name(where, value):
        raise WrongValue(where, Phrase("config.path", field=where[-1]))
    return str(value)


def shaped(pattern: re.Pattern[str], kind: str) -> Read:
    """Return a reader of text that `pattern` matches; `kind` names it in the error."""

    def read(path: KeyPath, value: Any) -> str:
        if not pattern.fullmatch(name(path, value)):
            raise _wrong_type(path, kind)
        return str(value)

    return read


def count(most: int) -> Read:
    """Return a reader of integers from 0 to `most`."""

    def read(path: KeyPath, value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise _wrong_type(path, "int")
        if not 0 <= value <= most:
            raise WrongValue(path, Phrase("config.range", field=path[-1], most=f"{most:,}"))
        return value

    return read


def number(path: KeyPath, value: Any) -> float:
    """Return a finite float."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise _wrong_type(path, "float")
    try:
        if math.isfinite(read := float(value)):
            return read
    except OverflowError:
        pass
    raise _wrong_type(path, "float")


def list_of(read: Read) -> Callable[[KeyPath, Any], tuple[Any, ...]]:
    """Return a reader of a list with elements that `read` checks."""

    def read_all(path: KeyPath, value: Any) -> tuple[Any, ...]:
        if not isinstance(value, list):
            raise _wrong_type(path, "texts")
        check_size(path, value)
        return tuple(read(path, each) for each in value)

    return read_all


def fold_name(name: str) -> str:
    """Return `name` for comparison, without case, width and outer spaces."""
    return unicodedata.normalize("NFKC", name).strip().casefold()


def _typed(kind: type, name: str) -> Read:
    def read(path: KeyPath, value: Any) -> Any:
        if not isinstance(value, kind):
            raise _wrong_type(path, name)
        return value

    return read


flag, table = _typed(bool, "bool"), _typed(Mapping, "table")


def choice(*choices: str) -> Callable[[KeyPath, Any], str]:
    """Return a reader of text that is one of `choices`."""

    def read(path: KeyPath, value: Any) -> str:
        if text(path, value) not in choices:
            known, suggestion = ", ".join(choices), did_you_mean(value, choices)
            raise WrongValue(
                path, Phrase("config.choice", field=path[-1], known=known, value=value[:_SHOWN], suggestion=suggestion)
            )
        return str(value)

    return read


def mapping(read: Read, *keys: str) -> Callable[[KeyPath, Any], Mapping[str, Any]]:
    """Return a reader of a table with values that `read` checks, and keys from `keys` if given."""

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
