"""The demo model: a complete model directory of the family, as good as documented."""

from __future__ import annotations

import importlib
import json
import random
import sys
from collections import Counter
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.commands.table import find
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.neox.config import parse_config
from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.protocol import OpenOptions
from bilingual_chat.settings.catalogue import ModelEntry, locate
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer
from tests.runs import ROOT


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer(paths.demo_model_dir() / "spiece.model")


def test_it_is_small_and_in_the_shape_of_the_family() -> None:
    """A directory of at most 20 MB that the same code opens as the 4B models: GPT-NeoX, sequential, full rotary."""
    directory = paths.demo_model_dir()
    assert locate(load_config().catalogue["demo"]) == directory
    assert sum(path.stat().st_size for path in directory.iterdir()) < 20_000_000
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    assert config["model_type"] == "gpt_neox"
    assert not config["use_parallel_residual"]
    assert config["rotary_pct"] == 1.0
    assert config["max_position_embeddings"] >= 1024
    assert not config["tie_word_embeddings"]


def test_the_catalogue_says_how_large_it_is(tokenizer: Tokenizer) -> None:
    """The banner's size comes from the catalogue, and equals the model's."""
    engine = LocalEngine(paths.demo_model_dir(), ModelEntry("demo"), tokenizer, OpenOptions())
    entry = load_config().catalogue["demo"]
    config = json.loads((paths.demo_model_dir() / "config.json").read_text("utf-8"))
    assert parse_config(config).parameter_count == entry.parameters
    assert engine.context_length == entry.context_length
    assert 5_000_000 <= entry.parameters <= 10_000_000


def test_every_pass_takes_one_thread(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts too: on a busy machine two threads wait for each other at each tiny kernel, and use the CPU meanwhile."""
    engine = LocalEngine(paths.demo_model_dir(), ModelEntry("demo"), tokenizer, OpenOptions())
    counts: list[tuple[int, int]] = []
    run = GptNeox.run

    def counted(self: GptNeox, ids: Tensor, *rest: Any) -> Tensor:
        counts.append((len(ids), torch.get_num_threads()))
        return run(self, ids, *rest)

    monkeypatch.setattr(GptNeox, "run", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(engine.complete(tokenizer.encode("猫はどこですか。" * 30), DecodingParameters(max_new_tokens=2)))
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert {threads for _, threads in counts} == {1}
    assert counts[0][0] > 1


def test_its_tokenizer_keeps_everything(tokenizer: Tokenizer) -> None:
    """Byte fallback, nothing prepended, spaces, newlines and tabs kept, one space one token, eos 3."""
    for text in ("Hello  there\n\tfriend ", " a", "𠮷野家で😀", "</s>[PAD]<0x0A>", "ユーザー: はい\nシステム: "):
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.eos_id == 3
    assert len(tokenizer.encode("   ")) == 3
    assert 3 not in tokenizer.encode("</s>")


def test_a_longer_conversation_begins_with_the_ids_of_the_shorter_one(tokenizer: Tokenizer) -> None:
    """Each turn's prompt is the beginning of the next one, so the KV cache is reused without stored ids."""
    said = [
        Utterance(Speaker.USER, "What is 'cat' in Japanese?"),
        Utterance(Speaker.SYSTEM, '"cat" in Japanese is 猫 (neko).'),
        Utterance(Speaker.USER, "  犬は？\n教えて "),
        Utterance(Speaker.SYSTEM, "「犬」は英語で dog です。"),
        Utterance(Speaker.USER, "Thanks"),
    ]
    before: list[int] = []
    for count in (1, 3, 5):
        ids = tokenizer.encode(prompt.render(said[:count], PromptFormat()))
        assert ids[: len(before)] == before
        before = ids


def test_its_greedy_reply_is_that_of_transformers(tokenizer: Tokenizer) -> None:
    """The engine's own forward pass against `generate` on the real weights, over a prompt of several turns."""
    import torch
    from transformers import GPTNeoXForCausalLM

    ids = tokenizer.encode(
        "ユーザー: こんにちは\nシステム: こんにちは！\nユーザー: What is the capital of France?\nシステム: "
    )
    directory = paths.demo_model_dir()
    reference = GPTNeoXForCausalLM.from_pretrained(directory, dtype=torch.float32)
    with torch.inference_mode():
        expected = reference.generate(torch.tensor([ids]), do_sample=False, max_new_tokens=32, pad_token_id=3)[0]
    engine = LocalEngine(directory, ModelEntry("demo"), tokenizer, OpenOptions())
    parameters = DecodingParameters(temperature=0.0, max_new_tokens=32)
    assert [chunk.token_id for chunk in engine.complete(ids, parameters)] == expected[len(ids) :].tolist()


def of_training(name: str) -> Any:
    """A module of training/, which is no package."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.pop(0)


@pytest.mark.slow
def test_the_corpus_asks_no_held_out_question() -> None:
    """Neither a question of one turn nor the turns of a longer one, compared without marks, case and width."""
    corpus, questions = of_training("corpus"), of_training("questions")
    rng = random.Random(99)
    said = [[user for user, _ in corpus.conversation(rng)] for _ in range(10_000)]
    assert len(questions.held_out()[0]) > 350
    assert len(questions.held_out()[1]) > 150
    assert not any(questions.asks_held_out(users) for users in said)
    worded = {questions.wording(user) for users in said for user in users}
    assert worded.isdisjoint(questions.held_out()[0])


def test_the_corpus_names_exactly_the_commands_and_settings_of_bchat() -> None:
    """Each command, setting, preset, option and shell command, and none that bchat lacks."""
    facts = of_training("bchat_facts")
    data = of_training("material").toml("bchat")
    for table, names in facts.names().items():
        assert names == set(data[table].get("names", data[table])), table
    for name, entry in data["command"].items():
        for lang in ("en", "ja"):
            assert find(facts.example(entry, lang)[1:].split()[0]).name == name
    assert set(data["reply_of"].values()) <= set(facts.replies())


def test_words_are_inflected_by_rule() -> None:
    grammar = of_training("grammar")
    assert grammar.verb_forms("行く", "5")["te"] == "行って"
    assert grammar.verb_forms("待つ", "5")["te"] == "待って"
    assert grammar.verb_forms("泳ぐ", "5")["ta"] == "泳いだ"
    assert grammar.verb_forms("買う", "5")["nai"] == "買わない"
    assert grammar.verb_forms("食べる", "1")["mashita"] == "食べました"
    assert grammar.verb_forms("勉強する", "suru")["masen"] == "勉強しません"
    assert grammar.adjective_forms("いい", "i")["ta"] == "よかった"
    assert grammar.adjective_forms("静か", "na")["nai"] == "静かじゃない"
    assert grammar.number_ja(8_316) == ("八千三百十六", "はっせんさんびゃくじゅうろく")
    assert grammar.number_en(1_450) == "one thousand four hundred and fifty"
    assert grammar.time_of_day(9, 30) == ("九時半", "くじはん")
    assert grammar.time_of_day(4, 20) == ("四時二十分", "よじにじゅっぷん")
    assert grammar.day_of_month(20) == ("二十日", "はつか")
    assert grammar.counted("匹", 3) == ("三匹", "さんびき")


def test_readings_are_spelled_by_rule() -> None:
    """The romaji of each word follows from its kana."""
    kana, rows = of_training("kana"), of_training("material").rows("words")
    assert len(rows) >= 1200
    assert [row["ja"] for row in rows if kana.romaji(row["kana"]) != row["romaji"]] == []
    spellings = {"しんよう": "shin'you", "きっぷ": "kippu", "コーヒー": "koohii", "じゅっぷん": "juppun"}
    assert {each: kana.romaji(each) for each in spellings} == spellings


@pytest.mark.slow
def test_the_scores_are_those_of_the_weights_that_ship() -> None:
    """All of training/heldout at temperature 0."""
    evaluate = of_training("evaluate")
    counts = evaluate.score(paths.demo_model_dir())
    assert counts.total() >= 600
    assert evaluate.table(counts) in (ROOT / "training" / "SCORES.md").read_text(encoding="utf-8")


def test_the_held_out_questions_are_of_every_kind() -> None:
    evaluate = of_training("evaluate")
    asked = list(evaluate.questions())
    kinds = Counter(each.kind for each in asked)
    assert len(asked) >= 600
    assert sum(len(each.turns) > 1 for each in asked) >= 150
    assert min(kinds["bchat"], kinds["impossible"]) >= 100
    assert kinds["unusual"] >= 60


def test_refusals_right_and_false_replies_are_distinguished() -> None:
    evaluate = of_training("evaluate")
    question = evaluate.Question("word", "en", ("What is 'cat' in Japanese?",), "猫")
    assert question.verdict('"cat" in Japanese is 猫 (neko).') == "right"
    assert question.verdict("I don't know that. I'm only a tiny model.") == "refused"
    assert question.verdict('"cat" in Japanese is 犬 (inu).') == "false"
    impossible = evaluate.Question("impossible", "ja", ("明日の天気は？",), "REFUSE")
    assert impossible.verdict("すみません、それは分かりません。") == "right"
    assert impossible.verdict("晴れです。") == "false"
