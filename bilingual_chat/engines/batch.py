"""Several replies at once, to one prompt or to different ones: one pass computes the next token of each.

A pass reads all weights, whether for one row or for many. A reply that ends makes room for the next request.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Generator, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from torch import Tensor

from bilingual_chat.engines.generation import Generation
from bilingual_chat.engines.memory import WORKING_MEMORY
from bilingual_chat.engines.protocol import Chunk

POSITION_STEP = 64  # positions by which the caches of rows grow
MEMORY_SHARE = 0.8  # of the free memory, for the caches of all rows


class Rows(Protocol):
    """Sequences that grow by one token each a step."""

    def add(self, cache: Any, positions: int) -> None:
        """Append a row with a copy of the first `positions` of a prompt's `cache`."""

    def remove(self, at: int) -> None:
        """Remove row `at`; the last row takes its number."""

    def step(self, ids: Sequence[int]) -> Tensor:
        """Append one id to each row; return the logits after it, float32 (rows, vocabulary)."""


@dataclass(frozen=True)
class Row:
    """A reply in progress; `index` is that of its request."""

    index: int
    generation: Generation


class Prefilled(NamedTuple):
    """A prompt that was computed. The cache is valid until the next prompt is computed."""

    logits: Tensor  # (vocabulary,), after the prompt
    cache: Any
    cached_tokens: int  # of the prompt, which the cache held before


class Batch:
    """The rows in progress. State: the rows, and the last prompt with the logits after it."""

    def __init__(
        self, rows: Rows, prefill: Callable[[list[int]], Prefilled], step: Callable[[list[int]], Tensor]
    ) -> None:
        """step: `rows.step`, with the engine's care."""
        self._rows, self._prefill, self._step = rows, prefill, step
        self._active: list[Row] = []
        self._prompt: list[int] = []
        self._prefilled: Prefilled | None = None

    def complete(
        self, requests: Iterable[Row], has_room: Callable[[Sequence[Row]], bool], unwanted: Container[int]
    ) -> Generator[tuple[int, Chunk], None, None]:
        """Yield (index, chunk) of all `requests`; at any time as many of them in progress as `has_room` allows.

        unwanted: indexes whose rest the caller does not want; it may add to them meanwhile.
        """
        waiting = iter(requests)
        following = next(waiting, None)
        while self._active or following:
            while following and (not self._active or has_room([*self._active, following])):
                yield following.index, self._start(following)
                self._remove_ended(unwanted)
                following = next(waiting, None)
            if self._active:
                last = [row.generation.ids[-1] for row in self._active]
                for row, logits in zip(self._active, self._step(last), strict=True):
                    yield row.index, row.generation.add(logits)
                self._remove_ended(unwanted)

    def _start(self, row: Row) -> Chunk:
        """Append a row; return its first token."""
        generation = row.generation
        if self._prefilled is None or generation.ids != self._prompt:
            self._prompt, self._prefilled = list(generation.ids), self._prefill(generation.ids)
        self._rows.add(self._prefilled.cache, len(generation.ids))
        self._active.append(row)
        generation.cached_tokens = self._prefilled.cached_tokens
        return generation.add(self._prefilled.logits)

    def _remove_ended(self, unwanted: Container[int]) -> None:
        for at in reversed(range(len(self._active))):
            if self._active[at].generation.is_done or self._active[at].index in unwanted:
                self._rows.remove(at)
                self._active[at] = self._active[-1]
                self._active.pop()


def room_for(
    width: int, free_bytes: int | None, bytes_per_position: Callable[[], int]
) -> Callable[[Sequence[Row]], bool]:
    """Return a function that says whether the caches of some rows fit into `free_bytes`, at most `width` of them."""

    def has_room(rows: Sequence[Row]) -> bool:
        if len(rows) > width or free_bytes is None:
            return len(rows) <= width
        longest = max(row.generation.most_positions for row in rows)
        positions = len(rows) * -(-longest // POSITION_STEP) * POSITION_STEP
        return positions * bytes_per_position() <= MEMORY_SHARE * max(0, free_bytes - WORKING_MEMORY)

    return has_room
