"""The forward pass of GPT-NeoX on the CPU kernels (engines/kernels), at the speed of the memory."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping, Sequence
from ctypes import POINTER, Structure, c_float, c_int, c_int32, c_int64, c_void_p
from functools import cache
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD, NeoxConfig
from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.rows import KernelRows
from bilingual_chat.engines.neox.torch_model import rotary_angles
from bilingual_chat.engines.weights.quantized_matrix import QuantizedMatrix

_KINDS = {torch.float32: 0, torch.bfloat16: 1}
_INT8, _INT4 = 2, 3
_ACTIVATIONS = {"gelu": 0, "gelu_new": 1, "gelu_fast": 1, "gelu_pytorch_tanh": 1, "relu": 2}
_HEAD_SIZE_STEP, _MOST_HEAD_SIZE = 32, 1024
_COLUMN_STEP, _MOST_COLUMNS = 64, 1 << 16  # more int8 products would overflow a 32-bit sum


class _Matrix(Structure):
    _fields_ = (
        ("weights", c_void_p),
        ("levels", c_void_p),
        ("scales", c_void_p),
        ("bias", c_void_p),
        ("rows", c_int64),
        ("columns", c_int64),
        ("kind", c_int32),
        ("activation_bytes", c_int32),
    )


class _Layer(Structure):
    _fields_ = (("matrices", _Matrix * 4), ("norm", c_void_p * 4))


class _Shape(Structure):
    _fields_ = (
        *((name, c_int32) for name in ("hidden", "heads", "head_size", "intermediate", "rotary_dims")),
        ("parallel_residual", c_int32),
        ("activation", c_int32),
        ("bf16_activations", c_int32),
        ("bf16_cache", c_int32),
        ("epsilon", c_float),
        ("cos", c_void_p),
        ("sin", c_void_p),
    )


class _Batch(Structure):
    _fields_ = (("rows", c_int32), *((name, c_void_p) for name in ("position", "keys", "values", "capacity")))


def can_compute(config: NeoxConfig) -> bool:
    """Return True if the kernels support these sizes."""
    sizes = (config.hidden_size, config.intermediate_size)
    return (
        all(size % _COLUMN_STEP == 0 and size <= _MOST_COLUMNS for size in sizes)
        and config.head_size % _HEAD_SIZE_STEP == 0
        and config.head_size <= _MOST_HEAD_SIZE
    )


def declare(library: ctypes.CDLL) -> ctypes.CDLL:
    """Declare the argument types of the kernels' functions; return `library`."""
    library.bchat_pool.restype = c_void_p
    library.bchat_pool.argtypes = [c_int]
    library.bchat_layer.argtypes = [c_void_p, POINTER(_Shape), POINTER(_Layer), POINTER(_Batch), c_int, c_void_p]
    library.bchat_head.argtypes = [c_void_p, POINTER(_Shape), POINTER(_Matrix), c_void_p, c_int, c_void_p, c_void_p]
    return library


@cache
def _pool(library: ctypes.CDLL, threads: int) -> int:
    """Return the pool of threads; they live as long as the process and sleep between passes."""
    pool = library.bchat_pool(threads)
    if pool is None:
        raise MemoryError
    return int(pool)


class CpuNeox:
    """The weights and the forward pass; implements `CausalModel`, as `GptNeox` does.

    A row's result does not depend on the rows beside it, bit for bit.
    """

    kernel = "native"
    has_positional_cache = can_rewind = True

    def __init__(
        self,
        config: NeoxConfig,
        weights: Mapping[str, Tensor | QuantizedMatrix],
        library: ctypes.CDLL,
        activation_bytes: int = 2,
    ) -> None:
        """weights: named as in `config.shapes`, on the CPU; matrices may be quantized, HEAD absent if it is tied.

        activation_bytes: 1 or 2, the size of the activations that int8 matrices of layers multiply; the head takes 2.
        """
        self.config, self.context_length = config, config.context_length
        self._activation_bytes = activation_bytes
        self._library = declare(library)
        embedding = weights[EMBEDDING]
        assert isinstance(embedding, Tensor)
        self.embedding = embedding
        self.dtype, self.device = self.embedding.dtype, self.embedding.device
        self._pinned: list[Tensor] = []  # the kernels hold their addresses
        self._pool = _pool(library, torch.get_num_threads())
        self._shape = self._describe_shape()
        self._layers = [self._describe_layer(weights, f"gpt_neox.layers.{index}.") for index in range(config.layers)]
        self._head = self._describe_matrix(weights.get(HEAD, self.embedding), None, activation_bytes=2)
        norm = [self._pin(weights[f"gpt_neox.final_layer_norm.{part}"], torch.float32) for part in ("weight", "bias")]
        self._norm = (c_void_p * 2)(*norm)

    def new_cache(self) -> KVCache:
        """Return an empty KV cache."""
        return KVCache(self.config, self.dtype, self.device)

    def new_rows(self, *, is_exact: bool) -> KernelRows:
        """See `CausalModel.new_rows`; these are exact always."""
        return KernelRows(self)

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, keep: int | None = None) -> Tensor:
        """See `GptNeox.run`; hidden states are float32, before the final norm."""
        return self.run_rows(ids, range(start, start + ids.shape[0]), [cache] * ids.shape[0], keep)

    @torch.inference_mode()
    def run_rows(
        self, ids: Tensor, positions: Sequence[int], caches: Sequence[KVCache], keep: int | None = None
    ) -> Tensor:
        """Compute rows at `positions` of `caches`, which may belong to different sequences; see `run`.

        Rows of one sequence come in the order of their positions, without gaps.
        """
        rows = len(positions)
        keep = rows if keep is None else keep
        needed: dict[int, int] = {}
        for position, each in zip(positions, caches, strict=True):
            needed[id(each)] = max(needed.get(id(each), 0), position + 1)
        for each in caches:
            each.reserve(needed[id(each)])
        hidden = F.embedding(ids, self.embedding).float()
        position_array = (c_int32 * rows)(*positions)
        capacity = (c_int64 * rows)(*(each.layers[0][0].shape[1] for each in caches))
        for index, layer in enumerate(self._layers):
            keys = (c_void_p * rows)(*(each.layers[index][0].data_ptr() for each in caches))
            values = (c_void_p * rows)(*(each.layers[index][1].data_ptr() for each in caches))
            batch = _Batch(rows, *(ctypes.addressof(array) for array in (position_array, keys, values, capacity)))
            layer_keep = keep if index == len(self._layers) - 1 else rows
            if not self._library.bchat_layer(self._pool, self._shape, layer, batch, layer_keep, hidden.data_ptr()):
                raise MemoryError
        return hidden[rows - keep :]

    @torch.inference_mode()
    def logits(self, hidden: Tensor) -> Tensor:
        """Return float32 logits (rows, vocabulary) for hidden states (rows, hidden) before the final norm."""
        hidden = hidden.contiguous()
        rows = hidden.shape[0]
        result = torch.empty((rows, self.config.vocab_size))
        if not self._library.bchat_head(
            self._pool, self._shape, self._head, self._norm, rows, hidden.data_ptr(), result.data_ptr()
        ):
            raise MemoryError
        return result

    def weights_per_token(self) -> tuple[Tensor, ...]:
        """See `GptNeox.weights_per_token`."""
        return tuple(self._pinned)

    def _describe_shape(self) -> _Shape:
        config = self.config
        angles = rotary_angles(config)
        is_16_bit = self.dtype != torch.float32
        return _Shape(
            hidden=config.hidden_size,
            heads=config.heads,
            head_size=config.head_size,
            intermediate=config.intermediate_size,
            rotary_dims=config.rotary_dims,
            parallel_residual=config.parallel_residual,
            activation=_ACTIVATIONS[config.activation],
            bf16_activations=is_16_bit and bool(self._library.bchat_multiplies_bfloat16()),
            bf16_cache=is_16_bit,
            epsilon=config.norm_epsilon,
            cos=self._pin(angles.cos(), torch.float32),
            sin=self._pin(angles.sin(), torch.float32),
        )

    def _describe_layer(self, weights: Mapping[str, Any], prefix: str) -> _Layer:
        names = ("attention.query_key_value", "attention.dense", "mlp.dense_h_to_4h", "mlp.dense_4h_to_h")
        matrices = [
            self._describe_matrix(
                weights[f"{prefix}{name}.weight"], weights.get(f"{prefix}{name}.bias"), self._activation_bytes
            )
            for name in names
        ]
        norm = [
            self._pin(weights[f"{prefix}{name}.{part}"], torch.float32)
            for name in ("input_layernorm", "post_attention_layernorm")
            for part in ("weight", "bias")
        ]
        return _Layer((_Matrix * 4)(*matrices), (c_void_p * 4)(*norm))

    def _describe_matrix(self, weight: Tensor | QuantizedMatrix, bias: Tensor | None, activation_bytes: int) -> _Matrix:
        rows, columns = weight.shape
        fields: dict[str, Any] = {"rows": rows, "columns": columns, "activation_bytes": activation_bytes}
        if bias is not None:
            fields["bias"] = self._pin(bias, torch.float32)
        if isinstance(weight, Tensor):
            return _Matrix(weights=self._pin(weight, weight.dtype), kind=_KINDS[weight.dtype], **fields)
        if weight.levels is not None:
            fields["levels"] = self._pin(weight.levels, torch.uint8)
        return _Matrix(
            weights=self._pin(weight.codes, torch.uint8),
            scales=self._pin(weight.scales, torch.float32),
            kind=_INT8 if weight.levels is None else _INT4,
            **fields,
        )

    def _pin(self, tensor: Any, dtype: torch.dtype) -> int:
        """Return the address of a tensor as `dtype`; this object keeps it alive."""
        pinned = tensor.detach().to(dtype).contiguous()
        if pinned.data_ptr() % pinned.element_size():  # tensors mapped from a file may be unaligned
            pinned = pinned.clone()
        self._pinned.append(pinned)
        return int(pinned.data_ptr())
