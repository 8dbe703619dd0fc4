"""One message under several settings: the display, its order, and the record."""

from __future__ import annotations

from collections.abc import Container, Generator, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from bilingual_chat.commands.app import App, Compare, Differences, Retry
from bilingual_chat.commands.table import execute
from bilingual_chat.engines.protocol import Chunk, Progress
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.compare import ReplyEnd, ReplyPiece, compare
from bilingual_chat.session.model import open_model
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import SettingsChange
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text.conversation import FinishReason
from bilingual_chat.transcript.journal import read_journal
from tests.scripted import ScriptedEngine, Shown, drain, make_app, make_session, tokenizer


@pytest.fixture
def app(tmp_path: Path) -> tuple[App, Shown, Any]:
    """A chat after one turn; the engine's next replies are 甲, 乙 and 丙."""
    session, engine = make_session(tmp_path, ["はい。", "甲です。", "乙です。", "丙です。"])
    drain(session.reply("いち"))
    return *make_app(session, tmp_path), engine


def variants_of(line: str, app: App) -> Compare:
    action = execute(line, app)
    assert isinstance(action, Compare)
    return action


def labels(line: str, app: App) -> list[str]:
    return [each.label for each in variants_of(line, app).variants]


def texts_of(events: Iterable[ReplyPiece | ReplyEnd]) -> list[str]:
    """The replies, in the order of the variants."""
    texts: dict[int, str] = {}
    for event in events:
        if isinstance(event, ReplyPiece):
            texts[event.index] = texts.get(event.index, "") + event.text
    return [texts[index] for index in sorted(texts)]


def test_each_word_is_a_preset_or_settings_and_all_have_one_seed(app: tuple[App, Shown, Any]) -> None:
    """Settings that neither a preset nor the user names are the session's; full width is accepted."""
    chat, _, _ = app
    execute("/set max_new_tokens 33", chat)
    action = variants_of("/compare calm　ｔｅｍｐ＝１．５,top_k=0 seed=7,top_p=0.5", chat)
    calm, warm, seeded = (each.parameters for each in action.variants)
    assert (calm.temperature, calm.max_new_tokens) == (0.3, 33)
    assert (warm.temperature, warm.top_k, warm.max_new_tokens) == (1.5, 0, 33)
    assert (seeded.seed, seeded.top_p) == (7, 0.5)
    assert calm.seed == warm.seed is not None
    assert [each.label for each in variants_of("/compare", chat).variants] == ["calm", "balanced", "creative"]


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("/compare calm", "compare.count"),
        ("/compare " + "calm " * 9, "compare.count"),
        ("/compare seeds=1", "compare.count"),
        ("/compare seeds=0", "compare.count"),
        ("/compare seeds=9", "compare.count"),
        ("/compare seeds=9999999999999", "compare.count"),
        ("/compare seeds=two", "setting.type"),
        ("/compare calm greedy balanced temperature=0.1,0.2,0.3", "compare.count"),
        ("/compare " + " ".join(["temperature=" + ",".join(["0.5"] * 1000)] * 9), "compare.count"),
        ("/compare " + " ".join(["seeds=8"] * 9000), "compare.count"),
        ("/compare temperature=0.3,77", "setting.range"),
        ("/compare --dif calm", "command.no-choice"),
        ("/compare calm clam", "command.no-choice"),
        ("/compare calm tempratur=1", "setting.unknown"),
        ("/compare calm,creative greedy", "command.one-value"),
        ("/compare calm top_p=7", "setting.range"),
        ("/take 1", "take.nothing"),
    ],
)
def test_what_cannot_be_compared_is_one_sentence(app: tuple[App, Shown, Any], line: str, key: str) -> None:
    with pytest.raises(BchatError) as caught:
        execute(line, app[0])
    assert caught.value.key == key
    assert caught.value.sentence("en")
    assert caught.value.sentence("ja")


def test_every_variant_is_answered_and_the_conversation_stays(app: tuple[App, Shown, Any]) -> None:
    chat, _, engine = app
    before = chat.session.conversation
    action = variants_of("/compare calm creative greedy", chat)
    events = list(compare(chat.session, action.variants))
    assert texts_of(events) == ["甲です。", "乙です。", "丙です。"]
    ends = [event for event in events if isinstance(event, ReplyEnd)]
    assert [(end.index, end.finish, end.same_as) for end in ends] == [(n, FinishReason.STOP, None) for n in range(3)]
    assert [end.tokens for end in ends] == [len(tokenizer().encode(text)) for text in texts_of(events)]
    turn = chat.session.conversation.turns[-1]
    assert replace(turn, others=()) == before.turns[-1]
    assert [each.reply for each in turn.others] == texts_of(events)
    assert len(set(engine.prompts)) == 1, "the prompt that the last reply was given to"


def test_what_was_compared_is_in_the_journal(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    action = variants_of("/compare calm creative", chat)
    list(compare(chat.session, action.variants))
    assert chat.session.journal_path is not None
    kept = [event for event in read_journal(chat.session.journal_path).events if event["kind"] == "compared"]
    answers = kept[-1]["details"]["answers"]
    assert [each["reply"] for each in answers] == ["甲です。", "乙です。"]
    assert [each["settings"]["temperature"] for each in answers] == [0.3, 1.1]
    assert {each["finish_reason"] for each in answers} == {"stop"}


def test_closing_it_keeps_what_was_said(app: tuple[App, Shown, Any]) -> None:
    """Ctrl-C in the first reply."""
    chat, _, engine = app
    events = compare(chat.session, variants_of("/compare calm creative", chat).variants)
    next(events)
    events.close()
    assert engine.closed == 2
    assert chat.session.journal_path is not None
    (kept,) = [event for event in read_journal(chat.session.journal_path).events if event["kind"] == "compared"]
    first, second = kept["details"]["answers"]
    assert first["finish_reason"] == second["finish_reason"] == "interrupted"
    assert "甲です。".startswith(first["reply"])
    assert first["reply"]


def test_take_answers_again_with_the_settings_and_seed_of_that_reply(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    action = variants_of("/compare calm seed=5,temperature=1.5", chat)
    taken = execute("/take ２", chat)
    assert isinstance(taken, Retry)
    assert DecodingParameters(**taken.change.values) == action.variants[1].parameters
    with pytest.raises(BchatError, match="from 1 to 2"):
        execute("/take 3", chat)
    drain(chat.session.reply("に"))
    with pytest.raises(BchatError, match="Nothing has been compared"):
        execute("/take 1", chat)


def test_a_reply_that_was_taken_has_the_preset_it_was_compared_under(app: tuple[App, Shown, Any]) -> None:
    """The session keeps its own; compared settings are laid over it."""
    chat, shown, _ = app
    execute("/preset balanced", chat)
    action = variants_of("/compare calm temperature=1.5", chat)
    list(compare(chat.session, action.variants))
    for number, preset in ((1, "calm"), (2, "balanced")):
        assert execute(f"/take {number}", chat) is None
        details = chat.session.conversation.turns[-1].details
        assert (details["preset"], chat.session.settings.preset) == (preset, "balanced")
    assert "take.anew" not in shown.keys


def test_after_a_comparison_that_was_stopped_take_says_that_it_answers_anew(app: tuple[App, Shown, Any]) -> None:
    """Not for the reply that was shown completely."""
    chat, shown, _ = app
    action = variants_of("/compare calm creative greedy", chat)
    events = compare(chat.session, action.variants)
    while not (isinstance(event := next(events), ReplyPiece) and event.index == 1):
        pass
    events.close()
    execute("/take 1", chat)
    assert "take.anew" not in shown.keys
    for number in (2, 3):
        execute(f"/take {number}", chat)
        assert shown.keys.count("take.anew") == number - 1


class Interleaved(ScriptedEngine):
    """All replies grow at once, as with a real engine."""

    def complete_many(
        self,
        prompts: Sequence[Sequence[int]],
        requests: Sequence[DecodingParameters],
        progress: Progress | None = None,
        *,
        unwanted: Container[int] = frozenset(),
        width: int = 8,
        is_exact: bool = False,
    ) -> Generator[tuple[int, Chunk], None, None]:
        going = {at: self.complete(*each) for at, each in enumerate(zip(prompts, requests, strict=True))}
        while going:
            for at, chunks in list(going.items()):
                chunk = None if at in unwanted else next(chunks, None)
                if chunk is None:
                    going.pop(at).close()
                else:
                    yield at, chunk


def test_all_replies_grow_at_once(tmp_path: Path) -> None:
    engine = Interleaved(["はい。", "甲です。", "乙です、少し長いです。", "甲です。"])
    session, _ = make_session(tmp_path, engine=engine)
    drain(session.reply("いち"))
    app, _ = make_app(session, tmp_path)
    events = list(compare(session, variants_of("/compare calm creative greedy", app).variants))
    first_end = next(at for at, event in enumerate(events) if isinstance(event, ReplyEnd))
    assert {event.index for event in events[:first_end]} == {0, 1, 2}
    ends = [(event.index, event.same_as) for event in events if isinstance(event, ReplyEnd)]
    assert ends == [(0, None), (2, 0), (1, None)]


def test_a_comparison_stops_when_every_reply_has_come_to_a_label(tmp_path: Path) -> None:
    """The engine would continue: only the detokenizer knows the labels of the prompt."""
    label = "\nユーザー: もっと"
    engine = Interleaved(["はい。", "甲です。" + label + "あ" * 50, "乙です。" * 6 + label + "あ" * 90])
    session, _ = make_session(tmp_path, engine=engine)
    drain(session.reply("いち"))
    app, _ = make_app(session, tmp_path)
    steps: list[int] = []
    engine.on_step = lambda: steps.append(1)
    events = list(compare(session, variants_of("/compare calm greedy", app).variants))
    assert texts_of(events) == ["甲です。", "乙です。" * 6]
    assert [event.index for event in events if isinstance(event, ReplyEnd)] == [0, 1]
    assert len(steps) < 120


def test_settings_with_several_values_are_a_grid(app: tuple[App, Shown, Any]) -> None:
    """Words that are presets, or one value each, are alternatives; words with several values multiply."""
    chat, _, _ = app
    execute("/seed 5", chat)
    assert labels("/compare temperature=0.3,0.7,1.0", chat) == [f"temperature={t}" for t in ("0.3", "0.7", "1.0")]
    assert labels("/compare ｔｅｍｐ＝０．３、　０．７", chat) == ["temp=0.3", "temp=0.7"]
    assert labels("/compare seeds=3", chat) == ["seed=5", "seed=6", "seed=7"]
    assert labels("/compare seeds 2", chat) == ["seed=5", "seed=6"]
    assert labels("/compare SEEDS=9,1", chat) == labels("/compare seed=9,1", chat) == ["seed=9", "seed=1"]
    assert labels("/compare temperature=0.3,1 seeds=2", chat) == [
        f"temperature={t} seed={seed}" for t in ("0.3", "1") for seed in (5, 6)
    ]
    assert labels("/compare calm creative temperature=0.3,1 seeds=2", chat) == [
        f"{preset} temperature={t} seed={seed}"
        for preset in ("calm", "creative")
        for t in ("0.3", "1")
        for seed in (5, 6)
    ]
    assert labels("/compare calm,seeds=2 greedy", chat) == ["calm seed=5", "calm seed=6", "greedy"]
    assert labels("/compare top_k=0,top_p=0.5,0.9", chat) == ["top_k=0 top_p=0.5", "top_k=0 top_p=0.9"]
    assert labels("/compare seeds=1 calm greedy", chat) == ["seed=5", "calm", "greedy"]


def test_the_values_of_a_grid_are_in_force(app: tuple[App, Shown, Any]) -> None:
    chat, _, _ = app
    action = variants_of("/compare calm temperature=0.4,1 seeds=2", chat)
    found = [(each.parameters.temperature, each.preset) for each in action.variants]
    assert found == [(0.4, "calm"), (0.4, "calm"), (1.0, "calm"), (1.0, "calm")]
    seeds = [each.parameters.seed for each in action.variants]
    assert seeds[:2] == seeds[2:]
    assert len(set(seeds)) == 2


def test_the_differences_of_the_last_comparison_are_shown_without_a_new_one(app: tuple[App, Shown, Any]) -> None:
    chat, _, engine = app
    assert variants_of("/compare --diff", chat).marks_differences, "nothing was compared yet"
    list(compare(chat.session, variants_of("/compare calm --diff greedy", chat).variants))
    calls = len(engine.prompts)
    shown = execute("/compare －－ｄｉｆｆ", chat)
    assert shown == Differences(("甲です。", "乙です。"), ("calm", "greedy"))
    assert len(engine.prompts) == calls
    drain(chat.session.reply("に"))
    assert isinstance(execute("/compare --diff", chat), Compare)


@pytest.mark.slow
def test_on_the_embedded_model_take_gives_the_very_reply_that_was_shown(tmp_path: Path) -> None:
    model = open_model(ModelEntry("demo", directory=str(paths.demo_model_dir())))
    session, _ = make_session(tmp_path, entry=model.entry, engine=model.engine)
    drain(session.reply("Tell me three animals in Japanese."))
    app, _ = make_app(session, tmp_path)
    action = variants_of("/compare temperature=2,top_k=0 temperature=1.5,top_k=0,top_p=1", app)
    shown = texts_of(compare(session, action.variants))
    for number, text in enumerate(shown, start=1):
        assert execute(f"/take {number}", app) is None
        assert session.conversation.turns[-1].reply == text
        drain(session.retry(SettingsChange(values=asdict(action.variants[number - 1].parameters))))
        assert session.conversation.turns[-1].reply == text
        assert session.conversation.turns[-1].finish in (FinishReason.STOP, FinishReason.LENGTH)


@pytest.mark.slow
def test_on_the_embedded_model_side_by_side_has_the_probabilities_of_alone_to_the_last_bit() -> None:
    """At such a temperature thousands of tokens are close, and one bit sometimes changes the choice."""
    engine = open_model(ModelEntry("demo", directory=str(paths.demo_model_dir()))).engine
    wanted = [DecodingParameters(1.5, top_k=0, top_p=1.0, max_new_tokens=24, seed=seed) for seed in (1, 2)]
    prompt = list(range(40, 100))
    found: list[list[float]] = [[], []]
    for at, chunk in engine.complete_many([prompt] * 2, wanted, is_exact=True):
        found[at].append(chunk.logprob)
    assert found == [[chunk.logprob for chunk in engine.complete(prompt, each)] for each in wanted]
