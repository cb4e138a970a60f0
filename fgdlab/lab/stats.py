"""How far can a mean of a few runs be trusted? Sample std, t-interval, differences paired by seed.

    values of n seeds --mean_std--> mean, std --t_interval--> low, high
    frame, row, baseline --seed_differences--> one difference a seed --estimate--> Estimate

Every interval here covers one noise only: the seed of the student's training (initialisation, order of the data, and what
the device adds). Teacher, training data and validation images are the same in all runs, so their variance is not covered.
"""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy import stats

from .errors import UserError, unknown_name

LEVEL = 0.95
PAIR_KEYS = ("scale", "data", "seed")       # two runs make a pair when all of these agree


class Estimate(NamedTuple):
    """A mean over ``n`` values with its sample ``std`` and the ends ``low``, ``high`` of its t-interval, all in the values' unit.

    n = 0: everything is NaN. n = 1: ``std``, ``low`` and ``high`` are NaN, for one value says nothing about its noise.
    """

    mean: float
    std: float
    n: int
    low: float
    high: float


def _numbers(values: Iterable[float]) -> np.ndarray:
    array = np.asarray(list(values), dtype=float)
    return array[~np.isnan(array)]


def mean_std(values: Iterable[float]) -> tuple[float, float, int]:
    """mean = sum(x) / n and the sample std = sqrt(sum((x - mean)^2) / (n - 1)), over the values that are not NaN.

    Returns:
        (mean, std, n); mean is NaN for n = 0, std for n < 2.
    """
    x = _numbers(values)
    return float(x.mean()) if len(x) else np.nan, float(x.std(ddof=1)) if len(x) > 1 else np.nan, len(x)


def t_interval(values: Iterable[float], level: float = LEVEL) -> tuple[float, float]:
    """mean -+ t((1 + level) / 2; n - 1) * std / sqrt(n), with the sample std (n - 1).

    At level 0.95 the half-width is 2.48 std for n = 3, 1.24 for n = 5, 0.72 for n = 10. Right for values that scatter like a
    normal; with three seeds a percentile bootstrap would cover 75 % where this covers 95 %.

    Args:
        values: one a seed; NaN are left out.
        level: between 0 and 1, the share of repeated experiments whose interval holds the true mean.
    Returns:
        (low, high), both NaN for n < 2; both the mean where all values are equal.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level}; 95 % is 0.95")
    mean, std, n = mean_std(values)
    if n < 2:
        return np.nan, np.nan
    half = float(stats.t.ppf((1 + level) / 2, n - 1)) * std / np.sqrt(n)
    return float(mean - half), float(mean + half)


def estimate(values: Iterable[float], level: float = LEVEL) -> Estimate:
    """:func:`mean_std` and :func:`t_interval` of the same values."""
    x = _numbers(values)
    return Estimate(*mean_std(x), *t_interval(x, level))


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    """Raise a UserError that names the metrics there are, unless ``metric`` is one."""
    if metric not in frame:
        raise unknown_name("metric", metric, [name for name in frame.columns if name.startswith("A")])


def values_by_seed(frame: pd.DataFrame, row: str, metric: str) -> pd.Series:
    """``metric`` of the done runs of one row that have it, sorted, indexed by the :data:`PAIR_KEYS` that ``frame`` has.

    Raises:
        UserError: an unknown metric, or two done runs of the same row and seed: which one counts is not for a table to guess.
    """
    check_metric(frame, metric)
    runs = frame[(frame["row"].astype(str) == row) & (frame["state"] == "done") & frame[metric].notna()]
    keys = [key for key in PAIR_KEYS if key in frame]
    values = runs.astype({key: str for key in keys if key != "seed"}).set_index(keys)[metric].astype(float).sort_index()
    if values.index.has_duplicates:
        seed = values.index[values.index.duplicated()].get_level_values("seed")[0]
        raise UserError(f"a row must have one done run a seed, got several of row {row!r}, seed {seed}; remove the stale run's folder and collect again")
    return values


def seed_differences(frame: pd.DataFrame, row: str, baseline: str, metric: str) -> pd.Series:
    """d_s = metric(row, s) - metric(baseline, s) for every seed s that is done in both, indexed as :func:`values_by_seed`."""
    return (values_by_seed(frame, row, metric) - values_by_seed(frame, baseline, metric)).dropna()


def paired_difference(frame: pd.DataFrame, row: str, baseline: str, metric: str, level: float = LEVEL) -> Estimate:
    """Mean and t-interval of d_s = metric(row, s) - metric(baseline, s); ``n`` is the number of pairs.

    What both runs of a seed share (initial weights, order of the images) cancels in d_s, so the interval is often narrower
    than that of the two means. It is the interval of the paired t-test, without any correction for several comparisons.

    Args:
        frame: results, one row a run: row, seed, state and ``metric`` (AP and AR in percent, 0 to 100).
    Returns:
        Estimate in points of ``metric``; low and high are NaN for n < 2.
    """
    return estimate(seed_differences(frame, row, baseline, metric), level)
