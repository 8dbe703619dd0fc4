"""The directory of a sweep: `manifest.json`, and `replies.jsonl`, whose lines are on disk one before the next.

A sweep that is interrupted, killed, or loses power continues: its replies are known by their `id`. A line that was
written in part is cut off. Damaged lines move to `replies.jsonl.damaged`, and their replies are generated again.
"""

from __future__ import annotations

import contextlib
import json
import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, lock, os_errors, own_files, safe_read
from bilingual_chat.storage.signals import postpone_signals
from bilingual_chat.transcript.safe_json import encode

KIND, VERSION = "bchat-sweep", 1
MANIFEST, REPLIES = "manifest.json", "replies.jsonl"
DAMAGED = f"{REPLIES}.damaged"
_LOCK = ".lock"
MAX_MANIFEST, MAX_VALUES = 64 << 20, 10_000_000  # bytes and JSON values of manifest.json
_MAY_GROW = ("seeds", "limit")  # a limit of None is the greatest
_MAY_CHANGE = (
    *("created", "command", "bchat", "versions", "count", "source"),
    *("device", "kernel", "processor", "threads"),  # these change rounding at most
)


class SweepStore:
    """An open sweep directory, exclusively. State: the file of the replies, its length, the ids that it holds."""

    def __init__(self, directory: Path) -> None:
        """Lock `directory`, made if it is missing. Raises BchatError: in use, not writable."""
        self._directory = directory
        with self._explained():
            directory.mkdir(parents=True, exist_ok=True)
            atomic.sync_directory(directory.parent)
            found = lock.acquire(directory / _LOCK)
        if found is None:
            raise BchatError("sweep.in-use", status=ExitStatus.DATA, directory=directory)
        self._lock = found
        self._fd: int | None = None
        self._length = 0
        self.done: set[str] = set()
        self.damaged: list[int] = []  # the numbers of the lines that were set aside

    def begin(self, manifest: Mapping[str, Any]) -> None:
        """Begin the sweep of `manifest`, or continue it. Raises BchatError (DATA): another sweep, foreign files.

        A sweep without a reply has nothing to mix, so that any other replaces it.
        """
        with self._explained():
            before = self._read_manifest()
            self._fd = own_files.open_own(self._directory / REPLIES, 0o644)
            bad = self._read_replies()
            before = before if self.done else None
            merged = dict(manifest) if before is None else {**manifest, "created": before.get("created")}
            if before is not None:
                _require_same(self._directory, before, manifest)
            if merged != before:
                data = json.dumps(merged, ensure_ascii=False, indent=1).encode("utf-8", "backslashreplace")
                atomic.write(self._directory / MANIFEST, data + b"\n", mode=0o644)
            atomic.sync_directory(self._directory)
            self._set_aside(bad)
            if os.fstat(self._fd).st_size > self._length:
                atomic.truncate(self._fd, self._length)

    def append(self, record: Mapping[str, Any]) -> None:
        """Write one reply. It is on disk on return; if that fails, nothing of it is. Raises BchatError."""
        assert self._fd is not None
        data = encode(record) + b"\n"
        with self._explained(), postpone_signals():
            try:
                atomic.require_length(self._directory / REPLIES, self._length)
                atomic.write_at(self._fd, self._length, data)
            except OSError:
                with contextlib.suppress(OSError):
                    atomic.truncate(self._fd, self._length)
                raise
            self._length += len(data)
            self.done.add(record["id"])

    def close(self) -> None:
        """Release the directory."""
        if self._fd is not None:
            atomic.close(self._fd)
            self._fd = None
        self._lock.release()

    def _read_manifest(self) -> dict[str, Any] | None:
        path = self._directory / MANIFEST
        try:
            manifest = safe_read.read_json(path, MAX_MANIFEST, MAX_VALUES)
        except FileNotFoundError:
            if {each.name for each in self._directory.iterdir()} - {_LOCK}:
                raise BchatError("sweep.not-ours", status=ExitStatus.DATA, directory=self._directory) from None
            return None
        except safe_read.Unfit:
            manifest = {}
        if manifest.get("kind") != KIND or manifest.get("version") != VERSION:
            raise BchatError("sweep.not-ours", status=ExitStatus.DATA, directory=self._directory)
        return manifest

    def _read_replies(self) -> list[int]:
        """Read the ids, and the length without a part of a line. Return the numbers of the damaged lines."""
        bad = []
        for number, line in enumerate(self._lines(), start=1):
            if not line.endswith(b"\n"):
                break
            self._length += len(line)
            if (found := _id_of(line)) is None:
                bad.append(number)
            else:
                self.done.add(found)
        return bad

    def _set_aside(self, bad: list[int]) -> None:
        """Move the damaged lines of replies.jsonl to a file beside it, which has them before they go."""
        if not bad:
            return
        assert self._fd is not None
        path, taken = self._directory / REPLIES, set(bad)
        good, aside = bytearray(), bytearray()
        for number, line in enumerate(self._lines(), start=1):
            (aside if number in taken else good).extend(line)
        kept = own_files.open_own(path.with_name(DAMAGED), 0o644)
        try:
            atomic.write_at(kept, os.fstat(kept).st_size, aside)
        finally:
            atomic.close(kept)
        self._length -= len(aside)
        atomic.write(path, good[: self._length], mode=0o644)
        atomic.close(self._fd)
        self._fd = own_files.open_own(path, 0o644)
        self.damaged = bad

    def _lines(self) -> Iterator[bytes]:
        with (self._directory / REPLIES).open("rb") as file:
            yield from file

    @contextlib.contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            reason = os_errors.reason(error)
            raise BchatError("sweep.not-written", directory=self._directory, reason=reason) from None


def _id_of(line: bytes) -> str | None:
    """Return the id of a line; None if it is damaged."""
    try:
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    found = record.get("id") if isinstance(record, dict) else None
    return found if isinstance(found, str) else None


def _require_same(directory: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    values = {"directory": directory, "command": shlex.join(map(str, before.get("command", [])))}
    if before["prompts"].get("sha256") != now["prompts"]["sha256"]:
        source = now["prompts"]["source"]
        raise BchatError("sweep.prompts-changed", status=ExitStatus.DATA, source=source, **values)
    differences = list(_differences(before, now))
    # The cells follow from the settings, which say it in a few words.
    named = [each for each in differences if each[0] != "cells"] or differences
    if changes := [f"{name} {old} → {new}" for name, old, new in named]:
        raise BchatError("sweep.other", status=ExitStatus.DATA, changes=", ".join(changes), **values)


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what would mix different replies: its name, before, now."""
    for name, new in now.items():
        old = before.get(name)
        if name == "fixed" and isinstance(old, dict):
            yield from _differences(old, new)
        elif name in ("prompts", "model") and isinstance(old, dict):
            yield from ((f"{name}.{part}", a, b) for part, a, b in _differences(old, new))
        elif name in _MAY_GROW and (new is None or (old is not None and new >= old)):
            continue
        elif name not in _MAY_CHANGE and old != new:
            yield name, _shown(old), _shown(new)


def _shown(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else f"{text[:59]}…"
