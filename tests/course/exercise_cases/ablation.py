"""Answers to the exercises of notebook 07."""
import math
import statistics

import numpy as np
from scipy import stats


def paired(row, baseline):
    return [row[seed] - baseline[seed] for seed in sorted(row.keys() & baseline.keys())]


def by_position(row, baseline):
    return [a - b for a, b in zip(row.values(), baseline.values(), strict=False)]


def all_seeds(row, baseline):
    return [row.get(seed, 0.0) - baseline.get(seed, 0.0) for seed in sorted(row.keys() | baseline.keys())]


def needed(std, target, quantile=lambda n: stats.t.ppf(0.975, n - 1), least=2):
    n = least
    while quantile(n) * std / math.sqrt(n) > target:
        n += 1
    return n


def stopped(d, first, quantile=lambda k: stats.t.ppf(0.975, k - 1), sides=np.abs, ddof=1, ends=None):
    looks = []
    for k in range(first, d.shape[1] + 1) if ends is None else ends(d, first):
        part = d[:, :k]
        looks.append(sides(part.mean(1)) > quantile(k) * part.std(1, ddof=ddof) / np.sqrt(k))
    return np.any(looks, axis=0).mean()


RIGHT = {"paired": paired, "seeds_needed": needed, "stopped_early": stopped}
NEAR_MISSES = {
    "paired": {
        "by position": by_position,
        "all seeds of the row": lambda row, baseline: [row[seed] - baseline[seed] for seed in sorted(row)],
        "a missing seed counts as 0": all_seeds,
        "baseline minus row": lambda row, baseline: [-difference for difference in paired(row, baseline)],
        "order of the row": lambda row, baseline: [row[seed] - baseline[seed] for seed in row if seed in baseline],
        "mean of the differences": lambda row, baseline: statistics.mean(paired(row, baseline)),
    },
    "seeds_needed": {
        "normal instead of t": lambda std, target: max(2, math.ceil((1.96 * std / target) ** 2)),
        "one too many": lambda std, target: needed(std, target) + 1,
        "t of three seeds": lambda std, target: max(2, math.ceil((4.303 * std / target) ** 2)),
        "n degrees of freedom": lambda std, target: needed(std, target, lambda n: stats.t.ppf(0.975, n)),
        "whole width": lambda std, target: needed(std, target / 2),
        "never under three": lambda std, target: needed(std, target, least=3),
    },
    "stopped_early": {
        "last look only": lambda d, first: stopped(d, first, ends=lambda d, first: [d.shape[1]]),
        "first look only": lambda d, first: stopped(d, first, ends=lambda d, first: [first]),
        "last look left out": lambda d, first: stopped(d[:, :-1], first),
        "1.96 instead of t": lambda d, first: stopped(d, first, quantile=lambda k: 1.96),
        "above 0 only": lambda d, first: stopped(d, first, sides=lambda mean: mean),
        "std divides by n": lambda d, first: stopped(d, first, ddof=0),
        "from the second seed": lambda d, first: stopped(d, 2),
        "number instead of fraction": lambda d, first: stopped(d, first) * len(d),
    },
}
