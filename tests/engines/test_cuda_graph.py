"""CUDA graphs: the step for any position equals the pass for a known one; the time of the capture.

Graphs are replayed on a GPU only; elsewhere a stand-in runs the step again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from bilingual_chat.engines.neox import cuda_graph
from bilingual_chat.engines.neox.config import NeoxConfig, parse_config
from bilingual_chat.engines.neox.cuda_graph import CudaGraphNeox
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.torch_model import GptNeox

GRAPH_POSITIONS = 8
CONTEXT = 30
OPTIONS: list[dict[str, Any]] = [
    {"use_parallel_residual": False, "rotary_pct": 1.0},
    {"use_parallel_residual": True, "rotary_pct": 0.25},
]


def make(options: dict[str, Any]) -> tuple[NeoxConfig, dict[str, Tensor]]:
    sizes = {"vocab_size": 50, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    raw = {"model_type": "gpt_neox", "intermediate_size": 64, "max_position_embeddings": CONTEXT, **sizes, **options}
    config = parse_config(raw)
    torch.manual_seed(0)
    return config, {name: torch.randn(shape) * 0.3 for name, shape in config.shapes().items()}


@pytest.fixture(params=OPTIONS, ids=["sequential", "parallel"])
def pair(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> tuple[GptNeox, CudaGraphNeox, list[str]]:
    """The plain model, the graph model, and a log of captures and replays."""
    log: list[str] = []

    def capture(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        log.append("capture")
        work()

        def replay() -> Tensor:
            log.append("replay")
            return work()

        return replay

    monkeypatch.setattr(cuda_graph, "capture", capture)
    monkeypatch.setattr(cuda_graph, "GRAPH_POSITIONS", GRAPH_POSITIONS)
    config, weights = make(request.param)
    return GptNeox(config, weights), CudaGraphNeox(config, weights), log


def new_cache(model: GptNeox) -> KVCache:
    return KVCache(model.config, model.dtype, model.device)


def numbers_everywhere(cache: KVCache, context: int) -> None:
    """A GPU cache begins with zeros; on a CPU, with any old bytes."""
    cache.reserve(context)
    for layer in cache.layers:
        for tensor in layer:
            tensor.fill_(1e4)


@pytest.mark.slow
def test_the_step_for_every_position_is_the_pass_for_its_own(pair: Any) -> None:
    plain, model, log = pair
    ids = torch.randint(0, 50, (CONTEXT,))
    expected, found = new_cache(plain), new_cache(model)
    numbers_everywhere(found, CONTEXT)
    for start, end in [(0, 5), *((at, at + 1) for at in range(5, CONTEXT))]:
        torch.testing.assert_close(
            model.run(ids[start:end], start, found), plain.run(ids[start:end], start, expected), rtol=1e-4, atol=1e-5
        )
    assert log.count("capture") == 4  # up to 8, 16, 24 and 30 positions
    assert log.count("replay") == CONTEXT - 5


def test_the_step_after_a_prompt_is_recorded_with_it(pair: Any) -> None:
    _, model, log = pair
    cache = new_cache(model)
    numbers_everywhere(cache, CONTEXT)
    model.run(torch.arange(5), 0, cache)
    assert log == ["capture"]
    model.run(torch.arange(1), 5, cache)
    assert log == ["capture", "replay"]


def test_another_cache_is_not_written_by_the_recording_of_the_first(pair: Any) -> None:
    plain, model, log = pair
    first, second = new_cache(model), new_cache(model)
    numbers_everywhere(first, CONTEXT)
    model.run(torch.arange(5), 0, first)
    before = [tensor.clone() for layer in first.layers for tensor in layer]
    model.run(torch.arange(1), 0, second)
    assert log == ["capture"]
    for tensor, was in zip((tensor for layer in first.layers for tensor in layer), before, strict=True):
        assert torch.equal(tensor, was)
    third = new_cache(model)
    numbers_everywhere(third, CONTEXT)
    model.run(torch.arange(5), 0, third)
    assert log == ["capture", "capture"]
    expected = new_cache(plain)
    plain.run(torch.arange(5), 0, expected)
    torch.testing.assert_close(model.run(torch.arange(1), 5, third), plain.run(torch.arange(1), 5, expected))


@pytest.mark.slow
def test_where_nothing_can_be_recorded_steps_go_on(pair: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain, model, _ = pair

    def refuse(work: Callable[[], Tensor]) -> Callable[[], Tensor]:
        raise RuntimeError("operation not permitted when stream is capturing")

    monkeypatch.setattr(cuda_graph, "capture", refuse)
    cache, expected = new_cache(model), new_cache(plain)
    for start, end in [(0, 5), (5, 6), (6, 9), (9, 10)]:
        ids = torch.arange(start, end)
        assert torch.equal(model.run(ids, start, cache), plain.run(ids, start, expected))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("options", OPTIONS)
def test_on_a_gpu_replayed_steps_give_what_steps_give(options: dict[str, Any]) -> None:
    config, weights = make(options)
    weights = {name: tensor.cuda() for name, tensor in weights.items()}
    plain, model = GptNeox(config, weights), CudaGraphNeox(config, weights)
    ids = torch.randint(0, 50, (CONTEXT,), device="cuda")
    expected, found = new_cache(plain), new_cache(model)
    for start, end in [(0, 5), *((at, at + 1) for at in range(5, CONTEXT))]:
        torch.testing.assert_close(
            model.run(ids[start:end], start, found), plain.run(ids[start:end], start, expected), rtol=1e-3, atol=1e-4
        )
    assert model._can_capture
