"""Single-token steps of a GPU, recorded once and replayed: one launch for each instead of some hundreds.

A GPU reads the weights of a 4B model in less time than Python takes to ask for it layer by layer. CUDA graphs
need tensors that stay where they are: the cache is reserved whole, and a step looks at the first 512, 1024, …
positions of it, masked. Where recording fails, steps go on as they come.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilingual_chat.engines.neox.torch_model import GptNeox, KVCache

LOOK = 512  # positions by which what a step looks at grows

Step = Callable[[], Tensor]


class CudaGraphNeox(GptNeox):
    """`GptNeox` on a CUDA device. State: the steps recorded, by how far they look, and the cache they are for:
    the one that was last given several ids at once. Steps of other caches go on as they come."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._id = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._steps: dict[int, Step] = {}
        self._recorded_for: list[int] = []
        self._can_record = True

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, wanted: int | None = None) -> Tensor:
        """See `GptNeox.run`. After a pass over several ids the step that comes next is recorded: the processor
        does that while the device is still busy with the pass."""
        end = start + ids.shape[0]
        is_prompt = ids.shape[0] > 1
        if is_prompt and self._can_record:
            cache.reserve(self.config.context_length)
        if is_prompt or not self._can_record or _places(cache) != self._recorded_for:
            hidden = super().run(ids, start, cache, wanted)
            if is_prompt and self._can_record and end < self.config.context_length:
                if (places := _places(cache)) != self._recorded_for:
                    self._steps, self._recorded_for = {}, places
                self._step(end, cache)
            return hidden
        step = self._step(start, cache)
        if step is None:
            return super().run(ids, start, cache, wanted)
        self._id.copy_(ids)
        self._position.fill_(start)
        return step().clone()[:wanted]

    def _step(self, position: int, cache: KVCache) -> Step | None:
        """The step for this position, recorded if need be; None where that is not possible."""
        seen = min(self.config.context_length, (position // LOOK + 1) * LOOK)
        if seen not in self._steps:
            self._position.fill_(position)
            try:
                self._steps[seen] = record(lambda: self.step(self._id, self._position, seen, cache))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a driver or a kernel that cannot be recorded: slower, and right
                self._can_record, self._steps = False, {}
        return self._steps.get(seen)


def _places(cache: KVCache) -> list[int]:
    """Where its numbers lie: a recording is of addresses."""
    return [tensor.data_ptr() for layer in cache.layers for tensor in layer]


def record(work: Step) -> Step:
    """`work` as a CUDA graph: what is returned does it again, on the same tensors, and gives the same result tensor.

    Raises RuntimeError where something in it cannot be recorded.
    """
    cuda: Any = torch.cuda
    aside = cuda.Stream()
    aside.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(aside):  # libraries set themselves up in a first run, which a recording must not hold
        work()
    torch.cuda.current_stream().wait_stream(aside)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
