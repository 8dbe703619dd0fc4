"""Statistics of a sweep: cases with known answers, published data, and simulations of what they promise."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from bilingual_chat.explore import statistics
from bilingual_chat.explore.statistics import (
    Array,
    best_cell,
    best_on_halves,
    detectable_difference,
    differences,
    estimate,
    holm,
    indistinguishable,
    prompt_means,
    t_quantile,
    t_within,
    variance_components,
)

SIMULATIONS = int(os.environ.get("SIMULATIONS", "1000"))  # 20,000 take two minutes
NAN = math.nan


@pytest.mark.parametrize(
    ("probability", "df", "t"),
    [
        *(
            (0.975, df, t)
            for df, t in [(1, 12.7062), (2, 4.3027), (5, 2.5706), (9, 2.2622), (19, 2.0930), (29, 2.0452)]
        ),
        *((0.95, df, t) for df, t in [(1, 6.3138), (5, 2.0150), (10, 1.8125), (60, 1.6706), (120, 1.6577)]),
        *((0.995, df, t) for df, t in [(2, 9.9248), (10, 3.1693), (100, 2.6259)]),
        *((0.5, 7, 0.0), (0.025, 19, -2.0930), (0.975, 100_000, 1.9600)),
    ],
)
def test_quantiles_of_t_are_those_of_the_tables(probability: float, df: int, t: float) -> None:
    assert t_quantile(probability, df) == pytest.approx(t, abs=6e-5)


def test_t_is_the_integral_of_its_density() -> None:
    for df in (1, 2, 3, 8, 33):
        x = np.linspace(-1.7, 1.7, 20_001)
        density = (1 + x**2 / df) ** (-(df + 1) / 2)
        scale = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
        assert t_within(1.7, df) == pytest.approx(scale * np.trapezoid(density, x), abs=1e-8)


def test_a_prompt_counts_once_however_many_seeds_it_has() -> None:
    values = np.array([[[0.0, 0.0, 0.0]], [[6.0, NAN, NAN]]])
    assert prompt_means(values).tolist() == [[0.0], [6.0]]
    assert estimate(prompt_means(values))[0].mean == 3


def test_few_prompts_get_the_interval_of_t() -> None:
    """Mean 2, standard error 1/√3, t(0.975, 2) = 4.3027."""
    found = estimate(np.array([[1.0], [2.0], [3.0]]))[0]
    assert (found.mean, found.prompts) == (2, 3)
    assert (found.low, found.high) == (
        pytest.approx(2 - 4.3027 / math.sqrt(3), abs=1e-4),
        pytest.approx(4.4841, abs=1e-4),
    )


def test_one_prompt_has_no_interval_and_none_has_no_mean() -> None:
    found = estimate(np.array([[1.0, NAN], [NAN, NAN]]))
    assert (found[0].mean, found[0].prompts) == (1, 1)
    assert math.isnan(found[0].low)
    assert math.isnan(found[1].mean)
    assert found[1].prompts == 0


def test_an_interval_stays_within_the_bounds() -> None:
    found = estimate(np.array([[0.0], [0.0], [0.3]]), bounds=(0, 1))[0]
    assert found.low == 0
    assert 0 < found.high < 1


@pytest.mark.parametrize("prompts", [10, 40])
def test_no_case_in_so_many_prompts_does_not_prove_that_there_is_none(prompts: int) -> None:
    """Clopper and Pearson: 0 of 10 has [0, 0.3085], 10 of 10 [0.6915, 1]."""
    reach = 0.3085 if prompts == 10 else 0.0881
    none, all_ = estimate(np.array([[0.0, 1.0]] * prompts), bounds=(0, 1))
    assert (none.low, none.high) == (0, pytest.approx(reach, abs=1e-4))
    assert (all_.low, all_.high) == (pytest.approx(1 - reach, abs=1e-4), 1)


def test_a_missing_value_costs_only_its_own_column() -> None:
    random = np.random.default_rng(0)
    whole = random.normal(size=(30, 2))
    holed = np.column_stack([whole[:, 0], np.where(np.arange(30) < 5, NAN, whole[:, 1])])
    assert estimate(holed)[0].low == pytest.approx(estimate(whole)[0].low, abs=1e-12)
    assert estimate(holed)[1].mean == pytest.approx(whole[5:, 1].mean())
    assert estimate(holed)[1].prompts == 25


def test_the_same_seed_gives_the_same_interval() -> None:
    means = np.random.default_rng(0).normal(size=(30, 1))
    assert estimate(means, seed=1) == estimate(means, seed=1) != estimate(means, seed=2)


def test_a_bootstrap_over_prompts_is_that_of_plain_loops() -> None:
    """The slow form: draw the rows one by one. Both have the same standard deviation, up to their noise."""
    means = np.random.default_rng(3).exponential(size=(25, 1))
    random = np.random.default_rng(4)
    slow = [means[random.integers(0, 25, 25), 0].mean() for _ in range(10_000)]
    fast = statistics.bootstrap_means(means)[:, 0]
    assert fast.shape == (10_000,)
    assert np.mean(fast) == pytest.approx(np.mean(slow), rel=0.02)
    assert np.std(fast) == pytest.approx(np.std(slow), rel=0.03)
    assert np.quantile(fast, [0.025, 0.975]) == pytest.approx(np.quantile(slow, [0.025, 0.975]), rel=0.03)


def test_percentiles_are_expanded_for_few_prompts() -> None:
    """Of a bootstrap distribution that is exactly normal, the interval would be t's: Φ(−2.0930 √(20/19)) = 0.0159."""
    means = np.random.default_rng(12).normal(size=(20, 1))
    resampled = statistics.bootstrap_means(means)[:, 0]
    found = estimate(means)[0]
    assert np.mean(resampled < found.low) == pytest.approx(0.0159, abs=2e-4)
    assert np.mean(resampled > found.high) == pytest.approx(0.0159, abs=2e-4)


# -- differences ------------------------------------------------------------------------------------------


def test_a_difference_is_paired_by_prompt() -> None:
    """Prompts differ by hundreds, the cells by 1 in each prompt but for ± 0.1."""
    means = np.array([[100.0, 101.1], [300.0, 300.9], [500.0, 501.0]])
    baseline, difference = differences(means, 0)
    assert difference.mean == pytest.approx(1)
    assert difference.high - difference.low == pytest.approx(2 * 4.3027 * 0.1 / math.sqrt(3), abs=1e-3)
    assert difference.p == pytest.approx(0.0033, abs=1e-4)  # t = 17.32 with 2 degrees of freedom
    assert (baseline.mean, difference.is_significant) == (0, True)
    assert math.isnan(baseline.p)


def test_the_order_of_subtraction_is_cell_minus_baseline() -> None:
    assert differences(np.array([[1.0, 4.0], [1.0, 5.0]]), 1)[0].mean == -3.5


def test_differences_use_the_prompts_that_both_cells_have() -> None:
    found = differences(np.array([[0.0, 1.0], [0.0, NAN], [NAN, 9.0], [0.0, 2.0]]), 0)[1]
    assert (found.mean, found.prompts) == (1.5, 2)


def test_equal_differences_have_the_p_of_a_sign_test() -> None:
    found = differences(np.array([[0.1, 0.3]] * 6), 0)[1]
    assert found.p == 2**-5
    assert differences(np.array([[0.1, 0.1]] * 6), 0)[1].p == 1


def test_holm_by_hand() -> None:
    """0.01·4, 0.02·3, 0.03·2 (raised to 0.06), 0.9; in any order."""
    assert holm([0.03, 0.01, 0.9, 0.02]) == pytest.approx([0.06, 0.04, 0.9, 0.06])
    assert holm([0.5, NAN, 0.6])[::2] == [1, 1]


def test_the_human_study_of_min_p_has_the_published_differences() -> None:
    """Schaeffer et al. 2025 (arXiv 2506.13681): min-p (C) beats top-p (B), and is not told from no filter (A).

    The published intervals are plain percentiles; ours are expanded for 53 participants, by about 0.02.
    """
    rows = np.loadtxt(Path(__file__).parent / "min_p_study.csv", delimiter=",", comments="#", skiprows=5)
    assert rows.shape == (53, 9)
    first, quality, diversity = rows[:, :3], rows[:, 3:6] / 6, rows[:, 6:] / 6
    for means, baseline, published in [
        (first, 1, (1.09, 0.58, 1.60)),
        (quality, 0, (0.21, -0.03, 0.47)),
        (diversity, 0, (-0.12, -0.40, 0.18)),
    ]:
        found = differences(means, baseline)[2]
        assert (found.mean, found.low, found.high) == pytest.approx(published, abs=0.026)
        assert found.is_significant == (baseline == 1)


# -- the best cell ----------------------------------------------------------------------------------------


def test_the_best_cell_is_the_highest_or_the_lowest() -> None:
    means = np.array([[1.0, 3.0, NAN, 2.0], [1.0, 3.0, NAN, 2.0]])
    assert best_cell(means, is_higher_better=True) == 1
    assert best_cell(means, is_higher_better=False) == 0
    assert best_cell(np.array([[NAN]]), is_higher_better=True) is None


def test_the_best_of_many_equal_cells_looks_good_only_where_it_was_chosen() -> None:
    random = np.random.default_rng(5)
    found = [best_on_halves(random.normal(size=(12, 30)), is_higher_better=True, seed=s) for s in range(200)]
    assert np.mean([each.chosen_on.mean for each in found if each]) > 0.6  # E[max of 30] of N(0, 1/6) is 0.83
    assert np.mean([each.reported_on.mean for each in found if each]) == pytest.approx(0, abs=0.1)


def test_the_halves_share_no_prompt() -> None:
    means = np.arange(9.0)[:, None]
    found = best_on_halves(means, is_higher_better=True)
    assert found
    assert found.chosen_on.prompts + found.reported_on.prompts == 9
    assert found.chosen_on.mean * 4 + found.reported_on.mean * 5 == pytest.approx(36)
    assert best_on_halves(means[:3], is_higher_better=True) is None


def test_cells_that_differ_clearly_are_told_from_the_best() -> None:
    random = np.random.default_rng(6)
    means = random.normal(size=(15, 1)) * 100 + random.normal(size=(15, 3)) + [0, 0, 10]
    assert indistinguishable(means, 2) == [2]
    assert indistinguishable(means, 0) == [0, 1]


def test_the_truly_best_cell_is_nearly_always_among_the_indistinguishable() -> None:
    """Although the one that looks best is often another: 8 cells, the first better by a third of its noise."""
    random = np.random.default_rng(7)
    missed = 0
    for _ in range(300):
        means = random.normal(size=(15, 1)) + random.normal(size=(15, 8)) + [0.3, *[0.0] * 7]
        best = best_cell(means, is_higher_better=True)
        missed += best is None or 0 not in indistinguishable(means, best)
    assert missed <= 15


# -- variance ---------------------------------------------------------------------------------------------


def simulated(prompts: int, cells: int, seeds: int, deviations: tuple[float, float, float, float]) -> Array:
    random = np.random.default_rng(8)
    prompt, interaction, seed, rest = deviations
    return (
        random.normal(0, prompt, (prompts, 1, 1))
        + random.normal(0, interaction, (prompts, cells, 1))
        + random.normal(0, seed, (prompts, 1, seeds))
        + random.normal(0, rest, (prompts, cells, seeds))
        + np.arange(cells)[:, None] * 10
    )


def test_variances_that_were_put_in_come_out() -> None:
    found = variance_components(simulated(1500, 6, 4, (2, 1, 0.5, 0.7)))
    assert found
    assert (found.prompt, found.interaction, found.seed, found.rest) == pytest.approx((4, 1, 0.25, 0.49), rel=0.08)
    assert (found.prompts, found.cells, found.seeds) == (1500, 6, 4)


@pytest.mark.parametrize("only", range(4))
def test_one_source_of_variance_is_told_from_the_others(only: int) -> None:
    found = variance_components(simulated(400, 5, 3, tuple(float(at == only) for at in range(4))))  # type: ignore[arg-type]
    assert found
    shares = [each / found.total for each in (found.prompt, found.interaction, found.seed, found.rest)]
    assert shares[only] > 0.98


def test_variances_by_hand() -> None:
    """Two prompts at ± 1, two seeds at ± 1 within each, in two cells: MS 16/1 for prompts, 4/1 for seeds, else 0."""
    values = np.array([[[2.0, 0.0], [2.0, 0.0]], [[0.0, -2.0], [0.0, -2.0]]])
    found = variance_components(values)
    assert found
    assert (found.prompt, found.interaction, found.seed, found.rest) == (1.0, 0, 2.0, 0)


def test_a_prompt_with_a_missing_value_is_left_out_of_the_variances() -> None:
    values = simulated(10, 2, 2, (1, 1, 1, 1))
    values[3, 0, 1] = NAN
    found = variance_components(values)
    assert found
    assert found.prompts == 9
    assert variance_components(values[:, :1]) is None


def test_a_detectable_difference_is_detected_four_times_in_five() -> None:
    """Prompts at n = 16 with paired differences of standard deviation 1: (2.131 + 0.866) / 4."""
    random = np.random.default_rng(9)
    means = random.normal(size=(16, 1)) + np.column_stack([np.zeros(16), random.normal(size=16)])
    means[:, 1] = means[:, 0] + (means[:, 1] - means[:, 0]) / np.std(means[:, 1] - means[:, 0], ddof=1)
    reach = detectable_difference(means, 0)
    assert reach == pytest.approx((2.1314 + 0.8662) / 4, abs=1e-3)
    trials = random.normal(reach, 1, size=(16, 2000))
    found = differences(np.column_stack([np.zeros(16), trials]), 0)
    assert np.mean([each.p < 0.05 for each in found[1:]]) == pytest.approx(0.8, abs=0.03)


# -- coverage ---------------------------------------------------------------------------------------------


def normal(random: np.random.Generator, trials: int) -> tuple[Array, float]:
    return random.normal(size=(20, trials, 1)) + random.normal(size=(20, trials, 3)), 0.0


def binary(random: np.random.Generator, trials: int) -> tuple[Array, float]:
    chances = random.beta(2, 2, size=(20, trials, 1))
    return (random.random((20, trials, 3)) < chances).astype(float), 0.5


def skewed(random: np.random.Generator, trials: int) -> tuple[Array, float]:
    return random.exponential(size=(20, trials, 1)) + random.exponential(size=(20, trials, 3)), 2.0


@pytest.mark.parametrize("make", [normal, *(pytest.param(make, marks=pytest.mark.slow) for make in (binary, skewed))])
def test_intervals_cover_the_truth_in_95_of_100_sweeps(
    make: Callable[[np.random.Generator, int], tuple[Array, float]],
) -> None:
    """20 prompts × 3 seeds, prompts as different as the seeds of one prompt."""
    values, truth = make(np.random.default_rng(10), SIMULATIONS)
    found = estimate(prompt_means(values))
    assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.slow
def test_naive_intervals_would_not() -> None:
    """Over 60 replies as if they were independent: the simulation sees the mistake that the module avoids."""
    values, truth = normal(np.random.default_rng(10), SIMULATIONS)
    found = estimate(values.transpose(0, 2, 1).reshape(60, -1))
    assert np.mean([each.low <= truth <= each.high for each in found]) < 0.88


@pytest.mark.slow
def test_intervals_of_differences_cover_the_truth_too() -> None:
    random = np.random.default_rng(11)
    found = differences(np.column_stack([np.zeros(20), random.normal(size=(20, SIMULATIONS))]), 0)[1:]
    assert np.mean([each.low <= 0 <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)
    assert np.mean([each.p < 0.05 for each in found]) == pytest.approx(0.05, abs=0.02)
