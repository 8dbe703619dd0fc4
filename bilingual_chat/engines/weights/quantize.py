"""Weights in 8 and 4 bits, made once from a model's files, kept in bchat's cache and then only mapped.

Matrix by matrix and some rows at a time, so that making them takes little memory. The embeddings stay
in 16 bits (one row of them is read for a token), and the output head has 8 in any case: it is a
twentieth of the bytes, and every token depends on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD
from bilingual_chat.engines.weights import cache
from bilingual_chat.engines.weights.convert import (
    PIECE,
    Part,
    Progress,
    place_kept,
    write_head,
    write_kept,
    write_numbers,
)
from bilingual_chat.engines.weights.files import check_file, refused
from bilingual_chat.engines.weights.quantized_matrix import (
    BLOCK,
    GROUP,
    SIDE_BY_SIDE,
    TOGETHER,
    QuantizedMatrix,
    QuantizedPrecision,
    quantize,
)
from bilingual_chat.engines.weights.reader import Stored, read_stored, read_tensors, survey
from bilingual_chat.messages import Phrase
from bilingual_chat.messages.errors import BchatError

OTHERS = torch.bfloat16  # embeddings, norms, biases
FORMAT = 5  # of the numbers in a kept file: another one is another file
Weights = dict[str, Tensor | QuantizedMatrix]


def open_quantized(
    paths: Sequence[Path],
    shapes: Mapping[str, tuple[int, ...]],
    precision: QuantizedPrecision,
    progress: Progress | None = None,
) -> tuple[Weights, Phrase | None]:
    """The tensors of `shapes`, matrices in `precision`; and a sentence where they could not be kept.

    progress and errors: as `convert.open_weights`.
    """
    for path in paths:
        check_file(path)
    precision = stored_as(precision)
    kept, *outdated = (place_kept(paths, f"{precision} {number}") for number in range(FORMAT, 0, -1))
    if (weights := _load_kept(kept, shapes, precision)) is not None:
        return weights, None
    tensors = survey(paths, shapes)

    def write(file: BinaryIO, metadata: Mapping[str, str], report: Callable[[int], None]) -> None:
        write_head(file, [part for each in tensors for part in _parts(each.name, each.shape, precision)], metadata)
        done = 0
        for _, piece in _pieces(tensors, precision):
            write_numbers(file, piece)
            done += piece.numel() * piece.element_size()
            report(done)

    total = sum(part.size for each in tensors for part in _parts(each.name, each.shape, precision))
    for each in outdated:  # of which the disk may be full
        cache.discard(each)
    problem = write_kept(kept, paths, total, write, progress)
    weights = None if problem else _load_kept(kept, shapes, precision)
    return (weights, None) if weights is not None else (_make(tensors, precision), problem)


def stored_as(precision: QuantizedPrecision) -> QuantizedPrecision:
    """Whose weights a precision computes with."""
    return "int8" if precision == "w8a8" else precision


def precision_of(name: str, shape: tuple[int, ...], precision: QuantizedPrecision) -> QuantizedPrecision | None:
    """What a tensor is kept in; None for what keeps its 16 bits."""
    if len(shape) != 2 or name == EMBEDDING or shape[1] % BLOCK:
        return None
    kind = "int8" if name == HEAD else stored_as(precision)
    return None if kind == "int4" and shape[0] % SIDE_BY_SIDE else kind


def quantized_bytes(name: str, shape: tuple[int, ...], precision: QuantizedPrecision) -> int:
    """How many bytes a tensor takes."""
    return sum(part.size for part in _parts(name, shape, precision))


def _parts(name: str, shape: tuple[int, ...], precision: QuantizedPrecision) -> list[Part]:
    """The tensors of a file that one of a model becomes, in their order."""
    kind = precision_of(name, shape, precision)
    if kind is None:
        return [Part(name, shape, OTHERS)]
    rows, columns = shape
    scales = Part(f"{name}.scales", (rows,), torch.float32)
    if kind == "int8":
        return [Part(name, (rows + -rows % TOGETHER, columns), torch.uint8), scales]
    levels = Part(f"{name}.levels", (rows, columns // GROUP), torch.uint8)
    return [Part(name, (rows, columns // 2), torch.uint8), levels, scales]


def _pieces(tensors: Sequence[Stored], precision: QuantizedPrecision) -> Iterator[tuple[str, Tensor]]:
    """The content of `_parts`, one after the other, the large ones in pieces; with the name of each."""
    for stored, tensor in read_stored(tensors):
        kind = precision_of(stored.name, stored.shape, precision)
        rest: dict[str, list[Tensor]] = {"levels": [], "scales": []}
        at_once = max(1, PIECE // stored.shape[-1] // TOGETHER) * TOGETHER
        for some in torch.split(tensor.detach(), at_once):
            if not bool(some.isfinite().all()):
                raise refused("engine.weights-not-numbers", stored.path)
            if kind is None:
                yield stored.name, some.to(OTHERS)
                continue
            made = quantize(some, kind)
            yield stored.name, made.codes
            rest["scales"].append(made.scales)
            if made.levels is not None:
                rest["levels"].append(made.levels)
        for suffix, found in rest.items():
            if found:
                yield f"{stored.name}.{suffix}", torch.cat(found)


def _load_kept(kept: Path, shapes: Mapping[str, tuple[int, ...]], precision: QuantizedPrecision) -> Weights | None:
    """What was kept; None if there is none. A file that the disk damaged is removed."""
    if not cache.is_kept(kept):
        return None
    try:
        found = dict(read_tensors(kept))
    except BchatError as error:
        if not error.key.startswith(("engine.weights-", "engine.file-")):
            raise
        found = {}
    names = dict(shapes) | ({HEAD: shapes[EMBEDDING]} if HEAD in found else {})
    for name, shape in names.items():
        for part in _parts(name, shape, precision):
            tensor = found.get(part.name)
            if tensor is None or tuple(tensor.shape) != part.shape or tensor.dtype != part.dtype:
                cache.discard(kept)
                return None
    return _assemble(found, names, precision)


def _make(tensors: Sequence[Stored], precision: QuantizedPrecision) -> Weights:
    """The same in memory."""
    found: dict[str, list[Tensor]] = {}
    for name, piece in _pieces(tensors, precision):
        found.setdefault(name, []).append(piece)
    joined = {name: torch.cat(pieces) for name, pieces in found.items()}
    return _assemble(joined, {each.name: each.shape for each in tensors}, precision)


def _assemble(
    found: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]], precision: QuantizedPrecision
) -> Weights:
    return {
        name: found[name]
        if precision_of(name, shape, precision) is None
        else QuantizedMatrix(found[name], found[f"{name}.scales"], found.get(f"{name}.levels"))
        for name, shape in shapes.items()
    }
