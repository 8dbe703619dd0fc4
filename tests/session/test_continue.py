"""/continue and /begin: exact token ids at the boundary, one turn, a record of the given words."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bilingual_chat.commands.table import execute
from bilingual_chat.session.compare import ReplyPiece, compare
from bilingual_chat.session.session import Session
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.text.prompt import Beginning, PromptFormat
from bilingual_chat.transcript.document import read_document, write_document
from bilingual_chat.transcript.journal import Journal, read_journal
from tests.scripted import ENTRY, PLAIN, Script, ScriptedEngine, drain, make_app, make_session, refused, tokenizer

REPLY = "はい、𠮷野家と👩‍🚀です。\nText  ends."
NL_ENTRY = replace(ENTRY, prompt=PromptFormat(separator="<NL>", newline="<NL>"))
ODD = st.text(st.sampled_from([*"aあ東京 　\n\t:：<NL>ユーザー𠮷ｱＡ㌔\u200bé"]), max_size=12)


def cut_reply(
    directory: Path, ids: Sequence[int], rest: str | Script, end: Any = None, entry: Any = ENTRY
) -> tuple[Session, ScriptedEngine]:
    """Return a session whose last reply was interrupted after `ids`, and whose next one is `rest`."""
    session, engine = make_session(directory, [Script(ids, end or KeyboardInterrupt()), rest], entry=entry)
    with suppress(KeyboardInterrupt):
        drain(session.reply("質問"))
    return session, engine


def loaded(session: Session) -> Any:
    assert session.journal_path is not None
    return read_journal(session.journal_path)


@pytest.mark.parametrize("cut", range(0, 24))
def test_a_reply_cut_at_any_token_and_continued_equals_the_whole_one(tmp_path: Path, cut: int) -> None:
    """Also within a character, and within the beginning of a label: the ids stay as they were generated."""
    ids = tokenizer().encode(REPLY + "\nユーザー: x")
    session, engine = cut_reply(tmp_path, ids[:cut], Script(ids[cut:]))
    before = session.conversation.turns[-1].reply
    shown = drain(session.extend())
    turn = session.conversation.turns[-1]
    assert turn.reply == shown.reply == REPLY
    assert turn.finish is FinishReason.STOP
    assert (shown.pieces[0] == before) or not before
    assert engine.prompts[1] == (*engine.prompts[0], *ids[:cut])
    assert (len(session.conversation.turns), turn.others) == (1, ())
    assert loaded(session).conversation.turns[-1].reply == REPLY


@pytest.mark.parametrize("cut", range(1, 24, 4))
@pytest.mark.parametrize("way", ["journal", "document"])
def test_a_loaded_reply_is_continued_with_its_generated_ids(tmp_path: Path, cut: int, way: str) -> None:
    """ "は" as two ids stays two ids: the record has them."""
    ids = [each for character in REPLY for each in tokenizer().encode(character)]
    assert ids != tokenizer().encode(REPLY)
    session, first = cut_reply(tmp_path, ids[:cut], "")
    session.close()
    if way == "document":
        conversation = read_document(write_document(tmp_path / "x.json", session.snapshot()))
    else:
        conversation = read_journal(next(tmp_path.glob("*.jsonl")))
    again, engine = make_session(tmp_path / "new", [Script(ids[cut:])])
    again.continue_from(conversation)
    assert drain(again.extend()).reply == REPLY
    assert engine.prompts[0] == (*first.prompts[0], *ids[:cut])


def test_a_document_has_the_ids_of_a_reply_on_one_line(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二三"])
    drain(session.reply('[1,\n2] "'))
    written = write_document(tmp_path / "x.json", session.snapshot())
    ids = " ".join(f"{each}," for each in tokenizer().encode("一二三")).removesuffix(",")
    assert f'"reply_ids": [{ids}]' in written.read_text("utf-8")
    assert read_document(written).conversation.turns[0].user == '[1,\n2] "'


@pytest.mark.parametrize(
    "recorded",
    [None, "x", [5, -1], [10**9], [True], [1, 2, 3], {"a": 1}, tokenizer().encode("ちがう")],
)
def test_a_reply_without_its_ids_is_encoded_as_one_text_with_the_prompt(tmp_path: Path, recorded: Any) -> None:
    """A reply by an older version, or by a model with another vocabulary."""
    session, engine = make_session(tmp_path, ["です。"])
    details = {} if recorded is None else {"reply_ids": recorded}
    turn = Turn("質問", "東京は日本", FinishReason.LENGTH, details)
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    assert drain(session.extend()).reply == "東京は日本です。"
    assert list(engine.prompts[0]) == tokenizer().encode("ユーザー: 質問\nシステム: 東京は日本")


def test_a_reply_that_a_label_ended_is_continued_without_the_label(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["はい。\nユーザー: 次", "それから"])
    drain(session.reply("質問"))
    assert drain(session.extend()).reply == "はい。それから"
    assert list(engine.prompts[1]) == tokenizer().encode("ユーザー: 質問\nシステム: はい。")


@given(begin=ODD.filter(str.strip), rest=ODD, message=ODD.filter(str.strip))
@hypothesis_settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("entry", [ENTRY, NL_ENTRY, PLAIN])
def test_the_prompt_of_a_begun_reply_is_encoded_as_one_text(entry: Any, begin: str, rest: str, message: str) -> None:
    """Held against the tokenizer: prompt and first words are one text, in which no text forges a turn."""
    session, engine = make_session(None, [rest or "x"], entry=entry)
    session.begin_with(begin)
    shown = drain(session.reply(message))
    text = prompt.render([Utterance(Speaker.USER, message)], entry.prompt, begin=begin)
    ids = list(engine.prompts[0])
    if tokenizer().decode(tokenizer().encode(text)) == text:  # the tokenizer changes nothing
        assert ids == tokenizer().encode(text)
    assert session.conversation.turns[-1].reply.startswith(begin)
    assert shown.reply == session.conversation.turns[-1].reply
    if entry is not PLAIN:
        assert prompt.parse(text, entry.prompt) == (Utterance(Speaker.USER, message), Utterance(Speaker.SYSTEM, begin))


def test_the_first_words_are_recorded_as_given_and_not_as_generated(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["そうです。"])
    session.begin_with("はい、")
    shown = drain(session.reply("質問"))
    assert shown.pieces[0] == "はい、"
    details = loaded(session).conversation.turns[-1].details
    assert details["begin"] == "はい、"
    assert details["reply_ids"] == tokenizer().encode("そうです。")
    assert session.last is not None
    assert session.last.reply == "はい、そうです。"
    assert list(session.last.reply_ids) == details["reply_ids"]
    assert details["usage"]["completion_tokens"] == len(details["reply_ids"])


def test_a_begun_reply_is_continued_and_its_first_words_stay_given(tmp_path: Path) -> None:
    stop = KeyboardInterrupt()
    session, engine = make_session(tmp_path, [Script("東", stop), Script("京", stop), "だ"])
    session.begin_with("はい、")
    with suppress(KeyboardInterrupt):
        drain(session.reply("質問"))
    session.begin_with("")
    with suppress(KeyboardInterrupt):
        drain(session.extend())
    drain(session.extend())
    turn = session.conversation.turns[-1]
    assert turn.reply == "はい、東京だ"
    assert turn.details["begin"] == "はい、"
    assert turn.details["reply_ids"] == [each for part in "東京だ" for each in tokenizer().encode(part)]
    assert [part["characters"] for part in turn.details["parts"]] == [4, 5]
    assert list(engine.prompts[2])[: len(engine.prompts[0])] == list(engine.prompts[0])


def test_retry_begins_with_the_words_in_force_now(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    session.begin_with("甲")
    drain(session.reply("質問"))
    session.begin_with("乙")
    drain(session.retry())
    session.begin_with("")
    drain(session.retry())
    assert [reply.reply for reply in session.replies] == ["甲一", "乙二", "三"]


def test_undo_takes_back_a_continuation_and_keeps_it_among_the_replies(tmp_path: Path) -> None:
    session, _ = cut_reply(tmp_path, tokenizer().encode("あい"), Script("う", KeyboardInterrupt()))
    with suppress(KeyboardInterrupt):
        drain(session.extend())
    assert [reply.reply for reply in session.replies] == ["あいう"]
    session.step_back()
    for conversation in (session.conversation, loaded(session).conversation):
        assert conversation.turns[-1].reply == "あい"
        assert [reply.reply for reply in conversation.turns[-1].replies] == ["あいう", "あい"]
    assert session.step_back() is None
    session.undo()
    assert session.conversation.turns == loaded(session).conversation.turns == ()


def test_a_continuation_of_one_of_several_replies_leaves_the_others(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    drain(session.reply("質問"))
    drain(session.retry())
    session.choose(0)
    drain(session.extend())
    for conversation in (session.conversation, loaded(session).conversation):
        assert [reply.reply for reply in conversation.turns[-1].replies] == ["二", "一三"]
        assert conversation.turns[-1].reply == "一三"
    session.step_back()
    assert session.conversation.turns[-1].reply == "一"
    session.step_back()
    assert session.conversation.turns[-1].reply == "二"


@pytest.mark.parametrize("error", [KeyboardInterrupt(), RuntimeError("x")])
def test_a_continuation_stopped_before_its_first_token_changes_nothing(tmp_path: Path, error: BaseException) -> None:
    session, _ = make_session(tmp_path, ["一", Script("", error)])
    drain(session.reply("質問"))
    before = session.conversation
    with pytest.raises(type(error)):
        drain(session.extend())
    assert session.conversation == before
    assert [turn.finish for turn in loaded(session).conversation.turns] == [FinishReason.STOP]


def test_a_model_that_adds_nothing_says_that_the_reply_is_complete(tmp_path: Path) -> None:
    session, _ = cut_reply(tmp_path, tokenizer().encode("一"), "")
    assert drain(session.extend()).keys == ["session.nothing-added"]
    assert session.conversation.turns[-1].finish is FinishReason.STOP


def test_a_complete_reply_that_gets_no_more_text_stays_the_same_turn(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", ""])
    drain(session.reply("質問"))
    before = session.conversation
    assert drain(session.extend()).keys == ["session.nothing-added"]
    assert session.conversation == before
    assert session.step_back() is None


def test_a_message_without_a_reply_has_nothing_to_continue(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path)
    with refused("session.nothing-to-undo"):
        session.extend()
    session.save_message("質問")
    with refused("session.nothing-to-continue"):
        session.extend()


def test_an_older_bchat_reads_a_continued_reply_as_another_one(tmp_path: Path) -> None:
    """Without the mark `extends` the record is a replacement, as every version reads it."""
    session, _ = cut_reply(tmp_path, tokenizer().encode("一"), "二")
    drain(session.extend())
    assert session.journal_path is not None
    text = session.journal_path.read_text("utf-8")
    assert '"extends": true' in text
    session.close()
    (tmp_path / "old.jsonl").write_text(text.replace('"extends": true, ', ""), "utf-8")
    turn = read_journal(tmp_path / "old.jsonl").conversation.turns[-1]
    assert [reply.reply for reply in turn.replies] == ["一", "一二"]


@pytest.mark.parametrize("entry", [ENTRY, PLAIN])
def test_the_oldest_turns_make_room_for_a_continuation(tmp_path: Path, entry: Any) -> None:
    session, engine = make_session(
        tmp_path, ["あ" * 40, "い" * 40, "う" * 40], entry=entry, options={"max_new_tokens": 60}, context_length=200
    )
    for _ in range(2):
        drain(session.reply("か" * 30))
    drain(session.extend())
    assert session.conversation.turns[-1].reply == "い" * 40 + "う" * 40
    assert len(engine.prompts[-1]) + 60 <= 200


def test_a_beginning_that_does_not_fit_is_refused_and_the_conversation_stays(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一"], options={"max_new_tokens": 60}, context_length=200)
    drain(session.reply("質問"))
    session.begin_with("猫は犬" * 100)
    with refused("session.beginning-too-long"):
        drain(session.reply("二つ目"))
    assert (session.pending, len(session.conversation.turns)) == ("二つ目", 1)
    session.begin_with("")
    drain(session.retry())
    assert len(session.conversation.turns) == 2


@pytest.mark.parametrize("text", [" ", "\n\t", "\u3000"])
def test_first_words_of_spaces_only_are_refused(tmp_path: Path, text: str) -> None:
    session, _ = make_session(tmp_path)
    with refused("begin.blank"):
        session.begin_with(text)


def test_a_label_across_the_end_of_the_first_words_ends_the_reply(tmp_path: Path) -> None:
    """The first words stay whole; nothing of the label that the model completes is shown."""
    session, _ = make_session(tmp_path, [": 次は？"])
    session.begin_with("はい。\nユーザー")
    assert drain(session.reply("質問")).reply == "はい。\nユーザー"
    assert session.conversation.turns[-1].finish is FinishReason.STOP


def test_compared_replies_begin_with_the_words_too(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    drain(session.reply("質問"))
    session.begin_with("甲")
    app, _ = make_app(session, tmp_path)
    action: Any = execute("/compare calm creative", app)
    pieces = [event for event in compare(session, action.variants) if isinstance(event, ReplyPiece)]
    assert "".join(piece.text for piece in pieces if piece.index == 1) == "甲三"
    assert [reply.reply for reply in session.replies] == ["一", "甲二", "甲三"]


def test_begin_keeps_spaces_in_quotes_and_is_removed_by_none(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path)
    app, shown = make_app(session, tmp_path)
    for line, begin in [
        ('/begin "1. "', "1. "),
        ("/begin はい、", "はい、"),
        ('/begin "やあ', '"やあ'),
        ("/begin なし", ""),
    ]:
        execute(line, app)
        assert session.begin == begin
    execute("/begin", app)
    assert shown.keys == ["begin.set", "begin.set", "begin.set", "begin.removed", "begin.none"]


def test_a_beginning_without_text_and_ids_is_false() -> None:
    assert not Beginning()
    assert Beginning("a")
    assert Beginning(ids=(1,))


def test_the_journal_copies_a_continued_reply(tmp_path: Path) -> None:
    """A new journal begins with a copy of the conversation: the continued reply, once."""
    session, _ = cut_reply(tmp_path, tokenizer().encode("一"), "二")
    drain(session.extend())
    with Journal.create(tmp_path / "copy", session.snapshot().header, session.conversation) as journal:
        journal.record_user("x")
        assert [turn.reply for turn in read_journal(journal.path).conversation.turns[0].replies] == ["一二"]


def test_another_models_vocabulary_is_noticed_by_the_text(tmp_path: Path) -> None:
    """Ids that spell another text under this tokenizer are not used."""
    session, engine = make_session(tmp_path, ["。"])
    turn = Turn("質問", "犬", FinishReason.LENGTH, {"reply_ids": tokenizer().encode("猫")})
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    drain(session.extend())
    assert list(engine.prompts[0]) == tokenizer().encode("ユーザー: 質問\nシステム: 犬")


def test_a_continuation_says_that_a_stop_string_came_at_once(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二", "二三"], options={"stop": ("二",)})
    assert drain(session.reply("質問")).reply == "一"
    assert drain(session.extend()).keys == ["session.stopped-at-once"]
    assert session.conversation.turns[-1].reply == "一"
