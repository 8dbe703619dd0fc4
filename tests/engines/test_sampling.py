"""Each distribution beside transformers' own processors, for the same logits and ids."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines import sampling
from bilingual_chat.engines.penalties import Step, first_step
from bilingual_chat.engines.sampling import choose, draw, filtered, unmodified
from bilingual_chat.engines.token_rules import TokenRules
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.settings.decoding import DecodingParameters, filter_order

pytestmark = pytest.mark.usefixtures("one_thread")

PLAIN = DecodingParameters(top_k=0)
EOS = 3
CASES = int(os.environ.get("SAMPLER_CASES", "3000"))
Reference = Callable[[Tensor, Step], Tensor]


@pytest.fixture(scope="module")
def processors() -> Callable[[Step], Any]:
    """transformers' processors, in the order that `generate` itself puts them in."""
    from transformers import GenerationConfig, GenerationMixin
    from transformers.utils import logging

    logging.set_verbosity_error()  # it reports filters that are off

    class Bare(GenerationMixin):
        config = type("Config", (), {"is_encoder_decoder": False, "vocab_size": 0})()

    def for_step(step: Step) -> Any:
        make: Any = GenerationConfig
        parameters, rules = step.parameters, step.rules
        config = make(
            do_sample=parameters.temperature > 0,
            temperature=parameters.temperature or None,
            **{name: getattr(parameters, name) for name in ("top_k", "top_p", "repetition_penalty", "min_new_tokens")},
            **{name: getattr(parameters, name) for name in ("no_repeat_ngram_size", "typical_p")},
            **{name: getattr(parameters, name) or None for name in ("min_p", "top_h", "epsilon_cutoff", "eta_cutoff")},
            sequence_bias=[[list(ids), bias] for ids, bias in rules.biases.items()] or None,
            bad_words_ids=[list(ids) for ids in rules.bans] or None,
            eos_token_id=EOS,
        )
        config._eos_token_tensor = torch.tensor([EOS])
        mixin: Any = Bare()
        return mixin._get_logits_processor(config, input_ids_seq_length=step.prompt_length, device="cpu")

    return for_step


@pytest.fixture(scope="module")
def reference(processors: Callable[[Step], Any]) -> Reference:
    """The scores after transformers' processors."""

    def scores(logits: Tensor, step: Step) -> Tensor:
        found: Tensor = processors(step)(torch.tensor([step.ids]), logits[None].clone())[0]
        return found

    return scores


def step_after(
    ids: list[int], prompt: int, parameters: DecodingParameters, size: int, rules: TokenRules | None = None
) -> Step:
    step = first_step(ids[:prompt], parameters, rules or TokenRules((EOS,)), size)
    for each in ids[prompt:]:
        step.add(each)
    return step


def compare(logits: Tensor, step: Step, reference: Reference) -> None:
    """The same number of tokens survives, with the same scores: only equal scores at a cut may be other tokens."""
    greedy = replace(step, parameters=replace(step.parameters, temperature=0.0))
    if not float(reference(logits, greedy).max()) > -math.inf:  # transformers goes on with NaN
        with pytest.raises(BchatError, match="exclude every token"):
            filtered(logits, step)
        return
    ours, theirs = filtered(logits, step), reference(logits, step)
    assert torch.equal(ours.sort().values, theirs.sort().values), step
    for value in set(ours[ours != theirs].tolist()) - {-math.inf}:
        kept, instead = ((each == value).nonzero()[:, 0].tolist() for each in (ours, theirs))
        assert all(mine <= other for mine, other in zip(kept, instead, strict=True)), step


def random_logits(size: int, seed: int) -> Tensor:
    """Every third from a 16-bit model (many ties), every third nearly flat, the rest smooth."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(size, generator=generator) * (0.01 if seed % 3 == 1 else 4.0)
    return logits.bfloat16().float() if seed % 3 == 0 else logits


SETTINGS: dict[str, tuple[Any, ...]] = {
    "temperature": (0.0, 0.1, 0.7, 1.0, 1.3, 10.0),
    "top_k": (0, 1, 3, 50, 400),
    "top_p": (0.0001, 0.3, 0.5, 0.85, 0.95, 0.999999, 1.0),
    "repetition_penalty": (0.5, 1.0, 1.1, 3.0),
    "min_new_tokens": (0, 2, 8),
    "min_p": (0.0, 0.001, 0.05, 0.5, 1.0),
    "typical_p": (0.0001, 0.2, 0.9, 0.99, 1.0),
    "epsilon_cutoff": (0.0, 1e-4, 0.01, 0.5),
    "eta_cutoff": (0.0, 1e-4, 0.01, 0.5),
    "top_h": (0.0, 0.05, 0.4, 0.9, 1.0),
    "no_repeat_ngram_size": (0, 1, 2, 3, 50),
}
BIASES: tuple[dict[tuple[int, ...], float], ...] = (
    {},
    {(1,): 2.0, (4, 2): -1.5},
    {(0,): -100.0, (5, 6): 100.0, (5, 5, 6): 0.5},
)
BANS: tuple[tuple[tuple[int, ...], ...], ...] = ((), ((1,), (4, 2)), ((5, 6), (2, 2, 2), (EOS, 1)))


def pick_from(generator: torch.Generator) -> Callable[..., Any]:
    return lambda *options: options[int(torch.randint(len(options), (1,), generator=generator))]


@pytest.mark.slow
def test_the_filtered_distribution_is_that_of_transformers(reference: Reference) -> None:
    """Random settings, in all combinations, on random logits, with many ties: the same scores survive.

    SAMPLER_CASES=100000 tries more.
    """
    generator = torch.Generator().manual_seed(CASES)
    pick = pick_from(generator)
    for case in range(CASES):
        size = pick(7, 40, 300) if case % 10 else 5000
        # Half of the settings are off: alone, in pairs, all together.
        chance = pick(0.1, 0.5, 1.0)
        on = [name for name in SETTINGS if float(torch.rand(1, generator=generator)) < chance]
        parameters = replace(PLAIN, **{name: pick(*SETTINGS[name]) for name in on})
        biases, bans = (pick(*BIASES), pick(*BANS)) if case % 3 == 0 else ({}, ())
        rules = TokenRules((EOS,), biases, bans)
        parameters = replace(parameters, logit_bias=("x=1",) * bool(biases), bad_words=("x",) * bool(bans))
        ids = torch.randint(7 if case % 2 else size, (9,), generator=generator).tolist()
        logits = pick(random_logits, hard_logits)(size, case)
        logits[logits == -math.inf] = -1e4  # engines refuse infinite logits
        compare(logits, step_after(ids, 5, parameters, size, rules), reference)


@pytest.mark.parametrize("name", [name for name in SETTINGS if name != "temperature"])
def test_each_filter_alone_is_that_of_transformers(name: str, reference: Reference) -> None:
    for seed in range(60):
        for value in SETTINGS[name]:
            parameters = replace(PLAIN, **{name: value})
            step = step_after([1, 2, 1, 2, 4, 1, 5, 5, 1], 5, parameters, 200)
            compare(random_logits(200, seed), step, reference)
            compare(hard_logits(200, seed).clamp(min=-1e4), step, reference)


@pytest.mark.parametrize("values", [[0.0] * 10, [1.0, 1.0, 0.0, 0.0, 0.0], [2.0] * 400, [0.0] * 300 + [4.0] * 5])
@pytest.mark.parametrize("setting", [*(("top_p", each) for each in (0.1, 0.2, 0.5, 0.75, 0.9)), ("top_h", 0.5)])
def test_of_equal_scores_at_the_cut_the_lower_ids_are_kept(
    values: list[float], setting: tuple[str, float], reference: Reference
) -> None:
    """As many as transformers keeps, whose own choice depends on the sort of the platform."""
    step = step_after([0], 1, replace(PLAIN, **{setting[0]: setting[1]}), len(values))
    ours, theirs = filtered(torch.tensor(values), step), reference(torch.tensor(values), step)
    assert int((ours > -math.inf).sum()) == int((theirs > -math.inf).sum())
    best_first = sorted(range(len(values)), key=lambda each: (-values[each], each))
    kept = (ours > -math.inf).nonzero()[:, 0].tolist()
    assert kept == sorted(best_first[: len(kept)])


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
    """Where ten thousandths divide the scores, an error of the last bit decides between two equal favourites."""
    for seed in range(36):
        for top_k, top_p in ((0, 0.5), (0, 0.95), (40, 0.5), (3, 0.9)):
            parameters = replace(PLAIN, temperature=temperature, top_k=top_k, top_p=top_p)
            compare(hard_logits(size, seed), step_after([0], 1, parameters, size), reference)


@pytest.mark.parametrize("size", [2, 64, 65536])
def test_of_two_equal_favourites_half_the_mass_keeps_the_lower_id(size: int) -> None:
    logits = random_logits(size, 5)
    logits[[0, size - 1]] = 40.0
    scores = filtered(logits, step_after([0], 1, replace(PLAIN, temperature=0.001, top_p=0.5), size))
    assert (scores > -math.inf).nonzero()[:, 0].tolist() == [0]


@pytest.mark.parametrize("spread", [1e-3, 0.01, 1.0, 4.0, 8.0, 100.0])
@pytest.mark.parametrize("top_p", [0.05, 0.5, 0.85, 0.95, 0.9999])
def test_a_nucleus_of_any_width_is_exact(spread: float, top_p: float, reference: Reference) -> None:
    """From one token to nearly all 65,536, with ties of float32 and of bfloat16."""
    generator = torch.Generator().manual_seed(5)
    logits = torch.randn(65536, generator=generator) * spread
    for each in (logits, logits.bfloat16().float()):
        compare(each, step_after([0], 1, replace(PLAIN, top_p=top_p), 65536), reference)


def test_a_filter_that_is_off_is_not_called() -> None:
    """Nothing passes over the vocabulary for it."""
    assert filter_order(PLAIN) == ()
    assert sampling._filters(PLAIN) == ()
    for name, values in SETTINGS.items():
        on = [value for value in values if value != getattr(PLAIN, name)]
        for value in on:
            assert filter_order(replace(PLAIN, **{name: value})) == (name,), value
        assert len(sampling._filters(replace(PLAIN, **{name: on[-1]}))) == 1


def test_the_order_of_the_filters_is_that_of_transformers(processors: Callable[[Step], Any]) -> None:
    """With all of them: the names of transformers' classes, in the order in which it calls them."""
    parameters = DecodingParameters(0.5, 3, 0.5, 1.1, 2, 8, 1, 0.1, 0.9, 0.1, 0.1, 0.4, no_repeat_ngram_size=2)
    parameters = replace(parameters, logit_bias=("x=1",), bad_words=("x",))
    step = step_after([1, 2], 1, parameters, 9, TokenRules((EOS,), BIASES[1], BANS[1]))
    called = [type(each).__name__ for each in processors(step)]
    short = {"SequenceBias": "logit_bias", "NoBadWords": "bad_words", "NoRepeatNGram": "no_repeat_ngram_size"}
    short |= {"MinNewTokensLength": "min_new_tokens", "RepetitionPenalty": "repetition_penalty", "TopH": "top_h"}
    short |= {"Temperature": "temperature", "TopK": "top_k", "TopP": "top_p", "MinP": "min_p", "Typical": "typical_p"}
    short |= {"Epsilon": "epsilon_cutoff", "Eta": "eta_cutoff"}
    names = [short[each.removesuffix("LogitsWarper").removesuffix("LogitsProcessor")] for each in called]
    assert tuple(names) == filter_order(parameters)


def test_greedy_takes_the_best_penalised_score_and_draws_nothing() -> None:
    """Temperature 0 with a penalty: the repeated favourite loses; the log probability is that of the scores."""
    logits = torch.tensor([2.0, 1.9, -1.0, 0.0])
    parameters = replace(PLAIN, temperature=0.0, repetition_penalty=1.5)
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    token, logprob, *_ = choose(logits, step_after([0, 2], 2, parameters, 4), generator)
    assert token == 1
    assert logprob == pytest.approx(float(torch.tensor([2.0 / 1.5, 1.9, -1.5, 0.0]).log_softmax(-1)[1]))
    assert torch.equal(before, generator.get_state())


def test_the_log_probability_is_that_of_the_filtered_distribution() -> None:
    """With top_k = 1 there is nothing else to choose: log 1."""
    token, logprob, *_ = choose(
        random_logits(50, 2), step_after([0], 1, replace(PLAIN, top_k=1), 50), torch.Generator()
    )
    assert token == int(random_logits(50, 2).argmax())
    assert logprob == pytest.approx(0.0, abs=1e-12)


def test_each_token_is_drawn_as_often_as_its_probability_says() -> None:
    """20,000 draws; four standard deviations of room. What has no probability is never drawn."""
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


@pytest.mark.parametrize("seed", range(12))
def test_the_unmodified_distribution_is_that_of_the_logits(seed: int) -> None:
    """In float64: entropy, the five most likely, and what turns a logit into a log probability."""
    logits = hard_logits(3000, seed).clamp(min=-1e4)
    exact = logits.double().log_softmax(-1)
    found = unmodified(logits)
    assert found.entropy == pytest.approx(float(-(exact.exp() * exact).sum()), abs=2e-4)
    assert [each for each, _ in found.top] == sorted(range(3000), key=lambda each: (-float(logits[each]), each))[:5]
    for each, logprob in found.top:
        assert logprob == pytest.approx(float(exact[each]), abs=1e-4)
        assert float(logits[each]) - found.shift == pytest.approx(float(exact[each]), abs=1e-4)


@pytest.mark.slow
def test_each_removed_token_is_removed_by_the_filter_that_is_named() -> None:
    """Without the filters from that one on it is still there; with it, it is gone."""
    generator = torch.Generator().manual_seed(3)
    pick = pick_from(generator)
    named = set()
    for case in range(300):
        parameters = replace(PLAIN, **{name: pick(*values) for name, values in SETTINGS.items()})
        step = step_after([1, 2, 1, 2, 4, 1, 5, 5, 1], 5, parameters, 60)
        logits = hard_logits(60, case).clamp(min=-1e4)
        watched = [each for each, _ in unmodified(logits).top]
        try:
            choice = choose(logits, step, torch.Generator(), watched)
        except BchatError:
            continue
        order = filter_order(parameters)
        for each, name in choice.removed:
            named.add(name)
            if parameters.temperature == 0 and name == "temperature":
                continue
            for last, is_there in ((order.index(name), True), (order.index(name) + 1, False)):
                with pytest.MonkeyPatch.context() as patch:
                    patch.setattr(sampling, "filter_order", lambda _, shown=order[:last]: shown)
                    sampling._filters.cache_clear()
                    assert bool(filtered(logits, step)[each] > -math.inf) is is_there
        sampling._filters.cache_clear()
        ours = filtered(logits, step)
        assert {each for each, _ in choice.removed} >= {each for each in watched if ours[each] == -math.inf}
        assert choice.kept[0][0] == int(ours.argmax())
    assert named > {"top_k", "top_p", "min_p", "temperature", "no_repeat_ngram_size", "min_new_tokens"}


def test_one_number_is_drawn_a_token_whatever_the_filter_leaves() -> None:
    """The generator's state after a token does not depend on the number of candidates."""
    states = []
    for top_k in (1, 50, 0):
        generator = torch.Generator().manual_seed(3)
        choose(random_logits(500, 2), step_after([0], 1, replace(PLAIN, top_k=top_k), 500), generator)
        states.append(generator.get_state())
    assert torch.equal(states[0], states[1])
    assert torch.equal(states[0], states[2])


@pytest.mark.parametrize("temperature", [1e-30, 1e-39, 1e-60, 5e-324])
def test_a_temperature_near_zero_is_greedy_not_an_overflow(temperature: float) -> None:
    """Scores divided by it leave float32; the favourite is still the only one left."""
    step = step_after([0], 1, replace(PLAIN, temperature=temperature, top_p=0.9), 50)
    token, logprob, *_ = choose(random_logits(50, 2), step, torch.Generator())
    assert token == int(random_logits(50, 2).argmax())
    assert logprob == pytest.approx(0.0, abs=1e-6)
