"""Several replies of a transformers model in one pass; see `batch.Rows`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import DynamicCache


class LeftPaddedRows:
    """Rows that end together; what lies before the beginning of a shorter one is masked.

    State: transformers' cache, keys and values (rows, heads, positions, head size), and the length of each row.
    """

    def __init__(self, forward: Callable[..., Any], device: torch.device) -> None:
        """forward: takes input_ids, attention_mask, position_ids and the cache; returns logits (rows, vocabulary)."""
        self._forward, self._device = forward, device
        self._states = DynamicCache()
        self._lengths: list[int] = []

    @torch.inference_mode()
    def add(self, cache: Any, positions: int) -> None:
        """See `Rows.add`. cache: a `RewindableCache` of exactly so many positions."""
        longest = max([positions, *self._lengths])
        parts = [layers_of(states) for states in (self._states, cache.states) if states.layers]
        layers = zip(*parts, strict=True)
        self._states = _cache_of([[_stacked(each, longest) for each in zip(*layer, strict=True)] for layer in layers])
        self._lengths.append(positions)

    @torch.inference_mode()
    def remove(self, at: int) -> None:
        """See `Rows.remove`."""
        order = list(range(len(self._lengths)))
        order[at] = order[-1]
        order.pop()
        self._lengths = [self._lengths[row] for row in order]
        longest = max(self._lengths, default=0)
        kept = [[each[order, :, each.shape[2] - longest :] for each in layer] for layer in layers_of(self._states)]
        self._states = _cache_of(kept) if order else DynamicCache()

    def step(self, ids: Sequence[int]) -> Tensor:
        """See `Rows.step`."""
        positions = torch.tensor(self._lengths, device=self._device)[:, None]
        longest = max(self._lengths)
        mask = torch.arange(longest + 1, device=self._device) >= longest - positions
        logits: Tensor = self._forward(
            torch.tensor(ids, device=self._device)[:, None],
            self._states,
            attention_mask=mask.long(),
            position_ids=positions,
        )
        self._lengths = [length + 1 for length in self._lengths]
        return logits


def layers_of(states: Any) -> list[tuple[Tensor, Tensor]]:
    """Return keys and values of each layer, (rows, heads, positions, head size)."""
    return [(layer.keys, layer.values) for layer in states.layers]


def _stacked(parts: Sequence[Tensor], longest: int) -> Tensor:
    """Return the rows of all parts, padded on the left to `longest` positions."""
    return torch.cat([F.pad(each, (0, 0, longest - each.shape[2], 0)) for each in parts])


def _cache_of(layers: list[list[Tensor]]) -> DynamicCache:
    states = DynamicCache()
    for index, (keys, values) in enumerate(layers):
        states.update(keys, values, index)
    return states
