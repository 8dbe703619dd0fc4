"""Chooses the device, the dtype and the precision of a model, and checks that it fits into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from bilingual_chat.engines.memory import SMALL, WORKING_MEMORY, available_memory, estimate_memory, needed_memory
from bilingual_chat.engines.neox.kernel_library import load_library
from bilingual_chat.engines.protocol import DeviceName, DtypeName, OpenOptions, QuantizeName
from bilingual_chat.engines.weights.quantize import quantized_bytes
from bilingual_chat.engines.weights.quantized_matrix import QuantizedPrecision
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError, ExitStatus
from bilingual_chat.settings.catalogue import ModelEntry
from bilingual_chat.storage.sizes import format_bytes

HEADROOM = 0.15  # share of a model's memory that auto leaves for other programs
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
_EXACT = {torch.float64: torch.float32, torch.float32: torch.float32, torch.float16: torch.float16}


@dataclass(frozen=True)
class ModelSize:
    """The size of a model, known before its weights are read. shapes: None if bchat cannot quantize it."""

    parameters: int
    cache_elements: int = 0
    shapes: Mapping[str, tuple[int, ...]] | None = None

    def memory(self, dtype: torch.dtype, precision: QuantizedPrecision | None = None) -> int:
        """Return the bytes of weights, a full KV cache and activations."""
        if precision is None or self.shapes is None:
            return needed_memory(self.parameters, self.cache_elements, dtype.itemsize)
        weights = sum(quantized_bytes(name, shape, precision) for name, shape in self.shapes.items())
        return weights + 2 * self.cache_elements + WORKING_MEMORY


@dataclass(frozen=True)
class Hardware:
    """The device, dtype and precision of a model. precision: of quantized matrices, None for `dtype`."""

    device: torch.device
    dtype: torch.dtype
    precision: QuantizedPrecision | None = None
    notice: Phrase | None = None  # says that weights lose precision, and why


Preference = Literal["fast", "exact if it fits", "exact"]


def choose_hardware(
    size: ModelSize,
    stored: Callable[[], torch.dtype | None],
    prefer: Preference,
    options: OpenOptions,
) -> Hardware:
    """Choose device, dtype and precision. Raises BchatError (MODEL): not available, or too little memory.

    stored: returns the dtype of most stored weights; reads the headers of the files. prefer: see `pick_dtype`.
    """
    target = pick_device(options.device, size.parameters)
    chosen = pick_dtype(options.dtype, target, size, stored, prefer)
    precision = pick_precision(options.quantize, target, size, chosen)
    check_memory(size, chosen, target, options.others, precision)
    notice = None
    if precision is not None and options.quantize == "auto":
        notice = _narrowed(precision, chosen, size, target)
    elif precision is None and options.dtype == "auto" and chosen != torch.float32:
        notice = _rounding(stored(), chosen, prefer, size, target)
    return Hardware(target, chosen, precision, notice)


def pick_device(name: DeviceName, parameters: int) -> torch.device:
    """Return the device. Raises BchatError (MODEL) if it is missing.

    auto: CUDA if available, but the CPU for a small model, which would mostly wait for kernel launches. mps only on
    request: no test has compared it with the CPU.
    """
    if name == "auto":
        wants_gpu = parameters >= SMALL and torch.cuda.is_available()
        return torch.device("cuda" if wants_gpu else "cpu")
    is_available = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if not is_available[name]:
        raise BchatError("engine.device", status=ExitStatus.MODEL, device=name)
    return torch.device(name)


def exact_dtype(stored: torch.dtype | None) -> torch.dtype:
    """Return the narrowest dtype that computes weights stored in `stored` without rounding them."""
    return _EXACT.get(stored, torch.bfloat16) if stored else torch.bfloat16


def pick_dtype(
    name: DtypeName,
    device: torch.device,
    size: ModelSize,
    stored: Callable[[], torch.dtype | None],
    prefer: Preference,
) -> torch.dtype:
    """Return the dtype to compute in. auto: float32 for a small model, else 16 bits or what `prefer` says.

    On a CPU, float16 is slow (prefill takes 8 times as long): bfloat16 or float32 replaces it.
    """
    if name != "auto":
        return DTYPES[name]
    if size.parameters < SMALL:
        return torch.float32
    if prefer == "fast" and device.type == "cpu":
        return torch.bfloat16
    exact = exact_dtype(stored())
    if exact == torch.float16 and device.type == "cpu":
        return torch.float32 if prefer == "exact" else torch.bfloat16
    if exact == torch.float32 and prefer != "exact":
        return exact if prefer == "exact if it fits" and _fits(size, device, exact) else torch.bfloat16
    return exact


def pick_precision(
    name: QuantizeName, device: torch.device, size: ModelSize, dtype: torch.dtype
) -> QuantizedPrecision | None:
    """Return the precision of the matrices, None for `dtype`. auto: the most exact that leaves headroom.

    Raises BchatError (MODEL) for a requested precision that bchat cannot compute.
    """
    if name == "none":
        return None
    is_possible = device.type == "cpu" and size.shapes is not None
    if name != "auto":
        if not is_possible:
            raise BchatError("engine.quantize", status=ExitStatus.MODEL, precision=name, device=device.type)
        return name
    if not is_possible or size.parameters < SMALL:
        return None
    precisions: tuple[QuantizedPrecision | None, ...] = (None, "int8", "int4")
    fitting = next((each for each in precisions if _fits(size, device, dtype, each)), None)
    return fitting if fitting and load_library() else None


def check_memory(
    size: ModelSize,
    dtype: torch.dtype,
    device: torch.device,
    others: Iterable[ModelEntry] = (),
    precision: QuantizedPrecision | None = None,
) -> None:
    """Raise BchatError (MODEL) if the model does not fit; the error suggests what fits, maybe one of `others`."""
    needed, available = size.memory(dtype, precision), free_memory(device)
    if available is not None and needed > available:
        raise BchatError(
            "engine.memory",
            status=ExitStatus.MODEL,
            needed=format_bytes(needed),
            available=format_bytes(available),
            choice=_smaller_choice(size, dtype, device, available, others),
        )


def free_memory(device: torch.device) -> int | None:
    """Return the free bytes on `device`; None if the system does not say."""
    return int(torch.cuda.mem_get_info(device)[0]) if device.type == "cuda" else available_memory()


def _rounding(
    stored: torch.dtype | None, dtype: torch.dtype, prefer: Preference, size: ModelSize, device: torch.device
) -> Phrase | None:
    """Return a notice if `dtype` rounds the stored weights; not for float16 if 16 bits were preferred."""
    exact = exact_dtype(stored)
    if dtype == exact or (prefer == "fast" and exact == torch.float16):
        return None
    if exact == torch.float32 and not _fits(size, device, exact):
        return _narrowed(name_of(dtype), exact, size, device)
    return Phrase("engine.rounded", dtype=name_of(exact), narrow=name_of(dtype))


def _narrowed(precision: str, dtype: torch.dtype, size: ModelSize, device: torch.device) -> Phrase:
    """Return the notice that the model is opened in `precision` because `dtype` takes too much memory."""
    needed, available = format_bytes(size.memory(dtype)), format_bytes(free_memory(device) or 0)
    return Phrase("engine.narrowed", precision=precision, dtype=name_of(dtype), needed=needed, available=available)


def _fits(
    size: ModelSize, device: torch.device, dtype: torch.dtype, precision: QuantizedPrecision | None = None
) -> bool:
    """Return True if the model fits with headroom, or if the system does not say."""
    available = free_memory(device)
    return available is None or size.memory(dtype, precision) * (1 + HEADROOM) <= available


def _smaller_choice(
    size: ModelSize, dtype: torch.dtype, device: torch.device, available: int, others: Iterable[ModelEntry]
) -> Phrase:
    """Return the first that fits: 16 bits, the CPU, fewer bits, the largest smaller model."""
    half = size.memory(torch.bfloat16)
    if dtype.itemsize > 2 and half <= available:
        return Phrase("engine.choose-dtype", dtype="bfloat16", needed=format_bytes(half))
    main = available_memory() if device.type != "cpu" else None
    if main is not None and half <= main:
        return Phrase("engine.choose-cpu", needed=format_bytes(half))
    if device.type == "cpu" and size.shapes is not None:
        narrow: QuantizedPrecision
        for narrow in ("int8", "int4"):
            if (needed := size.memory(dtype, narrow)) <= available:
                return Phrase("engine.choose-quantize", precision=narrow, needed=format_bytes(needed))
    smaller = [each for each in others if 0 < each.parameters < size.parameters]
    for each in sorted(smaller, key=lambda each: each.parameters, reverse=True):
        if (needed := estimate_memory(each, dtype.itemsize)) <= available:
            return Phrase("engine.choose-model", name=each.name, needed=format_bytes(needed))
    return Phrase("engine.choose-smaller")


def name_of(dtype: torch.dtype) -> str:
    """Return "float32", …"""
    return str(dtype).removeprefix("torch.")


def torch_version() -> str:
    """Return torch's version with its build ("2.13.0+cpu")."""
    return str(torch.__version__)


def gpu_name() -> str | None:
    """Return the name of the GPU that torch can use."""
    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name(0))
    return "Apple GPU (mps)" if torch.backends.mps.is_available() else None
