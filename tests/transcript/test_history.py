"""The list of conversations, and the search in it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript.history import fold, list_conversations, search
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.transcript.loaded import Header


def keep(directory: Path, name: str, *turns: tuple[str, str], age: int = 0) -> Path:
    """Create a journal that was changed `age` seconds ago."""
    header = Header(name, "2025-08-02T10:15:00+09:00", "sft", "0.1.0")
    with Journal.create(directory, header) as journal:
        for user, reply in turns:
            journal.record_user(user)
            journal.record_turn(Turn(user, reply, FinishReason.STOP))
    changed = time.time() - age
    os.utime(journal.path, (changed, changed))
    return journal.path


def test_conversations_are_listed_newest_first(tmp_path: Path) -> None:
    """With date, model, number of turns and first words."""
    old = keep(tmp_path, "a", ("VRは\n何？", "仮想現実"), ("英語では？", "Virtual reality"), age=50)
    new = keep(tmp_path, "b", ("長い" * 50, "…"), age=5)
    first, second = list_conversations(tmp_path)
    assert (first.path, second.path) == (new, old)
    assert (second.id, second.turns, second.first_words, second.model) == ("a", 2, "VRは 何？", "sft")
    assert second.created == "2025-08-02T10:15:00+09:00"
    assert abs(second.changed.timestamp() - time.time() + 50) < 20
    assert len(first.first_words) == 60
    assert not first.locked
    assert first.problems == ()


def test_an_empty_shelf_is_an_empty_list(tmp_path: Path) -> None:
    """Before the first conversation there is no directory."""
    assert list_conversations(tmp_path / "none") == []
    assert search(tmp_path / "none", "x") == []


def test_broken_files_are_listed_with_their_reason(tmp_path: Path) -> None:
    """Nor do they hide the others; other files are not listed."""
    good = keep(tmp_path, "good", ("a", "b"))
    (tmp_path / "picture.jsonl").write_bytes(b"\x89PNG")
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "gone.jsonl").symlink_to(tmp_path / "nowhere")
    (tmp_path / "good.jsonl.bak").write_bytes(b"x")
    torn = keep(tmp_path, "torn", ("c", "d"))
    torn.write_bytes(torn.read_bytes() + b'{"rec')
    listed = {summary.path: summary for summary in list_conversations(tmp_path)}
    assert {path.name: [problem.key for problem in summary.problems] for path, summary in listed.items()} == {
        "good.jsonl": [],
        "picture.jsonl": ["transcript.not-a-journal"],
        "folder.jsonl": ["transcript.not-a-file"],
        "torn.jsonl": ["transcript.torn"],
    }
    assert (listed[good].turns, listed[torn].turns) == (1, 1)


def test_a_conversation_that_is_open_is_marked(tmp_path: Path) -> None:
    """Reading does not disturb the writer; a half record is no damage."""
    path = keep(tmp_path, "a", ("a", "b"))
    journal, _ = Journal.resume(path)
    with journal:
        with path.open("ab") as file:
            file.write(b'{"record"')
        (summary,) = list_conversations(tmp_path)
        assert summary.locked
        assert summary.problems == ()
        journal.record_user("c")
    (summary,) = list_conversations(tmp_path)
    assert not summary.locked
    assert summary.problems == ()


@pytest.mark.parametrize(
    ("words", "finds"),
    [
        ("ガギグ", True),
        ("がぎぐ", True),
        ("ｶﾞｷﾞｸﾞ", True),
        ("ＶＩＲＴＵＡＬ", True),
        ("virtual　ぎぐ", True),
        ("かきく", False),
        ("virtual 無い", False),
        ("①", True),
        ("", False),
        ("  ", False),
    ],
)
def test_width_case_and_kana_are_folded_in_a_search(tmp_path: Path, words: str, finds: bool) -> None:
    """Every word must occur somewhere in the conversation."""
    path = keep(tmp_path, "a", ("がギｸﾞ 第1", "ＶＲは Virtual です"))
    keep(tmp_path, "b", ("ほか", "他"))
    assert [match.summary.path for match in search(tmp_path, words)] == ([path] if finds else [])


def test_an_excerpt_shows_the_original_text(tmp_path: Path) -> None:
    """Not folded, on one line, with its surroundings, also after characters whose folding is longer."""
    keep(tmp_path, "a", ("q", "㍿" * 30 + "あ" * 60 + "\nここにｶﾞｷﾞがある" + "い" * 60))
    (match,) = search(tmp_path, "ガギ")
    assert "ここにｶﾞｷﾞがある" in match.excerpt
    assert match.excerpt.startswith("…あ")
    assert match.excerpt.endswith("い…")
    assert len(match.excerpt) < 100
    assert "\n" not in match.excerpt


def test_openings_and_messages_without_a_reply_are_searched(tmp_path: Path) -> None:
    """A crash must not make a message unfindable; the list shows it too."""
    header = Header("a", "2025-08-02T10:15:00+09:00", "sft", "0.1.0")
    with Journal.create(tmp_path, header, Conversation((Utterance(Speaker.USER, "海賊として話して"),))) as journal:
        journal.record_user("宝はどこ？")
        assert len(search(tmp_path, "海賊")) == len(search(tmp_path, "宝")) == 1
        assert list_conversations(tmp_path)[0].first_words == "宝はどこ？"


def test_folding_twice_equals_folding_once() -> None:
    """Otherwise a match could be lost between the query and the text."""
    for text in ("ヴァイオリン", "ｳﾞｧ", "ßİǅ", "が", "ﾊﾟ", "Å"):
        assert fold(fold(text)) == fold(text)


def test_hundreds_of_conversations_are_listed_at_once(tmp_path: Path) -> None:
    """/resume must not wait: 300 conversations of 20 turns."""
    data = keep(tmp_path, "a", *[(f"質問{n}", "答え" * 50) for n in range(20)]).read_bytes()
    for number in range(299):
        (tmp_path / f"x{number}.jsonl").write_bytes(data)
    begin = time.process_time()
    assert len(list_conversations(tmp_path)) == 300
    assert time.process_time() - begin < 3
