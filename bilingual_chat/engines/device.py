"""Where a model is computed and in what, and whether it fits there."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import torch

from bilingual_chat.engines.memory import SMALL, WORKING_MEMORY, available_memory, estimate_memory
from bilingual_chat.engines.neox.build import load_library
from bilingual_chat.engines.neox.config import NeoxConfig
from bilingual_chat.engines.neox.cpu_model import can_compute
from bilingual_chat.engines.protocol import DeviceName, DtypeName, QuantizeName
from bilingual_chat.engines.weights.quantize import quantized_bytes
from bilingual_chat.engines.weights.quantized_matrix import QuantizedPrecision
from bilingual_chat.engines.weights.reader import stored_dtype
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry

ROOM = 0.15  # of what a model needs, that auto leaves for the rest of the machine
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(name: DeviceName, parameters: int) -> torch.device:
    """auto: CUDA where there is one, but not for a small model, which waits for launches there.

    Apple's mps only when asked for: no test has compared it with the CPU yet. Raises BchatError
    (MODEL) for a device that is not there.
    """
    if name == "auto":
        wants_gpu = parameters >= SMALL and torch.cuda.is_available()
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
        return DTYPES[name]
    if config.parameter_count < SMALL:
        return torch.float32
    if device.type == "cpu":
        return torch.bfloat16
    stored = DTYPES[lossless] if lossless else stored_dtype(paths)
    return torch.float16 if stored == torch.float16 else torch.bfloat16


def pick_precision(
    name: QuantizeName, device: torch.device, config: NeoxConfig, dtype: torch.dtype
) -> QuantizedPrecision | None:
    """What the matrices are narrowed to, None for `dtype` itself; auto: the most exact that leaves room for the rest.

    Raises BchatError (MODEL) where a narrow kind was asked for and there is no code for it.
    """
    if name == "none":
        return None
    is_possible = device.type == "cpu" and can_compute(config)
    if name != "auto":
        if not is_possible:
            raise BchatError("engine.quantize", status=ExitStatus.MODEL, precision=name, device=device.type)
        return name
    available = free_memory(device)
    if not is_possible or available is None or config.parameter_count < SMALL:
        return None
    kinds: tuple[QuantizedPrecision | None, ...] = (None, "int8", "int4")
    fitting = [kind for kind in kinds if _needed(config, dtype, kind) * (1 + ROOM) <= available]
    if not fitting or fitting[0] is None or load_library() is None:
        return None
    return fitting[0]


def why_narrow(precision: QuantizedPrecision, config: NeoxConfig, dtype: torch.dtype, device: torch.device) -> Phrase:
    """What is said when `pick_precision` chose by itself."""
    return Phrase(
        "engine.narrowed",
        precision=precision,
        dtype=name_of(dtype),
        needed=tenths(_needed(config, dtype)),
        available=tenths(free_memory(device) or 0),
    )


def weight_bytes(config: NeoxConfig, dtype: torch.dtype, precision: QuantizedPrecision | None = None) -> int:
    """Bytes of all weights."""
    if precision is None:
        return config.parameter_count * dtype.itemsize
    return sum(quantized_bytes(name, shape, precision) for name, shape in config.shapes().items())


def check_memory(
    config: NeoxConfig,
    dtype: torch.dtype,
    device: torch.device,
    others: Iterable[ModelEntry] = (),
    precision: QuantizedPrecision | None = None,
) -> None:
    """Refuse what does not fit, before a byte is loaded, and say what would; where the system does not say, try.

    others: models that may be named instead.
    """
    needed = _needed(config, dtype, precision)
    available = free_memory(device)
    if available is None or needed <= available:
        return
    choice = _smaller_choice(config, dtype, device, available, others)
    raise BchatError(
        "engine.memory", status=ExitStatus.MODEL, needed=tenths(needed), available=tenths(available), choice=choice
    )


def _needed(config: NeoxConfig, dtype: torch.dtype, precision: QuantizedPrecision | None = None) -> int:
    cache = config.cache_elements() * (dtype.itemsize if precision is None else 2)
    return weight_bytes(config, dtype, precision) + cache + WORKING_MEMORY


def free_memory(device: torch.device) -> int | None:
    """Bytes left on `device`; None where the system does not say."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def _smaller_choice(
    config: NeoxConfig, dtype: torch.dtype, device: torch.device, available: int, others: Iterable[ModelEntry]
) -> Phrase:
    """The first that fits: 16 bits, the CPU, fewer bits, the largest smaller model."""
    half = _needed(config, torch.bfloat16)
    if dtype.itemsize > 2 and half <= available:
        return Phrase("engine.choose-dtype", dtype="bfloat16", needed=tenths(half))
    main = available_memory() if device.type != "cpu" else None
    if main is not None and half <= main:
        return Phrase("engine.choose-cpu", needed=tenths(half))
    if device.type == "cpu" and can_compute(config):
        narrow: QuantizedPrecision
        for narrow in ("int8", "int4"):
            if (size := _needed(config, dtype, narrow)) <= available:
                return Phrase("engine.choose-quantize", precision=narrow, needed=tenths(size))
    fitting = [
        each
        for each in others
        if 0 < each.parameters < config.parameter_count and estimate_memory(each, dtype.itemsize) <= available
    ]
    if fitting:
        best = max(fitting, key=lambda each: each.parameters)
        return Phrase("engine.choose-model", name=best.name, needed=tenths(estimate_memory(best, dtype.itemsize)))
    return Phrase("engine.choose-smaller")


def name_of(dtype: torch.dtype) -> str:
    """ "float32", …"""
    return str(dtype).removeprefix("torch.")


def tenths(size: int) -> str:
    """Gigabytes."""
    return f"{size / 1e9:.1f}"
