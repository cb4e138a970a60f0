"""Answers to the exercises of notebook 07."""
import math
import statistics

from scipy import stats

from fgdlab.lab.stats.intervals import t_interval


def half(values):
    low, high = t_interval(values)
    return (high - low) / 2


def error(x):
    """Standard error of the mean."""
    return statistics.stdev(x) / math.sqrt(len(x))


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


RIGHT = {"half_width": half, "paired": paired, "seeds_needed": needed}
NEAR_MISSES = {
    "half_width": {
        "std divides by n": lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.pstdev(x) / math.sqrt(len(x)),
        "quantile of the normal": lambda x: 1.96 * error(x),
        "n degrees of freedom": lambda x: stats.t.ppf(0.975, len(x)) * error(x),
        "one-sided quantile": lambda x: stats.t.ppf(0.95, len(x) - 1) * error(x),
        "std of a value, not of the mean": lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.stdev(x),
        "divided by n": lambda x: stats.t.ppf(0.975, len(x) - 1) * statistics.stdev(x) / len(x),
        "factor of three seeds for all": lambda x: 2.484138 * statistics.stdev(x),
        "whole width": lambda x: 2 * half(x),
    },
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
}
