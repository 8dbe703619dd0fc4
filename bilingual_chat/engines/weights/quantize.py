"""The tensors of a converted file: one per tensor of the model, or two or three for a quantized matrix.

Embeddings stay in 16 bits: a token reads one row of them. The output head always has 8 bits: it is a twentieth of the
bytes, and every token depends on it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bilingual_chat.engines.neox.config import EMBEDDING, HEAD
from bilingual_chat.engines.weights.files import refused
from bilingual_chat.engines.weights.quantized_matrix import (
    COLUMN_BLOCK,
    INT4_GROUP,
    ROWS_PER_TASK,
    TILE_OUTPUTS,
    QuantizedMatrix,
    QuantizedPrecision,
    quantize,
)
from bilingual_chat.engines.weights.reader import Stored, read_stored

FORMAT = 5  # of quantized files; raise it when a layout changes
UNQUANTIZED = torch.bfloat16  # the dtype of embeddings, norms and biases in a quantized file
MOST_ELEMENTS = 8 << 20  # converted at a time
Weights = dict[str, Tensor | QuantizedMatrix]


@dataclass(frozen=True)
class Part:
    """One tensor of a converted file."""

    name: str
    shape: tuple[int, ...]
    dtype: torch.dtype

    @property
    def size(self) -> int:
        """Bytes."""
        return math.prod(self.shape) * self.dtype.itemsize


@dataclass(frozen=True)
class Target:
    """The form of converted weights: `dtype`, and `precision` for the matrices; None quantizes nothing."""

    dtype: torch.dtype
    precision: QuantizedPrecision | None = None

    @property
    def names(self) -> list[str]:
        """The target as part of a file's identity, then those of older formats."""
        if self.precision is None:
            return [str(self.dtype)]
        stored = "int4" if self.precision == "int4" else "int8"  # w8a8 computes with the weights of int8
        return [f"{stored} {number}" for number in range(FORMAT, 0, -1)]

    def parts(self, name: str, shape: tuple[int, ...]) -> list[Part]:
        """Return the parts that a tensor of the model becomes, in order."""
        precision = precision_of(name, shape, self.precision)
        if precision is None:
            return [Part(name, shape, self.dtype)]
        rows, columns = shape
        scales = Part(f"{name}.scales", (rows,), torch.float32)
        if precision == "int8":
            return [Part(name, (rows + -rows % ROWS_PER_TASK, columns), torch.uint8), scales]
        levels = Part(f"{name}.levels", (rows, columns // INT4_GROUP), torch.uint8)
        return [Part(name, (rows, columns // 2), torch.uint8), levels, scales]

    def pieces(self, tensors: Sequence[Stored]) -> Iterator[tuple[str, Tensor]]:
        """Yield (name, content) of all parts in order, large ones in pieces. Raises BchatError for NaN or infinity."""
        for stored, tensor in read_stored(tensors):
            precision = precision_of(stored.name, stored.shape, self.precision)
            later: dict[str, list[Tensor]] = {"levels": [], "scales": []}
            rows = max(1, MOST_ELEMENTS // stored.shape[-1] // ROWS_PER_TASK) * ROWS_PER_TASK
            for piece in torch.split(tensor.detach(), rows):
                converted = piece if precision else piece.to(self.dtype)
                if not bool(converted.isfinite().all()):
                    raise refused("engine.weights-not-numbers", stored.path)
                if precision is None:
                    yield stored.name, converted
                    continue
                matrix = quantize(piece, precision)
                yield stored.name, matrix.codes
                later["scales"].append(matrix.scales)
                if matrix.levels is not None:
                    later["levels"].append(matrix.levels)
            for suffix, found in later.items():
                if found:
                    yield f"{stored.name}.{suffix}", torch.cat(found)

    def assemble(self, parts: Mapping[str, Tensor], shapes: Mapping[str, tuple[int, ...]]) -> Weights:
        """Return the weights by name, from the content of their parts."""
        return {
            name: parts[name]
            if precision_of(name, shape, self.precision) is None
            else QuantizedMatrix(parts[name], parts[f"{name}.scales"], parts.get(f"{name}.levels"))
            for name, shape in shapes.items()
        }


def precision_of(name: str, shape: tuple[int, ...], precision: QuantizedPrecision | None) -> QuantizedPrecision | None:
    """Return the precision of a tensor in a file of this `precision`; None if it is not quantized."""
    if precision is None or len(shape) != 2 or name == EMBEDDING or shape[1] % COLUMN_BLOCK:
        return None
    if name == HEAD or precision != "int4":
        return "int8"
    return None if shape[0] % TILE_OUTPUTS else "int4"


def quantized_bytes(name: str, shape: tuple[int, ...], precision: QuantizedPrecision) -> int:
    """Return the bytes that a tensor takes in a quantized file."""
    return sum(part.size for part in Target(UNQUANTIZED, precision).parts(name, shape))
