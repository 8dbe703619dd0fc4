"""How fast the memory of this machine gives a model's own weights: no kernel can run ahead of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from bilingual_chat.engines.generation import threads as computing_threads

LEAST_S = 0.2  # a shorter look says more of the clock than of the memory
MOST_PASSES = 200
SMALL_BYTES = 1 << 28


def read_bandwidth(weights: Sequence[Tensor], passes: int = 3) -> float:
    """Bytes a second at which these tensors are read, by all of torch's threads: the best of some passes.

    The best, because it is meant as a limit, and other programs only make it less. A small model is read as
    often as it takes to tell, and by one thread, too: where several meet after each tensor, a busy machine makes
    them wait for each other longer than they read. One that fits the processor's cache is read from there.
    """
    views = [_words(tensor) for tensor in weights if tensor.nbytes >= 8]
    size = sum(view.nbytes for view in views)
    _read(views)  # pages that are not in memory yet
    best = math.inf
    for count in (threads(), 1) if size < SMALL_BYTES else (threads(),):
        with computing_threads(count):
            seconds: list[float] = []
            while len(seconds) < passes or (sum(seconds) < LEAST_S and len(seconds) < MOST_PASSES):
                seconds.append(timed(lambda: _read(views), views[0].device))
        best = min(best, *seconds)
    return size / best


def threads() -> int:
    """How many of them compute at once on the CPU."""
    return torch.get_num_threads()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Seconds that `work` takes, with what it left to a GPU."""
    _wait(device)
    began = time.perf_counter()
    work()
    _wait(device)
    return time.perf_counter() - began


def _words(tensor: Tensor) -> Tensor:
    """Its bytes as 64-bit words, whatever they mean: adding floats may stumble over denormal ones."""
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    return flat[: flat.numel() // 8 * 8].view(torch.int64)


def _read(views: Sequence[Tensor]) -> None:
    """Reads every word once. On this path torch adds five times faster than the memory gives."""
    for view in views:
        view.sum()


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
