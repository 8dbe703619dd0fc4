"""The prompts of a sweep: every form that is read, and each wrong line with its number."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.explore import prompts
from bilingual_chat.explore.prompts import SweepPrompt, read_prompts
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript.document import write_document
from bilingual_chat.transcript.loaded import Loaded, new_header
from tests.scripted import drain, make_session


def written(directory: Path, content: str | bytes, name: str = "prompts.txt") -> Path:
    path = directory / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(directory: Path, *lines: Any) -> Path:
    text = "\n".join(each if isinstance(each, str) else json.dumps(each, ensure_ascii=False) for each in lines)
    return written(directory, text, "prompts.jsonl")


def refusal(path: Path, encoding: str | None = None) -> BchatError:
    with pytest.raises(BchatError) as caught:
        read_prompts(path, encoding)
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")
    return caught.value


def test_a_text_has_one_prompt_a_line_and_no_other_line_ends(tmp_path: Path) -> None:
    path = written(tmp_path, "\ufeffHello!\r\n\n  こんにちは。\u2028a\x0cb\n{not json\n")
    found = read_prompts(path).prompts
    assert [(each.id, each.line, each.message) for each in found] == [
        ("1", 1, "Hello!"),
        ("3", 3, "こんにちは。\u2028a\x0cb"),
        ("4", 4, "{not json"),
    ]
    assert [each.message for each in read_prompts(path, limit=1).prompts] == ["Hello!"]
    assert read_prompts(path, limit=1).sha256 == read_prompts(path).sha256


def test_a_text_in_another_encoding_is_read_when_it_is_named(tmp_path: Path) -> None:
    path = written(tmp_path, "こんにちは。".encode("shift_jis"))
    assert read_prompts(path, "shift_jis").prompts[0].message == "こんにちは。"
    assert "shift_jis" in refusal(path).sentence("en").lower()


def test_json_lines_have_ids_references_choices_patterns_and_conversations(tmp_path: Path) -> None:
    said = [{"speaker": who, "text": text} for who, text in (("user", "a"), ("システム", "b"), ("ユーザー", "c"))]
    path = json_lines(
        tmp_path,
        {"id": "first", "prompt": "1+1?", "reference": "2", "choices": ["1", "2"], "pattern": "^2$", "extra": [1]},
        "",
        {"id": 7, "utterances": said},
        {"prompt": "ok"},
    )
    first, second, third = read_prompts(path).prompts
    assert first == SweepPrompt("first", 1, "1+1?", Conversation(), "2", ("1", "2"), "^2$")
    assert (second.id, second.message) == ("7", "c")
    assert second.before == Conversation((), (Turn("a", "b", FinishReason.STOP),))
    assert third.id == "4"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("{", "json"),
        ("[1]", "json"),
        ('{"prompt": "a", "prompt": NaN}', "json"),
        ('{"prompt": ' + "[" * 5000, "json"),
        ({}, "no-prompt"),
        ({"promt": "a"}, "no-prompt"),
        ({"prompt": "a", "utterances": []}, "no-prompt"),
        ({"prompt": " "}, "no-text"),
        ({"prompt": None}, "no-text"),
        ({"prompt": 3}, "not-text"),
        ({"prompt": "a", "reference": 2}, "not-text"),
        ({"prompt": "a", "id": True}, "id"),
        ({"prompt": "a", "id": ""}, "id"),
        ({"prompt": "a", "id": "one"}, "same-id"),
        ({"prompt": "a", "choices": "ab"}, "choices"),
        ({"prompt": "a", "choices": ["a"]}, "choices"),
        ({"prompt": "a", "choices": ["a", "a"]}, "choices"),
        ({"prompt": "a", "pattern": "("}, "pattern"),
        ({"utterances": []}, "utterances"),
        ({"utterances": [3]}, "utterances"),
        ({"utterances": [{"speaker": "user", "text": "a"}, {"speaker": "system", "text": "b"}]}, "utterances"),
        ({"utterances": [{"speaker": "system", "text": "b"}]}, "utterances"),
        ({"utterances": [{"speaker": ["user"], "text": "a"}]}, "utterances"),
    ],
)
def test_a_wrong_line_is_refused_with_its_number(tmp_path: Path, line: Any, problem: str) -> None:
    error = refusal(json_lines(tmp_path, {"id": "one", "prompt": "a"}, "", line))
    assert (error.key, error.values["line"]) == ("sweep.line", 3)
    assert error.values["problem"].key == f"sweep.line.{problem}"  # type: ignore[attr-defined]


@pytest.mark.parametrize("content", ["", "\n \r\n\t", b"\xef\xbb\xbf"])
def test_a_file_without_prompts_is_refused(tmp_path: Path, content: str | bytes) -> None:
    assert refusal(written(tmp_path, content)).key == "sweep.prompts-empty"


def test_what_is_no_file_or_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert refusal(tmp_path / "missing").key == "sweep.prompts-unreadable"
    assert refusal(tmp_path).key == "sweep.prompts-not-a-file"
    monkeypatch.setattr(prompts, "MAX_PROMPTS", 2)
    assert refusal(written(tmp_path, "a\nb\nc")).key == "sweep.prompts-many"
    monkeypatch.setattr(prompts, "MAX_BYTES", 4)
    assert refusal(written(tmp_path, "a\nb\nc")).key == "sweep.prompts-large"


def test_each_message_of_a_transcript_is_a_prompt_after_what_was_said_before(tmp_path: Path) -> None:
    opening = (Utterance(Speaker.USER, "be kind"), Utterance(Speaker.SYSTEM, "yes"))
    turns = tuple(Turn(user, reply, FinishReason.STOP) for user, reply in (("a", "b"), ("c", "d")))
    loaded = Loaded(new_header("demo", {}), Conversation(opening, turns))
    path = write_document(tmp_path / "saved.json", loaded)
    found = read_prompts(path).prompts
    assert [each.message for each in found] == ["a", "c"]
    assert found[1].before == Conversation(opening, turns[:1])


def test_the_journal_of_a_chat_is_a_file_of_prompts(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["甲", "乙"])
    for message in ("いち", "に"):
        drain(session.reply(message))
    assert session.journal_path is not None
    found = read_prompts(session.journal_path).prompts
    assert [(each.message, len(each.before.turns)) for each in found] == [("いち", 0), ("に", 1)]
