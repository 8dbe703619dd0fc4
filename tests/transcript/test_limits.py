"""Limits on the memory and time that a file takes; one bad line or number hides nothing beside it."""

from __future__ import annotations

import errno
import json
import os
import sys
import tracemalloc
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage import atomic
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.transcript import builder, files, replay, safe_json
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.history import list_conversations, search
from bilingual_chat.transcript.journal import Journal, read_journal
from bilingual_chat.transcript.loaded import Header, Loaded
from tests.scripted import drain, make_session, tokenizer

HEADER = Header("id", "2025-08-02T10:15:00+09:00", "sft", "0.1.0")
RECORD = {"record": "turn", "user": "質問", "reply": "答え"}
HUGE = 10**90


def as_document(path: Path, details: dict[str, Any]) -> Loaded:
    said = [{"speaker": "ユーザー", "text": "質問"}, {"speaker": "システム", "text": "答え", **details}]
    value = {"format": "bchat-transcript", "version": 1, "opening": 0, "utterances": said}
    path.write_text(json.dumps(value), "utf-8")
    return read_document(path)


def as_journal(path: Path, details: dict[str, Any]) -> Loaded:
    path.write_text(json.dumps({**RECORD, "details": details}) + "\n", "utf-8")
    return read_journal(path)


@pytest.mark.parametrize("read", [as_document, as_journal])
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("dropped_turns", -2),
        ("dropped_turns", True),
        ("dropped_turns", "1"),
        ("dropped_turns", 1.5),
        ("dropped_turns", HUGE),
        ("dropped_characters", -1),
        ("seed", -1),
        ("seed", 2**63),
        ("seed", [3]),
        ("usage", {"prompt_tokens": -1}),
        ("usage", {"completion_tokens": "many"}),
        ("usage", 3),
        ("timings", {"total_s": -0.1}),
        ("timings", {"total_s": "long"}),
        ("settings", {"temperature": -1}),
        ("settings", {"temperature": HUGE}),
        ("settings", {"top_k": "50"}),
        ("settings", {"top_p": {}}),
        ("settings", []),
        ("model", 3),
        ("preset", None),
        ("precision", {}),
        ("withdrawn", 1),
    ],
)
def test_an_invalid_detail_is_ignored_and_costs_no_text(tmp_path: Path, read: Any, name: str, value: object) -> None:
    loaded = read(tmp_path / "a.json", {name: value, "mood": -1})
    assert loaded.conversation.turns == (Turn("質問", "答え", FinishReason.STOP, {"mood": -1}),)
    (problem,) = (problem for problem in loaded.problems if problem.key == "transcript.details")
    assert name in problem.sentence("en")
    assert name in problem.sentence("ja")


@pytest.mark.parametrize("read", [as_document, as_journal])
def test_details_as_bchat_writes_them_are_kept_as_they_are(tmp_path: Path, read: Any) -> None:
    details = {
        "model": "sft",
        "settings": {"temperature": 1, "top_k": 50, "seed": 2**63 - 1},
        "seed": 0,
        "usage": {"prompt_tokens": 40, "by_another": -1},
        "timings": {"first_token_s": None, "total_s": 0.5},
        "dropped_turns": 0,
    }
    loaded = read(tmp_path / "a.json", details)
    assert loaded.conversation.turns[0].details == details
    assert "transcript.details" not in [problem.key for problem in loaded.problems]


@pytest.mark.parametrize(
    "change", [{"finish_reason": "bored"}, {"finish_reason": []}, {"details": None}, {"details": [1]}]
)
def test_a_turn_is_kept_with_any_value_beside_its_text(tmp_path: Path, change: dict[str, Any]) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(RECORD | change) + "\n", "utf-8")
    loaded = read_journal(path)
    assert loaded.conversation.turns == (Turn("質問", "答え", FinishReason.STOP),)
    assert next(iter(change)) in next(str(p) for p in loaded.problems if p.key == "transcript.details")


SIZE = 2**21


def filled(unit: bytes) -> bytes:
    return (unit * (SIZE // len(unit) + 1))[:SIZE]


JUNK = {
    "lines": filled(b"x\n"),
    "empty lines": filled(b"\n"),
    "NUL": filled(b"\0"),
    "lists": filled(b"[],\n"),
    "one list": b'{"record": "event", "details": [' + filled(b"[],"),
    "strings": b'{"record": "event", "details": [' + filled(b'"",'),
    "beginnings": filled(b'{"record": '),
    "ended beginnings": filled(b'{"record": "a",}'),
    "ended beginnings, a line each": filled(b'{"record": "a",}\n'),
    "depth": filled(b'{"record": ['),
    "deep details": b'{"record": "turn", "user": "", "reply": "", "details": ' + filled(b'{"a":'),
    "a number": b'{"record": "user", "text": ' + filled(b"9"),
    "braces": filled(b"{ "),
    "blanks": b"{" + filled(b" "),
    "not UTF-8": filled(b'{"record": "user", "text": "\xff"}\n'),
    "halves": filled(b'{"record": "turn", "user": "half'),
}


@pytest.mark.slow
@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_good_records_around_a_heap_of_junk_are_kept(tmp_path: Path, junk: bytes) -> None:
    """The memory is bounded by the size, for any junk."""
    path = tmp_path / "a.jsonl"
    first, last = (json.dumps({"record": "turn", "user": user, "reply": ""}).encode() + b"\n" for user in "ab")
    path.write_bytes(first + junk + b"\n" + last)
    tracemalloc.start()
    try:
        loaded = read_journal(path)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert [turn.user for turn in loaded.conversation.turns] == ["a", "b"]
    assert most < 4 * path.stat().st_size + 2**23  # what a million values may take comes on top
    journal, resumed = Journal.resume(path)
    journal.close()
    assert resumed.conversation == loaded.conversation
    again = read_journal(path)
    assert again.conversation == loaded.conversation
    assert not again.problems


BIG = 2**23
WIDE = "x" * (BIG // 8) + "😀"


@pytest.fixture
def small_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set the limits of a journal of 64 MiB for one of BIG bytes."""
    monkeypatch.setattr(builder, "MAX_MEMORY", BIG * 15 // 8)
    monkeypatch.setattr(replay, "_MAX_FOR_RECORD", BIG * 2)
    monkeypatch.setattr(replay, "_MAX_IN_ALL", BIG * 21 // 8)
    monkeypatch.setattr(safe_json, "MAX_NEEDED", BIG * 11 // 4)


def line_of(record: str, **fields: object) -> bytes:
    return replay.line(record, "2025-08-02T10:15:00.000+09:00", **fields)


FILES_OF_WIDE_TEXT = {
    "turns": line_of("turn", user=WIDE, reply=WIDE) * 4,
    "short turns": line_of("turn", user=WIDE[-1000:], reply="") * (BIG // 1100),
    "one turn": line_of("turn", user=WIDE * 8, reply=""),
    "an event": line_of("event", kind="x", details={"a": WIDE * 8}),
    "replies": line_of("turn", user="", reply="") + line_of("reply", user=WIDE, reply="") * 7,
    "openings": (
        line_of("opening", utterances=[{"speaker": "ユーザー", "text": WIDE * 2}]) + line_of("user", text=WIDE)
    )
    * 2,
    "half of a record": line_of("user", text=WIDE * 7)[:-3],
    "surrogate halves": line_of("user", text="@" * BIG).replace(b"@", b"\\ud800", 1).replace(b"@", b"a"),
    "a document": json.dumps([{"speaker": "ユーザー", "text": WIDE * 8}], ensure_ascii=False).encode(),
}


@pytest.mark.slow
@pytest.mark.usefixtures("small_memory")
@pytest.mark.parametrize("data", FILES_OF_WIDE_TEXT.values(), ids=FILES_OF_WIDE_TEXT)
def test_wide_characters_take_no_more_than_four_times_the_size(tmp_path: Path, data: bytes) -> None:
    """Python stores ASCII text with one emoji in it as four bytes a character."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(data)
    size, last = len(data), line_of("turn", user="end", reply="")
    if not data.startswith(b"["):
        path.write_bytes(data + b"\n" + last)
    del data
    tracemalloc.start()
    try:
        with suppress(BchatError):
            loaded = read_document(path)
            assert loaded.conversation.turns[-1].user == "end"
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 4 * max(size, BIG) + 2**20


@pytest.mark.usefixtures("small_memory")
def test_turns_that_do_not_fit_in_memory_stay_in_the_file_and_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(b"".join(line_of("turn", user=f"{number}{WIDE}", reply="") for number in range(6)))
    before = path.read_bytes()
    journal, loaded = Journal.resume(path)
    journal.close()
    assert [turn.user[0] for turn in loaded.conversation.turns] == ["3", "4", "5"]
    (said,) = (problem for problem in loaded.problems if problem.key == "transcript.too-large-to-hold")
    assert said.values["count"] == 3
    assert path.read_bytes().endswith(before)


@pytest.mark.usefixtures("small_memory")
def test_a_small_record_before_a_heap_of_wide_junk_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes(line_of("user", text="a")[:-1] + WIDE.encode() * 8)
    assert read_journal(path).pending_user == "a"


def calls_for(path: Path, replies: int, details: dict[str, Any]) -> int:
    """Return the number of function calls to read a journal with so many replies to one message."""
    records = [
        line_of("undo", replaces=True) + line_of("turn", user="a", reply=str(number), details=details)
        for number in range(replies)
    ]
    path.write_bytes(line_of("turn", user="a", reply="") + b"".join(records))
    count = 0

    def note(frame: FrameType, event: str, argument: object) -> None:
        nonlocal count
        count += event == "call"

    sys.setprofile(note)
    try:
        read_journal(path)
    finally:
        sys.setprofile(None)
    return count


@pytest.mark.parametrize("details", [{}, {"seed": 3}])
def test_each_reply_to_one_message_is_read_in_constant_time(tmp_path: Path, details: dict[str, Any]) -> None:
    """Replacing the reply 800,000 times once took 15 s: each was compared with a hundred others."""
    few, many = (calls_for(tmp_path / f"{number}.jsonl", number, details) for number in (1000, 2000))
    assert (many - few) / 1000 < 80


def test_records_in_other_forms_than_bchats_own_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries at reading junk are limited too; records of bchat are read at any position."""
    monkeypatch.setattr(replay, "_MAX_CANDIDATES", 5)
    path = tmp_path / "a.jsonl"
    odd = b'{"record":"turn","user":"odd","reply":""}\n'
    junk = b'{"record":"a","}\n'
    path.write_bytes(odd + junk * 3 + odd * 4 + line_of("turn", user="own", reply=""))
    assert [turn.user for turn in read_journal(path).conversation.turns] == ["odd", "odd", "own"]


def test_every_record_that_bchat_writes_has_bchats_own_form(tmp_path: Path) -> None:
    with Journal.create(tmp_path, HEADER, Conversation((), (Turn("a", "b", FinishReason.STOP),))) as journal:
        journal.record_opening([])
        journal.record_user("a")
        journal.record_turn(Turn("a", "b", FinishReason.STOP), replaces=True)
        journal.record_reply(Turn("a", "c", FinishReason.STOP))
        journal.record_event("x")
        journal.record_undo()
    lines = journal.path.read_bytes().splitlines()
    assert len(lines) == 9
    assert all(replay._OWN_RECORD.match(line) and replay._ANY_RECORD.match(line) for line in lines)


def test_the_lines_that_are_left_out_are_counted_and_named(tmp_path: Path) -> None:
    """Blank lines are no damage; damage before and after one record is one line."""
    path = tmp_path / "a.jsonl"
    good = b'{"record": "user", "text": "a"}'
    path.write_bytes(b"\n".join([good, b"", b" \t\r", b"x", b"x" + good + b"x", b"\0", good, b"y", b"z", good, b""]))
    (damaged,) = (problem for problem in read_journal(path).problems if problem.key == "transcript.damaged")
    assert (damaged.values["count"], damaged.values["lines"]) == (5, "4, 5, 6, 8, 9")


def test_a_document_with_a_byte_order_mark_loads(tmp_path: Path) -> None:
    """Windows editors write one; before a journal it is no damage either."""
    plain, marked = tmp_path / "a.json", tmp_path / "b.json"
    as_document(plain, {})
    marked.write_bytes(b"\xef\xbb\xbf" + plain.read_bytes())
    assert read_document(marked).conversation == read_document(plain).conversation
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_user("a")
    journal.path.write_bytes(b"\xef\xbb\xbf" + journal.path.read_bytes())
    assert read_document(journal.path).problems == ()
    assert read_document(journal.path).pending_user == "a"


@pytest.mark.parametrize(
    ("codec", "name"),
    [
        ("utf-16", "UTF-16"),
        ("utf-16-le", "UTF-16"),
        ("utf-16-be", "UTF-16"),
        ("utf-32", "UTF-32"),
        ("cp932", "Shift_JIS"),
        ("euc_jp", "EUC-JP"),
        ("iso2022_jp", "ISO-2022-JP"),
    ],
)
@pytest.mark.parametrize("form", ["document", "journal"])
def test_another_encoding_is_named(tmp_path: Path, codec: str, name: str, form: str) -> None:
    path = tmp_path / "a.json"
    said = [{"speaker": "ユーザー", "text": "こんにちは、VRはなんですか。"}]
    if form == "document":
        path.write_bytes(json.dumps(said, ensure_ascii=False).encode(codec))
    else:
        with Journal.create(tmp_path, HEADER) as journal:
            journal.record_turn(Turn("こんにちは、VRはなんですか。", "仮想現実のことです。", FinishReason.STOP))
        path.write_bytes(journal.path.read_text("utf-8").encode(codec))
    with pytest.raises(BchatError) as refused:
        read_document(path)
    assert name in refused.value.sentence("en")
    assert name in refused.value.sentence("ja")


@pytest.mark.parametrize("data", [b'["\xff"]', b"\xe9t\xe9 [", b"", b"\x89PNG\r\n\x1a\n" + bytes(range(256))])
def test_no_encoding_is_guessed_without_a_sign_of_one(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(data)
    with pytest.raises(BchatError) as refused:
        read_document(path)
    assert "iconv" not in str(refused.value)


def test_a_negative_count_in_a_file_shortens_no_prompt(tmp_path: Path) -> None:
    """`dropped_turns: -2` once cut the next prompt to its last two turns; two undos bring it into force."""
    session, engine = make_session(tmp_path / "j", ["はい。"] * 9)
    for number in range(4):
        drain(session.reply(f"問い{number}"))
    write_document(tmp_path / "a.json", session.snapshot())
    value = json.loads((tmp_path / "a.json").read_bytes())
    for said in value["utterances"][1::2]:
        said["dropped_turns"] = -2
    (tmp_path / "a.json").write_text(json.dumps(value), "utf-8")
    session.continue_from(read_document(tmp_path / "a.json"))
    session.undo()
    drain(session.reply("新しい問い"))
    prompt = tokenizer().decode(list(engine.prompts[-1]))
    assert all(f"問い{number}" in prompt for number in range(3))


def test_of_a_refused_message_length_and_beginning_are_kept(tmp_path: Path) -> None:
    """23 messages of a million characters once made a journal that nothing could read."""
    session, _ = make_session(tmp_path, ["はい。"] * 3)
    drain(session.reply("最初"))
    for length in (500_000, 1_000_001):
        with pytest.raises(BchatError):
            drain(session.reply("あ" * length))
    drain(session.reply("最後"))
    session.close()
    (path,) = tmp_path.glob("*.jsonl")
    assert path.stat().st_size < 100_000
    loaded = read_journal(path)
    assert loaded.problems == ()
    assert [turn.user for turn in loaded.conversation.turns] == ["最初", "最後"]
    refused = [event["details"] for event in loaded.events if event["kind"] == "refused"]
    assert [event["length"] for event in refused] == [500_000, 1_000_001]
    assert {event["beginning"] for event in refused} == {"あ" * 10_000}


def test_a_short_refused_message_comes_back_whole(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["はい。"], context_length=60)
    with pytest.raises(BchatError):
        drain(session.reply("長い問い" * 200))
    assert session.pending == "長い問い" * 200
    session.close()
    (path,) = tmp_path.glob("*.jsonl")
    assert read_journal(path).pending_user == "長い問い" * 200


def test_a_message_that_cannot_be_cut_off_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_user("い" * 20_000)

        def fail(fd: int, length: int) -> None:
            raise OSError(errno.EIO, "")

        monkeypatch.setattr(atomic, "truncate", fail)
        journal.record_refused("い" * 20_000, was_recorded=True)
        journal.record_turn(Turn("a", "b", FinishReason.STOP))
    loaded = read_journal(journal.path)
    assert loaded.problems == ()
    assert loaded.conversation.turns == (Turn("a", "b", FinishReason.STOP),)


def test_a_full_journal_is_followed_by_another_that_begins_with_the_latest_turns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bilingual_chat.transcript.journal.FULL", 3_000)
    monkeypatch.setattr("bilingual_chat.transcript.journal.COPIED", 1_500)
    session, _ = make_session(tmp_path, ["はい。"] * 12)
    for number in range(12):
        drain(session.reply(f"問い{number}"))
    session.close()
    assert len(session.conversation.turns) == 12
    paths = list(tmp_path.glob("*.jsonl"))
    assert len(paths) > 2
    assert all(path.stat().st_size < 6_000 for path in paths)
    said = [{turn.user for turn in read_journal(path).conversation.turns} for path in paths]
    assert set().union(*said) == {f"問い{number}" for number in range(12)}
    assert session.journal_path is None
    loaded = [read_journal(path) for path in paths]
    ids = {each.header.id for each in loaded}
    earlier = {each.continues for each in loaded}
    assert len(earlier) == len(paths)
    assert earlier - {""} < ids  # each but the first names the one before it


@pytest.mark.slow
def test_a_document_that_could_not_be_loaded_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    loaded = Loaded(HEADER, Conversation((), (Turn("a", "b" * 1000, FinishReason.STOP),)))
    path = tmp_path / "a.json"
    with monkeypatch.context() as patch:
        patch.setattr(files, "MAX_BYTES", 1000)
        with pytest.raises(BchatError) as refused:
            write_document(path, loaded)
    assert refused.value.key == "transcript.too-large-to-save"
    assert not path.exists()
    many = Loaded(HEADER, Conversation((), (Turn("a", "b", FinishReason.STOP, {"x": [[]] * 600_000}),)))
    with pytest.raises(BchatError):
        write_document(path, many)
    assert not path.exists()


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [10**99, -(10**99), 10**200, 10**5000, nested(62), nested(63), nested(64), nested(200)],
    ids=map(str, range(8)),
)
def test_any_details_can_be_read_back(tmp_path: Path, value: object) -> None:
    turn = Turn("a", "b", FinishReason.STOP, {"x": value, **{chr(0xD800 + number): number for number in range(2)}})
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_turn(turn)
    loaded = read_journal(journal.path)
    assert loaded.problems == ()
    assert loaded.conversation.turns[0].reply == "b"
    write_document(tmp_path / "a.json", loaded)
    assert read_document(tmp_path / "a.json").conversation.turns[0].reply == "b"


def test_an_entry_that_cannot_be_read_is_reported_once_and_hides_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A loop of links, a stat, an open that fails, a listing that breaks off."""
    for name in ("good", "sealed", "lost"):
        with Journal.create(tmp_path, replace(HEADER, id=name)) as journal:
            journal.record_user("宝")
    (tmp_path / "loop.jsonl").symlink_to(tmp_path / "loop.jsonl")
    real_open, real_stat = os.open, Path.stat

    def failing_open(path: Any, *rest: Any, **named: Any) -> int:
        if str(path).endswith("sealed.jsonl"):
            raise PermissionError(errno.EACCES, "")
        return real_open(path, *rest, **named)

    def failing_stat(path: Path, **named: Any) -> os.stat_result:
        if path.name == "lost.jsonl":
            raise OSError(errno.EIO, "")
        return real_stat(path, **named)

    monkeypatch.setattr(os, "open", failing_open)
    monkeypatch.setattr(Path, "stat", failing_stat)
    for look in (list_conversations, lambda directory, report: search(directory, "宝", report)):
        problems: list[BchatError] = []
        assert len(look(tmp_path, problems.append)) == 1  # type: ignore[operator]
        assert sorted(Path(str(problem.values["path"])).name for problem in problems) == [
            "loop.jsonl",
            "lost.jsonl",
            "sealed.jsonl",
        ]


@pytest.mark.parametrize("changed", [-(2**40), 2**40, 2**33])
def test_a_file_of_no_year_is_listed(tmp_path: Path, changed: int) -> None:
    with Journal.create(tmp_path, HEADER) as journal:
        journal.record_user("a")
    try:
        os.utime(journal.path, (changed, changed))
    except OSError:
        pytest.skip("this file system has no such time")
    (summary,) = list_conversations(tmp_path)
    assert f"{summary.changed:%Y}"
