"""Statistics of a sweep. The unit is the prompt; seeds are nested in it.

Replies to one prompt resemble each other, so intervals over replies are wrong: too narrow for a mean, too wide for a
difference of two cells (Miller 2024, arXiv 2411.00640). First each prompt gets its mean over the seeds, then all
intervals and tests are over prompts. NaN is a missing value. Random draws are seeded: a report is reproducible.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float64]
Bounds: TypeAlias = tuple[float, float]

CONFIDENCE, POWER = 0.95, 0.8
RESAMPLES = 10_000
FEW_PROMPTS = 20  # below, t intervals (Bowyer et al. 2025, arXiv 2503.01747)
_BLOCK = 500  # resamples at once
_UNBOUNDED = (-math.inf, math.inf)


@dataclass(frozen=True)
class Estimate:
    """A mean over prompts with its 95 % interval, which is NaN below two prompts; without any, the mean is NaN too."""

    mean: float
    low: float
    high: float
    prompts: int


@dataclass(frozen=True)
class Difference(Estimate):
    """The mean difference of two cells, paired by prompt. `p`: two-sided; `p_holm`: corrected for all cells."""

    p: float
    p_holm: float

    @property
    def is_significant(self) -> bool:
        return self.p_holm < 1 - CONFIDENCE


@dataclass(frozen=True)
class Components:
    """Variances of one reply's value around the mean of its cell, by what varies.

    prompt: some prompts have higher values in all cells. interaction: prompts respond differently to the settings.
    seed: a seed has higher values in all cells, thanks to common random numbers. rest: everything else.
    """

    prompt: float
    interaction: float
    seed: float
    rest: float
    prompts: int
    cells: int
    seeds: int

    @property
    def total(self) -> float:
        return self.prompt + self.interaction + self.seed + self.rest


@dataclass(frozen=True)
class HeldOut:
    """The best cell on one half of the prompts, and its mean on the other half."""

    cell: int
    chosen_on: Estimate
    reported_on: Estimate


# -- Student's t ----------------------------------------------------------------------------------------


def t_within(t: float, df: int) -> float:
    """Return P(|T| <= t) for Student's t with `df` degrees of freedom, a whole number.

    Exact finite series: Abramowitz & Stegun 1964, 26.7.3 and 26.7.4.
    """
    angle = math.atan2(t, math.sqrt(df))
    sine, cosine = math.sin(angle), math.cos(angle)
    term = cosine if df % 2 else 1.0
    total = 0.0
    for k in range(1 + df % 2, df, 2):  # the exponent of the next cosine is that of the last plus 2
        total += term
        term *= cosine**2 * k / (k + 1)
    return 2 / math.pi * (angle + sine * total) if df % 2 else sine * total


def t_quantile(probability: float, df: int) -> float:
    """Return t with P(T <= t) = `probability` for Student's t with `df` degrees of freedom. Source: bisection."""
    if probability < 0.5:
        return -t_quantile(1 - probability, df)
    inside = 2 * probability - 1
    low, high = 0.0, 1.0
    while t_within(high, df) < inside:
        low, high = high, 2 * high
    while (middle := (low + high) / 2) not in (low, high):
        low, high = (middle, high) if t_within(middle, df) < inside else (low, middle)
    return middle


# -- means and differences ------------------------------------------------------------------------------


def prompt_means(values: Array) -> Array:
    """Return the mean over seeds, of shape (prompts, cells), from values of shape (prompts, cells, seeds)."""
    return _mean(values, axis=2)


def estimate(means: Array, bounds: Bounds = _UNBOUNDED, seed: int = 0) -> list[Estimate]:
    """Return the mean of each column of `means`, of shape (prompts, columns), with its interval.

    From 20 prompts on: a bootstrap over prompts, 10,000 resamples, percentile interval expanded for small samples
    (Hesterberg 2015, "What teachers should know about the bootstrap", section 5.3). Below: the t interval.
    `bounds`: the least and greatest possible value. If every prompt has that value, the interval is Clopper and
    Pearson's for so many prompts, since no spread does not mean no doubt.
    """
    lows, highs = _intervals(means, seed)
    found = []
    for column, low, high in zip(means.T, lows, highs, strict=True):
        present = column[~np.isnan(column)]
        low, high = _at_bounds(present, (max(float(low), bounds[0]), min(float(high), bounds[1])), bounds)
        found.append(Estimate(_mean_of(present), low, high, len(present)))
    return found


def differences(means: Array, baseline: int, seed: int = 0) -> list[Difference]:
    """Return the difference of each cell from the cell `baseline`, paired by prompt.

    means: of shape (prompts, cells). p: the paired t test, Holm's correction over all cells (Holm 1979). Differences
    without any spread have the p of a sign test, 2^(1 − prompts): t is undefined there. The baseline's own p is NaN.
    """
    lows, highs = _intervals(means - means[:, [baseline]], seed)
    pairs, tests = _paired_tests(means, baseline)
    values = zip(pairs, lows, highs, tests, holm(tests), strict=True)
    return [Difference(_mean_of(d), float(low), float(high), len(d), *both) for d, low, high, *both in values]


def _paired_tests(means: Array, baseline: int) -> tuple[list[Array], list[float]]:
    """Return the differences that are there, and the p of each cell."""
    pairs = [column[~np.isnan(column)] for column in (means - means[:, [baseline]]).T]
    return pairs, [math.nan if cell == baseline else _p_value(pair) for cell, pair in enumerate(pairs)]


def holm(p: Sequence[float]) -> list[float]:
    """Return p values corrected for their number (Holm 1979). NaN stays and does not count."""
    order = sorted((value, at) for at, value in enumerate(p) if not math.isnan(value))
    corrected, highest = [math.nan] * len(p), 0.0
    for rank, (value, at) in enumerate(order):
        highest = max(highest, min(1.0, value * (len(order) - rank)))
        corrected[at] = highest
    return corrected


def _intervals(means: Array, seed: int) -> tuple[Array, Array]:
    """Return the lower and upper ends for each column: bootstrap for many prompts, t for few, NaN below two."""
    counts = np.sum(~np.isnan(means), axis=0)
    lows, highs = _t_intervals(means, counts)
    many = counts >= FEW_PROMPTS
    if many.any():
        resampled = bootstrap_means(means[:, many], seed)
        tails = np.array([_expanded_tail(int(count)) for count in counts[many]])
        lows[many], highs[many] = _quantiles(resampled, tails), _quantiles(resampled, 1 - tails)
    return lows, highs


def _t_intervals(means: Array, counts: NDArray[np.int64]) -> tuple[Array, Array]:
    center = _mean(means, axis=0)
    factors = {count: t_quantile((1 + CONFIDENCE) / 2, count - 1) for count in map(int, set(counts)) if count > 1}
    half = np.array([factors.get(int(count), math.nan) for count in counts]) * standard_errors(means)
    return center - half, center + half


def standard_errors(means: Array) -> Array:
    """Return the standard error of each column's mean over prompts; NaN below two prompts."""
    counts = np.sum(~np.isnan(means), axis=0)
    squares = np.nansum((means - _mean(means, axis=0)) ** 2, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(counts > 1, np.sqrt(squares / (counts - 1) / counts), math.nan))


def bootstrap_means(means: Array, seed: int = 0) -> Array:
    """Return the column means of 10,000 resamples of the rows (prompts), of shape (resamples, columns).

    All columns share the resamples. A missing value is left out of its column.
    """
    prompts = len(means)
    present = ~np.isnan(means)
    filled = np.where(present, means, 0.0)
    random = np.random.default_rng(seed)
    blocks = []
    for _ in range(RESAMPLES // _BLOCK):
        weights = _draw_weights(random, prompts)
        with np.errstate(invalid="ignore"):  # 0 / 0 where a resample has no value: NaN
            blocks.append(weights @ filled / (prompts if present.all() else weights @ present))
    return np.concatenate(blocks)


def _draw_weights(random: np.random.Generator, prompts: int) -> Array:
    """Return how often each prompt is in each resample of a block: multinomial draws, several times as fast."""
    drawn = random.integers(0, prompts, (_BLOCK, prompts)) + np.arange(_BLOCK)[:, None] * prompts
    return np.bincount(drawn.ravel(), minlength=_BLOCK * prompts).reshape(_BLOCK, prompts).astype(np.float64)


def _expanded_tail(prompts: int) -> float:
    """Return the tail whose normal quantile, shrunk as a bootstrap is, gives t's: Φ(−t √(n / (n − 1)))."""
    t = t_quantile((1 + CONFIDENCE) / 2, prompts - 1) * math.sqrt(prompts / (prompts - 1))
    return math.erfc(t / math.sqrt(2)) / 2


def _quantiles(resampled: Array, probabilities: Array) -> Array:
    """Return one quantile for each column, each with its own probability."""
    ends = np.empty(resampled.shape[1])
    for probability in set(probabilities):
        ends[probabilities == probability] = np.nanquantile(resampled[:, probabilities == probability], probability, 0)
    return ends


def _at_bounds(values: Array, interval: Bounds, bounds: Bounds) -> Bounds:
    """Return Clopper and Pearson's interval if all values are at one bound, otherwise `interval`."""
    low, high = bounds
    if not len(values) or not math.isfinite(high - low) or values.min() != values.max():
        return interval
    reach = (high - low) * (1 - ((1 - CONFIDENCE) / 2) ** (1 / len(values)))
    return {low: (low, low + reach), high: (high - reach, high)}.get(float(values[0]), interval)


def _p_value(differences: Array) -> float:
    """Return the two-sided p of a paired t test."""
    count = len(differences)
    if count < 2:
        return math.nan
    mean, error = float(differences.mean()), float(differences.std(ddof=1)) / math.sqrt(count)
    if error <= abs(mean) * 1e-12:  # no spread, but for rounding
        return 2.0 ** (1 - count) if mean else 1.0
    return max(0.0, 1 - t_within(abs(mean) / error, count - 1))


def _mean(values: Array, axis: int) -> Array:
    """Return np.nanmean, without its warning where all are missing."""
    counts = np.sum(~np.isnan(values), axis=axis)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.nansum(values, axis=axis) / counts)


def _mean_of(values: Array) -> float:
    return float(values.mean()) if len(values) else math.nan


# -- the best cell --------------------------------------------------------------------------------------


def best_cell(means: Array, *, is_higher_better: bool) -> int | None:
    """Return the column of `means`, of shape (prompts, cells), with the best mean; None if there is no value."""
    by_cell = _mean(means, axis=0)
    if np.isnan(by_cell).all():
        return None
    return int(np.nanargmax(by_cell if is_higher_better else -by_cell))


def best_on_halves(
    means: Array, *, is_higher_better: bool, bounds: Bounds = _UNBOUNDED, seed: int = 0
) -> HeldOut | None:
    """Choose the best cell on one random half of the prompts, and report it on the other half.

    The best of many cells looks better than it is on the prompts that it was chosen on. None below four prompts.
    """
    order = np.random.default_rng(seed).permutation(len(means))
    here, there = means[order[: len(means) // 2]], means[order[len(means) // 2 :]]
    cell = best_cell(here, is_higher_better=is_higher_better) if len(means) >= 4 else None
    if cell is None:
        return None
    chosen_on, reported_on = (estimate(half[:, [cell]], bounds, seed)[0] for half in (here, there))
    return HeldOut(cell, chosen_on, reported_on)


def indistinguishable(means: Array, best: int) -> list[int]:
    """Return the cells that the data cannot tell from the cell `best`, which is among them.

    A cell is told apart by a paired difference with a Holm-corrected p below 0.05. Cells without two common prompts
    are in the set.
    """
    corrected = holm(_paired_tests(means, best)[1])
    return [cell for cell, p in enumerate(corrected) if not p < 1 - CONFIDENCE]


# -- variance -------------------------------------------------------------------------------------------


def variance_components(values: Array) -> Components | None:
    """Return the variance components of values of shape (prompts, cells, seeds).

    Method of moments for a balanced design: prompts and cells crossed, seeds nested in prompts; negative estimates
    become 0. Prompts with a missing value are left out. None below two prompts, two cells or two seeds.
    """
    values = values[~np.isnan(values).any(axis=(1, 2))]
    prompts, cells, seeds = values.shape
    if min(prompts, cells, seeds) < 2:
        return None
    values = values - values.mean(axis=(0, 2), keepdims=True)
    by_prompt = values.mean(axis=(1, 2), keepdims=True)
    by_seed = values.mean(axis=1, keepdims=True) - by_prompt
    by_cell = values.mean(axis=2, keepdims=True) - by_prompt
    rest = values - by_prompt - by_seed - by_cell
    ms_prompt = cells * seeds * float(np.sum(by_prompt**2)) / (prompts - 1)
    ms_cell = seeds * float(np.sum(by_cell**2)) / ((prompts - 1) * (cells - 1))
    ms_seed = cells * float(np.sum(by_seed**2)) / (prompts * (seeds - 1))
    ms_rest = float(np.sum(rest**2)) / (prompts * (seeds - 1) * (cells - 1))
    return Components(
        prompt=max(0.0, (ms_prompt - ms_cell - ms_seed + ms_rest) / (cells * seeds)),
        interaction=max(0.0, (ms_cell - ms_rest) / seeds),
        seed=max(0.0, (ms_seed - ms_rest) / cells),
        rest=ms_rest,
        prompts=prompts,
        cells=cells,
        seeds=seeds,
    )


def detectable_difference(means: Array, baseline: int) -> float:
    """Return the true difference from `baseline` that a test at 5 % finds with a power of 80 %, in the median cell.

    (t(0.975) + t(0.8)) times the standard error of the paired difference. With four times the prompts it halves. NaN
    where differences have no spread, which says nothing about other prompts.
    """
    others = np.delete(means, baseline, axis=1) - means[:, [baseline]]
    counts, errors = np.sum(~np.isnan(others), axis=0), standard_errors(others)
    found = [_reach(int(count)) * float(error) for count, error in zip(counts, errors, strict=True) if count > 1]
    return float(np.median(found)) or math.nan if found else math.nan


def _reach(count: int) -> float:
    return t_quantile((1 + CONFIDENCE) / 2, count - 1) + t_quantile(POWER, count - 1)
