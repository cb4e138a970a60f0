"""How many seeds does a difference need? From the scatter of the paired differences so far, and honest about looking in between.

    differences d_1..d_n --std, std_interval--> std and what it may be --seeds_for_width, seeds_for_power--> Need(seeds, low, high)
                         --t_interval | look_interval | any_look_interval--> low, high

Seeds may be added after a look at the numbers, but then the t-interval no longer holds: who adds seeds until it leaves 0 finds a
difference in nothing in 26 of 100 tries, with looks at 3, 4, ... 30 seeds (a test simulates it). Two intervals stay right:

    planned looks    K numbers of seeds written down beforehand; at each the t-interval of level 1 - (1 - level) / K (Bonferroni, as for
                     any K tests). Right for normal values, and a little too wide, since the looks share seeds.
    any look         right at every n at once, so for any rule of going on or stopping, made up on the way or not. Wider: at n = 3 three
                     times the t-interval, from 5 on twice. It holds all means m that the Bayes factor of "mean m + sigma delta, delta ~ N(0, SPREAD)"
                     against "mean m" does not reject at 1 / (1 - level), sigma integrated out under 1 / sigma. That factor is a martingale
                     under m, so it exceeds 1 / (1 - level) at any time with a probability of at most 1 - level (Ville's inequality). Source:
                     Wang and Ramdas, Anytime-valid t-tests and confidence sequences for Gaussian means with unknown variance,
                     arXiv:2310.03722; the idea is Lai's (Annals of Statistics 4, 1976).
"""
import math
from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from scipy import special, stats

from .intervals import LEVEL, mean_std, t_interval, t_quantile

SURE = 0.8                  # how often the range of a std, and of the seeds that follow from it, holds the truth
SPREAD = 10.0               # of delta = mean / sigma in the any-look interval; near the narrowest for 4 to 6 seeds, finite from 3 on
MOST = 100_000              # seeds beyond which nobody counts


class Need(NamedTuple):
    """``seeds`` in all, were the std so far the true one; ``low``, ``high`` at the ends of its interval. Infinite beyond :data:`MOST`."""

    seeds: float
    low: float
    high: float


def std_interval(std: float, n: int, sure: float = SURE) -> tuple[float, float]:
    """Where the true std lies: std sqrt((n - 1) / chi2((1 +- sure) / 2; n - 1)), for values that scatter like a normal.

    At sure 0.8 and n = 3 it reaches from 0.66 to 3.08 std, for n = 5 from 0.72 to 1.94, for n = 10 from 0.78 to 1.47.
    """
    return tuple(std * math.sqrt((n - 1) / stats.chi2.ppf((1 + sign * sure) / 2, n - 1)) for sign in (1, -1))


# --- half-widths in units of the std -------------------------------------------------------------------------------------------------

def planned(n: int, level: float = LEVEL, looks: int = 1) -> float:
    """Half-width over std at n seeds, one of ``looks`` planned ones: t((1 + level') / 2; n - 1) / sqrt(n), level' = 1 - (1 - level) / looks."""
    return t_quantile(1 - (1 - level) / (2 * looks), n - 1) / math.sqrt(n)


def anytime_factor(n: int, level: float = LEVEL) -> float:
    """Half-width over std of the any-look interval at n seeds; infinite for n = 2, and always above :func:`planned`.

    With A = 1 + n SPREAD the Bayes factor at t = sqrt(n) (mean - m) / std is sqrt(((1 + u) / (1 + u / A))^n / A), u = t^2 / (n - 1).
    It stays below 1 / (1 - level) where u <= (r - 1) / (1 - r / A), r = (A / (1 - level)^2)^(1 / n).
    """
    wide = 1 + n * SPREAD
    ratio = (wide / (1 - level) ** 2) ** (1 / n)
    return math.sqrt((n - 1) / n * (ratio - 1) / (1 - ratio / wide)) if ratio < wide else math.inf


# --- intervals ----------------------------------------------------------------------------------------------------------------------

def anytime_interval(values: Iterable[float], level: float = LEVEL) -> tuple[float, float]:
    """(low, high) around the mean that may be looked at after every seed; NaN for n < 2, infinite where n is too small for an end."""
    mean, std, n = mean_std(values)
    return around(mean, std, anytime_factor(n, level)) if n > 1 else (np.nan, np.nan)


def look_interval(values: Iterable[float], looks: Iterable[int], level: float = LEVEL) -> tuple[float, float]:
    """(low, high) at one of the planned looks, each a number of seeds; NaN at a number that was not planned, for there it says nothing."""
    values, looks = list(values), set(looks)
    n = mean_std(values)[2]
    return t_interval(values, 1 - (1 - level) / len(looks)) if n in looks else (np.nan, np.nan)


def around(mean: float, std: float, factor: float) -> tuple[float, float]:
    half = factor * std if std else 0.0                              # equal values have no width, whatever the factor
    return mean - half, mean + half


# --- how many seeds -----------------------------------------------------------------------------------------------------------------

def seeds_for_width(std: float, n: int, half_width: float, factor: Callable[[int], float] = planned, sure: float = SURE) -> Need:
    """Seeds in all until the interval is at most ``half_width`` to each side.

    Args:
        std: sample std of the n paired differences so far, n >= 2, in the unit of ``half_width``.
        factor: n -> half-width over std, :func:`planned` or :func:`any_look`.
        sure: the share of such counts whose range (low, high) holds the number that the true std asks for.
    Raises:
        ValueError: n < 2, or a half-width that is not above 0.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2 pairs, got {n}; one difference says nothing about its noise")
    if not half_width > 0:
        raise ValueError(f"half_width must be above 0, got {half_width}")
    return Need(*(smallest(lambda more, scatter=scatter: around(0, scatter, factor(more))[1] <= half_width) for scatter in (std, *std_interval(std, n, sure))))


def power(n: int, ratio: float, level: float = LEVEL) -> float:
    """The chance that the two-sided paired t-test at n seeds tells a difference of ``ratio`` true stds from 0.

    P(|z + sqrt(n) ratio| > t w), z normal and w^2 chi-square of n - 1 over n - 1: the mean of the normal's tails over 2,000 equally likely w.
    It agrees with the noncentral t to 1e-3 and better; scipy's, 1.17, is NaN at some n.
    """
    edge, shift = t_quantile((1 + level) / 2, n - 1), abs(ratio) * math.sqrt(n)
    w = np.sqrt(2 * special.gammaincinv((n - 1) / 2, (np.arange(2000) + 0.5) / 2000) / (n - 1))
    return float(np.mean(special.ndtr(shift - edge * w) + special.ndtr(-shift - edge * w)))


def seeds_for_power(std: float, n: int, difference: float, wanted: float = 0.8, level: float = LEVEL, sure: float = SURE) -> Need:
    """Seeds in all so that a true ``difference`` is told from 0 with the ``wanted`` chance, by one t-test at that planned number.

    Args:
        difference: the smallest one that would matter; 0 needs endless seeds. To take the mean so far for it flatters what came out large by luck.
    """
    if n < 2:
        raise ValueError(f"n must be at least 2 pairs, got {n}; one difference says nothing about its noise")
    if not 0 < wanted < 1:
        raise ValueError(f"power must be between 0 and 1, got {wanted}; 80 % is 0.8")
    return Need(*(smallest(lambda more, scatter=scatter: (scatter == 0 and difference != 0) or (scatter > 0 and power(more, difference / scatter, level) >= wanted))
                  for scatter in (std, *std_interval(std, n, sure))))


def smallest(enough: Callable[[int], bool]) -> float:
    """The smallest n from 2 to :data:`MOST` that is enough, infinite if none is; once enough, more is enough too."""
    high = 2
    while not enough(high):
        if high >= MOST:
            return math.inf
        high = min(2 * high, MOST)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high
