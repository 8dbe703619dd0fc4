"""Opens weights for computing. Converts large weights once, keeps them in bchat's cache, and then only maps them.

Otherwise a 7.6 GB pickle, float16 on a CPU, or quantization would cost time and a second copy at every start.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD
from bilingual_chat.engines.protocol import Progress
from bilingual_chat.engines.weights import cache
from bilingual_chat.engines.weights.files import unreadable
from bilingual_chat.engines.weights.quantize import UNQUANTIZED, Part, Target, Weights
from bilingual_chat.engines.weights.quantized_matrix import QuantizedPrecision
from bilingual_chat.engines.weights.reader import Stored, load_weights, read_tensors, survey
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError
from bilingual_chat.storage.os_errors import reason
from bilingual_chat.storage.sizes import format_bytes

WORTH = 512 << 20  # bytes; less is converted at each start, in a fraction of a second
MARGIN = 256 << 20  # bytes left free on the disk
_ALIGNMENT = 64
_CODES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16", torch.uint8: "U8"}


def open_weights(
    paths: Sequence[Path],
    shapes: Mapping[str, tuple[int, ...]],
    dtype: torch.dtype,
    device: torch.device,
    precision: QuantizedPrecision | None = None,
    progress: Progress | None = None,
) -> tuple[Weights, Phrase | None]:
    """Return the tensors of `shapes` as `dtype` on `device`, or in `precision` on the CPU, through the cache.

    Also returns a notice if the conversion could not be kept. progress: bytes written and bytes in all.
    Raises BchatError (MODEL) as `survey` does, and for NaN and infinity.
    """
    target = Target(UNQUANTIZED if precision else dtype, precision)
    try:
        kept, *outdated = (cache.path_for(paths, name) for name in target.names)
    except OSError as error:
        raise unreadable(paths[0], error) from None
    if (weights := _load_kept(kept, shapes, target, device)) is not None:
        return weights, None
    tensors = survey(paths, shapes)
    if precision is None and not _is_worth_it(tensors, dtype, device):
        return dict(load_weights(tensors, dtype, device)), None
    for each in outdated:  # first, because the disk may be full of them
        cache.remove(each)
    notice = _keep(kept, paths, tensors, target, progress)
    weights = None if notice else _load_kept(kept, shapes, target, device)
    if weights is None:
        weights = _convert_in_memory(tensors, target, device)
    return weights, notice


def write_header(file: BinaryIO, parts: Sequence[Part], metadata: Mapping[str, str]) -> None:
    """Write the header of a safetensors file with these tensors, one behind the other."""
    header: dict[str, object] = {"__metadata__": {"format": "pt", **metadata}}
    start = 0
    for part in parts:
        end = start + part.size
        header[part.name] = {"dtype": _CODES[part.dtype], "shape": list(part.shape), "data_offsets": [start, end]}
        start = end
    data = json.dumps(header, separators=(",", ":")).encode()
    data += b" " * (-(8 + len(data)) % _ALIGNMENT)
    file.write(len(data).to_bytes(8, "little") + data)


def _is_worth_it(tensors: Sequence[Stored], dtype: torch.dtype, device: torch.device) -> bool:
    """Return True if much is converted: pickles always, safetensors on a CPU, which else maps them."""
    copied = [
        each.count * dtype.itemsize
        for each in tensors
        if each.path.suffix != ".safetensors" or (each.dtype != dtype and device.type == "cpu")
    ]
    return sum(copied) > WORTH


def _load_kept(
    kept: Path, shapes: Mapping[str, tuple[int, ...]], target: Target, device: torch.device
) -> Weights | None:
    """Return the weights of a converted file; None if there is none. A damaged file is removed."""
    if not cache.is_kept(kept):
        return None
    try:
        if target.precision is None:
            return dict(load_weights(survey([kept], shapes), target.dtype, device))
        found = dict(read_tensors(kept))
    except BchatError as error:
        if not error.key.startswith(("engine.weights-", "engine.file-")):
            raise
        found = {}
    names = dict(shapes) | ({HEAD: shapes[EMBEDDING]} if HEAD in found else {})
    for part in (part for name, shape in names.items() for part in target.parts(name, shape)):
        tensor = found.get(part.name)
        if tensor is None or tuple(tensor.shape) != part.shape or tensor.dtype != part.dtype:
            cache.remove(kept)
            return None
    return target.assemble(found, names)


def _convert_in_memory(tensors: Sequence[Stored], target: Target, device: torch.device) -> Weights:
    if target.precision is None:
        return dict(load_weights(tensors, target.dtype, device))
    pieces: dict[str, list[Tensor]] = {}
    for name, piece in target.pieces(tensors):
        pieces.setdefault(name, []).append(piece)
    parts = {name: torch.cat(found) for name, found in pieces.items()}
    return target.assemble(parts, {each.name: each.shape for each in tensors})


def _keep(
    kept: Path, sources: Sequence[Path], tensors: Sequence[Stored], target: Target, progress: Progress | None
) -> Phrase | None:
    """Write the converted file; or return the reason why it could not be kept, and leave nothing behind."""
    parts = [part for each in tensors for part in target.parts(each.name, each.shape)]
    total = sum(part.size for part in parts)
    report = progress or (lambda done, total: None)
    try:
        cache.sweep()
        file = cache.claim(kept, lambda done: report(min(done, total), total))
        if file is None:
            return None
        try:
            free = shutil.disk_usage(kept.parent).free
            if free < total + MARGIN:
                cache.abandon(file, kept)
                needed, left = format_bytes(total + MARGIN), format_bytes(free)
                return Phrase("engine.no-room-to-convert", needed=needed, free=left)
            write_header(file, parts, {cache.SOURCE_KEY: json.dumps(cache.identify(sources))})
            _write_pieces(file, target, tensors, lambda done: report(done, total))
            cache.commit(file, kept)
        except BaseException:
            cache.abandon(file, kept)
            raise
    except OSError as error:
        return Phrase("engine.not-converted", reason=reason(error))
    return None


def _write_pieces(file: BinaryIO, target: Target, tensors: Sequence[Stored], report: Callable[[int], None]) -> None:
    done = 0
    for _, piece in target.pieces(tensors):
        file.write(piece.contiguous().view(-1).view(torch.uint8).numpy().data)
        done += piece.nbytes
        report(done)
