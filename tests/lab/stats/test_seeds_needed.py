"""Numbers of seeds, and intervals that stay valid while seeds are added: closed forms, simulated error rates."""

import math

import numpy as np
import pytest
from scipy import integrate, stats
from scipy.stats import ttest_1samp

from fgdlab.lab.stats.intervals import t_interval
from fgdlab.lab.stats.seeds_needed import (
    MAX_SEEDS,
    PRIOR_VARIANCE,
    SeedCount,
    anytime_factor,
    anytime_interval,
    group_sequential_factor,
    group_sequential_interval,
    power,
    seeds_for_power,
    seeds_for_width,
    smallest,
    std_interval,
)

LAST = 100


@pytest.fixture(scope="module")
def sequences():
    """10,000 sequences of normal differences with mean 0: mean and std after every seed, both (10,000, 100)."""
    x = np.random.default_rng(5).normal(size=(10_000, LAST))
    n = np.arange(1, LAST + 1)
    means = x.cumsum(axis=1) / n
    squares = np.square(x).cumsum(axis=1) - n * means**2
    return means, np.sqrt(np.maximum(squares, 0) / np.maximum(n - 1, 1))


def false_positives(sequences, factors: dict[int, float]) -> float:
    """The fraction of sequences in which the interval excludes 0 at least once; factors {n: half-width over std}."""
    means, stds = sequences
    return float(
        np.any([np.abs(means[:, n - 1]) > factor * stds[:, n - 1] for n, factor in factors.items()], axis=0).mean()
    )


# --- error rates ------------------------------------------------------------------------------------------------------


def test_adding_seeds_until_the_t_interval_excludes_0_has_26_percent_false_positives(sequences):
    assert false_positives(sequences, {5: group_sequential_factor(5)}) == pytest.approx(
        0.05, abs=0.005
    )  # one planned analysis
    assert false_positives(sequences, {n: group_sequential_factor(n) for n in range(3, 31)}) == pytest.approx(
        0.26, abs=0.01
    )


def test_the_anytime_valid_interval_keeps_its_error_rate_with_an_analysis_after_every_seed(sequences):
    assert 0.01 < false_positives(sequences, {n: anytime_factor(n) for n in range(3, LAST + 1)}) < 0.05


def test_planned_analyses_together_have_at_most_5_percent_false_positives(sequences):
    analyses = (5, 10, 20, 40)
    assert 0.03 < false_positives(sequences, {n: group_sequential_factor(n, len(analyses)) for n in analyses}) < 0.05
    assert (
        false_positives(sequences, {n: group_sequential_factor(n) for n in analyses}) > 0.13
    )  # without the correction


def test_the_std_interval_holds_the_true_std_as_often_as_it_says():
    stds = np.random.default_rng(1).normal(size=(4000, 4)).std(axis=1, ddof=1)
    low, high = std_interval(1.0, 4)  # both ends are proportional to the std
    assert np.mean((low * stds <= 1) & (high * stds >= 1)) == pytest.approx(0.8, abs=0.02)
    assert std_interval(2.5, 4) == pytest.approx((2.5 * low, 2.5 * high))


def test_the_power_is_the_share_of_t_tests_that_find_the_difference():
    draws = np.random.default_rng(2).normal(0.9, 1, size=(20_000, 10))
    assert np.mean(ttest_1samp(draws, 0, axis=1).pvalue < 0.05) == pytest.approx(power(10, 0.9), abs=0.01)


# --- the anytime-valid interval ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n, level", [(3, 0.95), (5, 0.95), (12, 0.9)])
def test_at_the_end_of_the_anytime_valid_interval_the_bayes_factor_is_one_over_the_error(n, level):
    t = anytime_factor(n, level) * math.sqrt(n)

    def weighed(delta):  # the likelihood of t were the mean delta stds, weighed by the prior
        return stats.nct.pdf(t, n - 1, delta * math.sqrt(n)) * stats.norm.pdf(delta, scale=math.sqrt(PRIOR_VARIANCE))

    mixed, _ = integrate.quad(weighed, -12, 12, limit=400, points=[0, t / math.sqrt(n)])
    assert mixed / stats.t.pdf(t, n - 1) == pytest.approx(1 / (1 - level), rel=1e-3)


def test_the_anytime_valid_interval_is_wider_by_the_factors_of_the_docstring():
    assert [round(anytime_factor(n) / group_sequential_factor(n), 1) for n in (3, 5, 10, 20)] == [3.1, 1.9, 1.8, 1.8]
    assert anytime_factor(2) == math.inf


def test_the_anytime_valid_interval_is_around_the_mean_and_scales_with_the_values():
    values = np.array([1.0, 2.0, 4.0, 3.0, 2.5])
    low, high = anytime_interval(values)
    assert (low + high) / 2 == pytest.approx(2.5) and low < t_interval(values)[0]
    assert anytime_interval(10 * values + 7) == pytest.approx((10 * low + 7, 10 * high + 7))


def test_one_value_has_no_interval_and_two_have_an_endless_one():
    assert np.isnan(anytime_interval([1.0])).all() and anytime_interval([1.0, 2.0]) == (-math.inf, math.inf)
    assert anytime_interval([2.0, 2.0]) == (2.0, 2.0)


# --- planned analyses -------------------------------------------------------------------------------------------------


def test_one_planned_analysis_is_the_t_interval():
    assert group_sequential_interval([1, 2, 4], [3]) == pytest.approx(t_interval([1, 2, 4]))


def test_each_of_two_analyses_spends_half_of_the_error():
    assert group_sequential_interval([1, 2, 4], [3, 6]) == pytest.approx(t_interval([1, 2, 4], 0.975))
    assert group_sequential_interval([1, 2, 4], [3, 6, 3]) == group_sequential_interval(
        [1, 2, 4], [3, 6]
    )  # repeated numbers count once


def test_at_a_number_that_was_not_planned_there_is_no_interval():
    assert np.isnan(group_sequential_interval([1, 2, 4, 3], [3, 6])).all()


# --- how many seeds ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("factor", [group_sequential_factor, anytime_factor])
@pytest.mark.parametrize("std, half", [(1.0, 0.5), (0.3, 1.0), (2.0, 0.4)])
def test_that_many_seeds_are_enough_and_one_less_is_not(factor, std, half):
    need = seeds_for_width(std, 3, half, factor)
    assert factor(need.seeds) * std <= half and (need.seeds == 2 or factor(need.seeds - 1) * std > half)
    assert 2 <= need.low <= need.seeds <= need.high


def test_three_seeds_of_std_1_ask_for_18_and_say_how_little_they_know():
    assert seeds_for_width(1.0, 3, 0.5) == SeedCount(18, 10, 149)


def test_more_seeds_so_far_narrow_the_range():
    few, many = seeds_for_width(1.0, 3, 0.5), seeds_for_width(1.0, 12, 0.5)
    assert few.seeds == many.seeds and many.high - many.low < few.high - few.low


def test_that_many_seeds_have_the_power_and_one_less_has_not():
    need = seeds_for_power(1.0, 5, 0.5, 0.8)
    assert power(need.seeds, 0.5) >= 0.8 > power(need.seeds - 1, 0.5) and need.low < need.seeds < need.high
    assert need.seeds == 34  # the textbook's number for half a std at 80 %
    assert seeds_for_power(1.0, 5, -0.5, 0.8) == need and seeds_for_power(1.0, 5, 0.5, 0.95).seeds > need.seeds


@pytest.mark.parametrize("n, ratio", [(2, 0.5), (3, 1.0), (5, 0.2), (20, 0.6), (2, 15.0)])
def test_power_is_that_of_the_noncentral_t(n, ratio):
    edge = stats.t.ppf(0.975, n - 1)
    expected = (
        1
        - stats.nct.cdf(edge, n - 1, ratio * math.sqrt(n))
        + (stats.nct.cdf(-edge, n - 1, ratio * math.sqrt(n)) if ratio < 5 else 0)
    )
    assert power(n, ratio) == pytest.approx(expected, abs=1e-3)


def test_power_grows_to_1_with_seeds_and_with_the_difference():
    assert all(np.all(np.diff([power(n, ratio) for n in range(2, 40)]) >= 0) for ratio in (0.05, 1.0, 2.34, 5.67, 20.0))
    assert power(10, 0) == pytest.approx(0.05, abs=1e-3)
    assert [power(3, ratio) for ratio in (30, 100, 1e4)] == pytest.approx([1, 1, 1], abs=1e-6) and power(
        50, 6
    ) == pytest.approx(1)


def test_no_difference_needs_infinitely_many_seeds_and_no_variance_needs_two():
    assert seeds_for_power(1.0, 5, 0.0).seeds == math.inf and seeds_for_power(0.0, 5, 0.0).seeds == math.inf
    assert seeds_for_power(0.0, 5, 1.0) == seeds_for_width(0.0, 5, 0.1) == SeedCount(2, 2, 2)


def test_counting_stops_where_nobody_counts():
    assert (
        smallest(lambda n: n >= MAX_SEEDS) == MAX_SEEDS
        and smallest(lambda n: False) == math.inf
        and smallest(lambda n: n >= 70_001) == 70_001
    )
