"""DRY, top-nσ and OpenAI's penalties beside slow readings of their definitions, and which tokens a text means."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from bilingual_chat.engines.penalties import first_step, repetitions
from bilingual_chat.engines.sampling import filtered
from bilingual_chat.engines.token_rules import TokenRules, Vocabulary, token_rules
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters
from tests.scripted import tokenizer

pytestmark = pytest.mark.usefixtures("one_thread")
PLAIN = DecodingParameters(top_k=0)
WORDS = Vocabulary(tokenizer())


def after(ids: Sequence[int], parameters: DecodingParameters, logits: Tensor, prompt: int | None = None) -> Tensor:
    """The scores after the filters; all of `ids` are the prompt's, or the first ones."""
    breakers = frozenset({9})
    step = first_step(ids[:prompt], parameters, TokenRules((3,), breakers=breakers), len(logits))
    for each in ids[len(step.ids) :]:
        step.add(each)
    return filtered(logits, step)


def slow_repetitions(ids: Sequence[int], least: int, breakers: frozenset[int]) -> dict[int, int]:
    """For each token that stands somewhere: the longest end of `ids` that stands before it."""
    found: dict[int, int] = {}
    for end in range(len(ids) - 1):
        length = 0
        while length <= end and ids[end - length] == ids[-1 - length] and ids[-1 - length] not in breakers:
            length += 1
        if length >= least and ids[end + 1] not in breakers:
            found[ids[end + 1]] = max(length, found.get(ids[end + 1], 0))
    return found


def test_repetitions_are_those_that_a_slow_search_finds() -> None:
    """Few different tokens, so that repetitions overlap themselves."""
    generator = np.random.default_rng(1)
    for case in range(2000):
        ids = generator.integers(0, 1 + case % 5 + 1, generator.integers(1, 40)).tolist()
        breakers = frozenset(generator.integers(0, 6, case % 3).tolist())
        least = case % 4 + 1
        assert repetitions(np.array(ids), least, breakers, 1000) == slow_repetitions(ids, least, breakers), ids


def test_a_repetition_is_measured_as_llama_cpp_explains() -> None:
    """The example in llama.cpp's comment on DRY: after `a b c c b c y a b c`, c follows 3 tokens, y 2, b 1."""
    ids = [0, 1, 2, 2, 1, 2, 5, 0, 1, 2]
    assert repetitions(np.array(ids), 1, frozenset(), 100) == {2: 3, 5: 2, 1: 1}


@pytest.mark.parametrize(("length", "penalty"), [(1, 0.0), (2, 0.8), (3, 0.8 * 1.75), (5, 0.8 * 1.75**3)])
def test_dry_grows_with_the_length_of_the_repetition(length: int, penalty: float) -> None:
    ids = [*range(10, 10 + length), 8, *range(10, 10 + length)]
    scores = after(ids, replace(PLAIN, dry_multiplier=0.8), torch.zeros(20))
    assert float(scores[8]) == pytest.approx(-penalty)
    assert int((scores != 0).sum()) == (length > 1)


def test_no_repetition_reaches_over_a_breaker() -> None:
    """Token 9 is one: neither counted through nor penalised."""
    dry = replace(PLAIN, dry_multiplier=1.0, dry_allowed_length=1)
    assert float(after([1, 9, 2, 5, 1, 9, 2], dry, torch.zeros(20))[5]) == -1.0
    assert not after([1, 2, 9, 5, 1, 2], dry, torch.zeros(20)).any()


def test_a_long_loop_does_not_overflow() -> None:
    scores = after([1] * 900, replace(PLAIN, dry_multiplier=0.8), torch.zeros(20))
    assert float(scores[1]) < -1e37
    assert not scores[[0, 2]].any()


def test_the_penalties_are_those_of_openai() -> None:
    """logit - count × frequency - (count > 0) × presence."""
    parameters = replace(PLAIN, presence_penalty=0.5, frequency_penalty=0.25)
    scores = after([1, 2, 1, 1], parameters, torch.zeros(5))
    assert scores.tolist() == [0.0, -0.5 - 3 * 0.25, -0.5 - 0.25, 0.0, 0.0]


@pytest.mark.parametrize(
    "changes",
    [
        {"presence_penalty": 1.0},
        {"frequency_penalty": 1.0},
        {"repetition_penalty": 2.0},
        {"no_repeat_ngram_size": 1},
        {"dry_multiplier": 1.0, "dry_allowed_length": 1},
    ],
)
def test_within_the_scope_of_the_reply_the_prompt_does_not_count(changes: dict[str, Any]) -> None:
    logits, parameters = torch.ones(12), replace(PLAIN, **changes)
    whole = after([1, 2, 4, 1, 6, 1], parameters, logits, prompt=3)
    reply = after([1, 2, 4, 1, 6, 1], replace(parameters, penalty_scope="reply"), logits, prompt=3)
    assert whole[2] < 1
    assert reply[2] == 1
    assert reply[6] < 1
    assert torch.equal(reply, after([1, 6, 1], parameters, logits))


@pytest.mark.parametrize("size", [5, 6, 7, 8, 400])
@pytest.mark.parametrize("n", [0.3, 1.0, 1.7, 1.8, 5.0])
def test_top_n_sigma_keeps_what_is_near_the_best(n: float, size: int) -> None:
    """max - n × standard deviation, over the tokens that are possible at all."""
    logits = torch.randn(size, generator=torch.Generator().manual_seed(2)) * 3
    parameters = replace(PLAIN, top_n_sigma=n, min_new_tokens=1)
    possible = [float(each) for index, each in enumerate(logits) if index != 3]
    mean = sum(possible) / len(possible)
    deviation = math.sqrt(sum((each - mean) ** 2 for each in possible) / len(possible))
    kept = [index for index, each in enumerate(logits) if index != 3 and each >= max(possible) - n * deviation]
    scores = after([1], parameters, logits)
    assert (scores > -math.inf).nonzero()[:, 0].tolist() == kept
    hot = after([1], replace(parameters, temperature=2.0), logits)
    assert torch.equal(hot > -math.inf, scores > -math.inf)


# -- which tokens a text means ------------------------------------------------------------------------


def test_a_text_means_its_ids_alone_and_after_a_space() -> None:
    """Unless the second ends with the first, which then matches there, too."""
    encode = tokenizer().encode
    for text in ("cat", "猫", "Hello there", "は", "\n"):
        alone, spaced = tuple(encode(text)), tuple(encode(f" {text}"))
        expected = {alone} if spaced[-len(alone) :] == alone else {alone, spaced}
        assert set(WORDS.spellings(text)) == expected


def test_a_newline_is_written_as_the_model_writes_it() -> None:
    class Japanese:
        newline, vocab_size = "<NL>", 10

        def encode(self, text: str) -> list[int]:
            return [{"<NL>": 7, " <NL>": 8}.get(text, 0)]

        def piece(self, token_id: int) -> str:
            return f"<NL>{token_id}"

    words = Vocabulary(Japanese())
    assert words.spellings("\n") == ((7,), (8,))
    assert words.breakers == frozenset(range(10))


def test_the_breakers_are_the_tokens_with_a_mark_in_them() -> None:
    pieces = [tokenizer().piece(each) for each in range(tokenizer().vocab_size)]
    texts = [piece.decode("latin-1") if isinstance(piece, bytes) else piece for piece in pieces]
    assert WORDS.breakers == {each for each, text in enumerate(texts) if set(text) & set('\n:"*')}
    assert set(tokenizer().encode("\n")) <= WORDS.breakers


def test_settings_by_text_and_by_id_become_ids() -> None:
    parameters = replace(PLAIN, logit_bias=("猫=5", "id:7=-2.5"), bad_words=("犬", "id:3", "id:8"))
    rules = token_rules(parameters, [3], WORDS)
    assert rules.biases == {**dict.fromkeys(WORDS.spellings("猫"), 5.0), (7,): -2.5}
    assert rules.bans == (*WORDS.spellings("犬"), (8,)), "the end of the reply cannot be banned"


@pytest.mark.parametrize("changes", [{"logit_bias": ("id:999999=1",)}, {"bad_words": ("id:5120",)}])
def test_a_token_that_the_model_lacks_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(BchatError, match="ids end at 5119"):
        token_rules(replace(PLAIN, **changes), [3], WORDS)


def test_a_banned_text_does_not_come_and_a_favoured_one_does() -> None:
    text = "猫が好き"
    ids = tokenizer().encode(text)
    rules = token_rules(replace(PLAIN, bad_words=(text,)), [3], WORDS)
    step = first_step(ids[:-1], replace(PLAIN, bad_words=(text,)), rules, WORDS.size)
    assert float(filtered(torch.zeros(WORDS.size), step)[ids[-1]]) == -math.inf
    favoured = replace(PLAIN, logit_bias=(f"{text}=100",), temperature=0.0)
    step = first_step(ids[:-1], favoured, token_rules(favoured, [3], WORDS), WORDS.size)
    assert int(filtered(torch.zeros(WORDS.size), step).argmax()) == ids[-1]
