"""/branch, on the embedded model: the tokens before stay, the candidate follows, both replies remain."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.commands.table import execute
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.beginning import computed_candidates, kept_tokens, recorded_candidates
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript.journal import read_journal
from tests.scripted import drain, make_app, make_session, refused, tokenizer


@pytest.fixture(scope="module")
def demo() -> Model:
    return open_model(ModelEntry("demo", directory=str(paths.demo_model_dir())))


def demo_session(directory: Path, demo: Model, **options: Any) -> Session:
    options = {"temperature": 0, "max_new_tokens": 24, **options}
    return make_session(directory, entry=demo.entry, engine=demo.engine, options=options)[0]


def ids_of(turn: Turn) -> list[int]:
    return list(turn.details["reply_ids"])


@pytest.mark.parametrize("message", ["猫は英語で？", "Tell me three animals in Japanese."])
@pytest.mark.parametrize("number", [1, 3, 6])
def test_a_branch_keeps_the_tokens_before_and_takes_the_candidate(
    tmp_path: Path, demo: Model, message: str, number: int
) -> None:
    """The reply after the candidate is the one that the whole prompt gives; both replies stay."""
    session = demo_session(tmp_path, demo)
    drain(session.reply(message))
    first = session.conversation.turns[-1]
    candidates = session.candidates(number)
    assert candidates[0].token_id == ids_of(first)[number - 1]  # greedy took the best
    assert [each.probability for each in candidates] == sorted((c.probability for c in candidates), reverse=True)
    rank = 2 if candidates[1].token_id != demo.tokenizer.eos_id else 3  # the end is refused
    shown = drain(session.branch(number, rank))
    turn = session.conversation.turns[-1]
    kept = [*ids_of(first)[: number - 1], candidates[rank - 1].token_id]
    assert ids_of(turn)[:number] == kept
    assert turn.details["kept_tokens"] == number
    assert shown.reply == turn.reply
    prompt_ids = demo.encode_prompt([Utterance(Speaker.USER, message)]).ids
    parameters = replace(session.settings.parameters, seed=1)
    chunks = demo.engine.complete([*prompt_ids, *kept], parameters)
    rest = [chunk.token_id for chunk in chunks if chunk.finish is not FinishReason.STOP]
    assert ids_of(turn) == [*kept, *rest]
    assert session.journal_path is not None
    for replies in (session.replies, read_journal(session.journal_path).conversation.turns[-1].replies):
        assert [reply.reply for reply in replies] == [first.reply, turn.reply]
    session.step_back()
    assert session.conversation.turns[-1].reply == first.reply


def test_the_recorded_candidates_are_those_that_the_model_gives_now(tmp_path: Path, demo: Model) -> None:
    """Also after a branch and a continuation, whose tokens come from several calls of the engine."""
    session = demo_session(tmp_path, demo, max_new_tokens=8)
    drain(session.reply("Tell me three animals in Japanese."))
    drain(session.branch(5, 3))
    drain(session.extend())
    turn = session.conversation.turns[-1]
    prompt_ids = demo.encode_prompt([Utterance(Speaker.USER, turn.user)]).ids
    for number in range(1, len(ids_of(turn)) + 1):
        kept = kept_tokens(turn, demo, number)
        recorded, computed = recorded_candidates(turn, kept), computed_candidates((*prompt_ids, *kept.ids), demo)
        assert [each.token_id for each in recorded] == [each.token_id for each in computed]
        assert [each.probability for each in recorded] == pytest.approx([c.probability for c in computed], rel=0.002)


def test_an_engine_that_reports_no_candidates_is_one_sentence(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一二", "三"])
    drain(session.reply("質問"))
    with refused("branch.no-candidates"):
        session.candidates(1)
    with refused("branch.no-candidates"):
        drain(session.branch(1, 1))
    assert [turn.reply for turn in session.conversation.turns] == ["一二"]


def test_a_branch_within_a_character_shows_whole_characters_only(tmp_path: Path, demo: Model) -> None:
    """𠮷 is four byte tokens; the third is replaced."""
    session = demo_session(tmp_path, demo)
    ids = tokenizer().encode("𠮷です")
    assert len(ids) >= 5
    number = next(at for at, each in enumerate(ids) if isinstance(tokenizer().piece(each), bytes)) + 3
    turn = Turn("質問", "𠮷です", FinishReason.STOP, {"reply_ids": ids})
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    drain(session.branch(number, 2))
    last = session.conversation.turns[-1]
    assert ids_of(last)[: number - 1] == ids[: number - 1]
    assert last.reply == tokenizer().decode(ids_of(last))


def test_a_branch_of_a_begun_reply_keeps_the_first_words(tmp_path: Path, demo: Model) -> None:
    session = demo_session(tmp_path, demo)
    session.begin_with("いいえ、")
    drain(session.reply("猫は英語で？"))
    session.begin_with("")
    drain(session.branch(2, 2))
    assert [turn.details["begin"] for turn in session.replies] == ["いいえ、"] * 2
    assert session.conversation.turns[-1].reply.startswith("いいえ、")


def test_a_branch_in_a_reply_that_a_label_ended_stays_in_the_reply(tmp_path: Path, demo: Model) -> None:
    ids = tokenizer().encode("はい。\nユーザー: 次")
    session = demo_session(tmp_path, demo)
    turn = Turn("質問", "はい。", FinishReason.STOP, {"reply_ids": ids})
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    with refused("branch.token"):
        session.candidates(len(ids))
    assert session.candidates(1)


def test_a_branch_in_a_reply_that_a_stop_string_ended_keeps_its_ids(tmp_path: Path, demo: Model) -> None:
    session = demo_session(tmp_path, demo, stop=["です"])
    drain(session.reply("猫は英語で？"))
    first = session.conversation.turns[-1]
    session.change(session.settings.changed("stop", []))
    assert tokenizer().decode(ids_of(first)) != first.reply
    drain(session.branch(2, 2))
    assert ids_of(session.conversation.turns[-1])[0] == ids_of(first)[0]
    session.choose(0)
    drain(session.extend())
    assert session.conversation.turns[-1].reply.startswith(first.reply)


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("/branch 0", "branch.usage"),
        ("/branch x 1", "branch.usage"),
        ("/branch 1 6", "branch.usage"),
        ("/branch 1 2 3", "branch.usage"),
        ("/branch -1", "branch.usage"),
        ("/branch 999", "branch.token"),
        ("/branch", "command.argument-missing"),
    ],
)
def test_a_branch_that_does_not_exist_is_one_sentence(tmp_path: Path, demo: Model, line: str, key: str) -> None:
    session = demo_session(tmp_path, demo)
    drain(session.reply("猫は英語で？"))
    app, _ = make_app(session, tmp_path)
    with refused(key):
        execute(line, app)
    assert len(session.replies) == 1


def test_a_candidate_that_ends_the_reply_is_listed_and_refused(tmp_path: Path, demo: Model) -> None:
    session = demo_session(tmp_path, demo)
    drain(session.reply("こんにちは"))
    reply = session.conversation.turns[-1]
    ids = [*ids_of(reply), *tokenizer().encode("あ")]  # where the model ended the reply
    turn = replace(reply, reply=reply.reply + "あ", details={"reply_ids": ids})
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    app, shown = make_app(session, tmp_path)
    execute(f"/branch {len(ids)}", app)
    assert shown.rows[0][1] == "(end of the reply)"
    with refused("branch.end"):
        drain(session.branch(len(ids), 1))
    assert len(session.replies) == 1


def test_a_reply_without_recorded_ids_has_no_branches(tmp_path: Path, demo: Model) -> None:
    session = demo_session(tmp_path, demo)
    turn = Turn("質問", "はい。", FinishReason.STOP)
    session.continue_from(replace(session.snapshot(), conversation=Conversation((), (turn,))))
    with refused("branch.unknown"):
        session.candidates(1)


def test_a_token_that_the_model_lacks_leaves_no_failed_turn(tmp_path: Path, demo: Model) -> None:
    session = demo_session(tmp_path, demo, logit_bias=("id:999999=1",))
    with pytest.raises(BchatError) as caught:
        drain(session.reply("Hello!"))
    assert caught.value.key == "engine.no-such-token"
    assert session.conversation.turns == ()
    assert session.pending == "Hello!"
