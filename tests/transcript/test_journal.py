"""The journal: its records, its repair, its writer."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.storage import lock
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript import replay
from bilingual_chat.transcript.journal import Journal, is_being_written, read_journal
from bilingual_chat.transcript.loaded import Header, Loaded, new_header

HEADER = Header("20250802-101500-abc123", "2025-08-02T10:15:00+09:00", "sft", "0.1.0", {"torch": "2.13"})
OPENING = (Utterance(Speaker.USER, "Hello"), Utterance(Speaker.SYSTEM, "Sure, what can I do for you?"))
FIRST = Turn("VRはなんですか。", "仮想現実です。", FinishReason.STOP, {"seed": 7, "settings": {"top_p": 0.85}})
SECOND = Turn("英語では？", "Virtual rea", FinishReason.INTERRUPTED, {"seed": 8})
THIRD = Turn("Thanks!", "どういたしまして。", FinishReason.STOP)


def say(journal: Journal, *turns: Turn) -> None:
    for turn in turns:
        journal.record_user(turn.user)
        journal.record_turn(turn)


def written(tmp_path: Path, *turns: Turn) -> Path:
    with Journal.create(tmp_path, HEADER) as journal:
        say(journal, *turns)
    return journal.path


def keys(loaded: Loaded) -> list[str]:
    return [problem.key for problem in loaded.problems]


def test_every_record_is_read_back(tmp_path: Path) -> None:
    """Header, opening, turns with their details, events."""
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_opening(OPENING)
        say(journal, FIRST, SECOND)
        journal.record_event("settings", {"temperature": 0.5})
    loaded = read_journal(journal.path)
    assert loaded.header == HEADER
    assert loaded.conversation == Conversation(OPENING, (FIRST, SECOND))
    assert loaded.problems == ()
    assert loaded.pending_user is None
    assert [(event["kind"], event["details"]) for event in loaded.events] == [("settings", {"temperature": 0.5})]


def test_undo_and_clear_are_played_back_and_nothing_is_erased(tmp_path: Path) -> None:
    """/undo, /retry and /clear add records; the removed text is still in the file."""
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_opening(OPENING)
        say(journal, FIRST)
        journal._record(replay.line("clear", "2026-11-28T10:00:00.000+00:00"))  # only older versions write it
        say(journal, SECOND)
        journal.record_undo()
        say(journal, THIRD)
    assert read_journal(journal.path).conversation == Conversation(OPENING, (THIRD,))
    assert "仮想現実" in journal.path.read_text("utf-8")


def test_no_file_is_left_by_someone_who_only_looks(tmp_path: Path) -> None:
    """The file and its directory begin with the first user message, not with the chat."""
    directory = tmp_path / "transcripts"
    with Journal.create(directory, HEADER, Conversation(OPENING, (FIRST,))) as journal:
        journal.record_event("settings", {})
        journal.record_opening(OPENING)
        assert not journal.unsaved
    assert not directory.exists()


def test_a_message_is_on_disk_before_the_reply_begins(tmp_path: Path) -> None:
    """After record_user another reader sees the message, without a reply."""
    with Journal.create(tmp_path, HEADER) as journal:
        say(journal, FIRST)
        journal.record_user(SECOND.user)
        loaded = read_journal(journal.path)
        assert loaded.pending_user == SECOND.user
        assert loaded.conversation.turns == (FIRST,)
        journal.record_undo()
        assert read_journal(journal.path).pending_user is None


def test_a_copy_continues_in_a_file_of_its_own(tmp_path: Path) -> None:
    """Even under the same id: the first file is not changed."""
    first = written(tmp_path, FIRST)
    before = first.read_bytes()
    with Journal.create(tmp_path, HEADER, Conversation(OPENING, (FIRST,))) as copy:
        say(copy, THIRD)
    assert copy.path != first
    assert first.read_bytes() == before
    assert read_journal(copy.path).conversation == Conversation(OPENING, (FIRST, THIRD))


def test_files_are_private_and_locks_go_away(tmp_path: Path) -> None:
    """0600 for files, 0700 for directories, with any umask; only the journal stays."""
    before = os.umask(0)
    try:
        path = written(tmp_path / "a" / "b", FIRST)
    finally:
        os.umask(before)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_an_id_from_a_file_cannot_lead_out_of_the_directory(tmp_path: Path) -> None:
    """The id in a loaded document may be any text."""
    directory = tmp_path / "transcripts"
    with Journal.create(directory, Header("../../etc/x\0", "", "", "")) as journal:
        say(journal, FIRST)
    assert journal.path.parent == directory
    assert journal.path.exists()


def test_japanese_stays_readable_and_nothing_in_it_acts(tmp_path: Path) -> None:
    """One line per record even with U+2028 in it; escapes, C1 and bidi are JSON escapes; surrogates are joined."""
    text = "漢字と\u2028行\x1b]0;x\x07\x9b31m\u202e 😀 \ud83d\ude00 \ud800."
    path = written(tmp_path, Turn(text, "はい\n\t。", FinishReason.STOP))
    data = path.read_bytes()
    assert "漢字と".encode() in data
    assert len(data.split(b"\n")) == len(data.decode().splitlines()) + 1 == 4
    assert not set("\x1b\x07\x9b\u202e\u2028") & set(data.decode())
    (turn,) = read_journal(path).conversation.turns
    assert turn.user == "漢字と\u2028行\x1b]0;x\x07\x9b31m\u202e 😀 😀 \ufffd."


def test_details_never_cost_a_turn(tmp_path: Path) -> None:
    """A number or a type that JSON lacks becomes null or text, not an exception."""
    path = written(
        tmp_path, Turn("a", "b", FinishReason.STOP, {"logprob": float("-inf"), "path": Path("x"), "t": (1,)})
    )
    assert read_journal(path).conversation.turns[0].details == {"logprob": None, "path": "x", "t": [1]}


def test_resuming_an_undamaged_journal_changes_no_byte(tmp_path: Path) -> None:
    """The next record is appended."""
    path = written(tmp_path, FIRST)
    before = path.read_bytes()
    journal, loaded = Journal.resume(path)
    with journal:
        assert loaded.problems == ()
        assert path.read_bytes() == before
        say(journal, SECOND)
    assert path.read_bytes().startswith(before)
    assert read_journal(path).conversation.turns == (FIRST, SECOND)
    assert list(tmp_path.iterdir()) == [path]


def test_a_torn_last_line_is_ignored_at_every_cut(tmp_path: Path) -> None:
    """After a crash at any byte of the last record: earlier turns stay, the original is kept, and the next record
    begins on a line of its own."""
    whole = written(tmp_path, FIRST, SECOND).read_bytes()
    last = whole[:-1].rfind(b"\n") + 1
    for length in sorted({*range(last, len(whole), 5), *range(len(whole) - 3, len(whole)), last + 1}):
        path = tmp_path / f"torn{length}.jsonl"
        path.write_bytes(whole[:length])
        journal, loaded = Journal.resume(path)
        with journal:
            say(journal, THIRD)
        cut = last < length < len(whole) - 1
        complete = length == len(whole) - 1  # only the newline is missing
        assert keys(loaded) == (["transcript.torn"] if cut else [])
        assert loaded.conversation.turns == ((FIRST, SECOND) if complete else (FIRST,))
        assert loaded.pending_user == (None if complete else SECOND.user)
        assert read_journal(path).conversation.turns == (*loaded.conversation.turns, THIRD)
        assert read_journal(path).problems == ()
        backup = tmp_path / f"torn{length}.jsonl.bak"
        assert (backup.read_bytes() == whole[:length]) if cut else not backup.exists()


@pytest.mark.parametrize(
    "damage",
    [
        b"\x00" * 4096,
        b"\x00" * 300 + b"\n",
        b"\xff\xfe\x80garbage",
        b"garbage\n\n{}\n[]\n",
        b'{"record": "turn", "user": "half',
        b'{"record": "turn", "user": 3, "reply": null}\n',
        b'{"record": "user", "text": "a", "text": "b"}\n',
        b'{"record": "user", "text": ' + b"[" * 100_000 + b"\n",
        b'{"record": "event", "details": NaN}\n',
    ],
    ids=["nul-block", "nul-line", "not-utf8", "other-lines", "half", "misshapen", "twice", "deep", "nan"],
)
def test_good_records_before_and_after_damage_are_kept(tmp_path: Path, damage: bytes) -> None:
    """Also a good record right after damage, without a newline between them."""
    path = written(tmp_path, FIRST, SECOND, THIRD)
    lines = path.read_bytes().split(b"\n")
    hurt = b"\n".join(lines[:4]) + b"\n" + damage + b"\n".join(lines[4:])
    path.write_bytes(hurt)
    journal, loaded = Journal.resume(path)
    journal.close()
    assert loaded.conversation.turns == (FIRST, SECOND, THIRD)
    assert keys(loaded) == ["transcript.damaged"]
    assert all(problem.sentence(lang) for problem in loaded.problems for lang in ("en", "ja"))
    assert path.with_name(path.name + ".bak").read_bytes() == hurt
    assert read_journal(path).problems == ()
    assert path.read_bytes() == b"\n".join(lines)


def test_an_overwritten_block_costs_only_the_records_it_touches(tmp_path: Path) -> None:
    """Garbage over the end of one record and the beginning of the next."""
    path = written(tmp_path, FIRST, SECOND, THIRD)
    data = bytearray(path.read_bytes())
    border = data.index(b"\n", data.index(SECOND.reply.encode()))
    data[border - 10 : border + 10] = b"\x00" * 20
    path.write_bytes(data)
    loaded = read_journal(path)
    assert loaded.conversation.turns == (FIRST, THIRD)
    assert keys(loaded) == ["transcript.damaged"]


def test_a_lost_header_does_not_cost_the_conversation(tmp_path: Path) -> None:
    """Model and time are lost, which is reported; messages and replies stay."""
    path = written(tmp_path, FIRST)
    path.write_bytes(b"x" + path.read_bytes())
    path.write_bytes(path.read_bytes().replace(b'x{"record"', b'x{"rec', 1))
    journal, loaded = Journal.resume(path)
    journal.close()
    assert loaded.conversation.turns == (FIRST,)
    assert set(keys(loaded)) == {"transcript.damaged", "transcript.header-lost"}
    assert loaded.header.id == path.stem
    assert read_journal(path).problems == ()


def test_each_damaged_original_keeps_its_own_backup(tmp_path: Path) -> None:
    """A second accident does not overwrite the first backup."""
    path = written(tmp_path, FIRST)
    for garbage in (b"one", b"two"):
        path.write_bytes(path.read_bytes() + garbage)
        journal, _ = Journal.resume(path)
        journal.close()
    assert path.with_name(path.name + ".bak").read_bytes().endswith(b"one")
    assert path.with_name(path.name + ".bak.2").read_bytes().endswith(b"two")


def test_reading_alone_repairs_nothing(tmp_path: Path) -> None:
    """Another process may be writing that line now."""
    path = written(tmp_path, FIRST)
    path.write_bytes(path.read_bytes() + b'{"record"')
    before = path.read_bytes()
    assert keys(read_journal(path)) == ["transcript.torn"]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_newer_journal_is_refused_and_an_unknown_record_or_field_kept(tmp_path: Path) -> None:
    """Newer versions are refused; unknown fields of this version stay in the file."""
    path = written(tmp_path, FIRST)
    with path.open("ab") as file:
        file.write('{"record": "mood", "value": "明るい"}\n'.encode())
    old = path.read_bytes().replace(b'"versions"', b'"colour": "red", "versions"')
    path.write_bytes(old)
    journal, loaded = Journal.resume(path)
    journal.close()
    assert loaded.details == {"colour": "red"}
    assert loaded.problems == ()
    assert path.read_bytes() == old
    path.write_bytes(old.replace(b'"version": 1', b'"version": 2', 1))
    with pytest.raises(BchatError) as refused:
        Journal.resume(path)
    assert (refused.value.key, refused.value.status) == ("transcript.newer", ExitStatus.DATA)
    assert list(tmp_path.iterdir()) == [path]


def test_another_file_is_refused_and_left_alone(tmp_path: Path) -> None:
    """/resume of a picture neither repairs it nor leaves a lock."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    before = path.read_bytes()
    for target, key in ((path, "not-a-journal"), (tmp_path, "not-a-file"), (tmp_path / "none", "unreadable")):
        with pytest.raises(BchatError) as refused:
            Journal.resume(target)
        assert refused.value.key == f"transcript.{key}"
        assert refused.value.status is ExitStatus.DATA
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_a_second_writer_gets_an_error_and_a_copy(tmp_path: Path) -> None:
    """The same conversation in two terminals: the second gets a copy, neither file is interleaved."""
    path = written(tmp_path, FIRST)
    journal, _ = Journal.resume(path)
    program = (
        "import sys; from pathlib import Path\n"
        "from bilingual_chat.messages.errors import BchatError\n"
        "from bilingual_chat.transcript.journal import Journal\n"
        "try: Journal.resume(Path(sys.argv[1])); print('taken')\n"
        "except BchatError as error: print(error.key)\n"
    )

    def second() -> str:
        return subprocess.run(
            [sys.executable, "-c", program, str(path)], capture_output=True, text=True, check=True
        ).stdout.strip()

    assert second() == "transcript.locked"
    assert is_being_written(path)
    with Journal.create(tmp_path, new_header("sft"), read_journal(path).conversation) as copy:
        say(journal, SECOND)
        say(copy, THIRD)
    journal.close()
    assert read_journal(path).conversation.turns == (FIRST, SECOND)
    assert read_journal(copy.path).conversation.turns == (FIRST, THIRD)
    assert second() == "taken"
    assert not is_being_written(path)


def test_a_lock_removed_between_open_and_lock_is_not_taken_for_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The previous holder removes the file as it leaves: a lock on a deleted file guards nothing."""
    path = tmp_path / "x.lock"
    real, calls = lock.try_lock, []

    def racing(fd: int, *, shared: bool = False) -> bool:
        if not calls:
            path.unlink()
        calls.append(fd)
        return real(fd, shared=shared)

    monkeypatch.setattr(lock, "try_lock", racing)
    held = lock.acquire(path)
    assert held is not None
    assert len(calls) == 2
    monkeypatch.undo()
    assert lock.acquire(path) is None
    held.release()


def test_a_journal_removed_while_it_is_written_is_noticed(tmp_path: Path) -> None:
    """A write into a deleted file succeeds and saves nothing: bchat must not report it as saved."""
    with Journal.create(tmp_path, HEADER) as journal:
        say(journal, FIRST)
        data = journal.path.read_bytes()
        journal.path.unlink()
        with pytest.raises(BchatError) as caught:
            journal.record_user("still there?")
        assert caught.value.key == "transcript.not-saved"
        assert journal.unsaved
        journal.path.write_bytes(data)  # so that close has nothing to complain of


@given(st.lists(st.tuples(st.text(), st.text()), max_size=4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_text_comes_back(tmp_path_factory: pytest.TempPathFactory, said: list[tuple[str, str]]) -> None:
    """Every text without surrogate halves is read as it was recorded."""
    turns = [Turn(user, reply, FinishReason.STOP) for user, reply in said]
    with Journal.create(tmp_path_factory.mktemp("j"), HEADER) as journal:
        say(journal, *turns)
    if turns:
        assert list(read_journal(journal.path).conversation.turns) == turns
        assert all(json.loads(line) for line in journal.path.read_bytes().splitlines())
