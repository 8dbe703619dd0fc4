"""Replies to different prompts in one batch, against `complete`, one by one."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, BloomConfig, LlamaConfig, Qwen2Config

from bilingual_chat.engines.batch import Row, room_for
from bilingual_chat.engines.engine import CachedEngine
from bilingual_chat.engines.neox.rows import PaddedRows
from bilingual_chat.engines.other_families.rows import LeftPaddedRows
from bilingual_chat.engines.other_families.transformers_engine import TransformersModel
from bilingual_chat.engines.protocol import Chunk
from bilingual_chat.engines.token_rules import Vocabulary
from bilingual_chat.settings.decoding import DecodingParameters
from tests.cpu_kernels import SIZES, VOCAB, kernel_engine, open_engine

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("two_threads")]
MODEL = SIZES
KERNELS = ("bfloat16", "int8")
FAMILIES = ("qwen", "llama")

Request = tuple[list[int], DecodingParameters]


def some_requests(count: int, seed: int) -> list[Request]:
    """Prompts of 1 to 120 ids: new ones, repeated ones, and ones that begin like the one before."""
    dice = random.Random(seed)
    prompts: list[list[int]] = []
    while len(prompts) < count:
        new = [dice.randrange(4, VOCAB) for _ in range(dice.choice((1, 2, 9, 40, 120)))]
        before = prompts[-1] if prompts else []
        kind = dice.randrange(3)
        prompts.append((new, before or new, before[: len(before) // 2] + new)[kind])
    settings = [
        DecodingParameters(
            temperature=dice.choice((0.0, 0.7, 1.3)),
            top_p=dice.choice((1.0, 0.9)),
            repetition_penalty=dice.choice((1.0, 1.2)),
            max_new_tokens=dice.choice((1, 3, 12, 30)),
            seed=dice.randrange(100),
        )
        for _ in prompts
    ]
    return list(zip(prompts, settings, strict=True))


def batched(engine: CachedEngine, requests: Sequence[Request], **options: Any) -> list[list[Chunk]]:
    found: list[list[Chunk]] = [[] for _ in requests]
    for index, chunk in engine.complete_many([ids for ids, _ in requests], [each for _, each in requests], **options):
        found[index].append(chunk)
    return found


def ids_of(replies: Sequence[Sequence[Chunk]]) -> list[list[Any]]:
    return [[(chunk.token_id, chunk.finish) for chunk in reply] for reply in replies]


def bits_of(replies: Sequence[Sequence[Chunk]]) -> list[list[Any]]:
    return [[(chunk.token_id, chunk.finish, chunk.logprob) for chunk in reply] for reply in replies]


def family_engine(family: str) -> CachedEngine:
    """A random model of transformers in the engine's loop."""
    sizes = {"vocab_size": VOCAB, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    heads = {"num_attention_heads": 4, "max_position_embeddings": 300, "initializer_range": 0.6}
    config = {
        "qwen": lambda: Qwen2Config(**sizes, **heads, num_key_value_heads=2),
        "llama": lambda: LlamaConfig(**sizes, **heads),
        "bloom": lambda: BloomConfig(vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4, initializer_range=0.6),
    }[family]()
    torch.manual_seed(1)
    model = TransformersModel(AutoModelForCausalLM.from_config(config).eval(), torch.device("cpu"))
    tokenizer: Any = SimpleNamespace(vocab_size=VOCAB)
    return CachedEngine(model, name=family, eos_ids=[3], vocabulary=Vocabulary(tokenizer))


@pytest.mark.parametrize("precision", KERNELS)
@pytest.mark.parametrize("width", [2, 5, 64])
def test_with_the_kernels_replies_in_a_batch_are_those_alone_to_the_last_bit(
    saved: Path, precision: str, width: int, compiled: object
) -> None:
    engine, requests = kernel_engine(saved, precision), some_requests(14, seed=width)
    alone = [list(engine.complete(*each)) for each in requests]
    engine.forget()
    assert bits_of(batched(engine, requests, width=width)) == bits_of(alone)


@pytest.mark.parametrize("width", [2, 5, 64])
def test_in_float32_replies_in_a_batch_have_the_ids_of_those_alone(saved: Path, width: int) -> None:
    engine, requests = open_engine(saved, quantize="none", dtype="float32"), some_requests(14, seed=width)
    alone = [list(engine.complete(*each)) for each in requests]
    assert ids_of(batched(engine, requests, width=width)) == ids_of(alone)
    assert bits_of(batched(engine, requests, width=width, is_exact=True)) == bits_of(alone)


@pytest.mark.parametrize("family", [*FAMILIES, "bloom"])
@pytest.mark.parametrize("width", [2, 5, 64])
def test_in_other_families_replies_in_a_batch_have_the_ids_of_those_alone(family: str, width: int) -> None:
    engine, requests = family_engine(family), some_requests(14, seed=width)
    alone = [list(engine.complete(*each)) for each in requests]
    assert ids_of(batched(engine, requests, width=width)) == ids_of(alone)
    assert bits_of(batched(engine, requests, width=width, is_exact=True)) == bits_of(alone)


def engine_of(kind: str, saved: Path) -> CachedEngine:
    return open_engine(saved, quantize="none", dtype="float32") if kind == "torch" else family_engine(kind)


@pytest.mark.parametrize("kind", ["torch", "llama"])
def test_a_reply_that_ends_makes_room_for_the_next_one(saved: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each pass has as many rows as may be, until nothing is waiting."""
    widths: list[int] = []
    rows: Any = PaddedRows if kind == "torch" else LeftPaddedRows
    engine, step = engine_of(kind, saved), rows.step
    assert engine._model.new_rows(is_exact=False)  # other families try it once
    monkeypatch.setattr(rows, "step", lambda self, ids: widths.append(len(ids)) or step(self, ids))
    settings = [DecodingParameters(min_new_tokens=n, max_new_tokens=n, seed=n) for n in (9, 2, 7, 2, 5, 3, 11, 4)]
    batched(engine, [([5, 6, n.max_new_tokens], n) for n in settings], width=3)
    assert sum(widths) == sum(each.max_new_tokens - 1 for each in settings)
    assert widths == sorted(widths, reverse=True)
    assert widths[:8] == [3] * 8


@pytest.mark.parametrize("kind", ["torch", "llama"])
def test_the_rest_of_an_unwanted_reply_is_not_computed(saved: Path, kind: str) -> None:
    engine, unwanted = engine_of(kind, saved), set[int]()
    settings = DecodingParameters(min_new_tokens=20, max_new_tokens=20, seed=1)
    requests = [([5, 6], replace(settings, seed=seed)) for seed in range(4)]
    alone = [list(engine.complete(*each)) for each in requests]
    for options in ({}, {"width": 2}, {"width": 1}, {"is_exact": True}):
        found: list[list[Chunk]] = [[] for _ in requests]
        unwanted.clear()
        prompts, parameters = zip(*requests, strict=True)
        for index, chunk in engine.complete_many(prompts, parameters, unwanted=unwanted, **options):  # type: ignore[arg-type]
            found[index].append(chunk)
            if index == 2 or (len(found[index]) == 5 and index == 0):
                unwanted.add(index)
        assert [len(each) for each in found] == [5, 20, 1, 20]
        assert ids_of(found) == [each[: len(got)] for each, got in zip(ids_of(alone), found, strict=True)]


def test_a_model_without_row_invariance_computes_one_by_one(monkeypatch: pytest.MonkeyPatch) -> None:
    engine, requests = family_engine("qwen"), some_requests(5, seed=3)
    alone = [list(engine.complete(*each)) for each in requests]
    forward = TransformersModel._forward

    def without_mask(self: Any, ids: Any, states: Any, attention_mask: Any = None, **options: Any) -> Any:
        return forward(self, ids, states, **options)

    monkeypatch.setattr(TransformersModel, "_forward", without_mask)
    assert engine._model.new_rows(is_exact=False) is None
    assert bits_of(batched(engine, requests)) == bits_of(alone)


def a_row(prompt: int, reply: int) -> Row:
    generation: Any = SimpleNamespace(most_positions=prompt + reply)
    return Row(0, generation)


def test_the_width_follows_the_free_memory() -> None:
    """405,504 bytes a position, as the 4B model has; 5 GB are free."""
    has_room = room_for(64, 5 << 30, lambda: 405_504)
    rows = [a_row(100, 400)] * 20
    fits = [has_room(rows[:count]) for count in range(1, 21)]
    assert fits == [True] * 20
    assert [has_room([a_row(100, 500)] * count) for count in (15, 16, 17)] == [True, True, False]
    assert not has_room([*rows, a_row(1500, 500)])
    assert [room_for(3, None, lambda: 1)(rows[:count]) for count in (3, 4)] == [True, False]


def test_without_memory_for_a_second_row_replies_come_one_by_one(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine, requests = open_engine(saved, quantize="none", dtype="float32"), some_requests(6, seed=8)
    alone = [list(engine.complete(*each)) for each in requests]
    monkeypatch.setattr("bilingual_chat.engines.engine.free_memory", lambda device: 0)
    order = [index for index, _ in engine.complete_many(*zip(*requests, strict=True))]
    assert order == sorted(order)
    assert ids_of(batched(engine, requests)) == ids_of(alone)


def test_in_a_batch_a_prompt_that_fills_the_context_is_refused(saved: Path) -> None:
    engine = open_engine(saved, quantize="none")
    with pytest.raises(Exception, match="300"):
        batched(engine, [([5], DecodingParameters()), ([5] * 300, DecodingParameters())])
    with pytest.raises(ValueError, match="longer"):
        list(engine.complete_many([[5]], [DecodingParameters(max_new_tokens=2)] * 2))
