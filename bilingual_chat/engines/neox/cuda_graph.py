"""Single-token steps on CUDA as graphs: one launch per token instead of hundreds.

A GPU reads the weights of a 4B model faster than Python can launch its kernels one by one. A graph needs tensors at
fixed addresses: the cache is reserved whole, and a step attends to its first 512, 1024, … positions, masked.
If the capture fails, steps run without graphs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from bilingual_chat.engines.neox.kv_cache import KVCache
from bilingual_chat.engines.neox.torch_model import GptNeox

GRAPH_POSITIONS = 512  # graphs attend to multiples of this

Step = Callable[[], Tensor]


class CudaGraphNeox(GptNeox):
    """`GptNeox` on a CUDA device. State: the captured graphs, by attended positions, and the cache that they read.

    They read the cache of the last prompt; steps of other caches run without graphs.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._id = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._position = torch.zeros(1, dtype=torch.int64, device=self.device)
        self._graphs: dict[int, Step] = {}
        self._captured_addresses: list[int] = []
        self._can_capture = True

    @torch.inference_mode()
    def run(self, ids: Tensor, start: int, cache: KVCache, keep: int | None = None) -> Tensor:
        """See `GptNeox.run`. After a prompt, capture the next step while the device still computes the prompt."""
        end = start + ids.shape[0]
        is_prompt = ids.shape[0] > 1
        if is_prompt and self._can_capture:
            cache.reserve(self.config.context_length)
        if is_prompt or not self._can_capture or _addresses(cache) != self._captured_addresses:
            hidden = super().run(ids, start, cache, keep)
            if is_prompt and self._can_capture and end < self.config.context_length:
                if (addresses := _addresses(cache)) != self._captured_addresses:
                    self._graphs, self._captured_addresses = {}, addresses
                self._graph(end, cache)
            return hidden
        graph = self._graph(start, cache)
        if graph is None:
            return super().run(ids, start, cache, keep)
        self._id.copy_(ids)
        self._position.fill_(start)
        return graph().clone()[:keep]

    def _graph(self, position: int, cache: KVCache) -> Step | None:
        """Return the graph for this position, captured if needed; None if the capture fails."""
        attended = min(self.config.context_length, (position // GRAPH_POSITIONS + 1) * GRAPH_POSITIONS)
        if attended not in self._graphs:
            self._position.fill_(position)
            try:
                self._graphs[attended] = capture(lambda: self.step(self._id, self._position, attended, cache))
            except torch.OutOfMemoryError:
                raise
            except RuntimeError:  # a driver or kernel without graph support
                self._can_capture, self._graphs = False, {}
        return self._graphs.get(attended)


def _addresses(cache: KVCache) -> list[int]:
    """Return the addresses of the cache's tensors, which a graph contains."""
    return [tensor.data_ptr() for layer in cache.layers for tensor in layer]


def capture(work: Step) -> Step:
    """Capture `work` as a CUDA graph; return a function that replays it and returns the same result tensor.

    Raises RuntimeError if CUDA cannot capture `work`.
    """
    cuda: Any = torch.cuda
    stream = cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):  # warm-up: libraries initialise themselves, which no graph may contain
        work()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()

    def replay() -> Tensor:
        graph.replay()
        return result

    return replay
