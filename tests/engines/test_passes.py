"""Several tokens a pass beside one at a time: lookahead, replies side by side, prompts read ahead.

The models are those of tests/cpu_kernels.py.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines import engine as loop
from bilingual_chat.engines import generation
from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.lookahead import Lookahead
from bilingual_chat.engines.neox import kv_cache, torch_model
from bilingual_chat.engines.neox.cpu_model import CpuNeox
from bilingual_chat.settings.decoding import DecodingParameters
from bilingual_chat.text.conversation import FinishReason
from tests.cpu_kernels import GREEDY, QUANTIZED, SIZES, VOCAB, kernel_engine, open_engine, some_ids

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]  # something is compiled
MODEL = SIZES
needs_compiler = pytest.mark.usefixtures("compiled")


def scripted_run(text: list[int], passes: list[int]) -> Any:
    """A model whose logits after each position choose the next token of `text`."""

    def run(ids: list[int], tried: list[int]) -> Tensor:
        passes.append(1 + len(tried))
        sequence = [*ids, *tried]
        after = range(len(ids), len(sequence) + 1)
        return torch.nn.functional.one_hot(torch.tensor([text[at] for at in after]), VOCAB).float()

    return run


def test_lookahead_gives_the_same_reply_in_fewer_passes_where_a_text_repeats() -> None:
    text = [*range(10, 30)] * 6
    passes: list[int] = []
    ahead = Lookahead(scripted_run([*text, *text], passes), 3)
    ids = text[:40]
    while len(ids) < len(text):
        ids.append(int(ahead.logits_after(ids, len(text) - len(ids)).argmax()))
    assert ids == text
    assert len(passes) <= 80 / 4 + 2
    assert passes[0] == 1, "nothing is tried with the prompt, whose first token is waited for"


def test_lookahead_that_never_succeeds_is_seldom_tried() -> None:
    """Each failure lengthens the pause: failed tries are a few rows in a hundred."""
    text = [token for each in range(100, 180) for token in (7, 8, 9, each)]  # 7 8 9 comes back, what follows never does
    passes: list[int] = []
    ahead = Lookahead(scripted_run([*text, 0, 0, 0, 0], passes), 3)
    ids = text[:20]
    while len(ids) < len(text):
        ids.append(int(ahead.logits_after(ids, len(text) - len(ids)).argmax()))
    assert ids == text
    assert sum(passes) - len(passes) < 0.15 * len(passes)


@needs_compiler
@pytest.mark.parametrize("temperature", [0.0, 0.6])
@pytest.mark.parametrize("precision", ["bfloat16", *QUANTIZED])
def test_replies_with_lookahead_are_those_without(
    saved: Path, temperature: float, precision: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Greedy and sampled, token by token with their probabilities; also with a used cache."""
    parameters = DecodingParameters(temperature=temperature, max_new_tokens=40, repetition_penalty=1.1)
    engine = kernel_engine(saved, precision)
    ids = some_ids(12).tolist() * 4
    widths = []
    run = CpuNeox.logits
    monkeypatch.setattr(CpuNeox, "logits", lambda self, hidden: widths.append(len(hidden)) or run(self, hidden))
    quick = [list(engine.complete(ids, replace(parameters, seed=seed))) for seed in range(4)]
    assert max(widths) > 1, "something was tried"
    tried = []
    monkeypatch.setattr(Lookahead, "_guess", lambda self, ids: (tried.append(1) and []) or [])
    slow = [list(kernel_engine(saved, precision).complete(ids, replace(parameters, seed=seed))) for seed in range(4)]
    assert tried
    assert [[(c.token_id, c.logprob, c.finish) for c in each] for each in quick] == [
        [(c.token_id, c.logprob, c.finish) for c in each] for each in slow
    ]


@needs_compiler
def test_nothing_is_tried_past_the_last_position(saved: Path) -> None:
    engine = kernel_engine(saved, "int8")
    ids = [10, 11, 12, 13] * 74  # 296 of 300 positions
    chunks = list(engine.complete(ids, DecodingParameters(temperature=0.0, max_new_tokens=50)))
    assert len(chunks) <= 4
    assert chunks[-1].finish in (FinishReason.LENGTH, FinishReason.STOP)
    assert len(engine.cached_ids) <= 300


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_several_replies_side_by_side_are_those_that_each_gets_alone(saved: Path, precision: str) -> None:
    """Other settings and seeds, some of them longer; whether torch computes or we do."""
    engine = open_engine(saved, quantize="none") if precision == "float32" else kernel_engine(saved, precision)
    wanted = [
        GREEDY,
        DecodingParameters(temperature=0.8, max_new_tokens=25, seed=1),
        DecodingParameters(temperature=1.2, top_p=0.9, max_new_tokens=33, seed=2),
        DecodingParameters(temperature=0.8, max_new_tokens=25, seed=3),
    ]
    ids = some_ids(30).tolist()
    found: list[list[Any]] = [[] for _ in wanted]
    for at, chunk in engine.complete_many([ids] * 4, wanted):
        found[at].append((chunk.token_id, chunk.finish))
    alone = [[(c.token_id, c.finish) for c in engine.complete(ids, each)] for each in wanted]
    assert found == alone


@needs_compiler
@pytest.mark.parametrize("precision", ["bfloat16", "int8"])
def test_what_is_prefilled_ahead_changes_no_reply(saved: Path, precision: str) -> None:
    """Neither right, wrong nor interrupted guesses change anything; to the last bit."""
    engine = kernel_engine(saved, precision)
    ids = some_ids(90).tolist()
    sampled = DecodingParameters(temperature=1.5, top_k=0, top_p=1.0, max_new_tokens=12)
    expected = [(chunk.token_id, chunk.logprob) for chunk in engine.complete(ids, replace(sampled, seed=5))]
    for ahead, steps in (
        (ids[:70], 99),
        (ids[:70], 2),
        ([*ids[:40], *some_ids(30, seed=8).tolist()], 99),
        (ids[:90], 99),
    ):
        engine.forget()
        done = sum(1 for _ in islice(engine.prefill(ahead), steps))
        assert done == min(steps, -(-len(ahead) // LocalEngine.prefill_rows))
        chunks = list(engine.complete(ids, replace(sampled, seed=5)))
        assert [(chunk.token_id, chunk.logprob) for chunk in chunks] == expected
        right = 40 if ahead[:70] != ids[: len(ahead)][:70] else len(ahead)
        assert chunks[0].cached_tokens == min(right, steps * LocalEngine.prefill_rows, len(ids) - 1)


@needs_compiler
def test_reading_ahead_leaves_a_cache_that_has_it_or_nearly(saved: Path) -> None:
    """So that `/retry` after a reply finds its prompt in the cache, with any text in the line."""
    engine = kernel_engine(saved, "int8")
    ids = some_ids(60).tolist()
    list(engine.complete(ids, replace(GREEDY, max_new_tokens=10)))
    held = engine.cached_ids
    other = (held[-1] + 1) % VOCAB
    for ahead in (
        held,
        held[:20],
        [*held[:-3], *[other] * (loop.LEAST_PREFILL_AHEAD + 2 - 10)],
        [*held, *[other] * 7],
        [],
    ):
        assert list(engine.prefill(ahead)) == []
        assert engine.cached_ids == held
    assert len(list(engine.prefill([*held, *[other] * 8]))) == 1
    with pytest.raises(ValueError, match="vocabulary"):
        list(engine.prefill([VOCAB] * 20))


@needs_compiler
@pytest.mark.parametrize("step", range(5))
def test_ctrl_c_within_a_pass_costs_that_pass_only(saved: Path, monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """While the cache grows, layer by layer, or between two layers that write into it."""
    engine = kernel_engine(saved, "int8")
    ids = some_ids(280).tolist()
    sampled = DecodingParameters(temperature=1.5, top_k=0, top_p=1.0, max_new_tokens=9)
    expected = [(chunk.token_id, chunk.logprob) for chunk in engine.complete(ids, replace(sampled, seed=5))]
    engine.forget()
    list(engine.complete(ids[:230], replace(sampled, max_new_tokens=1, seed=5)))
    steps = itertools.count()

    def interrupted(work: Callable[..., Any], *given: Any) -> Any:
        if next(steps) == step:
            raise KeyboardInterrupt
        return work(*given)

    model = engine._model
    assert isinstance(model, CpuNeox)
    library = SimpleNamespace(bchat_layer=partial(interrupted, model._library.bchat_layer))
    with monkeypatch.context() as patch:
        patch.setattr(kv_cache, "_grown", partial(interrupted, kv_cache._grown))
        patch.setattr(model, "_library", library)
        with pytest.raises(KeyboardInterrupt):
            list(engine.complete([*ids[:230], *some_ids(50, seed=3).tolist()], replace(sampled, seed=5)))
    assert engine.cached_ids == tuple(ids[:230])
    chunks = list(engine.complete(ids, replace(sampled, seed=5)))
    assert chunks[0].cached_tokens == 230
    assert [(chunk.token_id, chunk.logprob) for chunk in chunks] == expected


@needs_compiler
def test_the_last_layer_computes_a_prompt_for_the_row_that_is_answered(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All rows in the earlier layers; with torch, the MLP of the last layer is skipped."""
    engine = kernel_engine(saved, "int8")
    model = engine._model
    assert isinstance(model, CpuNeox)
    rows: list[int] = []
    layer = model._library.bchat_layer

    def noted(*given: Any) -> Any:
        rows.append(given[4])
        return layer(*given)

    once, ids, layers = replace(GREEDY, max_new_tokens=1), some_ids(200).tolist(), model.config.layers
    monkeypatch.setattr(model, "_library", SimpleNamespace(bchat_layer=noted, bchat_head=model._library.bchat_head))
    list(engine.complete(ids, once))
    assert rows == [each for size, last in ((67, 0), (67, 0), (66, 1)) for each in [size] * (layers - 1) + [last]]

    plain = open_engine(saved, quantize="none")
    widths: list[int] = []
    mlp = torch_model.GptNeox._mlp
    monkeypatch.setattr(
        torch_model.GptNeox,
        "_mlp",
        lambda self, weights, hidden: widths.append(len(hidden)) or mlp(self, weights, hidden),
    )
    list(plain.complete(ids[:50], once))
    assert widths == [49] * (layers - 1) + [1] * layers


@needs_compiler
@pytest.mark.parametrize("way", ["one reply", "several"])
def test_prefill_progress_is_reported_between_passes(saved: Path, way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generation, "NOTICEABLE_S", 0.0)
    engine = kernel_engine(saved, "int8")
    ids = some_ids(200).tolist()
    reports: list[tuple[int, int]] = []
    for _ in range(2):
        once = replace(GREEDY, max_new_tokens=3)
        if way == "several":
            list(
                engine.complete_many(
                    [ids] * 2, [replace(once, seed=seed) for seed in (0, 1)], lambda *now: reports.append(now)
                )
            )
        else:
            list(engine.complete(ids, once, lambda *now: reports.append(now)))
    assert reports == [(67, 200), (134, 200)]  # and not again for what is cached


def test_a_short_prefill_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(generation.time, "perf_counter", lambda: now[0])
    reports: list[int] = []
    reading = generation.PrefillProgress(lambda done, size: reports.append(done), 100, 20)
    for now[0], done in ((0.1, 40), (1.0, 60), (1.5, 80), (1.6, 95)):
        reading.update(done)
    assert reports == [60, 80]  # at 40 the rest takes 0.3 s, at 60 a second, at 80 half of one, at 95 nothing


def test_torch_does_not_read_ahead(saved: Path) -> None:
    engine = open_engine(saved, quantize="none")
    assert not engine.can_prefill
    assert list(engine.prefill(list(range(50)))) == []
    assert engine.cached_ids == ()


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_scores_are_what_the_next_token_is_chosen_from(saved: Path, precision: str) -> None:
    engine = open_engine(saved, quantize="none") if precision == "float32" else kernel_engine(saved, precision)
    ids = some_ids(150).tolist()
    logits = torch.cat(list(engine.score(ids)))
    assert logits.shape == (150, VOCAB)
    chunk = next(iter(engine.complete(ids, replace(GREEDY, max_new_tokens=1))))
    assert chunk.token_id == int(logits[-1].argmax())
    assert chunk.logprob == pytest.approx(float(logits[-1].log_softmax(-1).max()), abs=1e-3)
    assert math.isfinite(chunk.logprob)
