"""Exercises of notebook 07: half-width of a t-interval, differences paired by seed, number of seeds needed."""
import statistics

from scipy import stats

from .answers import Case, Verdict, check_answer


def half_width(answer) -> Verdict:
    """answer(values): half-width of the 95 % t-interval of their mean, t(0.975; n - 1) * s / sqrt(n), s with n - 1."""
    def expected(values: list[float]) -> float:
        n = len(values)
        return float(stats.t.ppf(0.975, n - 1)) * statistics.stdev(values) / n**0.5

    three, five, two = [18.0, 19.0, 21.0], [15.2, 16.9, 14.1, 17.7, 16.0], [3.0, 4.0]
    return check_answer(answer, [
        Case("three values", (three,), expected(three),
             hint="with three values the factor before s is 4.30 / sqrt(3) = 2.48; s divides by n - 1."),
        Case("five values", (five,), expected(five),
             hint="the t quantile has n - 1 degrees of freedom, 2.78 for n = 5."),
        Case("two values", (two,), expected(two)),
        Case("three equal values", ([7.0, 7.0, 7.0],), 0.0),
    ])


def paired(answer) -> Verdict:
    """answer(row, baseline): two dicts {seed: AP} -> differences row - baseline, seeds in both only, in order."""
    row, baseline = {0: 19.3, 1: 18.0, 2: 19.0}, {0: 15.6, 1: 14.6, 2: 15.4}
    return check_answer(answer, [
        Case("three seeds in both", (row, baseline), [3.7, 3.4, 3.6]),
        Case("the same in another order", (dict(reversed(row.items())), baseline), [3.7, 3.4, 3.6],
             hint="pair by seed, not by position, and sort the seeds."),
        Case("a seed that only the row has", (row | {3: 25.0}, baseline), [3.7, 3.4, 3.6],
             hint="seed 3 has no partner: leave it out."),
        Case("a seed that only the baseline has", ({0: 19.3, 2: 19.0}, baseline), [3.7, 3.6],
             hint="seed 1 has no partner: leave it out."),
    ])


def seeds_needed(answer) -> Verdict:
    """answer(std, target): the smallest n >= 2 with t(0.975; n - 1) * std / sqrt(n) <= target."""
    return check_answer(answer, [
        Case("standard deviation 0.7 AP, half-width 0.5 wanted", (0.7, 0.5), 11,
             hint="try n = 2, 3, 4, ... and stop at the first that is narrow enough."),
        Case("standard deviation 1.2 AP, half-width 0.5 wanted", (1.2, 0.5), 25,
             hint="the t quantile changes with n; 1.96 would give 23."),
        Case("standard deviation 1.0 AP, half-width 2.5 wanted", (1.0, 2.5), 3),
        Case("standard deviation 0.1 AP, half-width 2.0 wanted", (0.1, 2.0), 2,
             hint="an interval needs at least two values."),
    ])
