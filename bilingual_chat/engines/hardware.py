"""Where a model is computed and in what, and whether it fits there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from bilingual_chat.catalogue import ModelEntry
from bilingual_chat.engines import DeviceName, DtypeName
from bilingual_chat.engines.gpt_neox import NeoxConfig
from bilingual_chat.engines.memory import SMALL, available_memory, estimate_memory, needed_memory
from bilingual_chat.engines.weights import stored_dtype
from bilingual_chat.errors import BchatError, ExitStatus
from bilingual_chat.messages import Phrase

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: DeviceName, config: NeoxConfig) -> torch.device:
    """auto: CUDA where there is one, but not for a small model, which waits for launches there.

    Apple's mps only when asked for: no test has compared it with the CPU yet. Raises BchatError
    (MODEL) for a device that is not there.
    """
    if name == "auto":
        wants_gpu = config.parameter_count >= SMALL and torch.cuda.is_available()
        return torch.device("cuda" if wants_gpu else "cpu")
    missing = (name == "cuda" and not torch.cuda.is_available()) or (
        name == "mps" and not torch.backends.mps.is_available()
    )
    if missing:
        raise BchatError("engine.device", status=ExitStatus.MODEL, device=name)
    return torch.device(name)


def pick_dtype(
    name: DtypeName, device: torch.device, config: NeoxConfig, paths: Sequence[Path], lossless: str = ""
) -> torch.dtype:
    """auto: float32 if small; bfloat16 on a CPU (its float16 prefill is 8 times slower); else what loses nothing.

    lossless: the catalogue's word for that; where there is none, what most numbers are stored as.
    """
    if name != "auto":
        return _DTYPES[name]
    if config.parameter_count < SMALL:
        return torch.float32
    if device.type == "cpu":
        return torch.bfloat16
    stored = _DTYPES[lossless] if lossless else stored_dtype(paths)
    return torch.float16 if stored == torch.float16 else torch.bfloat16


def check_memory(
    config: NeoxConfig, dtype: torch.dtype, device: torch.device, others: Iterable[ModelEntry] = ()
) -> None:
    """Refuse what does not fit, before a byte is loaded, and say what would; where the system does not say, try.

    others: models that may be named instead.
    """
    needed = _needed(config, dtype)
    available = _available(device)
    if available is None or needed <= available:
        return
    choice = _smaller_choice(config, dtype, device, available, others)
    raise BchatError(
        "engine.memory", status=ExitStatus.MODEL, needed=_tenths(needed), available=_tenths(available), choice=choice
    )


def _needed(config: NeoxConfig, dtype: torch.dtype) -> int:
    return needed_memory(config.parameter_count, config.cache_elements(), dtype.itemsize)


def _available(device: torch.device) -> int | None:
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def _smaller_choice(
    config: NeoxConfig, dtype: torch.dtype, device: torch.device, available: int, others: Iterable[ModelEntry]
) -> Phrase:
    """The first that fits: 16 bits, the CPU, the largest smaller model."""
    half = _needed(config, torch.bfloat16)
    if dtype.itemsize > 2 and half <= available:
        return Phrase("engine.choose-dtype", dtype="bfloat16", needed=_tenths(half))
    main = available_memory() if device.type != "cpu" else None
    if main is not None and half <= main:
        return Phrase("engine.choose-cpu", needed=_tenths(half))
    fitting = [
        each
        for each in others
        if 0 < each.parameters < config.parameter_count and estimate_memory(each, dtype.itemsize) <= available
    ]
    if fitting:
        best = max(fitting, key=lambda each: each.parameters)
        return Phrase("engine.choose-model", name=best.name, needed=_tenths(estimate_memory(best, dtype.itemsize)))
    return Phrase("engine.choose-smaller")


def _tenths(size: int) -> str:
    """Gigabytes."""
    return f"{size / 1e9:.1f}"
