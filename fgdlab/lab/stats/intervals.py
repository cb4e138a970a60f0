"""How far can a mean of a few runs be trusted? Sample std, t-interval, differences paired by seed.

    values of n seeds --mean_std--> mean, std --t_interval--> low, high
    frame, row, baseline --seed_differences--> one difference a seed --estimate--> Estimate

Every interval here covers one noise only: the seed of the student's training (initialisation, order of the data, and what
the device adds). Teacher, training data and validation images are the same in all runs, so their variance is not covered.
image_noise.py has intervals for the choice of images, seeds_needed.py those that may be looked at while seeds are added;
:func:`noise_covered` says in a sentence which noise an interval covers.
"""
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from ..errors import UserError, unknown_name

LEVEL = 0.95
PAIR_KEYS = ("scale", "data", "seed")       # two runs make a pair when all of these agree
NOISES = {                                  # what an interval covers, and what it does not
    "seeds": ("the seed noise of the student's training", "that of the teacher, the training data or the choice of validation images"),
    "images": ("the noise of the choice of validation images, for these very detectors", "that of seeds, of the teacher or the training data"),
    "both": ("the seed noise of the student's training and that of the choice of validation images", "that of the teacher or the training data"),
}


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


def t_quantile(share: float, freedom: float) -> float:
    """The value that a t-distributed number stays below with the probability ``share``; scipy.stats.t.ppf without its overhead."""
    return float(stdtrit(freedom, share))


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
    half = t_quantile((1 + level) / 2, n - 1) * std / np.sqrt(n)
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


def noise_covered(noise: str, subject: str = "The interval covers") -> str:
    """The sentence that a caption owes its reader: which noise an interval covers, and which it does not.

    Args:
        noise: a key of :data:`NOISES`: "seeds" for :func:`t_interval` over runs, "images" for a bootstrap of the images, "both" for the two together.
        subject: how the sentence begins, such as "± and interval cover".
    """
    if noise not in NOISES:
        raise unknown_name("noise", noise, NOISES)
    covered, not_covered = NOISES[noise]
    return f"{subject} {covered} only, not {not_covered}."
