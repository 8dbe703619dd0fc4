"""One turn: its prompt, its display, its record on disk; no text is ever lost."""

from __future__ import annotations

import errno
import json
import os
import signal
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.loops import LOOP_TIMES, LOOP_TOKENS, LOOP_UNIT, LoopDetector
from bilingual_chat.session.model import Model
from bilingual_chat.session.persona import persona
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import SettingsChange
from bilingual_chat.storage import atomic
from bilingual_chat.text.conversation import Conversation, FinishReason, Speaker, Turn, Utterance
from bilingual_chat.transcript.journal import Journal, read_journal
from tests.scripted import ENTRY, PLAIN, Script, ScriptedEngine, drain, make_session, settings, tokenizer

REPEATED = tokenizer().encode("あ")[-1:] * 400


def on_disk(session: Session) -> Conversation:
    assert session.journal_path is not None
    return read_journal(session.journal_path).conversation


def kept(session: Session) -> Turn:
    """Return the last turn, which is the same on disk."""
    turn = session.conversation.turns[-1]
    stored = on_disk(session).turns[-1]
    assert (stored.user, stored.reply, stored.finish) == (turn.user, turn.reply, turn.finish)
    assert json.loads(json.dumps(dict(stored.details))) == json.loads(json.dumps(dict(turn.details)))
    return turn


# -- one turn -----------------------------------------------------------------------------------------


def test_a_message_is_on_disk_before_anything_is_computed(tmp_path: Path) -> None:
    """Also before the model is open: a crash while loading loses nothing."""
    seen: list[str | None] = []

    def look() -> None:
        assert session.journal_path is not None
        seen.append(read_journal(session.journal_path).pending_user)

    engine = ScriptedEngine(["はい。"], on_step=look)
    session, _ = make_session(tmp_path, engine=engine)

    def obtain_later() -> Model:
        look()
        return obtain_at_once()

    obtain_at_once, session._obtain_model = session._obtain_model, obtain_later
    drain(session.reply("こんにちは"))
    assert len(seen) > 2
    assert set(seen) == {"こんにちは"}
    assert read_journal(session.journal_path).pending_user is None  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("script", "reply", "finish"),
    [
        (Script("東京です。\nはい 👩‍🚀"), "東京です。\nはい 👩‍🚀", FinishReason.STOP),
        (Script("はい。\nユーザー: 次は？"), "はい。", FinishReason.STOP),
        (Script("はい。\nシステム: そうです"), "はい。", FinishReason.STOP),
        (Script("ABC\n\n"), "ABC\n\n", FinishReason.STOP),
        (Script("あいう", FinishReason.LENGTH), "あいう", FinishReason.LENGTH),
        (Script(""), "", FinishReason.STOP),
    ],
)
def test_the_reply_shown_is_the_reply_saved(tmp_path: Path, script: Script, reply: str, finish: FinishReason) -> None:
    length = len(script.ids()) if finish is FinishReason.LENGTH else 100
    session, engine = make_session(tmp_path, [script], options={"max_new_tokens": length})
    shown = drain(session.reply("質問"))
    turn = kept(session)
    assert shown.reply == turn.reply == reply
    assert turn.finish is finish
    assert session.is_saved
    assert engine.closed == 1


@pytest.mark.parametrize("cut", range(1, 12))
def test_no_part_of_a_stop_string_or_of_a_character_outlives_a_cut(tmp_path: Path, cut: int) -> None:
    """Cut by max_new_tokens or by Ctrl-C at any token: text held back is neither shown nor stored."""
    ids = [*tokenizer().encode("はい𠮷。"), *tokenizer().encode("\nユーザー: まだ")]
    for end in (FinishReason.LENGTH, KeyboardInterrupt()):
        session, _ = make_session(tmp_path, [Script(ids[:cut], end)], options={"max_new_tokens": cut})
        if isinstance(end, BaseException):
            session.change(session.settings.changed("max_new_tokens", 50))
        pieces = []
        with suppress(KeyboardInterrupt):
            for event in session.reply("x"):
                pieces += [event] if isinstance(event, str) else []
        turn = kept(session)
        assert "".join(pieces) == turn.reply
        assert "はい𠮷。".startswith(turn.reply)
        session.close()


def test_invalid_characters_are_replaced_on_entry(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path)
    drain(session.reply("\ud83d\ude00\ud800\r\nx\0"))
    assert kept(session).user == "😀\ufffd\nx"
    drain(session.revise("\ud800"))
    assert kept(session).user == "\ufffd"


def test_half_a_stop_string_is_text_when_the_model_itself_ends_there(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["user is\nユーザー"])
    assert drain(session.reply("?")).reply == kept(session).reply == "user is\nユーザー"


def test_a_reply_ends_before_the_users_stop_strings_too(tmp_path: Path) -> None:
    """Beside those of the format, which still hold; nothing of the string is shown or kept."""
    for stop, said, kept in (
        (("。", "\n"), "はい。そうです。", "はい"),
        (("です",), "一\n二です三", "一\n二"),
        (("三",), "一\nユーザー: 三", "一"),
        (("xyz",), "はい", "はい"),
        (("は",), "はい", ""),
    ):
        session, engine = make_session(tmp_path, [said], options={"stop": stop})
        assert drain(session.reply("?")).reply == kept
        turn = session.conversation.turns[-1]
        assert (turn.reply, turn.finish) == (kept, FinishReason.STOP)
        assert turn.details["settings"]["stop"] == list(stop)
        assert engine.closed == 1


def test_each_record_states_the_filters_that_acted_in_their_order(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, options={"min_p": 0.1, "penalty": 1.1, "bad_words": ["x"], "temp": 0.7})
    drain(session.reply("?"))
    acted = ["repetition_penalty", "bad_words", "temperature", "top_k", "min_p"]
    assert session.conversation.turns[-1].details["filters"] == acted
    drain(session.retry(SettingsChange(values={"temperature": 0})))
    assert session.conversation.turns[-1].details["filters"] == ["repetition_penalty", "bad_words", "temperature"]


def test_the_details_say_how_a_reply_can_be_made_again(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["一二三"], options={"temperature": 0.5, "seed": 7})
    drain(session.reply("数えて"))
    details = kept(session).details
    assert details["settings"]["temperature"] == 0.5
    assert details["settings"]["seed"] == details["seed"] == engine.seeds[0] == 7
    assert details["model"] == "scripted"
    assert (details["precision"], details["device"]) == ("float32", "cpu")
    assert details["dropped_turns"] == 0
    assert details["usage"] == {
        "prompt_tokens": len(engine.prompts[0]),
        "cached_tokens": 0,
        "completion_tokens": len(tokenizer().encode("一二三")),
    }
    assert 0 <= details["timings"]["first_token_s"] <= details["timings"]["total_s"]


def test_ctrl_c_in_the_engine_keeps_the_reply_so_far(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, [Script("途中まで", KeyboardInterrupt())])
    with pytest.raises(KeyboardInterrupt):
        drain(session.reply("話して"))
    assert (kept(session).reply, kept(session).finish) == ("途中まで", FinishReason.INTERRUPTED)


def test_a_signal_while_a_turn_is_being_saved_does_not_lose_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C raises in the middle of any line; the turn is on disk first."""
    session, _ = make_session(tmp_path, ["はい"])
    save_turn = session.save_turn

    def interrupted(*arguments: Any, **options: Any) -> Any:
        os.kill(os.getpid(), signal.SIGINT)
        return save_turn(*arguments, **options)

    monkeypatch.setattr(session, "save_turn", interrupted)
    with pytest.raises(KeyboardInterrupt):
        drain(session.reply("a"))
    assert kept(session).reply == "はい"


@pytest.mark.parametrize("way", ["close", "throw"])
def test_a_consumer_that_stops_keeps_the_pieces_it_got(tmp_path: Path, way: str) -> None:
    """Ctrl-C while printing: the reply ends with the piece on the screen."""
    session, engine = make_session(tmp_path, ["一、二、三、四、五"])
    events = session.reply("数えて")
    given = [next(events), next(events)]
    if way == "close":
        events.close()
    else:
        with pytest.raises(KeyboardInterrupt):
            events.throw(KeyboardInterrupt())
    assert kept(session).reply == "".join(map(str, given))
    assert kept(session).finish is FinishReason.INTERRUPTED
    assert engine.closed == 1


def test_a_consumer_that_stops_at_a_remark_keeps_the_turn(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["はい"])
    events = session.reply("a\nユーザー: b")
    assert not isinstance(next(events), str)
    events.close()
    assert (kept(session).user, kept(session).finish) == ("a\nユーザー: b", FinishReason.INTERRUPTED)
    assert engine.prompts == []


@pytest.mark.parametrize("error", [BchatError("engine.out-of-memory"), RuntimeError("unforeseen")])
def test_a_failure_while_replying_is_kept_and_raised(tmp_path: Path, error: Exception) -> None:
    session, engine = make_session(tmp_path, [Script("途中", error), "もう一度"])
    with pytest.raises(type(error)) as caught:
        drain(session.reply("話して"))
    assert caught.value is error
    assert (kept(session).user, kept(session).reply, kept(session).finish) == ("話して", "途中", FinishReason.FAILED)
    drain(session.retry())
    assert [turn.reply for turn in on_disk(session).turns] == ["もう一度"]
    assert engine.prompts[0] == engine.prompts[1]


def test_a_reply_that_breaks_off_without_an_end_is_no_success(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, [Script("途中", None)])
    with pytest.raises(BchatError) as caught:
        drain(session.reply("話して"))
    assert caught.value.key == "session.broke-off"
    assert kept(session).finish is FinishReason.FAILED


def test_an_empty_reply_is_kept_but_not_sent_to_the_model(tmp_path: Path) -> None:
    """An empty reply in the prompt would teach the model silence; one that the model chose itself stays."""
    session, engine = make_session(tmp_path, [Script("", KeyboardInterrupt()), "", "はい"])
    with pytest.raises(KeyboardInterrupt):
        drain(session.reply("いち"))
    assert kept(session).finish is FinishReason.INTERRUPTED
    assert drain(session.reply("に")).keys == ["session.silent"]
    drain(session.reply("さん"))
    assert tokenizer().decode(engine.prompts[-1]) == "ユーザー: に\nシステム: \nユーザー: さん\nシステム: "
    assert len(on_disk(session).turns) == 3


@pytest.mark.parametrize(
    ("options", "context", "key"),
    [
        ({"max_new_tokens": 5}, 2048, ["session.length"]),
        ({"max_new_tokens": 500}, 60, ["session.full"]),
        ({"max_new_tokens": 5, "min_new_tokens": 5}, 2048, []),
    ],
)
def test_the_remark_on_a_cut_reply_names_the_limit(
    tmp_path: Path, options: dict[str, int], context: int, key: list[str]
) -> None:
    """Not if the preset asks for exactly that many tokens, as a base model's does."""
    session, _ = make_session(tmp_path, ["あいうえお、かきくけこ。" * 30], options=options, context_length=context)
    assert drain(session.reply("?")).keys == key
    assert kept(session).finish is FinishReason.LENGTH
    assert session.last is not None
    assert len(session.last.prompt.ids) + len(session.last.reply_ids) <= context


# -- repetition ---------------------------------------------------------------------------------------


def goes_round(ids: list[int]) -> bool:
    """The slow oracle: do `ids` end in 1 to 64 tokens, repeated 4 times or more, over 128 tokens or more?"""
    for unit in range(1, LOOP_UNIT + 1):
        span = max(LOOP_TIMES * unit, LOOP_TOKENS)
        if len(ids) >= span and all(ids[-at] == ids[-at - unit] for at in range(1, span - unit + 1)):
            return True
    return False


@hypothesis_settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(0, 2), max_size=40),
    st.lists(st.integers(0, 3), min_size=1, max_size=70),
    st.integers(1, 300),
    st.integers(0, 300),
)
def test_repetition_is_found_where_a_slow_search_finds_it(
    start: list[int], unit: list[int], length: int, flaw: int
) -> None:
    ids = (start + unit * 300)[: len(start) + length]
    if flaw < len(ids):
        ids[flaw] = 9
    detector = LoopDetector()
    for at, token in enumerate(ids, start=1):
        assert detector.push(token) == goes_round(ids[:at])


@pytest.mark.parametrize("unit", [1, 3, 63, 64, 65])
def test_the_longest_unit_is_64_tokens(unit: int) -> None:
    detector = LoopDetector()
    found = [at for at, token in enumerate(list(range(unit)) * 400, start=1) if detector.push(token)]
    assert found[:1] == ([] if unit > 64 else [max(128, 4 * unit)])


def test_an_endless_reply_is_stopped_marked_and_can_be_tried_again(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, [Script(REPEATED)], options={"max_new_tokens": 400})
    shown = drain(session.reply("?"))
    assert kept(session).finish is FinishReason.REPETITION
    assert shown.reply == kept(session).reply
    assert shown.keys == ["session.repetition"]
    assert shown.said[0].values["penalty"] == "1.2"
    assert len(session.last.reply_ids) == LOOP_TOKENS  # type: ignore[union-attr]
    drain(session.retry(SettingsChange(values={"penalty": 1.2})))
    assert engine.parameters[1].repetition_penalty == 1.2
    assert session.settings.parameters.repetition_penalty == 1.0


# -- seeds --------------------------------------------------------------------------------------------


def test_without_a_seed_each_reply_gets_a_fresh_one_on_record(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    for _ in range(3):
        drain(session.reply("?"))
    assert len(set(engine.seeds)) == 3
    assert [turn.details["settings"]["seed"] for turn in on_disk(session).turns] == engine.seeds


def test_a_fixed_seed_stays_fixed(tmp_path: Path) -> None:
    """The seed in /settings is used, also by /retry; only a seed given for one reply differs."""
    session, engine = make_session(tmp_path, options={"seed": 7})
    drain(session.reply("一"))
    drain(session.retry())
    drain(session.retry())
    drain(session.reply("二"))
    drain(session.retry())
    session.undo()
    drain(session.reply("二"))
    drain(session.retry(SettingsChange(values={"seed": 8})))
    drain(session.revise("三"))
    assert engine.seeds == [7, 7, 7, 7, 7, 7, 8, 7]


def test_a_retry_under_a_fixed_seed_explains_the_equal_reply_and_how_to_get_another(tmp_path: Path) -> None:
    """The suggested seed is one that the message has not had."""
    session, _ = make_session(tmp_path, ["一", "一", "二", "一"], options={"seed": 7})
    drain(session.reply("?"))
    (said,) = drain(session.retry()).said
    assert (said.key, said.values) == ("session.same-seed", {"seed": 7, "other": 8})
    assert drain(session.retry(SettingsChange(values={"seed": 8}))).keys == []
    session.choose(0)
    (said,) = drain(session.retry()).said
    assert said.values == {"seed": 7, "other": 9}


def test_a_reply_that_is_the_same_under_another_seed_is_no_fault_of_the_seed(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["一", "一", "一", "一"])
    drain(session.reply("?"))
    assert drain(session.retry()).keys == []
    assert drain(session.retry(SettingsChange(values={"seed": 5}))).keys == []
    assert drain(session.retry(SettingsChange(values={"seed": 5}))).keys == ["session.same-seed"]


def test_the_largest_seed_can_be_retried_and_read_back(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["はい", "はい"], options={"seed": 2**63 - 1})
    drain(session.reply("?"))
    assert on_disk(session).turns[0].details["seed"] == 2**63 - 1
    (said,) = drain(session.retry()).said
    assert said.values["other"] == 0


def test_retry_changes_settings_for_that_reply_alone(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    drain(session.reply("?"))
    drain(session.retry(SettingsChange(values={"temperature": 0.25})))
    drain(session.reply("!"))
    assert [each.temperature for each in engine.parameters] == [1.0, 0.25, 1.0]
    assert on_disk(session).turns[0].details["settings"]["temperature"] == 0.25


# -- what cannot be answered --------------------------------------------------------------------------


def test_a_message_that_is_too_long_changes_nothing_but_is_kept(tmp_path: Path) -> None:
    """The earlier turn stays, in memory and on disk; the message can be edited, and found after a crash."""
    session, engine = make_session(tmp_path, context_length=80)
    drain(session.reply("一"))
    with pytest.raises(BchatError) as caught:
        drain(session.reply("長い。" * 200))
    assert caught.value.key == "prompt.too-long"
    assert [turn.user for turn in on_disk(session).turns] == ["一"] == [t.user for t in session.conversation.turns]
    assert session.pending == session.snapshot().pending_user == "長い。" * 200
    assert read_journal(session.journal_path).pending_user == "長い。" * 200  # type: ignore[arg-type]
    drain(session.reply("二"))
    assert [turn.user for turn in on_disk(session).turns] == ["一", "二"]
    assert session.pending is None
    assert len(engine.prompts) == 2


def test_a_greedy_retry_explains_the_equal_reply(tmp_path: Path) -> None:
    """At temperature 0 every reply is equal; with another temperature there is no remark."""
    session, _ = make_session(tmp_path, ["はい", "はい", "はい"], options={"temperature": 0})
    drain(session.reply("元気？"))
    assert drain(session.retry()).keys == ["session.same-again"]
    assert drain(session.retry(SettingsChange(values={"temperature": 0.8}))).keys == []


def test_a_retry_that_cannot_be_done_leaves_the_turn(tmp_path: Path) -> None:
    """A setting out of range, a reply so long that the message does not fit, a model that is gone."""
    session, _ = make_session(tmp_path, ["最初"], context_length=100, options={"max_new_tokens": 10})
    drain(session.reply("長い。" * 30))
    for changes in ({"temperature": 99}, {"max_new_tokens": 80}):
        with pytest.raises(BchatError):
            drain(session.retry(SettingsChange(values=changes)))
    obtain, session._obtain_model = session._obtain_model, refuse
    with pytest.raises(BchatError):
        drain(session.retry())
    with pytest.raises(BchatError):
        drain(session.revise("別"))
    assert [turn.reply for turn in on_disk(session).turns] == ["最初"] == [t.reply for t in session.conversation.turns]
    session._obtain_model = obtain
    drain(session.retry())
    assert session.conversation.turns[-1].user == "別"


def refuse() -> Any:
    raise BchatError("model.not-here", name="x")


def test_a_message_for_a_model_that_cannot_be_had_can_be_sent_again(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    obtain, session._obtain_model = session._obtain_model, refuse
    with pytest.raises(BchatError):
        drain(session.reply("こんにちは"))
    assert session.conversation.turns == ()
    session._obtain_model = obtain
    session.use_model(ENTRY, settings())
    drain(session.retry(SettingsChange(values={"temperature": 0.5})))
    assert [turn.user for turn in on_disk(session).turns] == ["こんにちは"]
    assert engine.parameters[0].temperature == 0.5


def test_a_base_model_gets_the_text_alone_and_never_an_empty_prompt(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["哲学者である。"], entry=PLAIN)
    with pytest.raises(BchatError) as caught:
        drain(session.reply(""))
    assert caught.value.key == "session.nothing-said"
    drain(session.reply("西田幾多郎は、"))
    drain(session.reply(""))
    assert [tokenizer().decode(ids) for ids in engine.prompts] == [
        "西田幾多郎は、",
        "西田幾多郎は、哲学者である。",
    ]
    assert session.prompt_for("\nx").text.startswith("西田幾多郎は、哲学者である。")


# -- what the model is told ---------------------------------------------------------------------------


def test_a_look_alike_is_remarked_once_and_kept_as_typed(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    typed = "訳して\nシステム: はい"
    assert drain(session.reply(typed)).keys == ["session.look-alike"]
    assert drain(session.reply(typed)).keys == []
    assert kept(session).user == typed
    assert tokenizer().decode(engine.prompts[0]) == "ユーザー: 訳して\n システム: はい\nシステム: "


def test_at_turn_20_only_what_is_new_is_computed(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, [f"{n}番目の返答です。" for n in range(20)])
    new = []
    for number in range(20):
        drain(session.reply(f"質問 {number}"))
        usage = session.last.usage  # type: ignore[union-attr]
        new.append(usage["prompt_tokens"] - usage["cached_tokens"])
    assert max(new) <= len(tokenizer().encode("\nユーザー: 質問 19\nシステム: ")) + 2
    assert len(engine.prompts[-1]) > 10 * max(new)


def test_turns_are_dropped_in_blocks_announced_once_and_recorded(tmp_path: Path) -> None:
    """Between two remarks the prompt's beginning stays the same, so that the KV cache is used."""
    session, engine = make_session(
        tmp_path, ["はい、わかりました。" * 2] * 60, context_length=400, options={"max_new_tokens": 60}
    )
    session.open_with(persona("あなたは先生です。"))
    announced, expensive = [], []
    for number in range(40):
        remarks = drain(session.reply(f"{number}: これは質問です。")).said
        announced += [(number, remark.values["count"]) for remark in remarks if remark.key == "session.dropped"]
        usage = session.last.usage  # type: ignore[union-attr]
        if usage["prompt_tokens"] - usage["cached_tokens"] > 60:
            expensive.append(number)
    assert 3 <= len(announced) <= 10
    assert expensive == [number for number, _ in announced]
    assert all(len(ids) <= 340 for ids in engine.prompts)
    assert all("あなたは先生です。" in tokenizer().decode(ids) for ids in engine.prompts)
    assert session.journal_path is not None
    events = [event for event in read_journal(session.journal_path).events if event["kind"] == "dropped"]
    assert [event["details"]["dropped_turns"] for event in events] == [count for _, count in announced]
    assert len(on_disk(session).turns) == 40


def test_undoing_a_giant_message_sends_the_old_turns_again(tmp_path: Path) -> None:
    giant = "長い文。" * 60
    context = len(tokenizer().encode(giant)) + 40
    session, engine = make_session(tmp_path, context_length=context, options={"max_new_tokens": 20})
    for number in range(5):
        drain(session.reply(f"質問{number}"))
    before = session.prompt_for("次")
    assert drain(session.reply(giant)).keys == ["session.dropped"]
    assert drain(session.retry()).keys == []  # announced once
    assert engine.prompts[-1] == engine.prompts[-2]
    session.undo()
    assert session.prompt_for("次") == before
    assert drain(session.reply(giant)).keys == ["session.dropped"]
    drain(session.revise("次"))
    assert engine.prompts[-1] == before.ids


def test_prompt_for_equals_the_prompt_of_the_engine(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    session.open_with(persona("Hello, you are an assistant that helps me learn Japanese."))
    shown = session.prompt_for("VRはなんですか。")
    drain(session.reply("VRはなんですか。"))
    assert engine.prompts == [shown.ids]
    assert shown.text == (
        "ユーザー: Hello, you are an assistant that helps me learn Japanese.\n"
        "システム: Sure, what can I do for you?\n"
        "ユーザー: VRはなんですか。\nシステム: "
    )


@pytest.mark.parametrize(
    ("text", "agreed"),
    [
        ("Hello, you are an assistant that helps me learn Japanese.", "Sure, what can I do for you?"),
        ("You’re a poet – naïve, please.", "Sure, what can I do for you?"),
        ("あなたは俳人です。", "はい、承知しました。何をお手伝いしましょうか。"),
    ],
)
def test_a_persona_is_an_opening_exchange_in_its_own_language(text: str, agreed: str) -> None:
    assert persona(f" {text}\r\n") == (Utterance(Speaker.USER, text), Utterance(Speaker.SYSTEM, agreed))
    assert persona("  ") == ()


def test_the_context_used_counts_the_conversation(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path, ["一二三"])
    model = session.model()
    assert session.context_used(model) == 0
    drain(session.reply("数えて"))
    assert session.context_used(model) == len(engine.prompts[0]) + len(session.last.reply_ids)  # type: ignore[union-attr]


def test_another_model_continues_the_conversation_and_counts_anew(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path, ["返答です。" * 4] * 20, context_length=200, options={"max_new_tokens": 40})
    for number in range(10):
        drain(session.reply(f"質問{number}"))
    assert session.prompt_for("次").dropped_turns > 0
    wide = ScriptedEngine(["はい"], 2048, name="wide")
    model = Model(replace(ENTRY, name="wide"), tokenizer(), wide)
    session._obtain_model = lambda: model
    session.use_model(model.entry, session.settings.for_model(model.entry))
    assert session.prompt_for("次").dropped_turns == 0
    assert session.context_used(model) > 200
    drain(session.reply("次"))
    assert kept(session).details["model"] == "wide"
    assert "質問0" in tokenizer().decode(wide.prompts[0])


# -- the journal --------------------------------------------------------------------------------------


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Return a list; while it is not empty, the disk is full."""
    full: list[bool] = []
    write = atomic.write_at

    def write_at(fd: int, offset: int, data: bytes) -> None:
        if full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(fd, offset, data)

    monkeypatch.setattr(atomic, "write_at", write_at)
    return full


SPOKEN = ("stop", "fail", "revise", "begin")
SILENT = ("long", "retry", "extend", "cut", "back", "undo", "opening", "full", "room")
STEPS = st.one_of(
    st.tuples(st.just("say"), st.text(st.characters(codec=None), max_size=6)),
    st.tuples(
        st.sampled_from(["stop", "fail", "revise", "begin"]), st.sampled_from(["はい", "a\nユーザー: b", "𠮷\r\n"])
    ),
    st.tuples(
        st.sampled_from(["long", "retry", "extend", "cut", "back", "undo", "opening", "full", "room"]), st.just("")
    ),
)


def do(session: Session, engine: ScriptedEngine, step: str, text: str, full: list[bool]) -> None:
    if step == "say":
        drain(session.reply(text))
    elif step == "stop":
        with closing(session.reply(text)) as events:
            next(events)
    elif step == "fail":
        engine._scripts = iter([Script("途", RuntimeError())])
        drain(session.reply(text))
    elif step == "revise":
        drain(session.revise(text))
    elif step == "long":
        drain(session.reply("長い" * 200))
    elif step == "retry":
        drain(session.retry())
    elif step == "extend":
        drain(session.extend())
    elif step == "cut":
        with closing(session.extend()) as events:
            next(events)
    elif step == "back":
        session.step_back()
    elif step == "begin":
        session.begin_with(text)
    elif step == "undo":
        session.undo()
    elif step == "opening":
        session.open_with(persona("先生"))
    else:
        full[:] = [True] if step == "full" else []


@hypothesis_settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, max_size=12))
def test_the_journal_always_holds_the_conversation(
    tmp_path_factory: pytest.TempPathFactory, full_disk: list[bool], steps: list[tuple[str, str]]
) -> None:
    """Messages, cuts, failures, refusals, undos, edits, continuations, a full disk for a while: it holds the same."""
    session, engine = make_session(
        tmp_path_factory.mktemp("journal"), context_length=200, options={"max_new_tokens": 20}
    )
    full_disk.clear()
    for step, text in [*steps, ("room", ""), ("say", "おわり")]:
        with suppress(BchatError, RuntimeError):
            do(session, engine, step, text, full_disk)
        assert not (session.is_saved and full_disk and step in ("say", "stop", "fail"))
    assert session.is_saved
    read = on_disk(session)
    expected, recorded = (
        [[(turn.user, turn.reply, turn.finish) for turn in (each, *each.replies)] for each in turns]
        for turns in (session.conversation.turns, read.turns)
    )
    assert recorded == expected
    assert read.opening == session.conversation.opening
    session.close()


def test_nothing_is_written_before_the_first_message(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path / "conversations")
    session.change(session.settings.changed("temperature", 0.5))
    session.open_with(persona("先生"))
    session.prompt_for("?")
    session.clear()
    session.close()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_reported_once_a_message_and_the_chat_continues(tmp_path: Path, full_disk: list[bool]) -> None:
    """In the user's language; when there is space again, everything is written."""
    session, _ = make_session(tmp_path, ["一", "二", "三", "四"])
    drain(session.reply("いち"))
    full_disk.append(True)
    shown = drain(session.reply("に"))
    assert shown.reply == "二"
    assert shown.keys == ["transcript.not-saved"]
    assert not session.is_saved
    assert [turn.user for turn in on_disk(session).turns] == ["いち"]
    assert drain(session.reply("さん")).keys == ["transcript.not-saved"]
    full_disk.clear()
    assert drain(session.reply("し")).keys == []
    assert session.is_saved
    assert [turn.reply for turn in on_disk(session).turns] == ["一", "二", "三", "四"]


def test_a_disk_that_fills_during_a_reply_is_reported_after_it(tmp_path: Path, full_disk: list[bool]) -> None:
    engine = ScriptedEngine(["一二三"], on_step=lambda: full_disk.append(True))
    session, _ = make_session(tmp_path, engine=engine)
    assert drain(session.reply("?")).keys == ["transcript.not-saved"]
    assert not session.is_saved


def test_a_conversation_that_is_not_saved_is_not_left(tmp_path: Path, full_disk: list[bool]) -> None:
    """/clear and /load are refused while earlier turns are unsaved."""
    session, _ = make_session(tmp_path, ["一", "二", "三"])
    drain(session.reply("いち"))
    full_disk.append(True)
    drain(session.reply("に"))
    before = session.conversation
    with pytest.raises(BchatError) as caught:
        session.clear()
    assert caught.value.key == "transcript.not-saved"
    assert session.conversation is before
    full_disk.clear()
    path = session.journal_path
    session.clear()
    assert [turn.user for turn in read_journal(path).conversation.turns] == ["いち", "に"]  # type: ignore[arg-type]
    drain(session.reply("さん"))
    assert session.journal_path != path
    assert [turn.user for turn in on_disk(session).turns] == ["さん"]


def test_clear_begins_a_new_journal_and_keeps_the_opening(tmp_path: Path) -> None:
    session, engine = make_session(tmp_path)
    session.open_with(persona("先生"))
    drain(session.reply("一"))
    old = session.journal_path
    session.clear()
    drain(session.reply("二"))
    assert [turn.user for turn in read_journal(old).conversation.turns] == ["一"]  # type: ignore[arg-type]
    assert tokenizer().decode(engine.prompts[1]).count("先生") == 1
    assert on_disk(session).opening == session.conversation.opening


def test_going_on_in_a_journal_appends_to_it(tmp_path: Path) -> None:
    first, _ = make_session(tmp_path)
    drain(first.reply("一"))
    first.close()
    path = next(tmp_path.glob("*.jsonl"))
    journal, loaded = Journal.resume(path)
    second, _ = make_session(tmp_path)
    second.continue_from(loaded, journal)
    drain(second.reply("二"))
    assert [turn.user for turn in read_journal(path).conversation.turns] == ["一", "二"]
    assert second.snapshot().header.id == first.snapshot().header.id


def test_undo_without_a_turn_is_refused(tmp_path: Path) -> None:
    session, _ = make_session(tmp_path)
    for attempt in (
        session.undo,
        lambda: drain(session.retry()),
        lambda: drain(session.revise("x")),
    ):
        with pytest.raises(BchatError) as caught:
            attempt()
        assert caught.value.key == "session.nothing-to-undo"


# -- the whole against a run without a cache ----------------------------------------------------------

POSITIONS = 160


@pytest.fixture(scope="module")
def random_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory with weights so large that every token matters."""
    import torch
    from safetensors.torch import save_file

    from bilingual_chat.engines.neox.config import parse_config

    config = {
        "model_type": "gpt_neox",
        "vocab_size": tokenizer().vocab_size,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 64,
        "max_position_embeddings": POSITIONS,
        "rotary_pct": 1.0,
        "rotary_emb_base": 10000,
        "use_parallel_residual": False,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-5,
        "tie_word_embeddings": False,
    }
    generator = torch.Generator().manual_seed(1)
    shapes = parse_config(config).shapes()
    weights = {name: torch.randn(tuple(shape), generator=generator) * 0.5 for name, shape in shapes.items()}
    directory = tmp_path_factory.mktemp("random")
    (directory / "config.json").write_text(json.dumps(config))
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})
    return directory


def converse(session: Session) -> list[tuple[tuple[int, ...], tuple[int, ...], str]]:
    """Yield prompts, replies and their ends: a conversation with every change of the prompt's beginning."""
    completions = []

    def note() -> None:
        assert session.last is not None
        completions.append((session.last.prompt.ids, session.last.reply_ids, session.last.finish.value))

    def stopped(events: Any, after: int) -> None:
        with closing(events):
            for number, _ in enumerate(events, start=1):
                if number == after:
                    break
        note()

    for number in range(4):
        drain(session.reply(f"質問{number}です。"))
        note()
    stopped(session.reply("止める"), 2)
    drain(session.retry())
    note()
    session.undo()
    session.undo()
    drain(session.reply("Another way."))
    note()
    drain(session.revise("Another, 別の道。"))
    note()
    stopped(session.retry(SettingsChange(values={"max_new_tokens": 5})), 1)
    session.open_with(persona("先生です。"))
    for number in range(8):
        drain(session.reply(f"長い質問の{number}番目です。"))
        note()
    return completions


def test_a_cached_conversation_equals_one_without_a_cache(random_model: Path) -> None:
    """Cancels, undos, retries, edits, another persona and dropped turns: greedy replies are the same ids."""
    from bilingual_chat.engines.local import LocalEngine
    from bilingual_chat.engines.protocol import OpenOptions

    class Forgetful(LocalEngine):
        def complete(self, *given: Any) -> Any:
            self.forget()
            return super().complete(*given)

    results, spared = [], []
    for kind in (LocalEngine, Forgetful):
        engine = kind(random_model, ModelEntry("random"), tokenizer(), OpenOptions())
        session, _ = make_session(None, engine=engine, options={"temperature": 0, "max_new_tokens": 12})
        results.append(converse(session))
        spared.append(sum(turn.details["usage"]["cached_tokens"] for turn in session.conversation.turns))
        assert session.prompt_for("x").dropped_turns > 0
    assert results[0] == results[1]
    assert spared[0] > 300
    assert spared[1] == 0
