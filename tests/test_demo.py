"""The embedded model: a whole model directory in the family's shape, and as good as it is said to be."""

from __future__ import annotations

import json
import random
import re
import sys
import tomllib
import unicodedata
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines.neox.torch_model import GptNeox
from bilingual_chat.engines.protocol import open_engine
from bilingual_chat.settings.catalogue import locate
from bilingual_chat.settings.config import load_config
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.storage import paths
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.prompt import PromptFormat
from bilingual_chat.text.tokenizer import Tokenizer

ROOT = Path(__file__).parent.parent


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
    """The banner's size comes from the catalogue, and is the model's."""
    engine = open_engine(paths.demo_model_dir(), tokenizer, name="demo")
    entry = load_config().catalogue["demo"]
    assert getattr(engine, "parameter_count", None) == entry.parameters
    assert engine.context_length == entry.context_length
    assert 5_000_000 <= entry.parameters <= 10_000_000


def test_every_pass_takes_one_thread(tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a prompt, too: on a busy machine two threads wait for each other at each tiny kernel, and use the CPU
    meanwhile."""
    engine = open_engine(paths.demo_model_dir(), tokenizer, name="demo")
    counts: list[tuple[int, int]] = []
    run = GptNeox.run

    def counted(self: GptNeox, ids: Tensor, *rest: Any) -> Tensor:
        counts.append((len(ids), torch.get_num_threads()))
        return run(self, ids, *rest)

    monkeypatch.setattr(GptNeox, "run", counted)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        list(engine.complete(tokenizer.encode("猫はどこですか。" * 30), DecodingParameters(max_new_tokens=2), 1))
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
    """Each turn's prompt is the beginning of the next one's, so the KV cache is reused without stored ids."""
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
    engine = open_engine(directory, tokenizer, name="demo")
    parameters = DecodingParameters(temperature=0.0, max_new_tokens=32)
    assert [chunk.token_id for chunk in engine.complete(ids, parameters, seed=0)] == expected[len(ids) :].tolist()


@pytest.mark.slow
def test_no_held_out_question_is_worded_as_in_the_corpus() -> None:
    """Not among the written wordings, and not among what thousands of generated conversations say."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        import corpus
        import evaluate
    finally:
        sys.path.pop(0)

    def folded(text: str) -> str:
        return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).casefold())

    written = (corpus.intents(name) for name in ("talk", "about", "facts", "lists", "unknown"))
    seen = {
        folded(ask) for entries in written for entry in entries for lang in ("en", "ja") for ask in entry[lang]["ask"]
    }
    rng = random.Random(99)
    seen |= {folded(user) for _ in range(20_000) for user, _ in corpus.conversation(rng)}
    items = tomllib.loads(evaluate.QUESTIONS.read_text(encoding="utf-8"))["item"]
    assert [item["turns"][-1] for item in items if folded(item["turns"][-1]) in seen] == []


@pytest.mark.slow
def test_it_answers_four_of_five_held_out_questions() -> None:
    """All of training/evaluation.toml at temperature 0: the score that SCORES.md keeps."""
    sys.path.insert(0, str(ROOT / "training"))
    try:
        import evaluate
    finally:
        sys.path.pop(0)
    right, asked = evaluate.score(paths.demo_model_dir())
    assert sum(asked.values()) >= 200
    assert sum(count for (_, kind), count in asked.items() if kind == "multi") >= 40
    assert sum(right.values()) / sum(asked.values()) >= 0.8
    assert evaluate.table(right, asked) in (ROOT / "training" / "SCORES.md").read_text(encoding="utf-8")
