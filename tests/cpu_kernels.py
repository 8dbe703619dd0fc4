"""Models large enough for the CPU kernels, their weights in each precision, and engines over them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from bilingual_chat.engines.local import LocalEngine
from bilingual_chat.engines.neox import kernel_library
from bilingual_chat.engines.neox.config import HEAD, NeoxConfig, parse_config
from bilingual_chat.engines.neox.cpu_model import CpuNeox
from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix, quantize
from bilingual_chat.settings.decoding import DecodingParameters
from tests.models import make_model, open_local

VOCAB = 192
SIZES: dict[str, Any] = {
    "vocab_size": VOCAB,
    "hidden_size": 128,
    "num_attention_heads": 4,
    "intermediate_size": 192,
    "max_position_embeddings": 300,
    "use_parallel_residual": False,
    "rotary_pct": 1.0,
    "initializer_range": 0.2,
}
QUANTIZED = ("int8", "w8a8", "int4")
GREEDY = DecodingParameters(temperature=0.0, max_new_tokens=40)


def network(precision: str, seed: int = 0, **options: Any) -> tuple[NeoxConfig, dict[str, Tensor | QuantizedMatrix]]:
    """Configuration and weights of a random model in `precision`."""
    model = make_model(seed, **{**SIZES, **options})
    config = parse_config(json.loads(model.config.to_json_string()))
    weights: dict[str, Tensor | QuantizedMatrix] = {}
    for name, tensor in model.state_dict().items():
        called = HEAD if name == "lm_head.weight" else name
        if called not in config.shapes():
            continue
        is_matrix = tensor.ndim == 2 and "embed_in" not in called
        if precision in QUANTIZED:
            weights[called] = quantize(tensor, precision) if is_matrix else tensor.bfloat16()  # type: ignore[arg-type]
        else:
            weights[called] = tensor.to(getattr(torch, precision))
    return config, weights


def some_ids(count: int, seed: int = 0) -> Tensor:
    return torch.randint(4, VOCAB, (count,), generator=torch.Generator().manual_seed(seed))


def open_engine(directory: Path, **options: Any) -> LocalEngine:
    return open_local(directory, **{"vocab_size": VOCAB, **options})


def kernel_engine(directory: Path, precision: str) -> LocalEngine:
    """An engine with our kernels, which a model so small would not use."""
    if precision in QUANTIZED:
        return open_engine(directory, quantize=precision)
    engine = open_engine(directory, quantize="none", dtype=precision)
    library = kernel_library.load_library()
    assert library is not None
    engine._model = CpuNeox(engine._model.config, network(precision)[1], library)
    engine.forget()
    return engine
