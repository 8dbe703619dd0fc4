"""The memory bandwidth at which this machine reads a model's weights: an upper limit for every kernel."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence

import torch
from torch import Tensor

from bilingual_chat.engines.generation import limit_threads

LEAST_S = 0.2  # a shorter measurement measures the clock
MOST_PASSES = 200
SMALL_BYTES = 1 << 28


def read_bandwidth(weights: Sequence[Tensor], passes: int = 3) -> float:
    """Return the bytes per second at which all of torch's threads read these tensors: the best of some passes.

    The best pass, because other programs only slow a pass down. A small model takes more passes, and one thread too:
    on a busy machine, several threads wait for each other after each tensor. Small models may fit the CPU cache.
    """
    views = [_words(tensor) for tensor in weights if tensor.nbytes >= 8]
    size = sum(view.nbytes for view in views)
    _read(views)  # loads mapped pages
    best = math.inf
    all_threads = torch.get_num_threads()
    for count in (all_threads, 1) if size < SMALL_BYTES else (all_threads,):
        with limit_threads(count):
            seconds: list[float] = []
            while len(seconds) < passes or (sum(seconds) < LEAST_S and len(seconds) < MOST_PASSES):
                _synchronize(views[0].device)
                start = time.perf_counter()
                _read(views)
                _synchronize(views[0].device)
                seconds.append(time.perf_counter() - start)
        best = min(best, *seconds)
    return size / best


def _words(tensor: Tensor) -> Tensor:
    """Return the bytes as 64-bit integers: adding floats is slow for denormal ones."""
    flat = tensor.detach().reshape(-1).view(torch.uint8)
    return flat[: flat.numel() // 8 * 8].view(torch.int64)


def _read(views: Sequence[Tensor]) -> None:
    """Read every word once; torch's sum is five times faster than memory."""
    for view in views:
        view.sum()


def _synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
