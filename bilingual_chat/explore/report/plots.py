"""Quality against diversity, paired differences and variances, as inline SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate

from bilingual_chat.explore.report.analysis import Analysis, Measured
from bilingual_chat.explore.report.marks import Words, escape, interval, number, p_value, shorten, signed
from bilingual_chat.explore.report.svg import Axis, axis_over, svg, text, text_width
from bilingual_chat.explore.statistics import Components, Difference, Estimate

_WIDTH, _HEIGHT, _LEFT, _BOTTOM = 1020, 440, 64, 48
_ROW = 24
_LONGEST = 48  # characters of a label
_VALUES_W = 250  # pixels for difference, interval and p


def trade_off(across: Measured, up: Measured, labels: Sequence[str], names: tuple[str, str]) -> str:
    """Return a scatter plot of two measures with intervals. Cells that none beats in both are joined by a line.

    labels: of the cells. names: of the measures across and up, escaped.
    """
    shown = [cell for cell in range(len(labels)) if across.estimates[cell].prompts and up.estimates[cell].prompts]
    x = axis_over(_ends([across.estimates[cell] for cell in shown]), _LEFT, _WIDTH - 16)
    y = axis_over(_ends([up.estimates[cell] for cell in shown]), _HEIGHT - _BOTTOM, 12)
    front = pareto_front(across, up, shown)
    line = " L".join(f"{x.at(across.estimates[at].mean):.0f},{y.at(up.estimates[at].mean):.0f}" for at in front)
    parts = [*_frame(x, y, names), f'<path class="front" d="M{line}"/>' if line else ""]
    for cell in sorted(shown, key=lambda cell: cell in front):
        point = _point(across.estimates[cell], up.estimates[cell], x, y, f"{cell}")
        kind = "point on" if cell in front else "point"
        values = f"{number(across.estimates[cell].mean)}, {number(up.estimates[cell].mean)}"
        parts.append(f'<g class="{kind}"><title>#{cell} {escape(labels[cell])}: {values}</title>{point}</g>')
    return svg(_WIDTH, _HEIGHT, f"{names[1]} / {names[0]}", parts, "plot")


def pareto_front(across: Measured, up: Measured, cells: Sequence[int]) -> list[int]:
    """Return the cells that no other beats in both measures, from left to right."""
    points = {cell: tuple(_merit(each, cell) for each in (across, up)) for cell in cells}
    front = [
        cell
        for cell, (x, y) in points.items()
        if not any(a >= x and b >= y and (a, b) != (x, y) for a, b in points.values())
    ]
    return sorted(front, key=lambda cell: across.estimates[cell].mean)


def _merit(measured: Measured, cell: int) -> float:
    mean = measured.estimates[cell].mean
    return -mean if measured.measure.is_higher_better is False else mean


def _ends(estimates: Sequence[Estimate]) -> list[float]:
    return [value for each in estimates for value in (each.low, each.mean, each.high)]


def _point(across: Estimate, up: Estimate, x: Axis, y: Axis, label: str) -> str:
    cx, cy = x.at(across.mean), y.at(up.mean)
    lines = ""
    if not math.isnan(across.low):
        lines += f'<path d="M{x.at(across.low):.0f},{cy:.0f}H{x.at(across.high):.0f}"/>'
    if not math.isnan(up.low):
        lines += f'<path d="M{cx:.0f},{y.at(up.low):.0f}V{y.at(up.high):.0f}"/>'
    return f'{lines}<circle cx="{cx:.0f}" cy="{cy:.0f}" r="9"/>{text(cx, cy + 3.5, label, "", "mid")}'


def _frame(x: Axis, y: Axis, names: tuple[str, str]) -> list[str]:
    """Return the grid lines, their values and the names of both axes."""
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - 16
    parts = []
    for value in x.ticks():
        parts.append(f'<path class="grid" d="M{x.at(value):.0f},12V{bottom}"/>')
        parts.append(text(x.at(value), bottom + 16, number(value), "label", "mid"))
    for value in y.ticks():
        parts.append(f'<path class="grid" d="M{_LEFT},{y.at(value):.0f}H{right}"/>')
        parts.append(text(_LEFT - 8, y.at(value) + 4, number(value), "label", "end"))
    parts.append(text((_LEFT + right) / 2, _HEIGHT - 8, names[0], "axis", "mid"))
    turned = text(0, 0, names[1], "axis", "mid")
    return [*parts, f'<g transform="translate(14,{bottom / 2:.0f}) rotate(-90)">{turned}</g>']


# -- paired differences ---------------------------------------------------------------------------------


def differences(analysis: Analysis, labels: Sequence[str], words: Words) -> str:
    """Return one line for each cell: its difference from the baseline with interval and corrected p."""
    shown = [
        (cell, each) for cell, each in enumerate(analysis.differences) if cell != analysis.baseline and each.prompts
    ]
    names = [f"#{cell} {shorten(labels[cell], _LONGEST)}" for cell, _ in shown]
    left = text_width(names) + 16
    right = max(left + 200, _WIDTH - _VALUES_W)
    axis = axis_over([0.0, *_ends([each for _, each in shown])], left, right)
    bottom = 24 + _ROW * len(shown)
    parts = [text(right + 12, 12, words("report.difference-heading"), "axis")]
    for value in axis.ticks():
        kind = "zero" if abs(value) < 1e-12 else "grid"
        parts.append(f'<path class="{kind}" d="M{axis.at(value):.0f},20V{bottom}"/>')
        parts.append(text(axis.at(value), bottom + 14, signed(value), "label", "mid"))
    for at, (name, (_, each)) in enumerate(zip(names, shown, strict=True)):
        parts.append(_difference(each, name, axis, 24 + _ROW * (at + 0.5), left, right))
    return svg(right + _VALUES_W, bottom + 22, words("report.differences"), parts, "plot")


def _difference(each: Difference, name: str, axis: Axis, y: float, left: float, right: float) -> str:
    kind = "difference told" if each.is_significant else "difference"
    line = "" if math.isnan(each.low) else f'<path d="M{axis.at(each.low):.1f},{y:.0f}H{axis.at(each.high):.1f}"/>'
    values = f"{signed(each.mean)}  [{interval(each.low, each.high)}]  p {p_value(each.p_holm)}"
    return (
        f'<g class="{kind}">{text(left - 8, y + 4, escape(name), "label", "end")}{line}'
        f'<circle cx="{axis.at(each.mean):.1f}" cy="{y:.0f}" r="4.5"/>{text(right + 12, y + 4, values, "label")}</g>'
    )


# -- variance -------------------------------------------------------------------------------------------

PARTS = ("prompt", "interaction", "seed", "rest")
_BAR = 360


def variance_bar(components: Components, label: str) -> str:
    """Return one bar of four shares."""
    shares = [getattr(components, part) / components.total for part in PARTS]
    starts = accumulate(shares, initial=0.0)
    bars = [
        f'<rect class="{part}" x="{start * _BAR:.1f}" width="{share * _BAR:.1f}" height="16">'
        f"<title>{share:.0%}</title></rect>"
        for part, share, start in zip(PARTS, shares, starts, strict=False)
    ]
    return svg(_BAR, 16, label, bars, "bar")
