"""Exercises of notebook 07: differences paired by seed, seeds needed, intervals looked at after every seed."""
import itertools

import numpy as np
from scipy import stats

from .answers import exercise

ROW, BASELINE = {0: 19.3, 1: 18.0, 2: 19.0}, {0: 15.6, 1: 14.6, 2: 15.4}
NOISE = np.random.default_rng(7).normal(size=(60, 9)) + np.linspace(-1.5, 1.5, 60)[:, None]


@exercise({
    "three seeds in both": (ROW, BASELINE, ""),
    "the same in another order": (
        dict(reversed(ROW.items())), BASELINE, "pair by seed, not by position, and sort the seeds."),
    "a seed that only the row has": (ROW | {3: 25.0}, BASELINE, "seed 3 has no partner: leave it out."),
    "a seed that only the baseline has": ({0: 19.3, 2: 19.0}, BASELINE, "seed 1 has no partner: leave it out."),
})
def paired(row, baseline):
    """Two dicts {seed: AP} -> differences row - baseline, seeds in both only, in order."""
    return [row[seed] - baseline[seed] for seed in sorted(row.keys() & baseline.keys())]


@exercise({
    "standard deviation 0.7 AP, half-width 0.5 wanted": (
        0.7, 0.5, "try n = 2, 3, 4, ... and stop at the first that is narrow enough."),
    "standard deviation 1.2 AP, half-width 0.5 wanted": (
        1.2, 0.5, "the t quantile changes with n; 1.96 would give 23."),
    "standard deviation 1.0 AP, half-width 2.5 wanted": (1.0, 2.5, ""),
    "standard deviation 0.1 AP, half-width 2.0 wanted": (0.1, 2.0, "an interval needs at least two values."),
})
def seeds_needed(std, target):
    """The smallest n >= 2 with t(0.975; n - 1) * std / sqrt(n) <= target."""
    return next(n for n in itertools.count(2) if stats.t.ppf(0.975, n - 1) * std / n**0.5 <= target)


@exercise({
    "2 experiments of 4 seeds, from 2": (
        np.array([[1.0, 1.01, 0.99, -9.0], [1.0, -1.0, 2.0, -2.0]]), 2,
        "the first experiment excludes 0 at k = 2 and 3, but not at k = 4: it counts."),
    "60 experiments of 9 seeds, from 2": (NOISE, 2, "an interval below 0 excludes it, too."),
    "60 experiments of 9 seeds, from 6": (NOISE, 6, "start with the first `first` values, not before."),
})
def stopped_early(differences, first):
    """Fraction of rows of (E, n) with a t-interval of the first k >= first without 0."""
    counts = range(first, differences.shape[1] + 1)
    looks = [stats.ttest_1samp(differences[:, :k], 0, axis=1).pvalue < 0.05 for k in counts]
    return float(np.any(looks, axis=0).mean())
