"""A recorded reply comes again, token by token; a difference is named with what explains it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from bilingual_chat.cli import chat
from bilingual_chat.cli.replay import _token
from bilingual_chat.commands.tokens import percent
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.explore.recorded import Recorded, facts_of, read_recorded
from bilingual_chat.explore.replay import Token, Verdict, replay
from bilingual_chat.messages import LANGUAGES
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.session.compare import Variant, compare
from bilingual_chat.session.model import Model, open_model
from bilingual_chat.session.persona import persona
from bilingual_chat.session.session import Session
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.settings.config import SettingsChange
from bilingual_chat.storage import paths
from bilingual_chat.terminal.display import sentence
from bilingual_chat.transcript.document import write_document
from tests.runs import program, real
from tests.scripted import drain, settings

ENTRY = ModelEntry("demo", directory=str(paths.demo_model_dir()), preset="")
EMBEDDING = "gpt_neox.embed_in.weight"  # the head, too
WARM = {"temperature": 2.5, "min_new_tokens": 1, "top_k": 0, "top_p": 1.0, "max_new_tokens": 16}


@pytest.fixture(scope="module")
def model() -> Model:
    return open_model(ENTRY)


@pytest.fixture
def session(model: Model, tmp_path: Path) -> Session:
    return Session(lambda: model, settings(ENTRY, WARM), entry=ENTRY, directory=tmp_path / "journals")


@pytest.fixture
def asked(session: Session, tmp_path: Path) -> Path:
    """What `ask --json` prints for one question."""
    drain(session.reply("What is your favourite food?", SettingsChange(values={"seed": 5})))
    assert session.last is not None
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(chat._as_json(session.last)))
    return file


def fix(session: Session) -> None:
    """Let each reply have at least nine tokens, and always the same ones."""
    session.change(session.settings.changed("min_new_tokens", 9).changed("seed", 5))


def journal(session: Session) -> Path:
    session.close()
    (file,) = (session._directory or Path()).glob("*.jsonl")
    return file


def saved(session: Session, tmp_path: Path) -> Path:
    return write_document(tmp_path / "saved.json", session.snapshot())


def edited(file: Path, change: Callable[[dict[str, Any]], Any]) -> list[Recorded]:
    """The replies of a JSON file after a change of its value."""
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))
    return read_recorded(file)


def only(verdicts: list[Verdict]) -> Verdict:
    (verdict,) = verdicts
    return verdict


def problems(verdicts: list[Verdict]) -> list[str]:
    return [verdict.problem.key for verdict in verdicts if verdict.problem]


# -- the same -----------------------------------------------------------------------------------------


def test_a_reply_from_another_token_comes_again_also_continued(session: Session, model: Model, tmp_path: Path) -> None:
    """The tokens that /branch kept are the other reply's; those after them are computed again."""
    fix(session)
    drain(session.reply("What is your favourite food?"))
    drain(session.branch(4, 2))
    drain(session.branch(6, 3))
    drain(session.extend(SettingsChange(values={"max_new_tokens": 3})))
    for file in (saved(session, tmp_path), journal(session)):
        verdicts = replay(read_recorded(file), model)
        assert [verdict.is_identical for verdict in verdicts] == [True, True, True]


def test_every_reply_of_a_conversation_comes_again(session: Session, model: Model, tmp_path: Path) -> None:
    """From its journal and from a saved document: retried, edited, compared and chosen ones, under a persona."""
    session.open_with(persona("You are a cook."))
    drain(session.reply("What do you like?"))
    drain(session.retry())
    drain(session.revise("What do you like to eat?"))
    drain(session.reply("犬は好き？", SettingsChange(values={"temperature": 0.0})))
    variants = [Variant(str(seed), session.settings.changed("seed", seed).parameters) for seed in (1, 2)]
    list(compare(session, variants))
    session.choose(1)
    drain(session.reply("Why?"))
    for file in (saved(session, tmp_path), journal(session)):
        verdicts = replay(read_recorded(file), model)
        assert len(verdicts) == 7
        assert all(verdict.is_identical for verdict in verdicts), problems(verdicts)
        assert all(verdict.tokens > 0 for verdict in verdicts)


def test_a_conversation_that_has_dropped_turns_comes_again(session: Session, model: Model, tmp_path: Path) -> None:
    for number in range(3):
        drain(session.reply(f"{number} " + "Tell me a long story about a dog. " * 45))
    assert session.conversation.turns[-1].details["dropped_turns"] > 0
    verdicts = replay(read_recorded(saved(session, tmp_path)), model)
    assert [verdict.is_identical for verdict in verdicts] == [True] * 3


def test_a_reply_that_was_begun_and_continued_comes_again(session: Session, model: Model, tmp_path: Path) -> None:
    session.begin_with("Well, I")
    change = SettingsChange(values={"max_new_tokens": 5, "min_new_tokens": 5})
    drain(session.reply("What is your favourite food?", change))
    drain(session.extend(SettingsChange(values={"max_new_tokens": 3, "min_new_tokens": 3})))
    drain(session.extend(change))
    file = saved(session, tmp_path)
    (recorded,) = read_recorded(file)
    assert [len(segment.ids or ()) for segment in recorded.segments] == [5, 3, 5]
    assert only(replay([recorded], model)).is_identical
    details = json.loads(file.read_text())
    details["utterances"][1]["parts"][1]["seed"] += 1
    details["utterances"][1]["parts"][1]["settings"]["seed"] += 1
    file.write_text(json.dumps(details))
    verdict = only(replay(read_recorded(file), model))
    assert verdict.difference is not None
    assert 5 < verdict.difference.number <= 8


def test_tokens_of_a_branch_are_counted_from_the_first_of_the_reply(
    session: Session, model: Model, tmp_path: Path
) -> None:
    fix(session)
    drain(session.reply("What is your favourite food?"))
    drain(session.branch(4, 3))
    file = saved(session, tmp_path)
    verdicts = replay(edited(file, lambda value: value["utterances"][1]["reply_ids"].__setitem__(4, 300)), model)
    assert [len(each.reply.kept) for each in verdicts] == [0, 4]
    assert verdicts[0].is_identical
    assert verdicts[1].difference is not None
    assert verdicts[1].difference.number == 5


def test_an_interrupted_reply_comes_again_as_far_as_it_went(session: Session, model: Model, tmp_path: Path) -> None:
    with closing(session.reply("What is your favourite food?")) as events:
        next(events)
        next(events)
    verdict = only(replay(read_recorded(saved(session, tmp_path)), model))
    assert verdict.is_identical
    assert 0 < verdict.tokens < 16


def test_the_output_of_ask_comes_again_one_or_several(session: Session, asked: Path, model: Model) -> None:
    assert only(replay(read_recorded(asked), model)).is_identical
    session.begin_with("Sushi, and")
    drain(session.reply("And what else?"))
    assert session.last is not None
    asked.write_text(asked.read_text() + "\n" + json.dumps(chat._as_json(session.last)))
    assert [each.is_identical for each in replay(read_recorded(asked), model)] == [True] * 2


@pytest.mark.parametrize("top_k", [0, 50])
def test_where_all_tokens_tie_the_same_ones_are_in_the_nucleus_again(tmp_path: Path, top_k: int) -> None:
    """An embedding of zeros: every logit is equal, and the edge of top_p and top_k runs through equal probabilities."""
    directory = copied(tmp_path)
    change_weights(directory, lambda weights: weights[EMBEDDING].zero_())
    model = open_model(replace(ENTRY, directory=str(directory)))
    session = Session(
        lambda: model, settings(ENTRY, {**WARM, "top_p": 0.5, "top_k": top_k}), entry=ENTRY, directory=None
    )
    drain(session.reply("Hello"))
    list(compare(session, [Variant(str(n), session.settings.changed("seed", n).parameters) for n in range(4)]))
    verdicts = replay(read_recorded(saved(session, tmp_path)), model)
    assert [verdict.is_identical for verdict in verdicts] == [True] * 5


# -- differences --------------------------------------------------------------------------------------


def copied(tmp_path: Path) -> Path:
    directory = tmp_path / "copied"
    shutil.copytree(paths.demo_model_dir(), directory)
    return directory


def change_weights(directory: Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> None:
    file = directory / "model.safetensors"
    weights = load_file(file)
    change(weights)
    save_file(weights, file)


def test_one_edited_id_is_named_with_the_probabilities_of_both(asked: Path, model: Model) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["reply_ids"][4] = 300

    verdict = only(replay(edited(asked, edit), model))
    difference = verdict.difference
    assert difference is not None
    assert difference.number == 5
    assert difference.recorded.text == model.tokenizer.decode([300]) != difference.now.text
    assert None not in (difference.recorded.now, difference.now.now)
    assert verdict.facts == ()


def test_a_missing_id_is_the_end_of_the_recorded_reply(asked: Path, model: Model) -> None:
    verdict = only(replay(edited(asked, lambda value: value["reply_ids"].pop()), model))
    assert verdict.difference is not None
    assert verdict.difference.recorded.text is None
    verdict = only(replay(edited(asked, lambda value: value.update(reply_ids=[*value["reply_ids"], 7, 7, 7])), model))
    assert verdict.difference is not None


@pytest.mark.parametrize("settings", [{"seed": 6}, {"temperature": 1.9}])
def test_other_settings_give_another_reply(asked: Path, model: Model, settings: dict[str, float]) -> None:
    verdict = only(replay(edited(asked, lambda value: value["settings"].update(settings)), model))
    assert verdict.difference is not None
    assert verdict.facts == ()


def test_a_seed_that_is_not_that_of_the_settings_is_named(session: Session, model: Model, tmp_path: Path) -> None:
    drain(session.reply("What is your favourite food?", SettingsChange(values={"seed": 5})))
    change: Callable[[Any], Any] = lambda value: value["utterances"][1]["settings"].update(seed=6)  # noqa: E731
    verdict = only(replay(edited(saved(session, tmp_path), change), model))
    assert verdict.facts == (("seed", "5", "6"),)
    assert verdict.difference is not None
    recorded = verdict.difference.recorded
    assert recorded.then == pytest.approx(recorded.now, rel=0.01), "the model is the same, then and now"


def test_another_order_of_the_filters_is_named(asked: Path, model: Model) -> None:
    def edit(value: dict[str, Any]) -> None:
        value["filters"], value["reply_ids"][2] = ["top_p", "temperature"], 300

    assert only(replay(edited(asked, edit), model)).facts == (
        ("filters", "top_p > temperature", "min_new_tokens > temperature"),
    )


def test_other_weights_are_named_by_their_digest(asked: Path, tmp_path: Path) -> None:
    directory = copied(tmp_path)
    change_weights(directory, lambda weights: weights.update({EMBEDDING: weights[EMBEDDING].roll(1, 0)}))
    verdict = only(replay(read_recorded(asked), open_model(replace(ENTRY, directory=str(directory)))))
    assert verdict.difference is not None
    assert [name for name, _, _ in verdict.facts] == ["digest"]


def test_another_dtype_is_named(asked: Path) -> None:
    half = open_model(ENTRY, OpenOptions(quantize="none", dtype="bfloat16"))
    records = edited(asked, lambda value: value["reply_ids"].__setitem__(2, 300))
    assert ("precision", "float32", "bfloat16") in only(replay(records, half)).facts


def test_an_edited_text_and_finish_are_said(asked: Path, model: Model) -> None:
    assert problems(replay(edited(asked, lambda value: value.update(reply="Sushi.")), model)) == ["replay.edited"]
    ended = edited(asked, lambda value: value.update(finish_reason="repetition"))
    assert problems(replay(ended, model)) == ["replay.finish"]


def test_an_edited_message_is_a_prompt_that_cannot_be_rebuilt(session: Session, model: Model, tmp_path: Path) -> None:
    drain(session.reply("What is your favourite food?"))
    drain(session.reply("Why?"))
    change: Callable[[Any], Any] = lambda value: value["utterances"][0].update(text="What?")  # noqa: E731
    assert problems(replay(edited(saved(session, tmp_path), change), model)) == ["replay.prompt"] * 2


# -- records of older versions, damage ----------------------------------------------------------------


def test_of_a_record_without_ids_the_text_is_compared(session: Session, model: Model, tmp_path: Path) -> None:
    drain(session.reply("What is your favourite food?"))

    def without_ids(value: dict[str, Any]) -> None:
        for name in ("reply_ids", "prompt_digest", "run"):
            value["utterances"][1].pop(name, None)

    file = saved(session, tmp_path)
    verdict = only(replay(edited(file, without_ids), model))
    assert verdict.is_identical
    assert verdict.tokens == 0
    change: Callable[[Any], Any] = lambda value: value["utterances"][1].update(text="I zzz")  # noqa: E731
    verdict = only(replay(edited(file, change), model))
    assert verdict.problem is not None
    assert verdict.problem.key == "replay.text"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"reply_ids": "12"}, "replay.damaged"),
        ({"reply_ids": [1, -2]}, "replay.damaged"),
        ({"reply_ids": [1.5]}, "replay.damaged"),
        ({"prompt_ids": {"a": 1}}, "replay.damaged"),
        ({"reply": None}, "replay.damaged"),
        ({"finish_reason": "bored"}, "replay.damaged"),
        ({"prompt": 3}, "replay.damaged"),
        ({"settings": {"temperature": "hot"}}, "replay.setting"),
        ({"settings": {"temperature": 99}}, "replay.setting"),
        ({"settings": {"seed": "x"}}, "replay.setting"),
    ],
)
def test_a_damaged_record_is_one_sentence(asked: Path, change: dict[str, Any], key: str) -> None:
    with pytest.raises(BchatError) as caught:
        edited(asked, lambda value: value.update(change))
    assert caught.value.key == key
    assert all(sentence(caught.value, lang) for lang in LANGUAGES)


def test_more_kept_tokens_than_ids_are_damage(session: Session, tmp_path: Path) -> None:
    drain(session.reply("Hello"))
    with pytest.raises(BchatError) as caught:
        edited(saved(session, tmp_path), lambda value: value["utterances"][1].update(kept_tokens=999))
    assert caught.value.key == "replay.damaged"


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"reply_ids": [10**9]}, "replay.vocabulary"),
        ({"prompt_ids": [10**9]}, "replay.vocabulary"),
        ({"prompt_ids": []}, "replay.vocabulary"),
        ({"prompt_ids": [5] * 5000}, "engine.prompt-too-long"),
    ],
)
def test_what_this_model_cannot_read_is_said_for_that_reply(
    asked: Path, model: Model, change: dict[str, Any], key: str
) -> None:
    whole = asked.read_text()
    records = edited(asked, lambda value: value.update(change))
    asked.write_text(whole)
    verdicts = replay([*records, *read_recorded(asked)], model)
    assert problems(verdicts) == [key]
    assert verdicts[1].is_identical


def test_a_continued_reply_without_ids_is_said(session: Session, model: Model, tmp_path: Path) -> None:
    drain(session.reply("Hello", SettingsChange(values={"max_new_tokens": 2})))
    drain(session.extend())
    records = edited(saved(session, tmp_path), lambda value: value["utterances"][1].pop("reply_ids"))
    assert problems(replay(records, model)) == ["replay.no-ids"]


@pytest.mark.parametrize(
    "content", ["[]", '[{"speaker": "ユーザー", "text": "a"}, {"speaker": "システム", "text": "b"}]']
)
def test_a_file_without_settings_has_nothing_to_replay(tmp_path: Path, content: str) -> None:
    (tmp_path / "list.json").write_text(content)
    with pytest.raises(BchatError) as caught:
        read_recorded(tmp_path / "list.json")
    assert caught.value.key == "replay.nothing"


# -- sweeps -------------------------------------------------------------------------------------------


def make_sweep(session: Session, folder: Path, model: Model) -> Path:
    """A directory as `bchat sweep` writes it."""
    folder.mkdir()
    rows = []
    for seed in range(3):
        drain(session.reply(f"Question {seed}", SettingsChange(values={"seed": seed})))
        last = session.last
        assert last is not None
        row = {"prompt_ids": list(last.prompt.ids), "ids": list(last.reply_ids), "reply": last.reply}
        rows.append({"id": str(seed), **vars(last.parameters), **row, "finish": last.finish.value, "width": 4})
    record = dict(model.record)
    run = dict(record.pop("run"))
    manifest = {
        "kind": "bchat-sweep",
        "version": 1,
        "begin": session.begin,
        "versions": run.pop("versions"),
        "tokenizer": run.pop("tokenizer"),
        "model": {"name": record.pop("model"), **record, **run},
    }
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "replies.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_every_reply_of_a_sweep_comes_again(session: Session, model: Model, tmp_path: Path) -> None:
    """Also of one that goes on: its last line may be written in part."""
    folder = make_sweep(session, tmp_path / "sweep", model)
    with (folder / "replies.jsonl").open("a") as file:
        file.write('{"id": "4", "prom')
    records = read_recorded(folder)
    assert [verdict.is_identical for verdict in replay(records, model)] == [True] * 3
    assert {each.model for each in records} == {"demo"}
    assert all(each.facts == facts_of(model.record) for each in records)


def test_a_sweep_of_replies_with_first_words_comes_again(session: Session, model: Model, tmp_path: Path) -> None:
    session.begin_with("Well,")
    records = read_recorded(make_sweep(session, tmp_path / "sweep", model))
    assert [verdict.is_identical for verdict in replay(records, model)] == [True] * 3


def test_the_output_with_logprobs_has_the_probability_then(session: Session, model: Model, tmp_path: Path) -> None:
    """And a file that has something else there has none."""
    drain(session.reply("What is your favourite food?"))
    assert session.last is not None
    value = {**chat._as_json(session.last), "tokens": chat._tokens_of(session.last, model)}
    value["settings"]["temperature"] = 0.0
    (tmp_path / "asked.json").write_text(json.dumps(value))
    difference = only(replay(read_recorded(tmp_path / "asked.json"), model)).difference
    assert difference is not None
    assert difference.recorded.then == pytest.approx(difference.recorded.now, rel=1e-3)
    for tokens in ("x", [1], [{"id": 1}], [{**value["tokens"][0], "top": 5}], [{**value["tokens"][0], "top": [[]]}]):
        value["tokens"] = tokens
        (tmp_path / "asked.json").write_text(json.dumps(value))
        difference = only(replay(read_recorded(tmp_path / "asked.json"), model)).difference
        assert difference is not None
        assert difference.recorded.then is None


def test_a_choice_that_was_only_scored_is_not_replayed(session: Session, model: Model, tmp_path: Path) -> None:
    folder = make_sweep(session, tmp_path / "sweep", model)
    first, *others = (folder / "replies.jsonl").read_text("utf-8").splitlines()
    scored = json.dumps({**json.loads(first), "choices": {"a": -1.0}})
    (folder / "replies.jsonl").write_text("\n".join([scored, *others, ""]), "utf-8")
    assert len(read_recorded(folder)) == len(others)


@pytest.mark.parametrize("damage", ["{]", "3", "{}", "setting"])
def test_a_damaged_line_of_a_sweep_is_left_out_and_numbered(
    session: Session, model: Model, tmp_path: Path, damage: str
) -> None:
    folder = make_sweep(session, tmp_path / "sweep", model)
    first, second, third = (folder / "replies.jsonl").read_text().splitlines()
    damage = json.dumps({**json.loads(second), "temperature": 99}) if damage == "setting" else damage
    (folder / "replies.jsonl").write_text(f"{first}\n{damage}\n{third}\n")
    damaged: list[int] = []
    assert len(read_recorded(folder, damaged.append)) == 2
    assert damaged == [2]
    (folder / "replies.jsonl").write_text(f"{damage}\n")
    with pytest.raises(BchatError, match="line 1"):
        read_recorded(folder)
    with pytest.raises(BchatError, match=r"manifest\.json"):
        read_recorded(tmp_path)


def test_a_damaged_line_of_ask_is_left_out_and_numbered(asked: Path) -> None:
    line = asked.read_text()
    for number, lines in ((1, ["{]", line, line]), (2, [line, "{]", line]), (2, [line, '{"prompt_ids": 1}', line])):
        asked.write_text("\n".join(lines))
        damaged: list[int] = []
        assert len(read_recorded(asked, damaged.append)) == 2
        assert damaged == [number]


def test_a_setting_out_of_range_is_named(asked: Path) -> None:
    with pytest.raises(BchatError, match=r"line 1: temperature must be between 0 and .*, not 99"):
        edited(asked, lambda value: value["settings"].update(temperature=99))


@pytest.mark.parametrize("prompt", ["", "\u3000ｶﾞ\n<NL>\t🍣 </s>"])
def test_an_edited_prompt_is_said_and_a_strange_one_is_not(
    session: Session, model: Model, tmp_path: Path, prompt: str
) -> None:
    drain(session.reply(f"Hello{prompt}"))
    assert session.last is not None
    file = tmp_path / "asked.json"
    file.write_text(json.dumps(chat._as_json(session.last)))
    assert only(replay(read_recorded(file), model)).is_identical
    records = edited(file, lambda value: value.update(prompt=value["prompt"].replace("Hello", "Bye")))
    assert problems(replay(records, model)) == ["replay.edited-prompt"]


def test_a_tiny_probability_has_no_exponent() -> None:
    shown = _token(Token("a", 7.22e-9, 0.000012)).values
    assert (shown["then"], shown["now"]) == ("< 0.001", "0.0012")
    assert (percent(4.69e-7), percent(0.25)) == ("< 0.001 %", "25 %")


# -- the command --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_replay_says_identical_or_what_differs_and_ends_with_4(asked: Path) -> None:
    done = program(real("replay", str(asked)))
    assert (done.returncode, done.stdout) == (0, b"line 1: identical (16 tokens)\n"), done.stderr
    value = json.loads(asked.read_text())
    value["reply_ids"][4], value["run"]["threads"] = 300, 77
    asked.write_text(asked.read_text() + "\n" + json.dumps(value))
    done = program(real("replay", "--check", "--lang", "ja", str(asked)))
    assert done.returncode == 4
    first, second = done.stdout.decode().splitlines()
    assert first.startswith("2 行目：5 番目のトークンが違います。")
    assert second == "  threads：記録は 77、今回は 1"
    assert "2 件のうち 1 件が同じです。" in done.stderr.decode()
