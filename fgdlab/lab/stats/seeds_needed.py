"""How many seeds a difference needs, and intervals that stay valid while seeds are added.

A t-interval is not valid if seeds are added after a look at the numbers. Whoever looks after 3, 4, ... 30 seeds and
stops when it excludes 0 finds a difference in 26 of 100 cases without one. Two intervals stay
valid:

- group-sequential: K interim analyses, at numbers of seeds fixed beforehand. Each is a t-interval of level
  1 - (1 - level) / K (Bonferroni).
- anytime-valid: valid at all n together, so for any stopping rule. Three times as wide as the t-interval at n = 3,
  twice from n = 5 on. It holds all means m for which the Bayes factor of "mean m + sigma delta, delta ~ N(0,
  PRIOR_VARIANCE)" against "mean m" stays below 1 / (1 - level); sigma is integrated out under 1 / sigma. Under m this
  factor is a martingale, so it ever exceeds 1 / (1 - level) with probability at most 1 - level (Ville's inequality).
  Source: Wang and Ramdas, arXiv:2310.03722; after Lai (Annals of Statistics 4, 1976).
"""
import bisect
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from .intervals import LEVEL, mean_std, t_interval, t_quantile

STD_LEVEL = 0.8  # confidence level of the interval of a std, and so of a number of seeds
PRIOR_VARIANCE = 10.0  # of delta = mean / sigma; the anytime-valid interval is close to narrowest for 4 to 6 seeds
MAX_SEEDS = 100_000  # counts beyond this are infinite


class SeedCount(NamedTuple):
    """Total ``seeds`` for the std so far; ``low``, ``high`` for the ends of the std's interval. Can be infinite."""

    seeds: float
    low: float
    high: float


def std_interval(std: float, n: int) -> tuple[float, float]:
    """Interval of the true std, for normal values: std sqrt((n - 1) / chi2((1 +- STD_LEVEL) / 2; n - 1))."""
    return tuple(std * math.sqrt((n - 1) / stats.chi2.ppf((1 + sign * STD_LEVEL) / 2, n - 1)) for sign in (1, -1))


def group_sequential_factor(n: int, analyses: int = 1) -> float:
    """Half-width over std at one of the planned analyses: t(1 - (1 - LEVEL) / (2 analyses); n - 1) / sqrt(n)."""
    return t_quantile(1 - (1 - LEVEL) / (2 * analyses), n - 1) / math.sqrt(n)


def anytime_factor(n: int, level: float = LEVEL) -> float:
    """Half-width over std of the anytime-valid interval at n seeds; infinite for n = 2.

    The Bayes factor is sqrt(((1 + u) / (1 + u / A))^n / A), with A = 1 + n PRIOR_VARIANCE, t = sqrt(n) (mean - m) / std
    and u = t^2 / (n - 1). It stays below 1 / (1 - level) if u <= (r - 1) / (1 - r / A), r = (A / (1 - level)^2)^(1/n).
    """
    a = 1 + n * PRIOR_VARIANCE
    r = (a / (1 - level) ** 2) ** (1 / n)
    return math.sqrt((n - 1) / n * (r - 1) / (1 - r / a)) if r < a else math.inf


def anytime_interval(values: Iterable[float]) -> tuple[float, float]:
    """(low, high), valid after every seed; NaN for n < 2, infinite for n = 2."""
    mean, std, n = mean_std(values)
    if n < 2:
        return np.nan, np.nan
    half = anytime_factor(n) * std if std else 0.0  # inf * 0 would be NaN
    return mean - half, mean + half


def group_sequential_interval(values: Iterable[float], analyses: Iterable[int]) -> tuple[float, float]:
    """(low, high) at one of the planned ``analyses``, each a number of seeds; NaN at a number that was not planned."""
    values, analyses = list(values), set(analyses)
    if mean_std(values)[2] not in analyses:
        return np.nan, np.nan
    return t_interval(values, 1 - (1 - LEVEL) / len(analyses))


def seeds_for_width(
    std: float, n: int, width: float, factor: Callable[[int], float] = group_sequential_factor,
) -> SeedCount:
    """Total seeds until the half-width of the interval is at most ``width``.

    Args:
        std: sample std of the n paired differences so far, n >= 2, in the unit of ``width``.
        factor: n -> half-width over std, :func:`group_sequential_factor` or :func:`anytime_factor`.
    """
    return seed_count(lambda count, scatter: scatter == 0 or factor(count) * scatter <= width, std, n)


def power(n: int, ratio: float) -> float:
    """Power of the two-sided paired t-test at n seeds, for a true difference of ``ratio`` true stds.

    P(|z + sqrt(n) ratio| > t w), z normal and w^2 chi-square of n - 1 over n - 1: the mean of the normal tails over
    2,000 quantiles of w. It agrees with the noncentral t to 1e-3; scipy 1.17 returns NaN for it at some n.
    """
    edge, shift = t_quantile((1 + LEVEL) / 2, n - 1), abs(ratio) * math.sqrt(n)
    w = np.sqrt(2 * special.gammaincinv((n - 1) / 2, (np.arange(2000) + 0.5) / 2000) / (n - 1))
    return float(np.mean(special.ndtr(shift - edge * w) + special.ndtr(-shift - edge * w)))


def seeds_for_power(std: float, n: int, difference: float, wanted: float = 0.8) -> SeedCount:
    """Total seeds for a t-test, run once at that number, to find a true ``difference`` with power ``wanted``.

    A difference of 0 needs infinitely many. The mean so far is too optimistic if it is large by chance.
    """
    def enough(count: int, scatter: float) -> bool:
        return difference != 0 if scatter == 0 else power(count, difference / scatter) >= wanted

    return seed_count(enough, std, n)


def seed_count(enough: Callable[[int, float], bool], std: float, n: int) -> SeedCount:
    """The smallest count with ``enough(count, std)``, for the std so far and for the ends of its interval."""
    return SeedCount(*(smallest(lambda count, s=s: enough(count, s)) for s in (std, *std_interval(std, n))))


def smallest(enough: Callable[[int], bool]) -> float:
    """The smallest n from 2 to :data:`MAX_SEEDS` that is enough, else infinity; ``enough`` must be monotonic in n."""
    n = 2 + bisect.bisect_left(range(2, MAX_SEEDS + 1), True, key=enough)
    return n if n <= MAX_SEEDS else math.inf
