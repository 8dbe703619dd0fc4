"""The forward pass of GPT-NeoX in plain torch, one sequence at a time.

It replaces transformers' own, whose import takes 3 s and whose step copies the whole KV cache for every
token. The tests compare it with `GPTNeoXForCausalLM`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bilingual_chat.engines.batch import Rows
from bilingual_chat.engines.neox.config import EMBEDDING, HEAD, NeoxConfig
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.rows import PaddedRows, SeparateRows
from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix

_tanh_gelu = partial(F.gelu, approximate="tanh")
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_new": _tanh_gelu,
    "gelu_fast": _tanh_gelu,
    "gelu_pytorch_tanh": _tanh_gelu,
    "relu": F.relu,
}


class Positions(NamedTuple):
    """The positions of some rows of one sequence, and the positions that they attend to."""

    rows: slice | Tensor  # a tensor in a CUDA graph, which serves every position
    attended: int  # positions 0 … attended - 1, as far as `mask` allows
    mask: Tensor | None  # bool (rows, attended); None if SDPA's causal flag says the same
    sequences: Tensor | None = None  # int64 (rows,): each row's own sequence, the second dimension of the cache


class GptNeox:
    """The weights and the forward pass; implements `CausalModel`. The caller owns the KV cache."""

    kernel = "torch"
    has_positional_cache = can_rewind = True

    def __init__(self, config: NeoxConfig, weights: Mapping[str, Tensor | QuantizedMatrix]) -> None:
        """weights: named as in `config.shapes`, of one dtype and device; HEAD may be absent if it is tied.

        Quantized matrices are dequantized at each use, which is slow.
        """
        self.config, self.context_length = config, config.context_length
        embedding = weights[EMBEDDING]
        assert isinstance(embedding, Tensor)
        self.embedding = embedding
        self.head = weights.get(HEAD, self.embedding)
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._activate = _ACTIVATIONS[config.activation]
        self._layers = [_select(weights, f"gpt_neox.layers.{index}.") for index in range(config.layers)]
        self._final_norm = _select(weights, "gpt_neox.final_layer_norm.")
        self._cos, self._sin = _rotary_tables(config, self.dtype, self.device)

    def new_cache(self) -> KVCache:
        """Return an empty KV cache."""
        return KVCache(self.config, self.dtype, self.device)

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, keep: int | None = None) -> Tensor:
        """Compute `ids` (rows,) at positions from `start` on; return hidden states (keep, hidden) of the last rows.

        Reads positions below `start` from `cache`, writes the positions of `ids`, and changes no earlier one.
        keep: None keeps all rows. A prefill pass needs 0: only keys and values, and so less of the last layer.
        """
        rows = ids.shape[0]
        cache.reserve(start + rows)
        positions = Positions(slice(start, start + rows), start + rows, self._mask(rows, start))
        return self._run(ids, positions, cache.layers, rows if keep is None else keep)

    @torch.inference_mode()
    def step(self, ids: Tensor, position: Tensor, attended: int, cache: KVCache) -> Tensor:
        """Compute one id at `position`, int64 (1,), below `attended`; `cache` has room for `attended`.

        Only the tensor `position` carries the position, so that one CUDA graph serves all of them. Cached values
        from `position` on must be finite.
        """
        mask = torch.arange(attended, device=self.device)[None] <= position
        return self._run(ids, Positions(position, attended, mask), cache.layers, 1)

    def new_rows(self, *, is_exact: bool) -> Rows:
        """See `CausalModel.new_rows`."""
        return SeparateRows(self) if is_exact else PaddedRows(self)

    @torch.inference_mode()
    def run_rows(
        self, ids: Tensor, positions: Tensor, attended: int, caches: Sequence[tuple[Tensor, Tensor]]
    ) -> Tensor:
        """Compute one id in each of several sequences, at `positions`, int64 (rows,), below `attended`; see `run`.

        caches: keys and values of each layer, (heads, rows or more, attended or more, head size).
        """
        rows = ids.shape[0]
        mask = torch.arange(attended, device=self.device) <= positions[:, None]
        sequences = torch.arange(rows, device=self.device)
        return self._run(ids, Positions(positions, attended, mask, sequences), caches, rows)

    def _run(self, ids: Tensor, positions: Positions, caches: Sequence[tuple[Tensor, Tensor]], keep: int) -> Tensor:
        hidden = F.embedding(ids, self.embedding)
        *layers, last = zip(self._layers, caches, strict=True)
        with _onednn(not self._is_gemv(ids.shape[0])):
            for weights, (keys, values) in layers:
                hidden = self._layer(weights, hidden, positions, keys, values)
            weights, (keys, values) = last
            if not keep:
                self._project(weights, self._norm(weights, "input_layernorm", hidden), positions, keys, values)
                return hidden[:0]
            hidden = self._layer(weights, hidden, positions, keys, values)[-keep:]
        return F.layer_norm(hidden, hidden.shape[-1:], eps=self.config.norm_epsilon, **self._final_norm)

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits (rows, vocabulary) on the CPU for hidden states (rows, hidden)."""
        with _onednn(not self._is_gemv(hidden.shape[0])):
            return _matmul(hidden, self.head, None).to("cpu", torch.float32)

    def weights_per_token(self) -> tuple[Tensor, ...]:
        """Return the weights that one token reads: all but the embedding, unless that is also the head."""
        layers = (each for layer in self._layers for each in layer.values())
        return tuple(
            tensor
            for each in (*layers, *self._final_norm.values(), self.head)
            for tensor in (each.tensors() if isinstance(each, QuantizedMatrix) else (each,))
        )

    def _is_gemv(self, rows: int) -> bool:
        """Return True for one row in 16 bits on a CPU, where torch's own kernel is twice as fast as oneDNN."""
        return rows == 1 and self.device.type == "cpu" and self.dtype != torch.float32

    def _layer(
        self, weights: dict[str, Any], hidden: Tensor, positions: Positions, keys: Tensor, values: Tensor
    ) -> Tensor:
        attended = self._attend(weights, self._norm(weights, "input_layernorm", hidden), positions, keys, values)
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

    def _attend(
        self, weights: dict[str, Any], hidden: Tensor, positions: Positions, keys: Tensor, values: Tensor
    ) -> Tensor:
        query = self._project(weights, hidden, positions, keys, values)
        keys, values = keys[..., : positions.attended, :], values[..., : positions.attended, :]
        if positions.sequences is None:
            attended = self._attention(query, keys, values, positions.mask)
        else:
            attended = _attention_of_each(query, keys, values, positions.mask)
        return _linear(weights, "attention.dense", attended.transpose(0, 1).reshape(hidden.shape[0], -1))

    def _project(
        self, weights: dict[str, Any], hidden: Tensor, positions: Positions, keys: Tensor, values: Tensor
    ) -> Tensor:
        """Write keys and values into the cache; return the queries (heads, rows, head size)."""
        qkv = _linear(weights, "attention.query_key_value", hidden)
        qkv = qkv.view(hidden.shape[0], self.config.heads, 3, self.config.head_size)
        self._rotate(qkv, positions)
        query: Tensor
        query, key, value = qkv.permute(2, 1, 0, 3)  # each (heads, rows, head size)
        at = (positions.rows,) if positions.sequences is None else (positions.sequences, positions.rows)
        keys[:, *at] = key
        values[:, *at] = value
        return query

    def _rotate(self, qkv: Tensor, positions: Positions) -> None:
        """Apply the rotary position embedding to queries and keys, in place."""
        dims = self.config.rotary_dims
        if not dims:
            return
        rotated = qkv[:, :, :2, :dims]
        cos, sin = self._cos[positions.rows, None, None], self._sin[positions.rows, None, None]
        rotated.copy_(rotated * cos + rotated.roll(dims // 2, -1) * sin)

    def _mask(self, rows: int, start: int) -> Tensor | None:
        if rows == 1 or not start:
            return None
        return torch.ones((rows, start + rows), dtype=torch.bool, device=self.device).tril(start)

    def _attention(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """Return causal attention, (heads, rows, head size)."""
        rows = query.shape[1]
        if mask is None and self._is_gemv(rows):
            # For one row in 16 bits, CPU SDPA is three to four times slower.
            with _onednn(True):
                scores = torch.bmm(query, keys.transpose(1, 2)).float().mul_(self.config.head_size**-0.5)
                return torch.bmm(scores.softmax(-1).to(self.dtype), values)
        is_causal = rows > 1 and mask is None
        return F.scaled_dot_product_attention(
            query[None], keys[None], values[None], attn_mask=mask, is_causal=is_causal
        )[0]


def _attention_of_each(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
    """Return (heads, rows, head size): each row attends to its own sequence; keys: (heads, rows, positions, size)."""
    assert mask is not None
    query, keys, values = (each.transpose(0, 1) for each in (query, keys[:, : len(mask)], values[:, : len(mask)]))
    attended = F.scaled_dot_product_attention(query[:, :, None], keys, values, attn_mask=mask[:, None, None])
    return attended[:, :, 0].transpose(0, 1)


def _select(weights: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """Return the tensors below `prefix`, named without it."""
    return {name.removeprefix(prefix): tensor for name, tensor in weights.items() if name.startswith(prefix)}


def _linear(weights: dict[str, Any], name: str, x: Tensor) -> Tensor:
    return _matmul(x, weights[f"{name}.weight"], weights.get(f"{name}.bias"))


def _matmul(x: Tensor, weight: Tensor | QuantizedMatrix, bias: Tensor | None) -> Tensor:
    return weight.linear(x, bias) if isinstance(weight, QuantizedMatrix) else F.linear(x, weight, bias)


def rotary_angles(config: NeoxConfig) -> Tensor:
    """Return radians, float32 (context, rotary dims / 2)."""
    dims = config.rotary_dims
    frequencies = 1.0 / config.rotary_base ** (torch.arange(0, dims, 2, dtype=torch.float32) / max(dims, 1))
    return torch.arange(config.context_length, dtype=torch.float32)[:, None] * frequencies


def _rotary_tables(config: NeoxConfig, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """Return cos and sin, (context, rotary dims); half of sin is negated, so that rotate_half is a roll."""
    angles = rotary_angles(config)
    cos, sin = torch.cat((angles.cos(),) * 2, -1), torch.cat((-angles.sin(), angles.sin()), -1)
    return cos.to(device, dtype), sin.to(device, dtype)


@contextmanager
def _onednn(enabled: bool) -> Iterator[None]:
    """Switch oneDNN on or off. `mkldnn.flags` would also set TF32, with a warning on every machine."""
    backend: Any = torch.backends.mkldnn
    before = backend.enabled
    backend.enabled = enabled and backend.is_available()
    try:
        yield
    finally:
        backend.enabled = before
