"""A sweep as numbers: each measure by prompt and cell, with intervals, and the best cell by the main measure."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from bilingual_chat.explore import statistics
from bilingual_chat.explore.measures import distinct, pairwise_chrf
from bilingual_chat.explore.results import Reply, Results
from bilingual_chat.explore.statistics import Array, Bounds, Difference, Estimate, HeldOut
from bilingual_chat.messages import did_you_mean
from bilingual_chat.messages.errors import BchatError, ExitStatus

_SHARE: Bounds = (0.0, 1.0)
_AT_LEAST_0: Bounds = (0.0, math.inf)
_ANY: Bounds = (-math.inf, math.inf)
_TOO_LARGE = 1e100
_SCORES_UP_TO_1 = ("exact", "contains", "regex", "chrf", "choice")


@dataclass(frozen=True)
class Measure:
    """What is measured. `is_higher_better` is None where more is neither better nor worse."""

    name: str
    is_higher_better: bool | None
    bounds: Bounds = _SHARE


@dataclass(frozen=True)
class Measured:
    """A measure by prompt and cell. values: (prompts, cells, seeds), or None if it takes all seeds of a prompt.

    `best` has the best mean; `near` are the cells that cannot be told from it, itself included.
    """

    measure: Measure
    means: Array
    values: Array | None
    estimates: list[Estimate]
    best: int | None
    near: frozenset[int]

    @property
    def is_constant(self) -> bool:
        """Return True if every prompt has the same value in every cell."""
        known = self.means[~np.isnan(self.means).all(axis=1)]
        return bool((np.nanmax(known, axis=1) - np.nanmin(known, axis=1) < 1e-12).all())


@dataclass(frozen=True)
class Analysis:
    """Everything that a report shows. `main`: the measure that chooses the best cell."""

    results: Results
    measured: dict[str, Measured]
    main: Measured
    baseline: int
    differences: list[Difference]
    held_out: HeldOut | None
    winner: int
    detectable: float


# In the order of a report. Each function gives the value of one reply; NaN if it has none.
_OF_REPLY: dict[str, tuple[Measure, Callable[[Reply], float]]] = {
    name: (Measure(name, is_higher_better, bounds), value)
    for name, is_higher_better, bounds, value in (
        ("score", True, _ANY, lambda reply: _column(reply, "score")),
        ("clean", True, _SHARE, lambda reply: float(is_clean(reply))),
        ("rep4", False, _SHARE, lambda reply: _column(reply, "rep4")),
        ("loop", False, _SHARE, lambda reply: _column(reply, "loop")),
        ("leak", False, _SHARE, lambda reply: _column(reply, "leak")),
        ("cut", False, _SHARE, lambda reply: float(is_cut(reply))),
        ("tokens", None, _AT_LEAST_0, lambda reply: _column(reply, "tokens")),
        ("surprisal", None, _AT_LEAST_0, lambda reply: _surprisal(reply)),
        ("entropy", None, _AT_LEAST_0, lambda reply: _column(reply, "entropy_mean")),
        ("rank", None, (1.0, math.inf), lambda reply: _column(reply, "rank_mean")),
        ("japanese", None, _SHARE, lambda reply: _column(reply, "ja_share")),
    )
}
# Of all replies that a prompt gets in a cell.
_OF_PROMPT: dict[str, tuple[Measure, Callable[[Sequence[Reply]], float | None]]] = {
    "diversity": (Measure("diversity", True), lambda replies: _diversity(replies)),
    "distinct2": (Measure("distinct2", True), lambda replies: distinct([reply.ids for reply in replies], 2)),
}
NAMES = ("score", "clean", *_OF_PROMPT, *(name for name in _OF_REPLY if name not in ("score", "clean")))


def analyse(results: Results, by: str | None = None, baseline: int = 0) -> Analysis:
    """Return the analysis of a sweep. Raises BchatError (USAGE) for an unknown measure or cell.

    by: the main measure; by default the score, otherwise the share of clean replies.
    """
    if not 0 <= baseline < len(results.cells):
        raise BchatError("report.baseline", status=ExitStatus.USAGE, number=baseline, last=len(results.cells) - 1)
    measured = _measure_all(results)
    main = _main_measure(measured, by)
    means, direction = main.means, bool(main.measure.is_higher_better)
    held_out = statistics.best_on_halves(means, is_higher_better=direction, bounds=main.measure.bounds)
    return Analysis(
        results,
        measured,
        main,
        baseline,
        statistics.differences(means, baseline),
        held_out,
        held_out.cell if held_out else main.best or 0,
        statistics.detectable_difference(means, baseline),
    )


def is_cut(reply: Reply) -> bool:
    return reply.finish == "length"


def is_clean(reply: Reply) -> bool:
    """Return True if the reply has text, no loop and no leak, and ended by itself.

    A reply of a set length (min_new_tokens = max_new_tokens) is not expected to end by itself.
    """
    has_set_length = reply.columns.get("min_new_tokens") == reply.columns.get("max_new_tokens")
    is_faulty = reply.columns.get("loop") is True or reply.columns.get("leak") is True
    return bool(reply.text.strip()) and not is_faulty and (has_set_length or not is_cut(reply))


def _column(reply: Reply, name: str) -> float:
    """Return a number of the reply's line; NaN if it has none, or one whose square would overflow."""
    value = reply.columns.get(name)
    return float(value) if isinstance(value, bool | int | float) and abs(value) < _TOO_LARGE else math.nan


def _surprisal(reply: Reply) -> float:
    """Return nats a token under the unmodified distribution; perplexity is its exponential."""
    tokens = _column(reply, "tokens")
    return -_column(reply, "logprob_model") / tokens if tokens else math.nan


def _diversity(replies: Sequence[Reply]) -> float | None:
    likeness = pairwise_chrf([reply.text for reply in replies])
    return None if likeness is None else 1 - likeness


def _measure_all(results: Results) -> dict[str, Measured]:
    """Return the measures that have values, by name, in the order of `NAMES`."""
    found = {}
    seeds = {replicate: at for at, replicate in enumerate(results.replicates)}
    for name, (measure, value) in _OF_REPLY.items():
        values = np.full((len(results.prompts), len(results.cells), len(seeds)), math.nan)
        for reply in results.replies:
            values[reply.prompt, reply.cell, seeds[reply.replicate]] = value(reply)
        measure = _of_score(results) if name == "score" else measure
        found[name] = _measured(measure, statistics.prompt_means(values), values)
    for name, means in _prompt_measures(results).items():
        found[name] = _measured(_OF_PROMPT[name][0], means, None)
    return {name: found[name] for name in NAMES if not np.isnan(found[name].means).all()}


def _of_score(results: Results) -> Measure:
    score = results.manifest.get("score")
    about = score if isinstance(score, dict) else {}
    bounds = _SHARE if about.get("name") in _SCORES_UP_TO_1 else _ANY
    return Measure("score", about.get("higher_is_better") is not False, bounds)


def _prompt_measures(results: Results) -> dict[str, Array]:
    """Return the measures across seeds; NaN where a prompt has fewer than two replies in a cell."""
    groups = defaultdict(list)
    for reply in results.replies:
        groups[reply.prompt, reply.cell].append(reply)
    found = {name: np.full((len(results.prompts), len(results.cells)), math.nan) for name in _OF_PROMPT}
    for at, replies in groups.items():
        for name, (_, value) in _OF_PROMPT.items():
            result = value(replies) if len(replies) > 1 else None
            found[name][at] = math.nan if result is None else result
    return found


def _measured(measure: Measure, means: Array, values: Array | None) -> Measured:
    estimates = statistics.estimate(means, measure.bounds)
    best = None
    if measure.is_higher_better is not None:
        best = statistics.best_cell(means, is_higher_better=measure.is_higher_better)
    near = frozenset() if best is None else frozenset(statistics.indistinguishable(means, best))
    known = {cell for cell, each in enumerate(estimates) if each.prompts}
    return Measured(measure, means, values, estimates, best, near & known)


def _main_measure(measured: dict[str, Measured], by: str | None) -> Measured:
    name = by or ("score" if "score" in measured else "clean")
    usable = [each for each, found in measured.items() if found.measure.is_higher_better is not None]
    if name not in usable:
        suggestion = did_you_mean(name, usable)
        raise BchatError(
            "report.by", status=ExitStatus.USAGE, name=name, known=", ".join(usable), suggestion=suggestion
        )
    return measured[name]
