"""Reads the directory of a sweep: `manifest.json` and `replies.jsonl`, finished or not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bilingual_chat.explore.store import KIND, MANIFEST, MAX_MANIFEST, MAX_VALUES, REPLIES, VERSION
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import os_errors, safe_read
from bilingual_chat.transcript.safe_json import JsonError, parse

_MOST_MIB = 512  # of replies.jsonl, which is read whole


@dataclass(frozen=True)
class Cell:
    """One combination of settings."""

    label: str
    settings: Mapping[str, Any]

    @property
    def is_greedy(self) -> bool:
        """Return True if every seed gives the same reply, so that only one was generated."""
        return self.settings.get("temperature") == 0


@dataclass(frozen=True)
class Reply:
    """One reply. `prompt` and `cell` are indices; `columns`: the whole line of the file."""

    prompt: int
    cell: int
    replicate: int
    text: str
    ids: tuple[int, ...]
    finish: str
    columns: Mapping[str, Any]


@dataclass(frozen=True)
class Results:
    """A sweep as read. `damaged`: the numbers of lines that are no replies of this sweep."""

    directory: Path
    manifest: Mapping[str, Any]
    cells: tuple[Cell, ...]
    prompts: tuple[tuple[str, str], ...]  # (id, text), in the order of the file
    replies: tuple[Reply, ...]
    expected: int
    damaged: tuple[int, ...]

    @property
    def varied(self) -> list[str]:
        """Return the names of the settings that differ between cells."""
        return [str(name) for name in self.manifest.get("varied") or []]

    @property
    def replicates(self) -> list[int]:
        """Return the numbers of the seeds that any prompt has."""
        return sorted({reply.replicate for reply in self.replies})


def read_results(directory: Path) -> Results:
    """Return the sweep in `directory`. Raises BchatError (DATA) if there is none, or no reply yet."""
    manifest = _read_manifest(directory)
    cells = tuple(Cell(str(each["label"]), each["settings"]) for each in manifest["cells"])
    prompts: dict[str, tuple[int, str]] = {}
    replies: dict[tuple[int, int, int], Reply] = {}
    damaged = []
    for number, line in _lines(directory):
        reply = _parse_reply(line, prompts, len(cells))
        if reply is None:
            damaged.append(number)
        else:
            replies.setdefault((reply.prompt, reply.cell, reply.replicate), reply)
    if not replies:
        raise BchatError("report.empty", status=ExitStatus.DATA, path=directory)
    expected = manifest["prompts"]["count"] * sum(1 if cell.is_greedy else manifest["seeds"] for cell in cells)
    texts = tuple((id_, text) for id_, (_, text) in prompts.items())
    in_order = tuple(replies[key] for key in sorted(replies))
    return Results(directory, manifest, cells, texts, in_order, expected, tuple(damaged))


def _read_manifest(directory: Path) -> dict[str, Any]:
    path = directory / MANIFEST
    try:
        manifest = safe_read.read_json(path, MAX_MANIFEST, MAX_VALUES)
    except FileNotFoundError:
        key = "report.no-sweep" if directory.is_dir() else "report.no-directory"
        raise BchatError(key, status=ExitStatus.DATA, path=directory) from None
    except OSError as error:
        raise BchatError(
            "report.unreadable", status=ExitStatus.DATA, path=path, reason=os_errors.reason(error)
        ) from None
    except safe_read.Unfit:
        raise BchatError("report.damaged", status=ExitStatus.DATA, path=path) from None
    if manifest.get("kind") != KIND:
        raise BchatError("report.no-sweep", status=ExitStatus.DATA, path=directory)
    if manifest.get("version") != VERSION:
        raise BchatError("report.newer", status=ExitStatus.DATA, path=path, version=str(manifest.get("version"))[:20])
    if not _is_sound(manifest):
        raise BchatError("report.damaged", status=ExitStatus.DATA, path=path)
    return manifest


def _is_sound(manifest: Mapping[str, Any]) -> bool:
    """Return True if everything that a report needs is there, with its type."""
    cells, prompts, seeds = (manifest.get(name) for name in ("cells", "prompts", "seeds"))
    return (
        isinstance(cells, list)
        and bool(cells)
        and all(isinstance(cell, dict) and isinstance(cell.get("settings"), dict) and "label" in cell for cell in cells)
        and isinstance(prompts, dict)
        and _is_count(prompts.get("count"))
        and _is_count(seeds)
        and all(isinstance(manifest.get(name) or [], list) for name in ("varied", "order", "command"))
    )


def _is_count(value: object) -> bool:
    return type(value) is int and value >= 0


def _lines(directory: Path) -> Iterator[tuple[int, bytes]]:
    """Yield number and bytes of each line. A last line without its newline was cut off by a crash and is left out."""
    path = directory / REPLIES
    try:
        data = safe_read.read_bytes(path, _MOST_MIB << 20)
    except FileNotFoundError:
        data = b""
    except safe_read.TooLarge:
        raise BchatError("report.too-large", status=ExitStatus.DATA, path=path, limit=_MOST_MIB) from None
    except safe_read.NotAFile:
        raise BchatError("report.damaged", status=ExitStatus.DATA, path=path) from None
    except OSError as error:
        raise BchatError(
            "report.unreadable", status=ExitStatus.DATA, path=path, reason=os_errors.reason(error)
        ) from None
    *lines, _ = data.split(b"\n")
    yield from ((number, line) for number, line in enumerate(lines, 1) if line.strip())


def _parse_reply(line: bytes, prompts: dict[str, tuple[int, str]], cells: int) -> Reply | None:
    """Return the reply of one line, and add its prompt to `prompts`; None if the line is damaged."""
    try:
        row = parse(line)
    except JsonError:
        return None
    if not isinstance(row, dict):
        return None
    text, cell, replicate, finish = (row.get(name) for name in ("reply", "cell", "replicate", "finish"))
    prompt = row.get("prompt")
    if not (isinstance(text, str) and isinstance(prompt, str) and isinstance(finish, str)):
        return None
    if type(cell) is not int or type(replicate) is not int or not 0 <= cell < cells or replicate < 0:
        return None
    number, _ = prompts.setdefault(str(row.get("prompt_id", prompt)), (len(prompts), prompt))
    return Reply(number, cell, replicate, text, _ids(row.get("ids")), finish, row)


def _ids(value: object) -> tuple[int, ...]:
    return tuple(value) if isinstance(value, list) and all(type(each) is int for each in value) else ()
