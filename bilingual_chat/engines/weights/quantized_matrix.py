"""Matrices in 8 and 4 bits. The formats are those of kernels/.

int8: one scale a row, after each 256 columns were turned by a Hadamard matrix, which makes outliers of
a row as rare as those of normal numbers; what it is multiplied with is turned likewise (QuaRot,
Ashkboos et al. 2024). int4: 16 numbers for 32 weights at a time, times one of 256 levels, times one
scale a row; the level is the one with the least squared error. Of 4-bit formats it takes 4.25 bits a
weight, and needs no arithmetic to be widened but a look into a table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

# w8a8 is int8 whose activations are rounded to 8 bits too, instead of 16: the same weights.
QuantizedPrecision = Literal["int8", "w8a8", "int4"]
GROUP = 32  # weights of a row that share a level
BLOCK = 64  # columns that lie together: what a matrix must have a multiple of
HADAMARD_SIZE = 256  # columns, at most, that are turned together
SIDE_BY_SIDE = 4  # rows whose blocks lie side by side: what a matrix in 4 bits must have a multiple of, too
TOGETHER, FOUR = 32, 4  # rows and columns of a matrix in 8 bits that lie together
_LEVELS = 128  # of each sign
_LEVELS_AN_OCTAVE = 12
# Levels tried around the one that just holds the largest weight: letting it be cut is often better.
_TRIED = range(-6, 3)


@dataclass(frozen=True)
class QuantizedMatrix:
    """A matrix (rows, columns): codes uint8, scales float32 (rows,), and for int4 levels uint8 (rows, columns / 32).

    int8: codes (rows, columns), each number plus 128; with rows that nobody uses up to a multiple of 32.
    int4: codes (rows, columns / 2), two numbers a byte, each plus 8. In what order is written at `struct
    matrix` in kernels/types.h.
    """

    codes: Tensor
    scales: Tensor
    levels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.scales), self.codes.shape[1] * (1 if self.levels is None else 2)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that it is made of."""
        return (self.codes, self.scales, *(() if self.levels is None else (self.levels,)))

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The matrix in `dtype`, turned back."""
        numbers = self._numbers()
        return (numbers if self.levels is not None else hadamard_rotated(numbers)).to(dtype)

    def linear(self, x: Tensor, bias: Tensor | None) -> Tensor:
        """x (…, columns) times the transposed matrix, in the dtype of x; activations are as exact as that."""
        if self.levels is None:
            x = hadamard_rotated(x.float()).to(x.dtype)
        return F.linear(x, self._numbers().to(x.dtype), bias)

    def _numbers(self) -> Tensor:
        """float32 (rows, columns), as they were when they were rounded."""
        rows, columns = self.shape
        blocks = columns // BLOCK
        if self.levels is None:
            ordered = _by_rows_from_fours(self.codes)[:rows].float() - 128
        else:
            codes = _by_rows(self.codes, blocks)
            packed = codes.view(rows, blocks, 1, GROUP)
            numbers = torch.cat((packed & 15, packed >> 4), 2).float() - 8
            levels = _by_rows(self.levels, blocks).long()
            values = level_values().to(numbers.device)[levels].view(rows, blocks, 2, 1)
            ordered = (numbers * values).bfloat16().float()
        return ordered.reshape(rows, columns) * self.scales[:, None]


def level_values() -> Tensor:
    """What each of the 256 levels stands for, float32."""
    sizes = torch.exp2((torch.arange(_LEVELS) - (_LEVELS - 1)) / _LEVELS_AN_OCTAVE)
    return torch.cat((sizes, -sizes))


def quantize(matrix: Tensor, precision: QuantizedPrecision) -> QuantizedMatrix:
    """`matrix` (rows, columns), finite numbers; columns a multiple of 64, and for int4 rows of 4."""
    return _to_int4(matrix.float()) if precision == "int4" else _to_int8(matrix.float())


def hadamard_rotated(x: Tensor) -> Tensor:
    """x (…, columns), each block of columns times an orthogonal Hadamard matrix; twice is x again."""
    columns = x.shape[-1]
    size = min(columns & -columns, HADAMARD_SIZE)
    return (x.reshape(-1, columns // size, size) @ _hadamard(size).to(x.device)).reshape(x.shape)


@cache
def _hadamard(size: int) -> Tensor:
    """Sylvester's, over the root of its size: orthogonal and symmetric."""
    two = torch.tensor([[1.0, 1.0], [1.0, -1.0]])
    made = torch.ones((1, 1))
    while len(made) < size:
        made = torch.kron(two, made)
    return made / math.sqrt(size)


def _to_int8(matrix: Tensor) -> QuantizedMatrix:
    matrix = hadamard_rotated(matrix)
    scales = matrix.abs().amax(1) / 127
    numbers = (matrix / _divisor(scales)[:, None]).round_().clamp_(-127, 127)
    return QuantizedMatrix(_by_fours((numbers + 128).to(torch.uint8)), scales)


def _to_int4(matrix: Tensor) -> QuantizedMatrix:
    rows, columns = matrix.shape
    groups = matrix.view(rows, columns // GROUP, GROUP)
    # Numbers go from -8 to 7: the weight that is largest, whichever its sign, may have the eighth.
    largest = groups.gather(2, groups.abs().argmax(2, keepdim=True))[..., 0] / -8
    scales = largest.abs().amax(1)
    share = (largest.abs() / _divisor(scales)[:, None]).clamp_min(2**-20)
    middle = (_LEVELS - 1 + (share.log2() * _LEVELS_AN_OCTAVE)).round().to(torch.int32)
    sign = torch.where(largest < 0, _LEVELS, 0)
    values = level_values()
    best = torch.zeros_like(middle)
    least = torch.full_like(largest, torch.inf)
    for offset in _TRIED:
        levels = (middle + offset).clamp(0, _LEVELS - 1) + sign
        exact = (values[levels] * scales[:, None])[..., None]
        error = (_numbers(groups, exact) * exact - groups).square_().sum(2)
        best = torch.where(error < least, levels, best)
        least = torch.minimum(error, least)
    chosen = (values[best] * scales[:, None])[..., None]
    numbers = (_numbers(groups, chosen) + 8).to(torch.uint8).view(rows, -1, 2, GROUP)
    codes = (numbers[:, :, 0] | (numbers[:, :, 1] << 4)).reshape(rows, columns // 2)
    blocks = columns // BLOCK
    return QuantizedMatrix(_by_blocks(codes, blocks), scales, _by_blocks(best.to(torch.uint8), blocks))


def _by_fours(codes: Tensor) -> Tensor:
    """Codes (rows, columns) TOGETHER rows at a time, and of these four columns of each after the other."""
    codes = F.pad(codes, (0, 0, 0, -len(codes) % TOGETHER))
    split = codes.view(-1, TOGETHER, codes.shape[1] // FOUR, FOUR)
    return split.transpose(1, 2).reshape(codes.shape)


def _by_rows_from_fours(codes: Tensor) -> Tensor:
    """The way back."""
    split = codes.view(-1, codes.shape[1] // FOUR, TOGETHER, FOUR)
    return split.transpose(1, 2).reshape(codes.shape)


def _by_blocks(table: Tensor, blocks: int) -> Tensor:
    """A table (rows, anything) whose rows are divided into blocks, with those of four rows side by side."""
    split = table.view(-1, SIDE_BY_SIDE, blocks, table.shape[1] // blocks)
    return split.transpose(1, 2).reshape(table.shape)


def _by_rows(table: Tensor, blocks: int) -> Tensor:
    """The way back."""
    split = table.view(-1, blocks, SIDE_BY_SIDE, table.shape[1] // blocks)
    return split.transpose(1, 2).reshape(table.shape)


def _numbers(groups: Tensor, scales: Tensor) -> Tensor:
    return (groups / _divisor(scales)).round_().clamp_(-8, 7)


def _divisor(scales: Tensor) -> Tensor:
    """Nothing but zeros has scale 0."""
    return torch.where(scales == 0, torch.ones_like(scales), scales)
