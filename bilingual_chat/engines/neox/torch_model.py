"""GPT-NeoX: its configuration and its forward pass in plain torch, one sequence at a time.

Ours rather than transformers', whose import alone takes 3 s and whose step concatenates the whole KV
cache for every token. The tests hold it against `GPTNeoXForCausalLM`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix
from bilingual_chat.messages.errors import BchatError, ExitStatus

CACHE_BLOCK = 256  # positions that the KV cache has room for at first; a power of two
CACHE_STEP = 16  # positions that belong together: its capacity is a multiple of it
HEAD = "embed_out.weight"  # transformers 5 calls it lm_head in memory and embed_out in files

# What a file may say without being a joke: bounds only, so that no loop or table depends on trust.
_SIZES = {
    "vocab_size": 2_000_000,
    "hidden_size": 100_000,
    "num_hidden_layers": 1_000,
    "num_attention_heads": 10_000,
    "intermediate_size": 1_000_000,
    "max_position_embeddings": 1_000_000,
}
_tanh_gelu = partial(F.gelu, approximate="tanh")
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": F.relu,
}


@dataclass(frozen=True)
class NeoxConfig:
    """The options of config.json that change what is computed."""

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
        """Numbers in a KV cache of the whole context."""
        return 2 * self.layers * self.hidden_size * self.context_length

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name → shape of every tensor that a checkpoint must hold."""
        wide, hidden = self.intermediate_size, self.hidden_size
        shapes: dict[str, tuple[int, ...]] = {"gpt_neox.embed_in.weight": (self.vocab_size, hidden)}
        for layer in range(self.layers):
            at = f"gpt_neox.layers.{layer}."
            for norm in ("input_layernorm", "post_attention_layernorm"):
                shapes |= {f"{at}{norm}.weight": (hidden,), f"{at}{norm}.bias": (hidden,)}
            for name, out, into, bias in (
                ("attention.query_key_value", 3 * hidden, hidden, self.attention_bias),
                ("attention.dense", hidden, hidden, self.attention_bias),
                ("mlp.dense_h_to_4h", wide, hidden, True),
                ("mlp.dense_4h_to_h", hidden, wide, True),
            ):
                shapes[f"{at}{name}.weight"] = (out, into)
                if bias:
                    shapes[f"{at}{name}.bias"] = (out,)
        shapes |= {f"gpt_neox.final_layer_norm.{part}": (hidden,) for part in ("weight", "bias")}
        if not self.tied_head:
            shapes[HEAD] = (self.vocab_size, hidden)
        return shapes


def parse_config(raw: Mapping[str, Any]) -> NeoxConfig:
    """The configuration in a config.json. Raises BchatError (MODEL) for whatever we do not compute.

    Left-out options have transformers' defaults (`GPTNeoXConfig`); sizes must be given.
    """
    if raw.get("model_type") != "gpt_neox":
        raise BchatError("engine.model-type", status=ExitStatus.MODEL, model_type=raw.get("model_type"))
    if raw.get("quantization_config") is not None:
        raise _refused(raw, "quantization_config")
    sizes = {name: _size(raw, name, most) for name, most in _SIZES.items()}
    if sizes["hidden_size"] % sizes["num_attention_heads"]:
        raise _refused(raw, "num_attention_heads")
    if str(raw.get("hidden_act", "gelu")) not in ACTIVATIONS:
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
        activation=str(raw.get("hidden_act", "gelu")),
        norm_epsilon=_number(raw, "layer_norm_eps", 1e-5, 0.0, 1.0),
        rotary_dims=rotary_dims,
        rotary_base=base,
        parallel_residual=_flag(raw, "use_parallel_residual", True),
        attention_bias=_flag(raw, "attention_bias", True),
        tied_head=_flag(raw, "tie_word_embeddings", False),
    )


class KVCache:
    """Keys and values of every layer, (heads, capacity, head size), written in place.

    It does not know how many positions hold something: whoever passes `start` to `GptNeox.run` does. Nor
    in what order the numbers of CACHE_STEP positions of a head lie: that is the model's own.
    """

    def __init__(self, config: NeoxConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._limit = _whole_steps(config.context_length)
        empty = torch.empty((config.heads, 0, config.head_size), dtype=dtype, device=device)
        self.layers = [(empty, empty) for _ in range(config.layers)]

    def reserve(self, positions: int) -> None:
        """Make room for `positions`, hardly more than the context; what is there is kept.

        Each time for twice as many: a longer cache is a copy, which a person waits for. What is not written
        takes no memory yet.
        """
        capacity = min(self._limit, CACHE_BLOCK << max(0, (positions - 1).bit_length() - CACHE_BLOCK.bit_length() + 1))
        for index, (keys, values) in enumerate(self.layers):
            if keys.shape[1] < positions:
                self.layers[index] = (_grown(keys, capacity), _grown(values, capacity))

    def copy(self, positions: int) -> KVCache:
        """A cache of its own with the first `positions`."""
        copied = KVCache.__new__(KVCache)
        copied._limit = self._limit
        copied.layers = [(keys[:, :0], values[:, :0]) for keys, values in self.layers]
        copied.reserve(positions + 1)
        held = _whole_steps(positions)
        for (keys, values), (theirs, their_values) in zip(copied.layers, self.layers, strict=True):
            keys[:, :held] = theirs[:, :held]
            values[:, :held] = their_values[:, :held]
        return copied


class Place(NamedTuple):
    """Where rows of one sequence stand, and what they look at."""

    rows: slice | Tensor  # their positions; a tensor where the same step is to serve every position
    seen: int  # positions from 0 on that are looked at, as far as `mask` lets
    mask: Tensor | None  # who may look where, bool (rows, seen), unless SDPA can tell by itself


class GptNeox:
    """The weights, and the pass over them. Not bound to a conversation; the KV cache is passed in."""

    def __init__(self, config: NeoxConfig, weights: Mapping[str, Tensor | QuantizedMatrix]) -> None:
        """weights: as `config.shapes` names them, all of one dtype and device; HEAD may be absent if tied.

        Quantized matrices are widened anew for each use: right, and slow.
        """
        self.config = config
        embedding = weights["gpt_neox.embed_in.weight"]
        assert isinstance(embedding, Tensor)
        self.embedding = embedding
        self.head = weights.get(HEAD, self.embedding)
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._activate = ACTIVATIONS[config.activation]
        self._layers = [_layer(weights, f"gpt_neox.layers.{index}.") for index in range(config.layers)]
        self._final: dict[str, Any] = {
            name: weights[f"gpt_neox.final_layer_norm.{name}"] for name in ("weight", "bias")
        }
        self._cos, self._sin = _rotary_tables(config, self.dtype, self.device)

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, wanted: int | None = None) -> Tensor:
        """Hidden states (wanted, hidden) of the last of `ids` (rows,), which stand at positions from `start` on.

        Reads positions below `start` from `cache` and writes its own; touches no earlier one. wanted: all
        unless told. Of a prompt's tokens nobody asks for more than keys and values, which come before
        most of the last layer's work.
        """
        rows = ids.shape[0]
        cache.reserve(start + rows)
        place = Place(slice(start, start + rows), start + rows, self._mask(rows, start))
        return self._run(ids, place, cache, rows if wanted is None else wanted)

    @torch.inference_mode()
    def step(self, ids: Tensor, position: Tensor, seen: int, cache: KVCache) -> Tensor:
        """`run` for one id at a `position` below `seen`, int64 (1,), of a cache with room for `seen`.

        What it does depends on the position's value in no other way than through that tensor: recorded
        once, it serves all of them. What the cache holds from there on must be numbers.
        """
        mask = torch.arange(seen, device=self.device)[None] <= position
        return self._run(ids, Place(position, seen, mask), cache, 1)

    def _run(self, ids: Tensor, place: Place, cache: KVCache, wanted: int) -> Tensor:
        hidden = F.embedding(ids, self.embedding)
        *layers, last = zip(self._layers, cache.layers, strict=True)
        with _onednn(not self._is_narrow(ids.shape[0])):
            for weights, (keys, values) in layers:
                hidden = self._block(weights, hidden, place, keys, values)
            weights, (keys, values) = last
            if not wanted:
                self._remember(weights, self._norm(weights, "input_layernorm", hidden), place, keys, values)
                return hidden[:0]
            hidden = self._block(weights, hidden, place, keys, values)[-wanted:]
        return F.layer_norm(hidden, hidden.shape[-1:], eps=self.config.norm_epsilon, **self._final)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """float32 logits on the CPU, (rows, vocabulary), of hidden states (rows, hidden)."""
        with _onednn(not self._is_narrow(hidden.shape[0])):
            return _times(hidden, self.head, None).to("cpu", torch.float32)

    def read_per_token(self) -> tuple[Tensor, ...]:
        """The weights that a pass over one token reads: all but the embedding, unless it is the head too."""
        every = (*(each for layer in self._layers for each in layer.values()), *self._final.values(), self.head)
        return tuple(
            tensor for each in every for tensor in (each.tensors() if isinstance(each, QuantizedMatrix) else (each,))
        )

    def _is_narrow(self, rows: int) -> bool:
        """One row in 16 bits on a CPU: there torch's own kernel reads weights twice as fast as oneDNN."""
        return rows == 1 and self.device.type == "cpu" and self.dtype != torch.float32

    def _block(self, weights: dict[str, Any], hidden: Tensor, place: Place, keys: Tensor, values: Tensor) -> Tensor:
        attended = self._attend(weights, self._norm(weights, "input_layernorm", hidden), place, keys, values)
        if self.config.parallel_residual:
            return self._mlp(weights, self._norm(weights, "post_attention_layernorm", hidden)) + attended + hidden
        attended = attended + hidden
        return self._mlp(weights, self._norm(weights, "post_attention_layernorm", attended)) + attended

    def _norm(self, weights: dict[str, Any], name: str, hidden: Tensor) -> Tensor:
        size = hidden.shape[-1:]
        return F.layer_norm(hidden, size, weights[f"{name}.weight"], weights[f"{name}.bias"], self.config.norm_epsilon)

    def _mlp(self, weights: dict[str, Any], hidden: Tensor) -> Tensor:
        wide = self._activate(_linear(weights, "mlp.dense_h_to_4h", hidden))
        return _linear(weights, "mlp.dense_4h_to_h", wide)

    def _attend(self, weights: dict[str, Any], hidden: Tensor, place: Place, keys: Tensor, values: Tensor) -> Tensor:
        query = self._remember(weights, hidden, place, keys, values)
        mixed = self._mix(query, keys[:, : place.seen], values[:, : place.seen], place.mask)
        return _linear(weights, "attention.dense", mixed.transpose(0, 1).reshape(hidden.shape[0], -1))

    def _remember(self, weights: dict[str, Any], hidden: Tensor, place: Place, keys: Tensor, values: Tensor) -> Tensor:
        """Keys and values into the cache; returns the queries (heads, rows, head size)."""
        rows = hidden.shape[0]
        qkv = _linear(weights, "attention.query_key_value", hidden)
        qkv = qkv.view(rows, self.config.heads, 3, self.config.head_size)
        self._rotate(qkv, place)
        query: Tensor
        query, key, value = qkv.permute(2, 1, 0, 3)  # each (heads, rows, head size)
        keys[:, place.rows] = key
        values[:, place.rows] = value
        return query

    def _rotate(self, qkv: Tensor, place: Place) -> None:
        """Rotary position embedding of queries and keys, in place."""
        dims = self.config.rotary_dims
        if not dims:
            return
        turning = qkv[:, :, :2, :dims]
        cos, sin = self._cos[place.rows, None, None], self._sin[place.rows, None, None]
        turning.copy_(turning * cos + turning.roll(dims // 2, -1) * sin)

    def _mask(self, rows: int, start: int) -> Tensor | None:
        """See `Place`."""
        if rows == 1 or not start:
            return None
        return torch.ones((rows, start + rows), dtype=torch.bool, device=self.device).tril(start)

    def _mix(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Causal attention, (heads, rows, head size)."""
        rows = query.shape[1]
        if mask is None and self._is_narrow(rows):
            # CPU SDPA in 16 bits is three to four times slower than this for one row.
            with _onednn(True):
                scores = torch.bmm(query, keys.transpose(1, 2)).float().mul_(self.config.head_size**-0.5)
                return torch.bmm(scores.softmax(-1).to(self.dtype), values)
        is_causal = rows > 1 and mask is None
        mixed = F.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=mask, is_causal=is_causal
        )
        return mixed[0]


def _layer(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _linear(weights: dict[str, Any], name: str, x: Tensor) -> Tensor:
    return _times(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _times(x: Tensor, weight: Tensor | QuantizedMatrix, bias: Tensor | None) -> Tensor:
    return weight.times(x, bias) if isinstance(weight, QuantizedMatrix) else F.linear(x, weight, bias)


def _whole_steps(positions: int) -> int:
    return -(-positions // CACHE_STEP) * CACHE_STEP


def _grown(tensor: Tensor, capacity: int) -> Tensor:
    shape = (tensor.shape[0], capacity, tensor.shape[2])
    # Only a recorded step, which is a GPU's, looks at what was not written yet, with weight 0: not a NaN, then.
    new = torch.empty if tensor.device.type == "cpu" else torch.zeros
    larger = new(shape, dtype=tensor.dtype, device=tensor.device)
    larger[:, : tensor.shape[1]] = tensor
    return larger


def rotary_angles(config: NeoxConfig) -> Tensor:
    """Radians, float32 (context, rotary dims / 2)."""
    dims = config.rotary_dims
    frequencies = 1.0 / config.rotary_base ** (torch.arange(0, dims, 2, dtype=torch.float32) / max(dims, 1))
    return torch.arange(config.context_length, dtype=torch.float32)[:, None] * frequencies


def _rotary_tables(config: NeoxConfig, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, (context, rotary dims), the first half of sin negated: rotate_half is then a roll."""
    angles = rotary_angles(config)
    cos, sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)
    return cos.to(device, dtype), sin.to(device, dtype)


@contextmanager
def _onednn(enabled: bool) -> Iterator[None]:
    """oneDNN on or off within. `mkldnn.flags` would also set TF32, with a warning on every machine."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = enabled and backend.is_available()
    try:
        yield
    finally:
        backend.enabled = before


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
    """Base and share of the head that turns, from transformers 5's `rope_parameters` or the older keys."""
    for name in ("rope_scaling", "rope_parameters"):
        rope = raw.get(name)
        if not rope:
            continue
        if not isinstance(rope, dict) or rope.get("rope_type", rope.get("type", "default")) != "default":
            raise _refused(raw, name)
        older = {
            "rope_theta": raw.get("rotary_emb_base", 10000.0),
            "partial_rotary_factor": raw.get("rotary_pct", 0.25),
        }
        raw = {**older, **rope}
        return _number(raw, "rope_theta", 10000.0, 1.0, 1e12), _number(raw, "partial_rotary_factor", 0.25, 0.0, 1.0)
    return _number(raw, "rotary_emb_base", 10000.0, 1.0, 1e12), _number(raw, "rotary_pct", 0.25, 0.0, 1.0)
