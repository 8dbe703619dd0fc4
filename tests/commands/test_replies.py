"""Every reply to a message is kept: in memory, in the journal and in a document; one of them is chosen."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat import messages
from bilingual_chat.commands.app import App
from bilingual_chat.commands.table import execute
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.compare import ReplyEnd, Variant, compare
from bilingual_chat.session.session import Session
from bilingual_chat.settings.config import SettingsChange
from bilingual_chat.text.conversation import Conversation, FinishReason, Turn
from bilingual_chat.transcript.document import document_of, read_document, write_document
from bilingual_chat.transcript.journal import Journal, read_journal
from bilingual_chat.transcript.loaded import Loaded, new_header
from tests.scripted import Script, Shown, drain, make_app, make_session
from tests.transcript_schema import SCHEMA, faults


def stopped(session: Session) -> None:
    """A retry, and Ctrl-C after its first piece."""
    with closing(session.retry()) as events:
        next(events)


def said(session: Session) -> list[str]:
    return [turn.reply for turn in session.replies]


def on_disk(session: Session) -> Loaded:
    """Return what a new bchat reads from disk; it equals this session's state."""
    assert session.journal_path is not None
    loaded = read_journal(session.journal_path)
    assert loaded.problems == ()
    assert loaded.conversation == Conversation(
        loaded.conversation.opening, tuple(map(as_read, session.conversation.turns))
    )
    return loaded


def as_read(turn: Turn) -> Turn:
    """A turn whose details went through JSON."""
    others = tuple(map(as_read, turn.others))
    return Turn(turn.user, turn.reply, turn.finish, json.loads(json.dumps(dict(turn.details))), others, turn.index)


def test_a_stopped_retry_leaves_the_whole_reply_and_keeps_what_was_said(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二三", "四五六七八九"])
    drain(session.reply("数えて"))
    stopped(session)
    turn = on_disk(session).conversation.turns[0]
    assert (turn.reply, turn.finish) == ("一二三", FinishReason.STOP)
    assert [each.finish for each in turn.others] == [FinishReason.INTERRUPTED]
    assert "四五六七八九".startswith(turn.others[0].reply)


def test_a_retry_that_is_stopped_before_it_says_anything_leaves_no_trace(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["一二三", "四五六"])
    drain(session.reply("数えて"))
    before = session.conversation
    engine.on_step = lambda: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        drain(session.retry())
    assert session.conversation == before
    on_disk(session)


def test_a_retry_that_fails_leaves_the_whole_reply(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二三", Script("四五", RuntimeError("no memory"))])
    drain(session.reply("数えて"))
    with pytest.raises(RuntimeError):
        drain(session.retry())
    assert on_disk(session).conversation.turns[0].reply == "一二三"
    assert said(session) == ["一二三", "四五"]


def test_a_stopped_reply_makes_way_for_another_one(tmp_path: Path) -> None:
    """Only a complete reply replaces another complete one."""
    session, _ = make_session(tmp_path, ["一二三", "四五六", "七八九"])
    with closing(session.reply("数えて")) as events:
        next(events)
    drain(session.retry())
    assert session.conversation.turns[-1].reply == "四五六"
    assert len(on_disk(session).conversation.turns[0].replies) == 2


def test_undo_after_a_stopped_retry_keeps_the_whole_reply(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二三", "四五六"])
    drain(session.reply("数えて"))
    stopped(session)
    app, shown = make_app(session, tmp_path)
    execute("/undo", app)
    assert [turn.reply for turn in on_disk(session).conversation.turns] == ["一二三"]
    assert shown.keys == ["undo.reply"]
    execute("/undo", app)
    assert on_disk(session).conversation.turns == ()


def test_undo_takes_back_one_retry_edit_or_choice_after_the_other(tmp_path: Path) -> None:
    """With a number, /undo removes whole turns."""
    session, _ = make_session(tmp_path, ["零", "一", "二", "三", "四"])
    app, _ = make_app(session, tmp_path)
    drain(session.reply("前"))
    drain(session.reply("問"))
    drain(session.retry())
    drain(session.revise("問い"))
    execute("/replies 2", app)
    seen = []
    for _ in range(4):
        turn = on_disk(session).conversation.turns[-1]
        seen.append((turn.user, turn.reply))
        execute("/undo", app)
    assert seen == [("問", "二"), ("問い", "三"), ("問", "二"), ("問", "一")]
    assert [turn.user for turn in on_disk(session).conversation.turns] == ["前"]
    drain(session.retry())
    execute("/undo 1", app)
    assert on_disk(session).conversation.turns == ()


def test_every_way_to_another_reply_is_listed_and_can_be_chosen(tmp_path: Path) -> None:
    """Retry, edit, compare and take: in order of arrival, read back after each step."""
    session, _ = make_session(tmp_path, ["一", "二", "三", "四", "五"])
    app, shown = make_app(session, tmp_path)
    drain(session.reply("問"))
    drain(session.retry())
    drain(session.revise("問い"))
    action: Any = execute("/compare calm creative", app)
    list(compare(session, action.variants))
    on_disk(session)
    execute("/take 2", app)
    assert said(session) == ["一", "二", "三", "四", "五"]
    assert on_disk(session).conversation.turns[-1].reply == "五"
    for number, reply in enumerate(said(session), start=1):
        execute(f"/replies {number}", app)
        turn = on_disk(session).conversation.turns[-1]
        assert (turn.reply, turn.user) == (reply, "問" if number < 3 else "問い")
        assert said(session) == ["一", "二", "三", "四", "五"]
    shown.rows.clear()
    execute("/replies", app)
    assert [row[0] for row in shown.rows] == ["  1", "  2", "  3", "  4", "* 5"]
    assert [row[-1].partition(" → ")[0] for row in shown.rows] == ["問", "問", "問い", "問い", "問い"]


def test_the_next_message_keeps_the_replies_of_the_one_before(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    drain(session.reply("問"))
    drain(session.retry())
    drain(session.reply("次"))
    assert said(session) == ["三"]
    assert [turn.reply for turn in on_disk(session).conversation.turns[0].replies] == ["一", "二"]
    session.undo()
    assert said(session) == ["一", "二"]


def test_replies_to_words_that_have_no_turn_yet_wait_for_it(tmp_path: Path) -> None:
    """A comparison before the first reply: the user takes one of its replies, or asks again."""
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    app, _ = make_app(session, tmp_path)
    session.save_message("問")
    action: Any = execute("/compare calm creative", app)
    list(compare(session, action.variants))
    assert on_disk(session).pending_replies == tuple(map(as_read, session.replies))
    loaded = read_document(write_document(tmp_path / "a.json", session.snapshot()))
    assert [turn.reply for turn in loaded.pending_replies] == ["一", "二"]
    execute("/replies 2", app)
    assert [turn.reply for turn in on_disk(session).conversation.turns] == ["二"]
    session.undo()
    session.continue_from(loaded)
    drain(session.retry())
    assert said(session) == ["一", "二", "三"]
    assert session.conversation.turns[-1].reply == "三"


@pytest.mark.parametrize("line", ["/replies 3", "/replies 0", "/replies x", "/replies ²"])
def test_a_reply_that_there_is_not_is_refused(tmp_path: Path, line: str) -> None:
    session, _ = make_session(tmp_path, ["一", "二"])
    app, _ = make_app(session, tmp_path)
    with pytest.raises(BchatError, match="no turn yet"):
        execute("/replies", app)
    session.pending = "問"
    with pytest.raises(BchatError, match="no reply yet"):
        execute("/replies", app)
    drain(session.reply("問"))
    before = session.conversation
    with pytest.raises(BchatError) as caught:
        execute(line, app)
    assert caught.value.key == "replies.number"
    assert "the number 1" in caught.value.sentence("en")
    assert session.conversation == before


# -- files --------------------------------------------------------------------------------------------


@pytest.fixture
def talk(tmp_path: Path) -> Session:
    """Two turns; the first has three replies, the second of which is chosen."""
    session, _ = make_session(tmp_path / "journals", ["一", "二", "三", "四", "五"])
    drain(session.reply("問"))
    drain(session.retry())
    drain(session.revise("問い"))
    session.choose(1)
    drain(session.reply("次"))
    drain(session.retry())
    return session


def test_a_document_keeps_them_as_alternatives_and_load_restores_them(talk: Session, tmp_path: Path) -> None:
    path = write_document(tmp_path / "a.json", talk.snapshot())
    value = json.loads(path.read_bytes())
    assert faults(value, SCHEMA) == []
    assert [each["text"] for each in value["utterances"][1]["alternatives"]] == ["一", "三"]
    assert value["utterances"][1]["alternatives"][1]["user"] == "問い"
    loaded = read_document(path)
    assert loaded.conversation == Conversation((), tuple(map(as_read, talk.conversation.turns)))
    again, _ = make_session(tmp_path / "again")
    again.continue_from(loaded)
    assert document_of(again.snapshot())["utterances"] == value["utterances"]
    drain(again.reply("！"))
    on_disk(again)  # the copy at the beginning of the new journal


def test_a_bchat_that_knows_no_replies_reads_the_one_that_counts(talk: Session) -> None:
    """It ignores unknown records, and an undo is an undo."""
    assert talk.journal_path is not None
    turns: list[str] = []
    for line in talk.journal_path.read_bytes().splitlines():
        record = json.loads(line)
        if record["record"] == "undo":
            turns.pop()
        elif record["record"] == "turn":
            turns.append(record["reply"])
    assert turns == [turn.reply for turn in talk.conversation.turns]


@pytest.mark.parametrize("cut", ["turn", "half"])
def test_killed_between_the_records_of_a_retry_the_reply_stays(tmp_path: Path, cut: str) -> None:
    session, _ = make_session(tmp_path, ["一", "二"])
    drain(session.reply("問"))
    drain(session.retry())
    path = session.journal_path
    assert path is not None
    session.close()
    *lines, last = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join(lines) + (b"" if cut == "turn" else last[: len(last) // 2]))
    journal, loaded = Journal.resume(path)
    assert [turn.reply for turn in loaded.conversation.turns] == ["一"]
    journal.record_user("次")
    journal.record_turn(Turn("次", "三", FinishReason.STOP))
    journal.close()
    assert [turn.reply for turn in read_journal(path).conversation.turns] == ["一", "三"]


@pytest.mark.parametrize(
    "fields",
    [
        {"alternatives": 3, "place": 1},
        {"alternatives": [{"reply": "x"}]},
        {"alternatives": ["x"], "place": "y"},
        {"alternatives": [{"text": "x", "finish_reason": "asleep"}]},
    ],
)
def test_alternatives_from_other_programs_are_kept_unchanged(tmp_path: Path, fields: dict[str, Any]) -> None:
    """Format 1 allows unlisted fields; they are no reason to refuse a document."""
    said = [{"speaker": "ユーザー", "text": "問"}, {"speaker": "システム", "text": "答", **fields}]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    loaded = read_document(path)
    assert loaded.conversation.turns[0].others == ()
    assert document_of(loaded)["utterances"][1] == {**said[1], "finish_reason": "stop"}


@pytest.mark.parametrize("place", [-1, 2, 10**30, True, 1.0, None])
def test_a_place_out_of_range_is_the_first(tmp_path: Path, place: Any) -> None:
    said = [
        {"speaker": "ユーザー", "text": "問"},
        {"speaker": "システム", "text": "答", "alternatives": [{"text": "他"}], "place": place},
    ]
    path = tmp_path / "a.json"
    path.write_text(json.dumps(said), encoding="utf-8")
    assert [turn.reply for turn in read_document(path).conversation.turns[0].replies] == ["答", "他"]


def test_a_journal_copies_every_reply(tmp_path: Path, talk: Session) -> None:
    journal = Journal.create(tmp_path, new_header("scripted"), talk.conversation)
    journal.record_user("次")
    journal.close()
    assert read_journal(journal.path).conversation.turns == tuple(map(as_read, talk.conversation.turns))


# -- /last --------------------------------------------------------------------------------------------


def facts_of_last(app: App, shown: Shown) -> dict[str, str]:
    shown.rows.clear()
    execute("/last", app)
    return {row[0]: row[1] for row in shown.rows}


@pytest.mark.parametrize("lang", messages.LANGUAGES)
def test_last_shows_how_the_reply_was_made(tmp_path: Path, lang: str) -> None:
    session, _ = make_session(tmp_path, ["一二三", "四"], options={"temperature": 0.5})
    app, shown = make_app(session, tmp_path)
    app.screen.lang = lang
    drain(session.reply("問"))
    drain(session.retry(SettingsChange(values={"seed": 9})))
    facts = list(facts_of_last(app, shown).values())
    assert facts[0] == "2/2"
    assert facts[1].startswith("scripted")
    assert "9" in facts
    assert any("temperature=0.5" in value and "seed" not in value for value in facts)
    assert facts[-1] == messages.render("finish.stop", lang)
    execute("/replies 1", app)
    assert "9" not in facts_of_last(app, shown).values()


def test_last_shows_any_details_of_a_file(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path)
    app, shown = make_app(session, tmp_path)
    with pytest.raises(BchatError, match="no turn yet"):
        execute("/last", app)
    details = {"model": [1], "usage": 3, "timings": {"tokens_per_second": "x"}, "settings": {"top_k": None}, "seed": {}}
    turn = Turn("問", "答", FinishReason.STOP, details)
    session.continue_from(Loaded(new_header("x"), Conversation((), (turn,))))
    assert facts_of_last(app, shown)["model"] == "[1]"
    session.continue_from(Loaded(new_header("x"), Conversation((), (Turn("問", "答", FinishReason.STOP),))))
    assert facts_of_last(app, shown) == {"finish reason": "complete"}


def test_identical_answers_are_marked(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["零", "一", "一", "二", "一"])
    app, shown = make_app(session, tmp_path)
    drain(session.reply("問"))
    variants: Any = [Variant(str(seed), session.settings.changed("seed", seed).parameters) for seed in range(4)]
    events = compare(session, variants)
    assert [event.same_as for event in events if isinstance(event, ReplyEnd)] == [None, 0, None, 0]
    execute("/replies", app)
    assert ["[the same as 2]" in row[-1] for row in shown.rows] == [False, False, True, False, True]


def test_flipping_through_the_replies_chooses_one(tmp_path: Path) -> None:
    """Each page is a whole reply; taking the current reply changes nothing."""
    session, _ = make_session(tmp_path, ["一二三", "四" * 100, "七八九"])
    app, shown = make_app(session, tmp_path)
    drain(session.reply("数えて"))
    drain(session.retry(SettingsChange(values={"temperature": 1.5, "seed": 7})))
    reader: Any = app.reader
    execute("/replies", app)
    first, second = reader.pages
    assert first.startswith("1 of 2  temperature=1 seed=")
    assert first.endswith("\n一二三")
    assert second == "* 2 of 2  temperature=1.5 seed=7\n" + "四" * 100
    assert said(session) == ["一二三", "四" * 100]
    assert session.chosen == 1
    reader.choice = 1
    execute("/replies", app)
    assert "replies.chosen" not in shown.keys
    reader.choice = 0
    execute("/replies", app)
    assert session.chosen == 0
    assert "replies.chosen" in shown.keys


def test_without_an_editor_the_replies_are_listed(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二三", "四五六"])
    app, shown = make_app(session, tmp_path)
    reader: Any = app.reader
    reader.has_editor = False
    drain(session.reply("数えて"))
    drain(session.retry())
    execute("/replies", app)
    assert reader.pages == []
    assert "replies.choose" in shown.keys
