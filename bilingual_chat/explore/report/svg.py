"""The elements of the charts: SVG as text, and a linear axis."""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

_CHARACTER = 6.6  # pixels of a narrow character in a label


def svg(width: float, height: float, label: str, parts: Iterable[str], kind: str = "") -> str:
    """Return an SVG element of so many pixels; `label` is escaped already."""
    box = f'viewBox="0 0 {width:.0f} {height:.0f}" width="{width:.0f}" height="{height:.0f}"'
    return f'<svg class="{kind}" role="img" aria-label="{label}" {box}>{"".join(parts)}</svg>'


def text(x: float, y: float, content: str, kind: str = "", anchor: str = "") -> str:
    """Return a text element. `anchor`: "mid" or "end"; `content` is escaped already."""
    kinds = " ".join(filter(None, [kind, anchor]))
    return f'<text x="{x:.0f}" y="{y:.0f}"{f" class={chr(34)}{kinds}{chr(34)}" if kinds else ""}>{content}</text>'


def text_width(labels: Iterable[str]) -> float:
    """Return the pixels of the longest label."""
    cells = (sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in label) for label in labels)
    return _CHARACTER * max(cells, default=0)


def extent(values: Iterable[float]) -> tuple[float, float]:
    """Return the least and the greatest finite value; 0 and 1 without any."""
    known = [value for value in values if math.isfinite(value)]
    return (min(known), max(known)) if known else (0.0, 1.0)


@dataclass(frozen=True)
class Axis:
    """A linear scale: `low` is drawn at pixel `start`, `high` at `end`."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        return self.start + (self.end - self.start) * (value - self.low) / (self.high - self.low)

    def ticks(self) -> list[float]:
        """Return about five round values."""
        rough = (self.high - self.low) / 5
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [at * step for at in range(first, last + 1)]


def axis_over(values: Iterable[float], start: float, end: float) -> Axis:
    """Return an axis for `values`, with a margin of 5 %."""
    low, high = extent(values)
    margin = (high - low) * 0.05 or 0.5
    return Axis(low - margin, high + margin, start, end)
