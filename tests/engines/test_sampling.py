"""Each distribution is compared with transformers' own processors, for the same logits and ids."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines import sampling
from bilingual_chat.engines.sampling import choose, draw, keep_likely, penalize, scale
from bilingual_chat.settings.decoding import DecodingParameters

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = DecodingParameters(top_k=0)
EOS = 3
Reference = Callable[[Tensor, list[int], int, DecodingParameters], Tensor]


@pytest.fixture(scope="module")
def reference() -> Reference:
    """Probabilities by transformers' processors, in the order of `generate`."""
    from transformers import GenerationConfig, GenerationMixin

    class Bare(GenerationMixin):
        config = type("Config", (), {"is_encoder_decoder": False, "vocab_size": 0})()

    def distribution(logits: Tensor, ids: list[int], prompt: int, parameters: DecodingParameters) -> Tensor:
        make: Any = GenerationConfig
        config = make(
            do_sample=parameters.temperature > 0,
            temperature=parameters.temperature or None,
            top_k=parameters.top_k,
            top_p=parameters.top_p,
            repetition_penalty=parameters.repetition_penalty,
            min_new_tokens=parameters.min_new_tokens,
            eos_token_id=EOS,
        )
        config._eos_token_tensor = torch.tensor([EOS])
        mixin: Any = Bare()
        processors = mixin._get_logits_processor(config, input_ids_seq_length=prompt, device="cpu")
        scores: Tensor = processors(torch.tensor([ids]), logits[None].clone())
        return scores.softmax(-1)[0]

    return distribution


def distribution(logits: Tensor, ids: list[int], prompt: int, parameters: DecodingParameters) -> Tensor:
    """Our probabilities over the whole vocabulary."""
    seen = torch.zeros(logits.numel(), dtype=torch.bool)
    seen[ids] = True
    scores = penalize(logits, seen, len(ids) - prompt, parameters, [EOS])
    if parameters.temperature == 0:
        return scores.softmax(-1)
    kept, values = keep_likely(scale(scores, parameters.temperature), parameters.top_k, parameters.top_p)
    return torch.zeros_like(logits).index_put((kept,), values.softmax(-1))


def random_logits(size: int, seed: int) -> Tensor:
    """Every third from a 16-bit model (many ties), every third nearly flat, the rest smooth."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * (0.01 if seed % 3 == 1 else 4.0)
    return logits.bfloat16().float() if seed % 3 == 0 else logits


@pytest.mark.parametrize("size", [7, 300, 5000])
def test_the_filtered_distribution_is_that_of_transformers(size: int, reference: Reference) -> None:
    """Random parameters and logits, ties included: the same ids survive, with the same probabilities."""
    generator = torch.Generator().manual_seed(size)

    def pick(*options: Any) -> Any:
        return options[int(torch.randint(len(options), (1,), generator=generator))]

    for seed in range(150):
        parameters = DecodingParameters(
            temperature=pick(0.0, 0.1, 0.7, 1.0, 1.3, 10.0),
            top_k=pick(0, 1, 3, 50, 400),
            top_p=pick(0.0001, 0.3, 0.5, 0.85, 0.95, 0.999999, 1.0),
            repetition_penalty=pick(0.5, 1.0, 1.1, 3.0),
            min_new_tokens=pick(0, 2, 8),
        )
        ids = torch.randint(size, (9,), generator=generator).tolist()
        logits = random_logits(size, seed)
        ours, theirs = distribution(logits, ids, 5, parameters), reference(logits, ids, 5, parameters)
        assert torch.equal(ours > 0, theirs > 0), parameters
        torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("values", [[0.0] * 10, [1.0, 1.0, 0.0, 0.0, 0.0], [2.0] * 400, [0.0] * 300 + [4.0] * 5])
@pytest.mark.parametrize("top_p", [0.1, 0.2, 0.5, 0.75, 0.9])
def test_ties_at_the_cut_are_broken_as_in_transformers(values: list[float], top_p: float, reference: Reference) -> None:
    """Equal scores, more than there are candidates, and cuts exactly on a sum."""
    parameters = replace(PLAIN, top_p=top_p)
    ours = distribution(torch.tensor(values), [0], 1, parameters)
    assert torch.equal(ours > 0, reference(torch.tensor(values), [0], 1, parameters) > 0)


def hard_logits(size: int, seed: int) -> Tensor:
    """One of: two equal favourites, a few steps only, nearly flat, huge, half of them impossible, smooth."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * 4.0
    if seed % 6 == 0:
        logits[torch.randperm(size, generator=generator)[:2]] = logits.max() + 1
    if seed % 6 == 1:
        logits = logits.round()
    if seed % 6 == 2:
        logits = logits * 1e-3
    if seed % 6 == 3:
        logits = logits * 1e4
    if seed % 6 == 4:
        logits[torch.randperm(size, generator=generator)[: size // 2]] = -math.inf
    return logits


@pytest.mark.parametrize("temperature", [1e-4, 1e-3, 1e-2, 0.1, 0.7, 1.0, 1.5, 10.0])
@pytest.mark.parametrize("size", [1, 2, 3, 17, 64, 1000])
def test_from_the_lowest_temperature_to_the_highest_the_same_ids_survive(
    size: int, temperature: float, reference: Reference
) -> None:
    """If ten thousandths divide the scores, an error of the last bit decides between two equal favourites."""
    for seed in range(36):
        for top_k, top_p in ((0, 0.5), (0, 0.95), (40, 0.5), (3, 0.9)):
            parameters = replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p)
            logits = hard_logits(size, seed)
            ours, theirs = distribution(logits, [0], 1, parameters), reference(logits, [0], 1, parameters)
            assert torch.equal(ours > 0, theirs > 0), (seed, parameters)
            torch.testing.assert_close(ours, theirs, rtol=2e-5, atol=1e-7)


@pytest.mark.parametrize("size", [2, 64, 65536])
def test_of_two_equal_favourites_half_the_mass_keeps_one(size: int, reference: Reference) -> None:
    logits = random_logits(size, 5)
    logits[[0, size - 1]] = 40.0
    parameters = replace(PLAIN, temperature=0.001, top_p=0.5)
    ids, _ = keep_likely(scale(logits, 0.001), 0, 0.5)
    assert ids.tolist() == reference(logits, [0], 1, parameters).nonzero()[:, 0].tolist()
    assert ids.numel() == 1


@pytest.mark.parametrize("spread", [1e-3, 0.01, 1.0, 4.0, 8.0, 100.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.85, 0.95, 0.9999])
def test_a_nucleus_of_any_width_is_exact_without_sorting_ids(
    monkeypatch: pytest.MonkeyPatch, spread: float, top_p: float
) -> None:
    """From one token to nearly all 65,536; transformers' slow way is the oracle."""
    generator = torch.Generator().manual_seed(5)
    distinct = torch.randn(90_000, generator=generator, dtype=torch.float64).mul(spread).float().unique()
    scores = distinct[torch.randperm(len(distinct), generator=generator)[:65536]]
    expected = sampling._nucleus_by_full_sort(scores, torch.arange(65536), top_p)
    monkeypatch.setattr(sampling, "_nucleus_by_full_sort", lambda *_: pytest.fail("sorted"))
    ids, _ = keep_likely(scores, top_k=0, top_p=top_p)
    assert scores.numel() == 65536
    assert torch.equal(ids, expected)


def test_greedy_takes_the_best_penalised_score_and_draws_nothing() -> None:
    """Temperature 0 with a penalty: the repeated favourite loses; the log probability follows the scores."""
    logits = torch.tensor([2.0, 1.9, -1.0, 0.0])
    parameters = replace(PLAIN, temperature=0.0, repetition_penalty=1.5)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    token, logprob = choose(logits, torch.tensor([True, False, True, False]), 0, parameters, EOS, generator)
    assert token == 1
    assert logprob == pytest.approx(float(torch.tensor([2.0 / 1.5, 1.9, -1.5, 0.0]).log_softmax(-1)[1]))
    assert torch.equal(before, generator.get_state())


def test_the_log_probability_is_that_of_the_filtered_distribution() -> None:
    """With top_k = 1 there is no alternative: log 1."""
    token, logprob = choose(
        random_logits(50, 2), torch.zeros(50, dtype=torch.bool), 0, replace(PLAIN, top_k=1), EOS, torch.Generator()
    )
    assert token == int(random_logits(50, 2).argmax())
    assert logprob == pytest.approx(0.0, abs=1e-12)


def test_the_frequency_of_each_token_matches_its_probability() -> None:
    """20,000 draws, within four standard deviations. A token of probability 0 is never drawn."""
    probabilities = torch.tensor([0.0, 0.5, 0.0, 0.3, 0.2, 0.0], dtype=torch.float64)
    generator = torch.Generator().manual_seed(7)
    counts = torch.bincount(torch.tensor([draw(probabilities, generator) for _ in range(20000)]), minlength=6) / 20000
    assert torch.equal(counts == 0, probabilities == 0)
    assert float((counts - probabilities).abs().max()) < 4 * math.sqrt(0.25 / 20000)


@pytest.mark.parametrize(("point", "place"), [(0.0, 1), (1.0, 3)])
def test_the_ends_of_the_range_draw_no_impossible_token(
    monkeypatch: pytest.MonkeyPatch, point: float, place: int
) -> None:
    """Exactly 0, and a product that rounded up to the whole: neither may hit a token of probability 0."""
    monkeypatch.setattr("torch.rand", lambda *size, **options: torch.tensor([point], dtype=torch.float64))
    assert draw(torch.tensor([0.0, 0.5, 0.0, 0.5, 0.0], dtype=torch.float64), torch.Generator()) == place


def test_one_random_number_is_drawn_per_token_for_any_filter() -> None:
    """The generator's state after a token does not depend on the number of candidates."""
    states = []
    for top_k in (1, 50, 0):
        generator = torch.Generator().manual_seed(3)
        choose(
            random_logits(500, 2), torch.zeros(500, dtype=torch.bool), 0, replace(PLAIN, top_k=top_k), EOS, generator
        )
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("temperature", [1e-30, 1e-39, 1e-60, 5e-324])
def test_a_temperature_near_zero_is_greedy_not_an_overflow(temperature: float) -> None:
    """Scores divided by it exceed float32; only the favourite is left."""
    token, logprob = choose(
        random_logits(50, 2),
        torch.zeros(50, dtype=torch.bool),
        0,
        replace(PLAIN, temperature=temperature, top_p=0.9),
        EOS,
        torch.Generator(),
    )
    assert token == int(random_logits(50, 2).argmax())
    assert logprob == pytest.approx(0.0, abs=1e-6)
