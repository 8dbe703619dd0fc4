"""The KV cache of one sequence."""

from __future__ import annotations

import torch
from torch import Tensor

from bilingual_chat.engines.neox.config import NeoxConfig

FIRST_CAPACITY = 256  # positions; a power of two
CAPACITY_STEP = 16  # positions; capacities are multiples, because the CPU kernels interleave so many


class KVCache:
    """Keys and values of every layer, each (heads, capacity, head size), written in place.

    The cache does not count the valid positions: the caller passes `start` to `GptNeox.run`. The CPU kernels
    order the values within CAPACITY_STEP positions of a head in their own way.
    """

    def __init__(self, config: NeoxConfig, dtype: torch.dtype, device: torch.device) -> None:
        self._limit = _round_up(config.context_length)
        empty = torch.empty((config.heads, 0, config.head_size), dtype=dtype, device=device)
        self.layers = [(empty, empty) for _ in range(config.layers)]

    @property
    def bytes_per_position(self) -> int:
        """The bytes of keys and values of all layers."""
        return sum(each.shape[0] * each.shape[2] * each.element_size() for layer in self.layers for each in layer)

    def reserve(self, positions: int) -> None:
        """Grow to at least `positions`, by doubling, up to the context; the content is kept.

        Doubling keeps copies rare: a user waits for each. Unwritten pages take no memory yet.
        """
        doublings = (positions - 1).bit_length() - FIRST_CAPACITY.bit_length() + 1
        capacity = min(self._limit, FIRST_CAPACITY << max(0, doublings))
        for index, (keys, values) in enumerate(self.layers):
            if keys.shape[1] < positions:
                self.layers[index] = (_grown(keys, capacity), _grown(values, capacity))

    def copy(self, positions: int) -> KVCache:
        """Return a new cache with the first `positions`."""
        copied = KVCache.__new__(KVCache)
        copied._limit = self._limit
        copied.layers = [(keys[:, :0], values[:, :0]) for keys, values in self.layers]
        copied.reserve(positions + 1)
        filled = _round_up(positions)
        for (keys, values), (source_keys, source_values) in zip(copied.layers, self.layers, strict=True):
            keys[:, :filled] = source_keys[:, :filled]
            values[:, :filled] = source_values[:, :filled]
        return copied


def _round_up(positions: int) -> int:
    return -(-positions // CAPACITY_STEP) * CAPACITY_STEP


def _grown(tensor: Tensor, capacity: int) -> Tensor:
    # A CUDA graph also reads unwritten positions, with weight 0; NaN there would survive.
    allocate = torch.empty if tensor.device.type == "cpu" else torch.zeros
    larger = allocate((tensor.shape[0], capacity, tensor.shape[2]), dtype=tensor.dtype, device=tensor.device)
    larger[:, : tensor.shape[1]] = tensor
    return larger
