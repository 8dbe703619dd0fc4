"""Matrices in 8 and 4 bits: weights only, activations stay what they are. The formats are those of native.c.

int8: one scale a row. int4: 16 numbers for 32 weights at a time, times one of 256 levels, times one
scale a row; the level is the one with the least squared error. Of 4-bit formats it takes 4.25 bits a
weight, and needs no arithmetic to be widened but a look into a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

QuantizedPrecision = Literal["int8", "int4"]
GROUP = 32  # weights of a row that share a level
BLOCK = 64  # columns that lie together: what a matrix must have a multiple of
SIDE_BY_SIDE = 4  # rows whose blocks lie side by side: what it must have a multiple of, too
_LEVELS = 128  # of each sign
_LEVELS_AN_OCTAVE = 12
# Levels tried around the one that just holds the largest weight: letting it be cut is often better.
_TRIED = range(-6, 3)


@dataclass(frozen=True)
class Quantized:
    """A matrix (rows, columns): codes uint8, scales float32 (rows,), and for int4 levels uint8 (rows, columns / 32).

    int8: codes (rows, columns), sign and 7 bits of size. int4: codes (rows, columns / 2), two numbers a
    byte, each plus 8. In what order is written at `struct matrix` in native.c.
    """

    codes: Tensor
    scales: Tensor
    levels: Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.codes.shape
        return rows, columns * (1 if self.levels is None else 2)

    def tensors(self) -> tuple[Tensor, ...]:
        """All that it is made of."""
        return (self.codes, self.scales, *(() if self.levels is None else (self.levels,)))

    def dequantized(self, dtype: torch.dtype) -> Tensor:
        """The matrix in `dtype`; before it is rounded to that, just what native.c computes with."""
        rows, columns = self.shape
        blocks = columns // BLOCK
        codes = _by_rows(self.codes, blocks)
        if self.levels is None:
            sizes = (codes & 127).float()
            ordered = torch.where(codes > 127, -sizes, sizes).view(rows, blocks, 4, 2, 8).transpose(2, 3)
        else:
            packed = codes.view(rows, blocks, 1, GROUP)
            numbers = torch.cat((packed & 15, packed >> 4), 2).float() - 8
            levels = _by_rows(self.levels, blocks).long()
            values = level_values().to(numbers.device)[levels].view(rows, blocks, 2, 1)
            ordered = (numbers * values).bfloat16().float()
        return (ordered.reshape(rows, columns) * self.scales[:, None]).to(dtype)


def level_values() -> Tensor:
    """What each of the 256 levels stands for, float32."""
    sizes = torch.exp2((torch.arange(_LEVELS) - (_LEVELS - 1)) / _LEVELS_AN_OCTAVE)
    return torch.cat((sizes, -sizes))


def quantize(matrix: Tensor, precision: QuantizedPrecision) -> Quantized:
    """`matrix` (rows, columns), finite numbers; rows a multiple of 4, columns of 64."""
    return _to_int8(matrix.float()) if precision == "int8" else _to_int4(matrix.float())


def _to_int8(matrix: Tensor) -> Quantized:
    rows, columns = matrix.shape
    scales = matrix.abs().amax(1) / 127
    numbers = (matrix / _divisor(scales)[:, None]).round_().clamp_(-127, 127).to(torch.int16)
    codes = (numbers.abs() | torch.where(numbers < 0, 128, 0)).to(torch.uint8)
    codes = codes.view(rows, -1, 2, 4, 8).transpose(2, 3).reshape(rows, columns)
    return Quantized(_by_blocks(codes, columns // BLOCK), scales)


def _to_int4(matrix: Tensor) -> Quantized:
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
    return Quantized(_by_blocks(codes, blocks), scales, _by_blocks(best.to(torch.uint8), blocks))


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
