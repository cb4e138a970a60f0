"""Exercises of notebook 07: differences paired by seed, seeds needed, intervals looked at after every seed."""
import numpy as np
from scipy import stats

from .answers import Case, Verdict, check_answer


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


def stopped_early(answer) -> Verdict:
    """answer(differences, first): fraction of rows of (E, n) with a t-interval of the first k >= first without 0."""
    def expected(d: np.ndarray, first: int) -> float:
        return float(np.mean([any(stats.ttest_1samp(row[:k], 0).pvalue < 0.05 for k in range(first, len(row) + 1))
                              for row in d]))

    clear = np.array([[1.0, 1.01, 0.99, -9.0], [1.0, -1.0, 2.0, -2.0]])
    noise = np.random.default_rng(7).normal(size=(60, 9)) + np.linspace(-1.5, 1.5, 60)[:, None]
    hints = ("the first experiment excludes 0 at k = 2 and 3, but not at k = 4: it counts.",
             "an interval below 0 excludes it, too.", "start with the first `first` values, not before.")
    return check_answer(answer, [
        Case(f"{len(d)} experiments of {d.shape[1]} seeds, from {first}", (d, first), expected(d, first), hint=hint)
        for (d, first), hint in zip(((clear, 2), (noise, 2), (noise, 6)), hints, strict=True)
    ])
