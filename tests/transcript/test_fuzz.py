"""Readers of transcripts, given any file: one clear error, or a conversation that works.

`FUZZ_CASES=100000 python3 -m tests tests/transcript/test_fuzz.py` tries that many files instead of some hundreds.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bilingual_chat.commands.table import execute
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.session import Session
from bilingual_chat.text.conversation import FinishReason, Turn
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.export import FORMATS
from bilingual_chat.transcript.history import list_conversations, search
from bilingual_chat.transcript.journal import Journal, read_journal
from bilingual_chat.transcript.loaded import Header, Loaded
from tests.scripted import drain, make_app, make_session, tokenizer

CASES = int(os.environ.get("FUZZ_CASES", "500"))
TRIED = settings(
    max_examples=CASES,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
HEADER = Header("id", "2025-08-02T10:15:00+09:00", "sft", "0.1.0")
WHOLE = {
    "settings": {"temperature": 0.7, "top_k": 50, "top_p": 0.9, "seed": 3},
    "seed": 3,
    "preset": "calm",
    "model": "sft",
    "usage": {"prompt_tokens": 4, "cached_tokens": 0, "completion_tokens": 2},
    "timings": {"first_token_s": 0.1, "total_s": 0.2},
    "dropped_turns": 0,
    "dropped_characters": 0,
}
# As JSON text, since a file may hold what `json.dumps` would not write.
ODD = [
    *("-2", "-1", "0", "1", "true", "null", "1.5", "-0.0", "1e400", "NaN", "-Infinity", "9" * 90, "9" * 5000),
    *("9223372036854775808", '""', '"1"', '"\\ud800"', '"\\u0000\\u202e"', '"ユーザー"', "{}", "[]", "[[]]"),
    *('{"a": 1, "a": 2}', "[" * 70 + "]" * 70, "[" * 100_000, '{"a":' * 63 + "1" + "}" * 63, "", "}", "\\", "\x00"),
]


def document() -> dict[str, Any]:
    said: list[dict[str, Any]] = [{"speaker": "ユーザー", "text": "はじめ"}]
    for number in range(3):
        said += [
            {"speaker": "ユーザー", "text": f"問い{number}"},
            {"speaker": "システム", "text": f"答え{number}", "finish_reason": "stop", **WHOLE},
        ]
    header = {"id": "a", "created": HEADER.created, "model": "sft", "bchat": "0.1.0", "versions": {"torch": "2"}}
    return {"format": "bchat-transcript", "version": 1, **header, "opening": 1, "utterances": said}


def journal(directory: Path) -> bytes:
    with Journal.create(directory, HEADER) as made:
        for number in range(3):
            made.record_user(f"問い{number}")
            made.record_turn(Turn(f"問い{number}", f"答え{number}", FinishReason.STOP, WHOLE))
        made.record_turn(Turn("問い2", "別の答え", FinishReason.STOP, WHOLE), replaces=True)
        made.record_reply(Turn("問い2", "もう一つ", FinishReason.LENGTH, WHOLE))
        made.record_event("settings", {"temperature": 0.5})
        made.record_undo()
    return made.path.read_bytes()


def places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Yield the paths to all values."""
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(place for name, part in inside for place in places(part, (*path, name)))]


def replaced(value: Any, place: tuple[Any, ...], mark: str) -> Any:
    if not place:
        return mark
    name, *rest = place
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[name] = replaced(copy[name], tuple(rest), mark)
    return copy


@st.composite
def broken_json(draw: st.DrawFn, whole: Any) -> str:
    """Draw a JSON text with one to three values replaced, or a key doubled."""
    text = whole
    marks = []
    for number in range(draw(st.integers(1, 3))):
        mark = f"@{number}@"
        text = replaced(text, draw(st.sampled_from(places(text))), mark)
        marks.append(mark)
    written = json.dumps(text, ensure_ascii=False)
    for mark in marks:
        written = written.replace(f'"{mark}"', draw(st.sampled_from(ODD)))
    if draw(st.booleans()):
        name = draw(st.sampled_from(["seed", "text", "record", "version", "user"]))
        written = written.replace(f'"{name}": ', f'"{name}": 1, "{name}": ', 1)
    return written


@st.composite
def broken_bytes(draw: st.DrawFn, whole: bytes) -> bytes:
    """Draw a file cut short, with bytes overwritten, doubled or in another encoding."""
    data = whole
    for _ in range(draw(st.integers(0, 3))):
        at = draw(st.integers(0, len(data)))
        data = draw(
            st.sampled_from(
                [
                    data[:at],
                    data[:at] + b"\0" * 40 + data[at + 40 :],
                    data[:at] + b"\xff\n" + data[at:],
                    data[:at] + data[at // 2 :],
                    data[:at] + b'{"record": "user", "text": ' + data[at:],
                    b"\xef\xbb\xbf" + data,
                ]
            )
        )
    return data


def live_with(loaded: Loaded, directory: Path) -> None:
    """Do everything that a user can do with a loaded conversation."""
    session, engine = make_session(directory / "new", ["はい。"] * 3)
    app, _ = make_app(session, directory / "new")
    session.continue_from(loaded)
    _use(session, engine, app)
    write_document(directory / "again.json", loaded, overwrite=True)
    again = read_document(directory / "again.json")
    assert (again.conversation, again.pending_user) == (loaded.conversation, loaded.pending_user)
    assert again.problems == ()
    for write in FORMATS.values():
        write(loaded)


def _use(session: Session, engine: Any, app: Any) -> None:
    for command in ("/history", "/last", "/replies", "/undo"):
        try:
            execute(command, app)
        except BchatError as error:
            _check_sentence(error)
    before = session.conversation
    drain(session.reply("続き"))
    prompt = tokenizer().decode(list(engine.prompts[-1]))
    assert "続き" in prompt
    if len(prompt) < 500:  # nothing was in the way of telling all of it
        assert all(turn.user.strip() in prompt for turn in before.turns if turn.user.isalpha() and turn.reply)
    session.close()


def _check_sentence(error: BchatError) -> None:
    assert error.sentence("en") != error.sentence("ja")


def read_whatever(path: Path) -> None:
    for read in (read_document, read_journal):
        try:
            loaded = read(path)
        except BchatError as error:
            _check_sentence(error)
            continue
        for problem in loaded.problems:
            assert problem.sentence("ja")
        live_with(loaded, path.parent)


@given(broken_json(document()) | broken_json(document()["utterances"]))
@TRIED
def test_any_document_is_refused_in_a_sentence_or_can_be_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, text: str
) -> None:
    path = tmp_path_factory.mktemp("d") / "a.json"
    path.write_text(text, "utf-8", errors="surrogatepass")
    read_whatever(path)


@pytest.mark.slow
@given(st.data())
@TRIED
def test_any_journal_is_refused_in_a_sentence_or_can_be_gone_on_with(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Listed, searched and resumed; a repaired journal needs no further repair."""
    directory = tmp_path_factory.mktemp("j")
    whole = journal(directory / "made")
    lines = whole.split(b"\n")
    at = data.draw(st.integers(0, len(lines) - 2))
    lines[at] = data.draw(broken_json(json.loads(lines[at]))).encode("utf-8", "surrogatepass")
    path = directory / "a.jsonl"
    path.write_bytes(data.draw(broken_bytes(b"\n".join(lines))))
    list_conversations(directory)
    search(directory, "問い")
    read_whatever(path)
    try:
        resumed, loaded = Journal.resume(path)
    except BchatError as error:
        _check_sentence(error)
        return
    resumed.close()
    again = read_journal(path)
    assert again.conversation == loaded.conversation
    assert {problem.key for problem in again.problems} <= {"transcript.details"}


@given(st.binary(max_size=300) | st.text(max_size=300).map(lambda text: text.encode("utf-16")))
@TRIED
def test_any_bytes_are_refused_in_a_sentence(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("b") / "a.jsonl"
    path.write_bytes(data)
    list_conversations(path.parent)
    read_whatever(path)
