"""Checkers of notebook 07: the half-width of a t-interval, differences paired by seed, and how many seeds a difference needs."""
import math

from scipy import stats

from .judge import Case, Verdict, judge


def half_width(answer) -> Verdict:
    """answer(values): half the width of the 95 % t-interval of their mean, t(0.975; n - 1) * s / sqrt(n), s with n - 1."""
    def of(values: list[float]) -> float:
        n, mean = len(values), sum(values) / len(values)
        std = math.sqrt(sum((value - mean) ** 2 for value in values) / (n - 1))
        return float(stats.t.ppf(0.975, n - 1)) * std / math.sqrt(n)

    three, five, two = [18.0, 19.0, 21.0], [15.2, 16.9, 14.1, 17.7, 16.0], [3.0, 4.0]
    return judge(answer, [
        Case("three values", (three,), of(three), hint="with three values the factor before s is 4.30 / sqrt(3) = 2.48; s divides by n - 1."),
        Case("five values", (five,), of(five), hint="the t quantile has n - 1 degrees of freedom, 2.78 for n = 5."),
        Case("two values", (two,), of(two)),
        Case("three equal values", ([7.0, 7.0, 7.0],), 0.0),
    ])


def paired(answer) -> Verdict:
    """answer(row, baseline): two dicts {seed: AP} -> list of differences row minus baseline of the seeds in both, smallest seed first."""
    row, baseline = {0: 19.3, 1: 18.0, 2: 19.0}, {0: 15.6, 1: 14.6, 2: 15.4}
    return judge(answer, [
        Case("three seeds in both", (row, baseline), [3.7, 3.4, 3.6]),
        Case("the same in another order", (dict(reversed(row.items())), baseline), [3.7, 3.4, 3.6], hint="pair by seed, not by place, and sort the seeds."),
        Case("a seed that only the row has", (row | {3: 25.0}, baseline), [3.7, 3.4, 3.6], hint="seed 3 has no partner: leave it out."),
        Case("a seed that only the baseline has", ({0: 19.3, 2: 19.0}, baseline), [3.7, 3.6], hint="seed 1 has no partner: leave it out."),
    ])


def seeds_needed(answer) -> Verdict:
    """answer(std, target): the least n >= 2 with t(0.975; n - 1) * std / sqrt(n) <= target."""
    return judge(answer, [
        Case("differences scatter by 0.7 AP, half-width of 0.5 wanted", (0.7, 0.5), 11, hint="try n = 2, 3, 4, ... and stop at the first that is narrow enough."),
        Case("differences scatter by 1.2 AP, half-width of 0.5 wanted", (1.2, 0.5), 25, hint="the t quantile changes with n; 1.96 would give 23."),
        Case("differences scatter by 1.0 AP, half-width of 2.5 wanted", (1.0, 2.5), 3),
        Case("differences scatter by 0.1 AP, half-width of 2.0 wanted", (0.1, 2.0), 2, hint="an interval needs two values at least."),
    ])
