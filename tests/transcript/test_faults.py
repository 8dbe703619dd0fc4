"""Kills at any moment, and failures of every system call: saved records stay, and every report is true."""

from __future__ import annotations

import errno
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import atomic, lock, own_files, safe_read
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.export import export
from bilingual_chat.transcript.journal import Journal, read_journal
from bilingual_chat.transcript.loaded import Header, Loaded

HEADER = Header("id", "2025-08-02T10:15:00+09:00", "sft", "0.1.0")
TURNS = [Turn(f"質問{number}", f"答え{number} " + "あ" * 50, FinishReason.STOP) for number in range(4)]
FAILING = ("open", "write", "fsync", "lseek", "replace", "mkdir", "stat", "read")


class FaultyOs:
    """`os`, in which the `first`-th call that can fail fails (and all later ones, if `forever`)."""

    def __init__(self, first: int, fault: int | str, *, forever: bool) -> None:
        self.first, self.fault, self.forever = first, fault, forever
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in FAILING:
            return real

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            if not (self.calls == self.first or (self.forever and self.calls > self.first)):
                return real(*args, **kwargs)
            if self.fault == "short":
                return real(args[0], args[1][: max(1, len(args[1]) // 3)]) if name == "write" else real(*args, **kwargs)
            if name == "write" and self.fault == errno.ENOSPC:
                real(args[0], args[1][: len(args[1]) // 2])  # a full disk takes a part first
            raise OSError(self.fault, os.strerror(int(self.fault)))

        return call


def attempt(call: Callable[[], object]) -> BchatError | None:
    """Render the error as the user sees it."""
    try:
        call()
    except BchatError as error:
        return error
    return None


def with_fault(
    monkeypatch: pytest.MonkeyPatch, first: int, fault: int | str, forever: bool, act: Callable[[], None]
) -> bool:
    """Run the action while one call fails. Return True if there was such a call."""
    faulty = FaultyOs(first, fault, forever=forever)
    with monkeypatch.context() as patch:
        for module in (atomic, lock, own_files, safe_read):
            patch.setattr(module, "os", faulty)
        act()
    return faulty.calls >= first


FAULTS = pytest.mark.parametrize(
    ("fault", "forever"),
    [(fault, forever) for fault in (errno.ENOSPC, errno.EIO, errno.EINTR, "short") for forever in (False, True)],
)


@FAULTS
def test_a_chat_continues_whichever_call_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int | str, forever: bool
) -> None:
    """For every k: the k-th call of a chat of three turns fails. A record without an error is on disk at
    once, one with an error is there after a later record; the file is never damaged."""
    for first in range(1, 200):
        directory = tmp_path / str(first) / "new"
        journal = Journal.create(directory, HEADER)

        def act(journal: Journal = journal) -> None:
            for number, turn in enumerate(TURNS[:3]):
                for error in (
                    attempt(lambda turn=turn: journal.record_user(turn.user)),
                    attempt(lambda turn=turn: journal.record_turn(turn)),
                ):
                    assert error is None or error.key == "transcript.not-saved"
                    # A signal or a short write is no failure, unless it never ends.
                    assert error is None or fault not in ("short", errno.EINTR) or (forever and fault != "short")
                assert journal.unsaved == (error is not None)
                if not journal.unsaved:
                    assert list(_as_on_disk(journal.path).conversation.turns) == TURNS[: number + 1]

        happened = with_fault(monkeypatch, first, fault, forever, act)
        lame = forever and fault != "short" and happened
        if lame and journal.path.exists():  # what stayed can be read, up to a torn last line
            assert [problem.key for problem in read_journal(journal.path).problems] in ([], ["transcript.torn"])
        journal.record_turn(TURNS[3])  # the disk is well again
        journal.close()
        loaded = read_journal(journal.path)
        assert list(loaded.conversation.turns) == TURNS
        assert loaded.problems == ()
        assert list(directory.iterdir()) == [journal.path]
        if not happened:
            break
    assert not happened, "the loop must reach the end of the calls"
    assert first > 15


def _as_on_disk(path: Path) -> Loaded:
    """Read the journal with calls that work."""
    from bilingual_chat.transcript import replay

    return replay.replay(path.read_bytes(), path).loaded


@pytest.mark.parametrize("forever", [False, True])
@pytest.mark.parametrize("fault", [errno.ENOSPC, errno.EIO])
def test_a_new_chat_that_cannot_be_saved_leaves_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int, forever: bool
) -> None:
    """Every call of the first record fails in turn: no empty or half file, no lock."""
    for first in range(1, 60):
        directory = tmp_path / f"{first}"
        journal = Journal.create(directory, HEADER)
        errors: list[BchatError | None] = []

        def act(journal: Journal = journal, errors: list[BchatError | None] = errors) -> None:
            errors.append(attempt(lambda: journal.record_user("a")))

        if not with_fault(monkeypatch, first, fault, forever, act):
            break
        assert [error.key for error in errors if error] == ["transcript.not-saved"]
        assert not directory.exists() or list(directory.iterdir()) == []
    assert first > 8


@FAULTS
def test_a_repair_that_fails_loses_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: int | str, forever: bool
) -> None:
    """Every call of a resume of a damaged journal fails in turn: all good records are in the
    journal afterwards, and the next resume works."""
    with Journal.create(tmp_path / "good", HEADER) as journal:
        for turn in TURNS:
            journal.record_turn(turn)
    damaged = journal.path.read_bytes() + b'{"record": "turn", "us'
    for first in range(1, 100):
        path = tmp_path / f"{first}" / "x.jsonl"
        path.parent.mkdir()
        path.write_bytes(damaged)

        def act(path: Path = path) -> None:
            error = attempt(lambda: Journal.resume(path)[0].close())
            assert error is None or error.key in ("transcript.not-saved", "transcript.unreadable")

        happened = with_fault(monkeypatch, first, fault, forever, act)
        assert list(read_journal(path).conversation.turns) == TURNS
        resumed, _ = Journal.resume(path)
        resumed.close()
        assert path.with_name("x.jsonl.bak").read_bytes() == damaged
        assert {entry.name for entry in path.parent.iterdir()} == {"x.jsonl", "x.jsonl.bak"}
        if not happened:
            break
    assert not happened


@FAULTS
@pytest.mark.parametrize("write", [write_document, export], ids=["save", "export"])
def test_a_save_is_the_old_file_or_the_new_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[..., Path], fault: int | str, forever: bool
) -> None:
    """Every call of a save over an older file fails in turn: a whole file is there, and no other."""
    old, new = (Loaded(HEADER, Conversation((), tuple(turns))) for turns in (TURNS[:1], TURNS))
    for first in range(1, 60):
        path = tmp_path / f"{first}" / "x.jsonl"
        path.parent.mkdir()
        write(path, old)
        before = path.read_bytes()
        errors: list[BchatError | None] = []

        def act(path: Path = path, errors: list[BchatError | None] = errors) -> None:
            errors.append(attempt(lambda: write(path, new, overwrite=True)))

        happened = with_fault(monkeypatch, first, fault, forever, act)
        after = path.read_bytes()
        write(path, new, overwrite=True)
        for error in errors:
            assert error is None or error.key in ("transcript.not-written", "transcript.unreadable")
            assert after in ([path.read_bytes()] if error is None else [before, path.read_bytes()])
        assert list(path.parent.iterdir()) == [path]
        if not happened:
            break
    assert not happened
    assert first > 5


def test_a_record_is_written_and_synced_before_the_call_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each record ends with an fsync of the file; the first also with one of the directory."""
    calls: list[str] = []

    class WatchedOs:
        def __getattr__(self, name: str) -> Any:
            if name in ("write", "fsync", "replace"):
                calls.append(name)
            return getattr(os, name)

    journal = Journal.create(tmp_path, HEADER)
    monkeypatch.setattr(atomic, "os", WatchedOs())
    journal.record_user("a")
    assert calls == ["write", "fsync", "fsync"]
    calls.clear()
    journal.record_turn(TURNS[0])
    assert calls == ["write", "fsync"]
    calls.clear()
    write_document(tmp_path / "x.json", Loaded(HEADER, Conversation()))
    assert calls == ["write", "fsync", "replace", "fsync"]
    journal.close()


def test_an_interrupt_between_the_calls_loses_and_doubles_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C in the middle of a write: the record is written by the next one, once."""
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_turn(TURNS[0])
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                journal.record_turn(TURNS[1])
        assert journal.unsaved
        journal.record_turn(TURNS[2])
    assert list(read_journal(journal.path).conversation.turns) == TURNS[:3]


def _interrupt(fd: int) -> None:
    raise KeyboardInterrupt


CHAT = """
import sys
from pathlib import Path
from bilingual_chat.text.conversation import FinishReason, Turn
from bilingual_chat.transcript.loaded import new_header
from bilingual_chat.transcript.journal import Journal
directory = Path(sys.argv[1])
paths = sorted(directory.glob("*.jsonl"))
journal = Journal.resume(paths[0])[0] if paths else Journal.create(directory, new_header("m"))
print("ready", flush=True)
number = int(sys.argv[2])
while True:
    journal.record_user(f"質問{number}")
    journal.record_turn(Turn(f"質問{number}", "答え" * (number % 7) * 400, FinishReason.STOP))
    print(number, flush=True)  # the user is told "saved"
    number += 1
"""


@pytest.mark.slow  # kills a process over and over
@pytest.mark.skipif(not hasattr(os, "fork"), reason="kills a POSIX process")
def test_a_kill_at_any_moment_loses_no_turn_that_was_shown_as_saved(tmp_path: Path) -> None:
    """Twenty kills, each of a chat that resumes the killed one."""
    saved: list[int] = []
    chance = random.Random(5)
    for _ in range(20):
        process = subprocess.Popen(
            [sys.executable, "-c", CHAT, str(tmp_path), str(saved[-1] + 1 if saved else 0)], stdout=subprocess.PIPE
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.random() * 0.05)
        process.kill()
        shown, _ = process.communicate()
        # A number that was cut off by the kill was not shown.
        saved += [int(line) for line in shown.split(b"\n")[:-1] if line]
        (path,) = tmp_path.glob("*.jsonl") if saved else (None,)
        if path:
            said = [turn.user for turn in read_journal(path).conversation.turns]
            assert set(said) >= {f"質問{number}" for number in saved}
    assert len(saved) > 20, "too few turns to prove anything"
    journal, loaded = Journal.resume(path)
    journal.close()
    assert read_document(path).conversation == loaded.conversation
