"""The append-only file of a conversation: a record is on disk when its method returns.

    with Journal.create(directory, new_header("sft")) as journal:
        journal.record_user("VRはなんですか。")      # before the reply begins
        journal.record_turn(turn)

Records wait in memory until they are written *and* fsynced, and are written at the end of the bytes known to be on
disk. A part that a failed call left there is the beginning of the bytes that the next attempt writes over it.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import atomic, lock, os_errors, own_files
from bilingual_chat.storage.lock import Lock
from bilingual_chat.text.conversation import Conversation, Turn, Utterance
from bilingual_chat.transcript import files, replay, schema
from bilingual_chat.transcript.loaded import CONTINUES, Header, Loaded

SUFFIX = ".jsonl"
_MAX_NAMESAKES = 100
MAX_REFUSED = 10_000  # characters
# Half of what is read back: a turn with the longest message, recorded twice and escaped, still fits after it.
FULL = files.MAX_BYTES // 2
COPIED = files.MAX_BYTES // 4


class Journal:
    """The journal of a conversation. One process at a time; not thread-safe.

    Each `record_…` raises BchatError "transcript.not-saved" if the record is not durable. It then waits in memory, and
    the next record writes it too: the chat may continue.
    """

    def __init__(self, path: Path, waiting: bytes = b"") -> None:
        """Use `create` or `resume`."""
        self.path = path
        self._lock: Lock | None = None
        self._fd: int | None = None
        self._begun = False
        self._message = (0, 0)  # of the last message recorded: its end in the file, and its bytes
        # (number of bytes on disk, waiting bytes): one value, so that an interrupt cannot separate them.
        self._state = (0, waiting)

    @classmethod
    def create(
        cls, directory: Path, header: Header, conversation: Conversation | None = None, *, continues: str = ""
    ) -> Journal:
        """Return a journal that begins with a copy of `conversation`; of its latest turns if it is very long.

        `continues` is the id of the journal with the older turns. Nothing is written before the first `record_user` or
        `record_turn`; until then no file exists at `path`.
        """
        name = re.sub(r"[^A-Za-z0-9._-]+", "-", header.id)[:100].lstrip(".-") or "conversation"
        journal = cls(
            directory / (name + SUFFIX), replay.header_line(header, {CONTINUES: continues} if continues else {})
        )
        if conversation and conversation.opening:
            journal._wait(_opening_line(conversation.opening))
        journal._wait(b"".join(_latest(conversation.turns if conversation else ())))
        return journal

    @classmethod
    def resume(cls, path: Path) -> tuple[Journal, Loaded]:
        """Open the journal at `path` to append to it. Return it and its conversation.

        A damaged file is repaired: every good record stays, the original is kept beside it as `.bak`, and
        `Loaded.problems` describes the damage. Raises BchatError: "transcript.locked" if another process writes the
        file (use `read_journal`, then `create`), "transcript.not-saved" if it cannot be written, DATA if it is no
        journal.
        """
        files.require_file(path)
        journal = cls(Path(os.path.realpath(path)))
        try:
            loaded = journal._take_over()
        except OSError as error:
            journal._release()
            raise journal._not_saved(error) from error
        except BaseException:
            journal._release()
            raise
        return journal, loaded

    @property
    def is_full(self) -> bool:
        """Return True if the conversation should continue in another file, so that each can be read back."""
        return self._state[0] > FULL

    @property
    def unsaved(self) -> bool:
        """Return True if a record is not on disk yet."""
        return self._begun and bool(self._state[1])

    def record_opening(self, utterances: Iterable[Utterance]) -> None:
        """Record the opening that replaces the one before."""
        self._record(_opening_line(utterances))

    def record_user(self, text: str) -> None:
        """Record a message, before its reply begins."""
        self._begun = True
        line = replay.line("user", _now(), text=text)
        self._record(line)
        self._message = (self._state[0], len(line))

    def record_refused(self, text: str, *, was_recorded: bool) -> None:
        """Record the length and the beginning of a message that was refused, instead of the whole message.

        A short one that `record_user` has just recorded stays; resuming the conversation brings it back.
        """
        if was_recorded and len(text) <= MAX_REFUSED:
            return
        if was_recorded:
            self._remove_message()
        self._begun = True
        self.record_event("refused", {"length": len(text), "beginning": text[:MAX_REFUSED]})

    def record_turn(self, turn: Turn, *, replaces: bool = False, extends: bool = False) -> None:
        """Record a turn, however its reply ended. `replaces`: it replaces the last turn, whose replies stay.

        `extends`: it also continues the last reply, which does not stay.
        """
        self._begun = True
        self._record((_replacement() if replaces else b"") + _turn_line(turn, extends=extends))

    def record_reply(self, turn: Turn) -> None:
        """Record a reply to the last message that is not chosen."""
        self._record(_turn_line(turn, "reply"))

    def record_undo(self) -> None:
        """Record that the last turn is removed, and a message without a reply too."""
        self._record(replay.line("undo", _now()))

    def record_event(self, kind: str, details: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Record an event of the conversation: changed settings, dropped turns …"""
        self._record(replay.line("event", _now(), kind=kind, details=details))

    def close(self) -> None:
        """Try once more to write the waiting records (BchatError if that fails), and release the lock."""
        try:
            self._flush()
        finally:
            self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _remove_message(self) -> None:
        """Cut the last message off the end of the file. It stays if it is not at the end, or if that fails."""
        (saved, waiting), (end, length) = self._state, self._message
        if self._fd is None or waiting or end != saved or not length:
            return
        # First the state: after an interrupt between the two, the next record overwrites the message.
        self._state = (saved - length, b"")
        try:
            atomic.truncate(self._fd, saved - length)
        except OSError:
            self._state = (saved, b"")

    def _record(self, line: bytes) -> None:
        self._wait(line)
        self._flush()

    def _wait(self, line: bytes) -> None:
        saved, waiting = self._state
        self._state = (saved, waiting + line)

    def _flush(self) -> None:
        saved, waiting = self._state
        if not (self._begun and waiting):
            return
        try:
            if self._fd is None:
                self._fd = self._open_new()
            atomic.require_length(self.path, saved)
            atomic.write_at(self._fd, saved, waiting)
            if saved == 0:
                atomic.sync_directory(self.path.parent)
        except OSError as error:
            if saved == 0:
                self._abandon()
            raise self._not_saved(error) from error
        self._state = (saved + len(waiting), b"")

    def _open_new(self) -> int:
        atomic.make_private_directory(self.path.parent)
        for path in _namesakes(self.path):
            held = lock.acquire(lock_path(path))
            if held is None:
                continue
            try:
                fd = own_files.open_new(path)
            except FileExistsError:
                held.release()
                continue
            except BaseException:
                held.release()
                raise
            self.path, self._lock = path, held
            return fd
        raise FileExistsError(f"{self.path}: too many files of this name")

    def _abandon(self) -> None:
        """Remove a file without a record; the next attempt creates a new one."""
        if self._fd is None:
            return
        with contextlib.suppress(OSError):
            atomic.remove(self.path)
            self._release()

    def _take_over(self) -> Loaded:
        self._lock = lock.acquire(lock_path(self.path))
        if self._lock is None:
            raise BchatError("transcript.locked", path=self.path)
        data = files.read_file(self.path)
        replayed = replay.replay(data, self.path)
        repaired = replayed.repaired
        if repaired != data:
            if replayed.loaded.problems:
                _keep_original(self.path, data)
            atomic.write(self.path, repaired)
        self._fd = own_files.open_existing(self.path)
        atomic.set_mode(self._fd, 0o600)
        self._state = (len(repaired), b"")
        self._begun = True
        return replayed.loaded

    def _release(self) -> None:
        if self._fd is not None:
            atomic.close(self._fd)
            self._fd = None
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _not_saved(self, error: OSError) -> BchatError:
        reason = os_errors.reason(error)
        return BchatError("transcript.not-saved", status=ExitStatus.FAILED, path=self.path, reason=reason)


def lock_path(journal: Path) -> Path:
    """Return the path of a journal's lock file; a lock on the journal itself would not survive a rename."""
    return journal.with_name(journal.name + ".lock")


def is_being_written(journal: Path) -> bool:
    """Return True if a process has this journal open for writing. Create nothing."""
    return lock.is_held(lock_path(journal))


def read_journal(path: Path) -> Loaded:
    """Read the conversation in a journal without changing it; another process may be writing it.

    Raises BchatError (DATA) for another file, and for a newer format.
    """
    return replay.replay(files.read_file(path), path).loaded


def _opening_line(utterances: Iterable[Utterance]) -> bytes:
    values = [schema.utterance_fields(utterance) for utterance in utterances]
    return replay.line("opening", _now(), utterances=values)


def _replacement() -> bytes:
    """Return the record before a turn that replaces the last one. An older bchat reads it as an undo."""
    return replay.line("undo", _now(), replaces=True)


def _turn_lines(turn: Turn) -> bytes:
    """Return the records of a turn and of every other reply to its message."""
    first, *others = turn.replies
    lines = [_turn_line(first), *(_turn_line(reply, "reply") for reply in others)]
    if turn.index:
        lines += [_replacement(), _turn_line(turn)]
    return b"".join(lines)


def _latest(turns: Sequence[Turn]) -> list[bytes]:
    """Return the records of the latest turns, at most COPIED bytes."""
    lines: list[bytes] = []
    room = COPIED
    for turn in reversed(turns):
        line = _turn_lines(turn)
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return lines[::-1]


def _turn_line(turn: Turn, record: str = "turn", *, extends: bool = False) -> bytes:
    extra = {"extends": True} if extends else {}
    # With the message again: a turn is complete even if the record of the message is damaged.
    return replay.line(
        record, _now(), user=turn.user, reply=turn.reply, finish_reason=turn.finish.value, **extra, details=turn.details
    )


def _keep_original(path: Path, data: bytes) -> None:
    """Save `data` as the journal's `.bak`, or `.bak.2` … if there is another backup."""
    for number in range(1, _MAX_NAMESAKES):
        backup = path.with_name(path.name + (".bak" if number == 1 else f".bak.{number}"))
        if not backup.exists():
            atomic.write(backup, data)
            return
        if files.read_file(backup) == data:
            return
    raise FileExistsError(f"{path}: too many backups")


def _namesakes(path: Path) -> Iterator[Path]:
    yield path
    for number in range(2, _MAX_NAMESAKES):
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")


def _now() -> str:
    return datetime.now().astimezone().isoformat(timespec="milliseconds")
