"""Checkers of notebook 07: the solution is right, near misses are not."""
import math
import statistics

import pytest
from scipy import stats

from fgdlab.lab.course.exercises import reading as check
from fgdlab.lab.stats.intervals import t_interval


def half(values):
    low, high = t_interval(values)
    return (high - low) / 2


def paired(row, baseline):
    return [row[seed] - baseline[seed] for seed in sorted(row.keys() & baseline.keys())]


def needed(std, target, quantile=lambda n: stats.t.ppf(0.975, n - 1), least=2):
    n = least
    while quantile(n) * std / math.sqrt(n) > target:
        n += 1
    return n


def by_place(row, baseline):
    return [a - b for a, b in zip(row.values(), baseline.values(), strict=False)]


def all_seeds(row, baseline):
    return [row.get(seed, 0.0) - baseline.get(seed, 0.0) for seed in sorted(row.keys() | baseline.keys())]


RIGHT = {"half_width": half, "paired": paired, "seeds_needed": needed}
WRONG = {
    "std divides by n": ("half_width", lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.pstdev(x) / math.sqrt(len(x))),
    "quantile of the normal": ("half_width", lambda x: 1.96 * statistics.stdev(x) / math.sqrt(len(x))),
    "n degrees of freedom": ("half_width", lambda x: stats.t.ppf(0.975, len(x)) * statistics.stdev(x) / math.sqrt(len(x))),
    "one-sided quantile": ("half_width", lambda x: stats.t.ppf(0.95, len(x) - 1) * statistics.stdev(x) / math.sqrt(len(x))),
    "std of a value, not of the mean": ("half_width", lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.stdev(x)),
    "divided by n": ("half_width", lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.stdev(x) / len(x)),
    "factor of three seeds for all": ("half_width", lambda x: 2.484138 * statistics.stdev(x)),
    "whole width": ("half_width", lambda x: 2 * half(x)),
    "by place": ("paired", by_place),
    "seeds of the row alone": ("paired", lambda row, baseline: [row[seed] - baseline[seed] for seed in sorted(row)]),
    "a lone seed counts as 0": ("paired", all_seeds),
    "baseline minus row": ("paired", lambda row, baseline: [-each for each in paired(row, baseline)]),
    "order of the row": ("paired", lambda row, baseline: [row[seed] - baseline[seed] for seed in row if seed in baseline]),
    "mean of the differences": ("paired", lambda row, baseline: statistics.mean(paired(row, baseline))),
    "the normal in place of t": ("seeds_needed", lambda std, target: max(2, math.ceil((1.96 * std / target) ** 2))),
    "one too many": ("seeds_needed", lambda std, target: needed(std, target) + 1),
    "t of three seeds": ("seeds_needed", lambda std, target: max(2, math.ceil((4.303 * std / target) ** 2))),
    "n degrees of freedom for n": ("seeds_needed", lambda std, target: needed(std, target, lambda n: stats.t.ppf(0.975, n))),
    "whole width in place of half": ("seeds_needed", lambda std, target: needed(std, target / 2)),
    "never under three": ("seeds_needed", lambda std, target: needed(std, target, least=3)),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and verdict.message
