"""Large weights are converted once, to safetensors in the dtype they are computed in, and then only mapped.

A 7.6 GB pickle, or float16 on a CPU, else costs its conversion and a second copy at every start.
"""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from bilingual_chat.engines.weights import cache
from bilingual_chat.engines.weights.files import check_file, refused, unreadable
from bilingual_chat.engines.weights.reader import Stored, load_weights, read_stored, survey
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.sizes import format_bytes

WORTH = 512 << 20  # bytes; less is converted at each opening, in a fraction of a second
MARGIN = 256 << 20  # bytes left free on the disk
PIECE = 8 << 20  # numbers converted at a time
_ALIGNMENT = 64
_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8"}

Progress = Callable[[int, int], None]
# (file, metadata, report): writes a whole safetensors file, and reports the bytes of tensors it has written.
Write = Callable[[BinaryIO, Mapping[str, str], Callable[[int], None]], None]


def open_weights(
    paths: Sequence[Path],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device,
    progress: Progress | None = None,
) -> tuple[dict[str, Tensor], Phrase | None]:
    """The tensors of `shapes` as `dtype` on `device`, through a kept conversion where that is worth it.

    Also a sentence, where it could not be kept and they were read directly. progress: bytes written
    of the conversion, and bytes of the whole. Raises BchatError (MODEL) as `survey` does, and for
    weights that are no finite numbers in `dtype`.
    """
    for path in paths:
        check_file(path)
    kept = place_kept(paths, str(dtype))
    weights = _load_kept(kept, shapes, dtype, device)
    if weights is not None:
        return weights, None
    tensors = survey(paths, shapes)
    if not _is_worth_it(tensors, dtype, device):
        return load_weights(tensors, dtype, device), None

    def write(file: BinaryIO, metadata: Mapping[str, str], report: Callable[[int], None]) -> None:
        write_header(file, tensors, dtype, metadata)
        _write_numbers(file, tensors, dtype, report)

    problem = write_kept(kept, paths, sum(each.count for each in tensors) * dtype.itemsize, write, progress)
    weights = None if problem else _load_kept(kept, shapes, dtype, device)
    return (weights, None) if weights is not None else (load_weights(tensors, dtype, device), problem)


@dataclass(frozen=True)
class Part:
    """One tensor of a file that is to be written."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


def write_header(file: BinaryIO, tensors: Sequence[Stored], dtype: torch.dtype, metadata: Mapping[str, str]) -> None:
    """The head of a safetensors file that holds these tensors as `dtype`, one behind the other."""
    write_head(file, [Part(each.name, each.shape, dtype) for each in tensors], metadata)


def write_head(file: BinaryIO, parts: Sequence[Part], metadata: Mapping[str, str]) -> None:
    """The head of a safetensors file with these tensors, one behind the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    at = 0
    for part in parts:
        end = at + part.size
        header[part.name] = {"dtype": _CODES[part.dtype], "shape": list(part.shape), "data_offsets": [at, end]}
        at = end
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-(8 + len(data)) % _ALIGNMENT)
    file.write(len(data).to_bytes(8, "little") + data)


def place_kept(sources: Sequence[Path], dtype: str) -> Path:
    """`converted.place`. Raises BchatError (MODEL) for a source that cannot be looked at."""
    try:
        return cache.place(sources, dtype)
    except OSError as error:
        raise unreadable(sources[0], error) from None


def _load_kept(
    kept: Path, shapes: Mapping[str, tuple[int, ...]], dtype: torch.dtype, device: torch.device
) -> dict[str, Tensor] | None:
    """The weights in a kept conversion; None if there is none. One that the disk damaged is removed."""
    if not cache.is_kept(kept):
        return None
    try:
        return load_weights(survey([kept], shapes), dtype, device)
    except BchatError as error:
        if not error.key.startswith(("engine.weights-", "engine.file-")):
            raise
        cache.discard(kept)
        return None


def _is_worth_it(tensors: Sequence[Stored], dtype: torch.dtype, device: torch.device) -> bool:
    """Pickles always; safetensors on a CPU, where not they but a copy would have to be in memory."""
    copied = [
        each.count * dtype.itemsize
        for each in tensors
        if each.path.suffix != ".safetensors" or (each.dtype != dtype and device.type == "cpu")
    ]
    return sum(copied) > WORTH


def write_kept(
    kept: Path, sources: Sequence[Path], total: int, write: Write, progress: Progress | None = None
) -> Phrase | None:
    """Write a conversion of `sources`, `total` bytes; or say why it could not be kept, with nothing left behind."""
    report = progress or (lambda done, size: None)
    try:
        cache.sweep()
        file = cache.claim(kept, lambda done: report(min(done, total), total))
        if file is None:
            return None
        try:
            free = shutil.disk_usage(kept.parent).free
            if free < total + MARGIN:
                cache.drop(file, kept)
                return Phrase("engine.no-room-to-convert", needed=format_bytes(total + MARGIN), free=format_bytes(free))
            metadata = {cache.SOURCE_KEY: json.dumps(cache.describe(sources))}
            write(file, metadata, lambda done: report(done, total))
            cache.keep(file, kept)
        except BaseException:
            cache.drop(file, kept)
            raise
    except OSError as error:
        return Phrase("engine.not-converted", reason=error.strerror or type(error).__name__)
    return None


def _write_numbers(
    file: BinaryIO, tensors: Sequence[Stored], dtype: torch.dtype, report: Callable[[int], None]
) -> None:
    done = 0
    for stored, tensor in read_stored(tensors):
        for piece in torch.split(tensor.detach().reshape(-1), PIECE):
            numbers = piece.to(dtype)
            if not bool(numbers.isfinite().all()):
                raise refused("engine.weights-not-numbers", stored.path)
            write_numbers(file, numbers)
            done += numbers.numel() * dtype.itemsize
            report(done)


def write_numbers(file: BinaryIO, numbers: Tensor) -> None:
    """The bytes of a tensor."""
    file.write(numbers.contiguous().view(-1).view(torch.uint8).numpy().data)
