"""The configuration of a GPT-NeoX model, read from config.json and checked. No torch here."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from bilingual_chat.messages.errors import BchatError, ExitStatus

EMBEDDING = "gpt_neox.embed_in.weight"
HEAD = "embed_out.weight"  # transformers 5 calls it lm_head in memory and embed_out in files
ACTIVATIONS = ("gelu", "gelu_new", "gelu_fast", "gelu_pytorch_tanh", "relu")

# Upper bounds, so that no loop and no table trusts a file.
_MOST = {
    "vocab_size": 2_000_000,
    "hidden_size": 100_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 10_000,
    "intermediate_size": 1_000_000,
    "max_position_embeddings": 1_000_000,
}


@dataclass(frozen=True)
class NeoxConfig:
    """The options of config.json that change the computation."""

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    intermediate_size: int
    context_length: int
    activation: str
    norm_epsilon: float
    rotary_dims: int
    rotary_base: float
    parallel_residual: bool
    attention_bias: bool
    tied_head: bool

    @property
    def head_size(self) -> int:
        return self.hidden_size // self.heads

    @property
    def parameter_count(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes().values())

    def cache_elements(self) -> int:
        """Return the number of values in a KV cache of the whole context."""
        return 2 * self.layers * self.hidden_size * self.context_length

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return name → shape of every tensor that a checkpoint must hold."""
        wide, hidden = self.intermediate_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {EMBEDDING: (self.vocab_size, hidden)}
        for layer in range(self.layers):
            prefix = f"gpt_neox.layers.{layer}."
            for norm in ("input_layernorm", "post_attention_layernorm"):
                shapes |= {f"{prefix}{norm}.weight": (hidden,), f"{prefix}{norm}.bias": (hidden,)}
            for name, rows, columns, has_bias in (
                ("attention.query_key_value", 3 * hidden, hidden, self.attention_bias),
                ("attention.dense", hidden, hidden, self.attention_bias),
                ("mlp.dense_h_to_4h", wide, hidden, True),
                ("mlp.dense_4h_to_h", hidden, wide, True),
            ):
                shapes[f"{prefix}{name}.weight"] = (rows, columns)
                if has_bias:
                    shapes[f"{prefix}{name}.bias"] = (rows,)
        shapes |= {f"gpt_neox.final_layer_norm.{part}": (hidden,) for part in ("weight", "bias")}
        if not self.tied_head:
            shapes[HEAD] = (self.vocab_size, hidden)
        return shapes


def parse_config(raw: Mapping[str, Any]) -> NeoxConfig:
    """Return the configuration in a config.json. Raises BchatError (MODEL) for options that bchat does not compute.

    Missing options get transformers' defaults (`GPTNeoXConfig`); sizes are required.
    """
    if raw.get("model_type") != "gpt_neox":
        raise BchatError("engine.model-type", status=ExitStatus.MODEL, model_type=raw.get("model_type"))
    if raw.get("quantization_config") is not None:
        raise _refused(raw, "quantization_config")
    sizes = {name: _size(raw, name, most) for name, most in _MOST.items()}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise _refused(raw, "num_attention_heads")
    activation = str(raw.get("hidden_act", "gelu"))
    if activation not in ACTIVATIONS:
        raise _refused(raw, "hidden_act")
    base, share = _rotary(raw)
    rotary_dims = int(sizes["hidden_size"] // sizes["num_attention_heads"] * share)
    if rotary_dims % 2:
        raise _refused(raw, "rotary_pct")
    return NeoxConfig(
        vocab_size=sizes["vocab_size"],
        hidden_size=sizes["hidden_size"],
        layers=sizes["num_hidden_layers"],
        heads=sizes["num_attention_heads"],
        intermediate_size=sizes["intermediate_size"],
        context_length=sizes["max_position_embeddings"],
        activation=activation,
        norm_epsilon=_number(raw, "layer_norm_eps", 1e-5, 0.0, 1.0),
        rotary_dims=rotary_dims,
        rotary_base=base,
        parallel_residual=_flag(raw, "use_parallel_residual", True),
        attention_bias=_flag(raw, "attention_bias", True),
        tied_head=_flag(raw, "tie_word_embeddings", False),
    )


def _refused(raw: Mapping[str, Any], name: str) -> BchatError:
    return BchatError("engine.option", status=ExitStatus.MODEL, name=name, value=str(raw.get(name))[:80])


def _size(raw: Mapping[str, Any], name: str, most: int) -> int:
    value = raw.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= most:
        raise _refused(raw, name)
    return value


def _number(raw: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = raw.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _refused(raw, name)
    return float(value)


def _flag(raw: Mapping[str, Any], name: str, default: bool) -> bool:
    value = raw.get(name, default)
    if not isinstance(value, bool):
        raise _refused(raw, name)
    return value


def _rotary(raw: Mapping[str, Any]) -> tuple[float, float]:
    """Return the rotary base and the rotated share of a head.

    transformers 5 writes them into `rope_parameters`; older versions write two keys.
    """
    values = {
        "rope_theta": raw.get("rotary_emb_base", 10000.0),
        "partial_rotary_factor": raw.get("rotary_pct", 0.25),
    }
    for name in ("rope_scaling", "rope_parameters"):
        rope = raw.get(name)
        if not rope:
            continue
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            raise _refused(raw, name)
        values |= rope
        break
    return _number(values, "rope_theta", 10000.0, 1.0, 1e12), _number(values, "partial_rotary_factor", 0.25, 0.0, 1.0)
