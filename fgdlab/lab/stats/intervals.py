"""Mean, sample standard deviation and t-interval of a few runs, and differences paired by seed.

All intervals here cover one source of variance: the seed of the student's training (initial weights, order of the data,
nondeterminism of the device). image_bootstrap.py has intervals over the choice of images.
"""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..errors import UserError, check_name, unknown_name

LEVEL = 0.95
PAIR_KEYS = ("scale", "data", "seed")  # two runs are a pair if all of these agree
VARIANCE_SOURCES = {  # {source: (what an interval covers, what it does not cover)}
    "seeds": (
        "the seed variance of the student's training",
        "the variance from the teacher, the training data or the choice of validation images",
    ),
    "images": (
        "the variance from the choice of validation images for these runs",
        "the variance from seeds, the teacher or the training data",
    ),
    "both": (
        "the seed variance of the student's training and the variance from the choice of validation images",
        "the variance from the teacher or the training data",
    ),
}


class Estimate(NamedTuple):
    """Mean, sample std and t-interval of ``n`` values. NaN: all for n = 0; std and interval for n = 1."""

    mean: float
    std: float
    n: int
    low: float
    high: float


def mean_std(values: Iterable[float]) -> tuple[float, float, int]:
    """(mean, std, n) of the values that are not NaN; std = sqrt(sum((x - mean)^2) / (n - 1)). See :class:`Estimate`."""
    x = pd.Series(list(values), dtype=float)
    return float(x.mean()), float(x.std()), int(x.count())


def t_quantile(probability: float, degrees: float) -> float:
    """Quantile of the t-distribution; the same as scipy.stats.t.ppf, but faster."""
    return float(stdtrit(degrees, probability))


def t_interval(values: Iterable[float], level: float = LEVEL) -> tuple[float, float]:
    """mean -+ t((1 + level) / 2; n - 1) * std / sqrt(n), with the sample std (n - 1).

    At level 0.95 the half-width is 2.48 std for n = 3, 1.24 for n = 5, 0.72 for n = 10. Exact for normal values.
    With three seeds a percentile bootstrap would cover 75 % where this covers 95 %.

    Args:
        values: one per seed; NaN are left out.
        level: confidence level, 0..1.
    Returns:
        (low, high), both NaN for n < 2; both the mean if all values are equal.
    """
    mean, std, n = mean_std(values)
    if n < 2:
        return np.nan, np.nan
    half = t_quantile((1 + level) / 2, n - 1) * std / np.sqrt(n)
    return float(mean - half), float(mean + half)


def estimate(values: Iterable[float]) -> Estimate:
    values = list(values)
    return Estimate(*mean_std(values), *t_interval(values))


def check_metric(frame: pd.DataFrame, metric: str) -> None:
    if metric == "seed" or metric not in frame.select_dtypes("number"):
        raise unknown_name("metric", metric, [name for name in frame.columns if name.startswith("A")])


def values_by_seed(frame: pd.DataFrame, row: str, metric: str) -> pd.Series:
    """``metric`` of the done runs of one row, sorted, indexed by the :data:`PAIR_KEYS` that ``frame`` has.

    Raises a UserError for an unknown metric, or two done runs of the same row and seed.
    """
    check_metric(frame, metric)
    runs = frame[(frame["row"].astype(str) == row) & (frame["state"] == "done") & frame[metric].notna()]
    keys = [key for key in PAIR_KEYS if key in frame]
    values = runs.astype({key: str for key in keys if key != "seed"}).set_index(keys)[metric].astype(float).sort_index()
    if values.index.has_duplicates:
        seed = values.index[values.index.duplicated()].get_level_values("seed")[0]
        raise UserError(
            f"a row must have one done run per seed, got several of row {row!r}, seed {seed}; "
            "remove the folder of the older run and collect again"
        )
    return values


def seed_differences(frame: pd.DataFrame, row: str, baseline: str, metric: str) -> pd.Series:
    """d_s = metric(row, s) - metric(baseline, s) per seed s done in both, indexed as in :func:`values_by_seed`."""
    return (values_by_seed(frame, row, metric) - values_by_seed(frame, baseline, metric)).dropna()


def paired_difference(frame: pd.DataFrame, row: str, baseline: str, metric: str) -> Estimate:
    """Mean and t-interval of d_s = metric(row, s) - metric(baseline, s); ``n`` is the number of pairs.

    What both runs of a seed share (initial weights, order of the images) cancels in d_s, so the interval is often
    narrower than those of the means. It is the interval of the paired t-test, not corrected for multiple comparisons.

    Args:
        frame: results, one row per run: row, seed, state and ``metric`` (AP and AR in percent, 0 to 100).
    """
    return estimate(seed_differences(frame, row, baseline, metric))


def variance_covered(source: str, subject: str = "The interval covers", teachers: int = 1) -> str:
    """The sentence for a caption: which variance an interval covers, and which it does not.

    Args:
        source: a key of :data:`VARIANCE_SOURCES`.
        teachers: how many teachers the seeds learn from in turn.
    """
    check_name("variance source", source, VARIANCE_SOURCES)
    covered, not_covered = VARIANCE_SOURCES[source]
    if teachers > 1:
        covered += f" and, in part, the choice of the teacher (seeds learn from {teachers} teachers in turn)"
        not_covered = not_covered.replace("from the teacher, ", "from ").replace("the teacher or ", "")
    return f"{subject} {covered}, but not {not_covered}."
