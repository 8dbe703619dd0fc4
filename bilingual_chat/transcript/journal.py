"""The append-only file behind a conversation: what was said is on disk when a method returns.

    with Journal.create(directory, new_header("sft")) as journal:
        journal.record_user("VRはなんですか。")      # before the reply begins
        journal.record_turn(turn)

How it stays whole: records wait in memory until they are written *and* fsynced, and are always
written from the end of what is known to be on disk. So a part that a failing call left there is the
beginning of the very bytes that the next attempt puts over it.
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
REFUSED_KEPT = 10_000  # characters
# Half of what is read: a turn of the longest message, told twice and escaped, still fits behind it.
FULL = files.MAX_BYTES // 2
COPIED = files.MAX_BYTES // 4


class Journal:
    """A conversation being saved. One process at a time; not for several threads.

    Each `record_…` raises BchatError "transcript.not-saved" when the record could not be made
    durable. It then waits in memory and the next record takes it along: the chat may go on.
    """

    def __init__(self, path: Path, waiting: bytes = b"") -> None:
        """For `create` and `resume`."""
        self.path = path
        self._lock: Lock | None = None
        self._fd: int | None = None
        self._begun = False
        self._words = (0, 0)  # where the user's words recorded last end in the file, and their bytes
        # Bytes on disk, bytes that wait: one value, so that an interrupt cannot come between.
        self._state = (0, waiting)

    @classmethod
    def create(
        cls, directory: Path, header: Header, conversation: Conversation | None = None, *, continues: str = ""
    ) -> Journal:
        """A journal that begins with a copy of `conversation`, of its latest turns if it is very long.

        `continues` is the id of the journal that holds its older turns.

        Nothing is written before the first `record_user` or `record_turn`; until then `path` is where
        the file would be.
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
        """The journal at `path`, to go on with, and the conversation in it.

        A damaged file is repaired: every good record stays, the original is kept beside it as
        `.bak`, `Loaded.problems` says what happened. Raises BchatError "transcript.locked" if another
        process writes it (then: `read_journal` and `create` with its conversation), (DATA) if it is
        no journal, "transcript.not-saved" if it cannot be written here.
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
        """Whether the conversation should go on in another file, so that each can be read back."""
        return self._state[0] > FULL

    @property
    def unsaved(self) -> bool:
        """Whether something that was said is not on disk yet."""
        return self._begun and bool(self._state[1])

    def record_opening(self, utterances: Iterable[Utterance]) -> None:
        """The utterances that start the conversation from here on, instead of those before."""
        self._record(_opening_line(utterances))

    def record_user(self, text: str) -> None:
        """What the user said, before the reply begins."""
        self._begun = True
        line = replay.line("user", _now(), text=text)
        self._record(line)
        self._words = (self._state[0], len(line))

    def record_refused(self, text: str, *, was_recorded: bool) -> None:
        """The user's words were refused: of long ones, length and beginning are kept in place of all of them.

        Short ones that `record_user` has just recorded stay, and come back when the conversation is resumed.
        """
        if was_recorded and len(text) <= REFUSED_KEPT:
            return
        if was_recorded:
            self._take_back_words()
        self._begun = True
        self.record_event("refused", {"length": len(text), "beginning": text[:REFUSED_KEPT]})

    def record_turn(self, turn: Turn, *, replaces: bool = False) -> None:
        """A turn, however its reply ended. `replaces`: in place of the last one, whose replies stay beside it."""
        self._begun = True
        self._record((_replacement() if replaces else b"") + _turn_line(turn))

    def record_reply(self, turn: Turn) -> None:
        """A reply to the last message that is not the conversation's."""
        self._record(_turn_line(turn, "reply"))

    def record_undo(self) -> None:
        """The last turn is taken back; so are user's words without a reply."""
        self._record(replay.line("undo", _now()))

    def record_clear(self) -> None:
        """All turns are taken back; the opening stays."""
        self._record(replay.line("clear", _now()))

    def record_event(self, kind: str, details: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Something that is not said but belongs to the story: settings changed, turns dropped …"""
        self._record(replay.line("event", _now(), kind=kind, details=details))

    def close(self) -> None:
        """A last attempt at what waits (BchatError if it fails), and the lock is given back."""
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

    def _take_back_words(self) -> None:
        """Cuts the user's words off the file's end; where that fails, or they are not the end, they stay."""
        (saved, waiting), (end, length) = self._state, self._words
        if self._fd is None or waiting or end != saved or not length:
            return
        # Before the cut: interrupted between the two, the next record overwrites what was to go.
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
        """No file without a record in it stays behind; the next attempt makes a new one."""
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
    """Return the path of a journal's lock: a file of its own, since a rename would take a lock on the journal away."""
    return journal.with_name(journal.name + ".lock")


def is_being_written(journal: Path) -> bool:
    """Return True if a process has this journal open for writing. Create nothing."""
    return lock.is_held(lock_path(journal))


def read_journal(path: Path) -> Loaded:
    """The conversation in a journal, which is left as it is; another process may be writing it.

    Raises BchatError (DATA) for what is no journal, or a newer one.
    """
    return replay.replay(files.read_file(path), path).loaded


def _opening_line(utterances: Iterable[Utterance]) -> bytes:
    said = [schema.utterance_fields(utterance) for utterance in utterances]
    return replay.line("opening", _now(), utterances=said)


def _replacement() -> bytes:
    """The last turn goes when the one that follows has come. A bchat that knows no replies reads an undo."""
    return replay.line("undo", _now(), replaces=True)


def _turn_lines(turn: Turn) -> bytes:
    """A turn with every reply it has had, as a journal records them one after the other."""
    first, *others = turn.replies
    lines = [_turn_line(first), *(_turn_line(reply, "reply") for reply in others)]
    if turn.index:
        lines += [_replacement(), _turn_line(turn)]
    return b"".join(lines)


def _latest(turns: Sequence[Turn]) -> list[bytes]:
    """The records of the latest turns that take no more than COPIED bytes together."""
    lines: list[bytes] = []
    room = COPIED
    for turn in reversed(turns):
        line = _turn_lines(turn)
        room -= len(line)
        if room < 0:
            break
        lines.append(line)
    return lines[::-1]


def _turn_line(turn: Turn, record: str = "turn") -> bytes:
    # The user's words again: a turn is whole even if the record before it is damaged.
    return replay.line(
        record, _now(), user=turn.user, reply=turn.reply, finish_reason=turn.finish.value, details=turn.details
    )


def _keep_original(path: Path, data: bytes) -> None:
    """`data` as the journal's `.bak`, or `.bak.2` … where an earlier, other original is kept."""
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
