"""The JSON document: its fields, the files it refuses, how it is written."""

from __future__ import annotations

import json
import os
import stat
import time
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest

import bilingual_chat
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.sanitize import outward
from bilingual_chat.transcript import safe_json
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.journal import Journal
from bilingual_chat.transcript.loaded import Header, Loaded, new_header
from tests.transcript_schema import SCHEMA, faults

HEADER = Header("20250802-101500-abc123", "2025-08-02T10:15:00+09:00", "sft", "0.1.0", {"torch": "2.13"})
OPENING = (Utterance(Speaker.USER, "Hello"), Utterance(Speaker.SYSTEM, "Sure, what can I do for you?"))
DETAILS = {
    "settings": {"temperature": 1.0, "top_k": 50},
    "seed": 7,
    "usage": {"prompt_tokens": 40, "cached_tokens": 12, "completion_tokens": 9},
    "model": "sft",
    "timings": {"prefill": 0.25},
}
TURN = Turn("VRはなんですか。", "仮想現実\n です\u2028。", FinishReason.LENGTH, DETAILS)
LOADED = Loaded(HEADER, Conversation(OPENING, (TURN,)), pending_user="英語では？")
CARD = [
    {"speaker": "ユーザー", "text": "Hello, you are an assistant that helps me learn Japanese."},
    {"speaker": "システム", "text": "Sure, what can I do for you?"},
    {"speaker": "ユーザー", "text": "VRはなんですか。"},
]


def put(path: Path, value: object) -> Path:
    path.write_text(json.dumps(value, ensure_ascii=False), "utf-8")
    return path


def refused(path: Path) -> str:
    """Return the key of the one error, after rendering it in both languages."""
    with pytest.raises(BchatError) as raised:
        read_document(path)
    assert raised.value.status is ExitStatus.DATA
    assert len(raised.value.sentence("en")) < 400
    assert raised.value.sentence("ja") != raised.value.sentence("en")
    return raised.value.key


def test_saving_a_loaded_conversation_gives_the_same_bytes(tmp_path: Path) -> None:
    """save → load → save: the same file, the same conversation."""
    path = tmp_path / "a.json"
    write_document(path, LOADED)
    loaded = read_document(path)
    assert (loaded.header, loaded.conversation) == (HEADER, LOADED.conversation)
    assert loaded.pending_user == "英語では？"
    write_document(tmp_path / "b.json", loaded)
    assert (tmp_path / "b.json").read_bytes() == path.read_bytes()


def test_a_saved_document_has_the_cards_shape_and_reads_as_japanese(tmp_path: Path) -> None:
    """`utterances` is the card's list, with the details of each reply beside its text."""
    path = tmp_path / "a.json"
    write_document(path, LOADED)
    assert "仮想現実" in path.read_text("utf-8")
    value = json.loads(path.read_bytes())
    assert (value["format"], value["version"], value["opening"]) == ("bchat-transcript", 2, 2)
    assert value["utterances"][2:] == [
        {"speaker": "ユーザー", "text": TURN.user},
        {"speaker": "システム", "text": TURN.reply, "finish_reason": "length", **DETAILS},
        {"speaker": "ユーザー", "text": "英語では？"},
    ]


def test_the_list_of_the_card_is_a_turn_and_a_message_without_a_reply(tmp_path: Path) -> None:
    """A bare list loads; none of its utterances is an opening."""
    loaded = read_document(put(tmp_path / "card.json", CARD))
    assert loaded.conversation == Conversation((), (Turn(CARD[0]["text"], CARD[1]["text"], FinishReason.STOP),))
    assert loaded.pending_user == "VRはなんですか。"


def test_a_document_says_how_much_of_it_is_the_opening(tmp_path: Path) -> None:
    """Then the same utterances are never dropped from the prompt."""
    path = put(tmp_path / "a.json", {"format": "bchat-transcript", "version": 1, "opening": 2, "utterances": CARD})
    loaded = read_document(path)
    assert [utterance.text for utterance in loaded.conversation.opening] == [said["text"] for said in CARD[:2]]
    assert loaded.conversation.turns == ()
    assert loaded.header.id == "a"


def test_a_journal_loads_too(tmp_path: Path) -> None:
    """/load reads every file that bchat writes."""
    with Journal.create(tmp_path, HEADER, Conversation(OPENING)) as journal:
        journal.record_turn(TURN)
    assert read_document(journal.path).conversation == LOADED.conversation


def test_unknown_fields_are_kept_at_every_level(tmp_path: Path) -> None:
    """At the top, in an opening, beside a message and beside a reply; not on an utterance that changed."""
    value = {
        "format": "bchat-transcript",
        "version": 1,
        "tags": ["a"],
        "opening": 1,
        "utterances": [
            {"speaker": "システム", "text": "ようこそ", "voice": 1},
            {"speaker": "ユーザー", "text": "a", "typed": {"ms": 3}},
            {"speaker": "システム", "text": "b", "rating": 5},
        ],
    }
    loaded = read_document(put(tmp_path / "a.json", value))
    write_document(tmp_path / "b.json", loaded)
    again = json.loads((tmp_path / "b.json").read_bytes())
    assert again["tags"] == ["a"]
    assert again["utterances"][0] == value["utterances"][0]  # type: ignore[index]
    assert again["utterances"][1] == value["utterances"][1]  # type: ignore[index]
    assert again["utterances"][2] == {**value["utterances"][2], "finish_reason": "stop"}  # type: ignore[index]
    other = replace(loaded, conversation=loaded.conversation.with_opening((Utterance(Speaker.SYSTEM, "別"),)))
    write_document(tmp_path / "c.json", other)
    assert json.loads((tmp_path / "c.json").read_bytes())["utterances"][0] == {"speaker": "システム", "text": "別"}


def test_details_cannot_replace_the_text(tmp_path: Path) -> None:
    """A detail named like a field of the document is left out."""
    turn = Turn("a", "b", FinishReason.STOP, {"text": "forged", "speaker": "ユーザー", "finish_reason": "length"})
    write_document(tmp_path / "a.json", Loaded(HEADER, Conversation((), (turn,)), details={"utterances": []}))
    assert read_document(tmp_path / "a.json").conversation == Conversation((), (Turn("a", "b", FinishReason.STOP),))


def said(*speakers: str) -> list[dict[str, str]]:
    return [{"speaker": speaker, "text": "x"} for speaker in speakers]


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (said("ユーザー", "ユーザー"), "misshapen"),
        (said("システム", "ユーザー"), "misshapen"),
        (said("ユーザー", "システム", "システム"), "misshapen"),
        (said("user"), "misshapen"),
        ([{"speaker": "ユーザー"}], "misshapen"),
        ([{"speaker": "ユーザー", "text": 3}], "misshapen"),
        (["ユーザー"], "misshapen"),
        (3, "misshapen"),
        ({}, "not-a-transcript"),
        ({"format": "other", "utterances": []}, "not-a-transcript"),
        ({"format": "bchat-transcript", "version": 3}, "newer"),
        ({"format": "bchat-transcript", "version": 10**90}, "newer"),
        ({"format": "bchat-transcript", "version": 10**300}, "invalid"),
        ({"format": "bchat-transcript", "version": True}, "misshapen"),
        ({"format": "bchat-transcript", "version": 1}, "misshapen"),
        ({"format": "bchat-transcript", "version": 1, "utterances": [], "opening": 1}, "misshapen"),
        ({"format": "bchat-transcript", "version": 1, "utterances": [], "opening": -1}, "misshapen"),
        ({"format": "bchat-transcript", "version": 1, "utterances": [], "id": 3}, "misshapen"),
        ({"format": "bchat-transcript", "version": 1, "utterances": [], "versions": {"a": 1}}, "misshapen"),
    ],
)
def test_an_invalid_document_is_refused_in_one_sentence(tmp_path: Path, value: object, key: str) -> None:
    """Two utterances in a row by one speaker are refused, not joined."""
    assert refused(put(tmp_path / "a.json", value)) == f"transcript.{key}"


@pytest.mark.parametrize(
    "data",
    [
        b"[" * 10_000_000,
        b'{"a":' * 1_000_000,
        b"[" * 70 + b"]" * 70,
        b"[NaN]",
        b"[-Infinity]",
        b"[1e999]",
        b"[" + b"9" * 1_000_000 + b"]",
        b"[0." + b"1" * 1_000_000 + b"]",
        b'[{"speaker": "a", "speaker": "b"}]',
        '["あ"]'.encode("utf-16"),
        b'["\xff"]',
        b"[" + b"[]," * 2_000_000 + b"[]]",
        b"",
        b"[",
        b"\x00" * 1000,
        b'["' + b"a" * 10_000_000,
    ],
    ids=lambda data: f"{data[:6]!r}x{len(data)}",
)
def test_hostile_json_is_refused_in_one_sentence_and_little_time(tmp_path: Path, data: bytes) -> None:
    """Depth, numbers, keys, encodings, sizes."""
    path = tmp_path / "a.json"
    path.write_bytes(data)
    begin = time.process_time()
    assert refused(path) == "transcript.invalid"
    assert time.process_time() - begin < 2


def test_commas_in_a_text_are_not_counted_as_values(tmp_path: Path) -> None:
    """A long text is not hostile."""
    path = put(tmp_path / "a.json", [{"speaker": "ユーザー", "text": ',[{"\\' * 400_000}])
    assert read_document(path).pending_user == ',[{"\\' * 400_000


def test_files_that_are_no_files_are_refused_at_once(tmp_path: Path) -> None:
    """A FIFO would hang, a device has no end, a sparse file of a terabyte does not fit in memory."""
    huge = tmp_path / "huge"
    with huge.open("wb") as file:
        file.truncate(2**30)
    assert refused(huge) == "transcript.too-large"
    assert refused(tmp_path) == "transcript.not-a-file"
    assert refused(tmp_path / "none") == "transcript.unreadable"
    assert refused(tmp_path / "a\0b") == "transcript.unreadable"
    if os.name == "posix":
        os.mkfifo(tmp_path / "fifo")
        assert refused(tmp_path / "fifo") == "transcript.not-a-file"
        assert refused(Path("/dev/zero")) == "transcript.not-a-file"


def test_surrogate_escapes_are_joined_or_replaced(tmp_path: Path) -> None:
    """A lone half in a file would break the tokenizer and the next save."""
    path = tmp_path / "a.json"
    path.write_bytes('[{"speaker": "ユーザー", "text": "\\ud83d\\ude00 \\ud800"}]'.encode())
    assert read_document(path).pending_user == "😀 \ufffd"


def test_a_file_that_is_not_a_transcript_is_not_overwritten_without_asking(tmp_path: Path) -> None:
    """For example /save ~/.bashrc."""
    path = tmp_path / ".bashrc"
    for foreign in (b"alias l=ls\n", b"", json.dumps(CARD).encode(), b'{"format": "bchat-transcript", "version": 3}'):
        path.write_bytes(foreign)
        with pytest.raises(BchatError) as raised:
            write_document(path, LOADED)
        assert raised.value.key == "transcript.not-ours"
        assert path.read_bytes() == foreign
    write_document(path, LOADED, overwrite=True)
    write_document(path, replace(LOADED, pending_user=None))  # now it is one of bchat's
    assert read_document(path).pending_user is None
    assert list(tmp_path.iterdir()) == [path]


def test_journals_directories_and_fifos_are_never_overwritten(tmp_path: Path) -> None:
    """Not even with `overwrite`: a conversation is being written there."""
    with Journal.create(tmp_path / "j", HEADER) as journal:
        journal.record_turn(TURN)
        before = journal.path.read_bytes()
        with pytest.raises(BchatError) as raised:
            write_document(journal.path, LOADED, overwrite=True)
        assert raised.value.key == "transcript.is-journal"
        assert journal.path.read_bytes() == before
    with pytest.raises(BchatError) as raised:
        write_document(tmp_path / "j", LOADED, overwrite=True)
    assert raised.value.key == "transcript.not-a-file"


def test_a_saved_file_is_private_and_a_link_stays_a_link(tmp_path: Path) -> None:
    """The target of the link is replaced, or created."""
    link = tmp_path / "link.json"
    link.symlink_to(tmp_path / "real.json")
    for _ in range(2):
        assert write_document(link, LOADED) == tmp_path / "real.json"
        assert link.is_symlink()
    assert stat.S_IMODE((tmp_path / "real.json").stat().st_mode) == 0o600


def test_a_missing_directory_is_one_sentence(tmp_path: Path) -> None:
    """No directory is created for a misspelt path."""
    with pytest.raises(BchatError) as raised:
        write_document(tmp_path / "none" / "a.json", LOADED)
    assert raised.value.key == "transcript.not-written"
    assert "no such file or directory" in str(raised.value)


def test_characters_marked_on_the_screen_are_escaped_in_the_file() -> None:
    """`cat` of a transcript is as harmless as bchat's own display."""
    unfit = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000 and outward(chr(code)) != chr(code)]
    written = safe_json.encode("".join(unfit)).decode()
    assert written == outward(written)
    assert json.loads(written) == "".join(unfit)


def test_a_new_header_names_its_moment_and_offset() -> None:
    """Ids differ within a second; the time has an offset."""
    first, second = new_header("m"), new_header("m")
    assert first.id != second.id
    assert datetime.fromisoformat(first.created).tzinfo is not None
    assert first.bchat == bilingual_chat.__version__


def test_a_written_document_obeys_the_published_schema(tmp_path: Path) -> None:
    """With every field, with none, and for every finish reason."""
    turns = tuple(replace(TURN, finish=finish) for finish in FinishReason)
    documents = [LOADED, Loaded(new_header("m"), Conversation()), Loaded(HEADER, Conversation(OPENING, turns))]
    for loaded in documents:
        value = json.loads(write_document(tmp_path / "a.json", loaded).read_bytes())
        assert faults(value, SCHEMA) == []
    for broken in (
        {"version": 1},
        {"created": "today"},
        {"opening": -1},
        {"utterances": [{"speaker": "user", "text": ""}]},
    ):
        assert len(faults({**value, **broken}, SCHEMA)) == 1
