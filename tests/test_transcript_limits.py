"""What a file may cost, and what a value in it may be: one bad line or number hides nothing beside it."""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.conversation import FinishReason, Turn
from bilingual_chat.errors import BchatError
from bilingual_chat.transcript import Header, Loaded
from bilingual_chat.transcript.document import read_document
from bilingual_chat.transcript.journal import Journal, read_journal

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
def test_a_detail_that_cannot_be_right_is_ignored_and_costs_no_words(
    tmp_path: Path, read: Any, name: str, value: object
) -> None:
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
def test_a_journals_turn_is_kept_whatever_stands_beside_its_words(tmp_path: Path, change: dict[str, Any]) -> None:
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


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_good_records_around_a_heap_of_junk_are_kept(tmp_path: Path, junk: bytes) -> None:
    """And the memory is bounded by the size, whatever the junk."""
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
