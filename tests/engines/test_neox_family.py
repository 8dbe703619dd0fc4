"""Each model of the family: a small one in its exact file layout, with its card's example and settings.

The oracle of every sampled token is transformers' GPTNeoXForCausalLM in float32 on the same weights, with
transformers' logits processors.
"""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.cli import command_line
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.protocol import Chunk, OpenOptions
from bilingual_chat.settings import catalogue
from bilingual_chat.settings.config import load_config, settings_for
from bilingual_chat.settings.decoding import DecodingParameters, as_record
from bilingual_chat.storage import paths
from bilingual_chat.text import prompt
from bilingual_chat.text.conversation import Speaker, Utterance
from bilingual_chat.text.tokenizer import Tokenizer
from tests.model_cards import CARDS, COMMIT, install, random_model, reference

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]  # every model of the family is made and opened


def expected_logprobs(model: Any, prompt_ids: list[int], chunks: list[Chunk], settings: DecodingParameters) -> Tensor:
    """The log probability of each chosen token, by transformers' forward pass and processors."""
    from transformers.generation import logits_process

    rules = logits_process.LogitsProcessorList()
    if settings.repetition_penalty != 1.0:
        rules.append(logits_process.RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    if settings.min_new_tokens:
        least: Any = logits_process.MinNewTokensLengthLogitsProcessor
        rules.append(least(len(prompt_ids), settings.min_new_tokens, 3))
    rules.append(logits_process.TemperatureLogitsWarper(settings.temperature))
    rules.append(logits_process.TopKLogitsWarper(settings.top_k))
    rules.append(logits_process.TopPLogitsWarper(settings.top_p))
    ids: Any = torch.tensor([[*prompt_ids, *(chunk.token_id for chunk in chunks)]])
    with torch.no_grad():
        logits = model(ids).logits[0, len(prompt_ids) - 1 : -1]
    found = []
    for at, chunk in enumerate(chunks):
        scores = rules(ids[:, : len(prompt_ids) + at], logits[at : at + 1].clone())
        found.append(scores.log_softmax(-1)[0, chunk.token_id])
    return torch.stack(found)


@pytest.mark.parametrize("name", CARDS)
def test_a_model_of_the_family_behaves_like_its_card(name: str) -> None:
    """From both formats: bchat finds it in the hub's cache and renders the card's example to the byte and the id.

    Every token of a reply has the probability that transformers gives it under the card's settings.
    """
    card, model, config = CARDS[name], random_model(CARDS[name]), load_config()
    entry = catalogue.find(config.catalogue, config.catalogue[name].hub_id)
    settings = settings_for(config, entry).parameters
    assert settings == card.settings
    replies = []
    for weights in ("pytorch_model.bin", "model.safetensors"):
        install(name, model, weights)
        directory = catalogue.locate(entry)
        assert directory == paths.hub_cache() / f"models--{entry.hub_id.replace('/', '--')}" / "snapshots" / COMMIT
        tokenizer = Tokenizer(directory / "spiece.model", newline=entry.prompt.newline)
        speakers = [Speaker.USER, Speaker.SYSTEM] * 3
        said = [Utterance(speaker, text) for speaker, text in zip(speakers, card.said, strict=False)]
        encoded = tokenizer.encode_prompt(said, entry.prompt)
        assert encoded.text.encode() == card.text.encode()
        ids = encoded.ids
        assert list(ids) == reference(card).encode(card.text)
        engine = LocalEngine(directory, entry, tokenizer, OpenOptions())
        assert engine.context_length == entry.context_length == card.context
        replies.append(list(engine.complete(ids, replace(settings, seed=7))))
    first, second = replies
    assert first == second
    assert len(first) > 20
    assert len(first) <= settings.max_new_tokens
    if entry.kind == "base":
        assert len(first) == 100
    torch.testing.assert_close(
        torch.tensor([chunk.logprob for chunk in first]),
        expected_logprobs(model, ids, first, settings),
        rtol=0,
        atol=2e-3,
    )


def test_the_newline_symbol_is_one_token_and_comes_back_as_a_newline() -> None:
    """The 3.6B models: the model reads a newline as <NL>."""
    entry = load_config().catalogue["j-ppo"]
    model = reference(CARDS["j-ppo"])
    text = prompt.render([Utterance(Speaker.USER, "一\n二")], entry.prompt)
    assert text == "ユーザー: 一<NL>二<NL>システム: "
    assert model.encode(text).count(model.piece_to_id("<NL>")) == 2
    assert prompt.parse(text, entry.prompt) == (Utterance(Speaker.USER, "一\n二"),)


@pytest.mark.parametrize("name", CARDS)
def test_the_command_line_speaks_with_each_model_as_its_card_does(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bchat ask --model NAME` with the card's conversation from a file before the question: the same ids."""
    card = CARDS[name]
    install(name, random_model(card), "pytorch_model.bin")
    *before, question = card.said
    speakers = ["ユーザー", "システム"] * 3
    earlier = [{"speaker": speaker, "text": text} for speaker, text in zip(speakers, before, strict=False)]
    (tmp_path / "card.json").write_text(json.dumps(earlier), encoding="utf-8")
    load = ["--load", str(tmp_path / "card.json")] if earlier else []
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["bchat", "ask", "--json", "--seed", "7", "--model", name, *load, question])
    assert command_line.main() == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["model"] == name
    assert printed["prompt"] == card.text
    assert printed["prompt_ids"] == reference(card).encode(card.text)
    assert printed["settings"] == {**as_record(card.settings), "seed": 7}
    assert printed["reply"]
    if load_config().catalogue[name].kind == "base":
        assert printed["usage"]["completion_tokens"] == 100
