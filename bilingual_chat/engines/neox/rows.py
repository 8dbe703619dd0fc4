"""The KV caches of several sequences that grow together; see `batch.Rows`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from bilingual_chat.engines.batch import POSITION_STEP
from bilingual_chat.engines.neox.kv_cache import KVCache

if TYPE_CHECKING:
    from bilingual_chat.engines.neox.cpu_model import CpuNeox
    from bilingual_chat.engines.neox.torch_model import GptNeox


class SeparateRows:
    """Rows with a cache each, computed one by one, as a single reply is."""

    def __init__(self, model: GptNeox | CpuNeox) -> None:
        self._model = model
        self._caches: list[KVCache] = []
        self._lengths: list[int] = []

    def add(self, cache: KVCache, positions: int) -> None:
        """See `Rows.add`."""
        self._caches.append(cache.copy(positions))
        self._lengths.append(positions)

    def remove(self, at: int) -> None:
        """See `Rows.remove`."""
        self._caches[at], self._lengths[at] = self._caches[-1], self._lengths[-1]
        self._caches.pop()
        self._lengths.pop()

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Rows.step`."""
        logits = self._logits(list(ids))
        self._lengths = [length + 1 for length in self._lengths]
        return logits

    def _logits(self, ids: list[int]) -> Tensor:
        return torch.cat([self._one(*row) for row in zip(ids, self._lengths, self._caches, strict=True)])

    def _one(self, last: int, length: int, cache: KVCache) -> Tensor:
        return self._model.logits(self._model.run(torch.tensor([last], device=self._model.device), length, cache))


class KernelRows(SeparateRows):
    """Rows of the CPU kernels, in one pass."""

    _model: CpuNeox

    def _logits(self, ids: list[int]) -> Tensor:
        return self._model.logits(self._model.run_rows(torch.tensor(ids), self._lengths, self._caches))


class PaddedRows:
    """Rows of the torch model, in one tensor for each layer: (heads, rows, positions, head size).

    What lies behind the end of a row is masked; it is finite, because a weight of 0 does not hide NaN.
    """

    def __init__(self, model: GptNeox) -> None:
        config = model.config
        self._model, self._limit = model, config.context_length
        shape = (config.heads, 0, 0, config.head_size)
        empty = torch.zeros(shape, dtype=model.dtype, device=model.device)
        self._layers = [(empty, empty) for _ in range(config.layers)]
        self._lengths: list[int] = []

    @torch.inference_mode()
    def add(self, cache: KVCache, positions: int) -> None:
        """See `Rows.add`."""
        at = len(self._lengths)
        self._lengths.append(positions)
        self._reserve(len(self._lengths), positions)
        for own, prompts in zip(self._layers, cache.layers, strict=True):
            for tensor, source in zip(own, prompts, strict=True):
                tensor[:, at, :positions] = source[:, :positions]

    @torch.inference_mode()
    def remove(self, at: int) -> None:
        """See `Rows.remove`."""
        last = len(self._lengths) - 1
        self._lengths[at] = length = self._lengths[last]
        self._lengths.pop()
        if at != last:
            for tensor in (tensor for layer in self._layers for tensor in layer):
                tensor[:, at, :length] = tensor[:, last, :length]

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Rows.step`."""
        device = self._model.device
        self._reserve(len(ids), max(self._lengths) + 1)
        positions = torch.tensor(self._lengths, device=device)
        hidden = self._model.run_rows(torch.tensor(ids, device=device), positions, max(self._lengths) + 1, self._layers)
        self._lengths = [length + 1 for length in self._lengths]
        return self._model.logits(hidden)

    def _reserve(self, rows: int, positions: int) -> None:
        """Grow to `rows` by doubling, and to `positions` by POSITION_STEP; the content is kept."""
        _, old_rows, old_positions, _ = self._layers[0][0].shape
        if rows <= old_rows and positions <= old_positions:
            return
        new_rows = old_rows if rows <= old_rows else max(rows, 2 * old_rows)
        new_positions = max(old_positions, min(self._limit, -(-positions // POSITION_STEP) * POSITION_STEP))
        for index, (keys, values) in enumerate(self._layers):
            self._layers[index] = (_grown(keys, new_rows, new_positions), _grown(values, new_rows, new_positions))


def _grown(tensor: Tensor, rows: int, positions: int) -> Tensor:
    larger = tensor.new_zeros((tensor.shape[0], rows, positions, tensor.shape[3]))
    larger[:, : tensor.shape[1], : tensor.shape[2]] = tensor
    return larger
