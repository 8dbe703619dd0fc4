"""Matrices in 8 and 4 bits, in the formats of engines/kernels.

int8: one scale per row, after a Hadamard transform of each 256 columns, which makes outliers as rare as in normally
distributed numbers; activations are transformed likewise (QuaRot, Ashkboos et al. 2024).
int4: 16 values for each group of 32 weights, times one of 256 levels, times one scale per row. The level minimises the
squared error. That takes 4.25 bits per weight, and a table look-up dequantizes it without arithmetic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# w8a8 has the weights of int8, and rounds activations to 8 bits instead of 16.
QuantizedPrecision = Literal["int8", "w8a8", "int4"]
# The sizes of the layouts, by the names of kernels/types.h.
INT4_GROUP = 32  # weights of a row that share a level
COLUMN_BLOCK = 64  # contiguous columns; the columns of a matrix are a multiple
HADAMARD_SIZE = 256  # columns per transform, at most
TILE_OUTPUTS = 4  # rows whose column blocks alternate; the rows of an int4 matrix are a multiple
ROWS_PER_TASK, INT8_GROUP = 32, 4  # rows and columns of a contiguous tile of an int8 matrix
_LEVELS = 128  # of each sign
_LEVELS_PER_OCTAVE = 12
# Levels tried around the one that just fits the largest weight; clipping it is often better.
_LEVEL_OFFSETS = range(-6, 3)


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix (rows, columns): codes uint8, scales float32 (rows,), and for int4 levels uint8 (rows, columns / 32).

    int8: codes (rows, columns), each value plus 128; rows are padded to a multiple of 32.
    int4: codes (rows, columns / 2), two values per byte, each plus 8. `struct matrix` in kernels/types.h draws their
    order.
    """

    codes: Tensor
    scales: Tensor
    levels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.scales), self.codes.shape[1] * (1 if self.levels is None else 2)

    def tensors(self) -> tuple[Tensor, ...]:
        """Return codes, scales and levels."""
        return (self.codes, self.scales, *(() if self.levels is None else (self.levels,)))

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """Return the matrix in `dtype`."""
        values = self._values()
        return (values if self.levels is not None else hadamard_transformed(values)).to(dtype)

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """Return x (…, columns) times the transposed matrix, in the dtype of x."""
        if self.levels is None:
            x = hadamard_transformed(x.float()).to(x.dtype)
        return F.linear(x, self._values().to(x.dtype), bias)

    def _values(self) -> Tensor:
        """Return float32 (rows, columns); int8 values are still transformed."""
        rows, columns = self.shape
        blocks = columns // COLUMN_BLOCK
        if self.levels is None:
            ordered = _from_int8_layout(self.codes)[:rows].float() - 128
        else:
            codes = _from_int4_layout(self.codes, blocks)
            packed = codes.view(rows, blocks, 1, INT4_GROUP)
            numbers = torch.cat((packed & 15, packed >> 4), 2).float() - 8
            levels = _from_int4_layout(self.levels, blocks).long()
            values = level_values().to(numbers.device)[levels].view(rows, blocks, 2, 1)
            ordered = (numbers * values).bfloat16().float()
        return ordered.reshape(rows, columns) * self.scales[:, None]


def level_values() -> Tensor:
    """Return the values of the 256 levels, float32."""
    sizes = torch.exp2((torch.arange(_LEVELS) - (_LEVELS - 1)) / _LEVELS_PER_OCTAVE)
    return torch.cat((sizes, -sizes))


def quantize(matrix: Tensor, precision: QuantizedPrecision) -> QuantizedMatrix:
    """Quantize a finite `matrix` (rows, columns); columns are a multiple of 64, and for int4 rows of 4."""
    return _to_int4(matrix.float()) if precision == "int4" else _to_int8(matrix.float())


def hadamard_transformed(x: Tensor) -> Tensor:
    """Return x (…, columns), each block of columns times an orthogonal Hadamard matrix; twice gives x again."""
    columns = x.shape[-1]
    size = min(columns & -columns, HADAMARD_SIZE)
    return (x.reshape(-1, columns // size, size) @ _hadamard(size).to(x.device)).reshape(x.shape)


@cache
def _hadamard(size: int) -> Tensor:
    """Return Sylvester's matrix over the root of its size: orthogonal and symmetric."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    matrix = torch.ones((1, 1))
    while len(matrix) < size:
        matrix = torch.kron(two, matrix)
    return matrix / math.sqrt(size)


def _to_int8(matrix: Tensor) -> QuantizedMatrix:
    matrix = hadamard_transformed(matrix)
    scales = matrix.abs().amax(1) / 127
    numbers = (matrix / _divisor(scales)[:, None]).round_().clamp_(-127, 127)
    return QuantizedMatrix(_to_int8_layout((numbers + 128).to(torch.uint8)), scales)


def _to_int4(matrix: Tensor) -> QuantizedMatrix:
    rows, columns = matrix.shape
    groups = matrix.view(rows, columns // INT4_GROUP, INT4_GROUP)
    # Values go from -8 to 7; the sign of the level gives the largest weight the -8.
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))[..., 0] / -8
    scales = largest.abs().amax(1)
    share = (largest.abs() / _divisor(scales)[:, None]).clamp_min(2**-20)
    middle = (_LEVELS - 1 + (share.log2() * _LEVELS_PER_OCTAVE)).round().to(torch.int32)
    sign = torch.where(largest < 0, _LEVELS, 0)
    values = level_values()
    best = torch.zeros_like(middle)
    least = torch.full_like(largest, torch.inf)
    for offset in _LEVEL_OFFSETS:
        levels = (middle + offset).clamp(0, _LEVELS - 1) + sign
        exact = (values[levels] * scales[:, None])[..., None]
        error = (_round(groups, exact) * exact - groups).square_().sum(2)
        best = torch.where(error < least, levels, best)
        least = torch.minimum(error, least)
    chosen = (values[best] * scales[:, None])[..., None]
    numbers = (_round(groups, chosen) + 8).to(torch.uint8).view(rows, -1, 2, INT4_GROUP)
    codes = (numbers[:, :, 0] | (numbers[:, :, 1] << 4)).reshape(rows, columns // 2)
    blocks = columns // COLUMN_BLOCK
    return QuantizedMatrix(_to_int4_layout(codes, blocks), scales, _to_int4_layout(best.to(torch.uint8), blocks))


def _to_int8_layout(codes: Tensor) -> Tensor:
    """Return codes (rows, columns) in tiles of ROWS_PER_TASK rows and INT8_GROUP columns."""
    codes = F.pad(codes, (0, 0, 0, -len(codes) % ROWS_PER_TASK))
    split = codes.view(-1, ROWS_PER_TASK, codes.shape[1] // INT8_GROUP, INT8_GROUP)
    return split.transpose(1, 2).reshape(codes.shape)


def _from_int8_layout(codes: Tensor) -> Tensor:
    """Return codes in row order."""
    split = codes.view(-1, codes.shape[1] // INT8_GROUP, ROWS_PER_TASK, INT8_GROUP)
    return split.transpose(1, 2).reshape(codes.shape)


def _to_int4_layout(table: Tensor, blocks: int) -> Tensor:
    """Return a table (rows, any), its rows cut into blocks, with the blocks of TILE_OUTPUTS rows alternating."""
    split = table.view(-1, TILE_OUTPUTS, blocks, table.shape[1] // blocks)
    return split.transpose(1, 2).reshape(table.shape)


def _from_int4_layout(table: Tensor, blocks: int) -> Tensor:
    """Return a table in row order."""
    split = table.view(-1, blocks, TILE_OUTPUTS, table.shape[1] // blocks)
    return split.transpose(1, 2).reshape(table.shape)


def _round(groups: Tensor, scales: Tensor) -> Tensor:
    return (groups / _divisor(scales)).round_().clamp_(-8, 7)


def _divisor(scales: Tensor) -> Tensor:
    """Return scales that divide; a row of zeros has scale 0."""
    return torch.where(scales == 0, torch.ones_like(scales), scales)
