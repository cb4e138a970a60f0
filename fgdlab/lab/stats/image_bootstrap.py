"""Would other images have given another difference? Both detectors on the same resampled images, for one pair of runs or for several seeds at once.

    matches of A and B (a pair a seed), weights of images --difference--> one difference a resample --image_noise--> its interval
    differences of the seeds, std over images --both_noises--> an interval for seeds and images together

Three noises, three intervals. Of the images: the bootstrap here. Of the seeds: the t-interval of stats.py over the paired differences.
Of both: :func:`both_noises`. None of them covers another teacher or other training data.
"""
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats

from .intervals import LEVEL, t_quantile
from .resampling import Matches

GROUPS = 200                # left out one after the other, to see how skewed the difference is
Pair = tuple[Matches, Matches]


class Interval(NamedTuple):
    """A difference in points of the metric, A minus B, with the ends of its interval, and the std of its noise."""

    mean: float
    low: float
    high: float
    std: float


def resampled(images: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, images) whole weights, each row a draw of ``images`` images with replacement; the same seed gives the same draws."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def difference(pairs: Sequence[Pair], weights: np.ndarray) -> np.ndarray:
    """(R,) score of A minus score of B on the same images, averaged over the pairs; ``weights`` (R, I)."""
    return np.mean([a.scores(weights) - b.scores(weights) for a, b in pairs], axis=0)


def image_noise(pairs: Sequence[Pair], count: int = 1000, seed: int = 0, level: float = LEVEL) -> tuple[Interval, np.ndarray]:
    """The difference of two detectors and its interval over the choice of images: a paired bootstrap, both on the same images.

    Args:
        pairs: matches of A and B, one pair a seed; all pairs see the same resampled images, and their differences are averaged.
        count: resamples; 1,000 steady the ends to about a tenth of the interval's half-width.
    Returns:
        the interval, and the (count,) resampled differences, without those that had no object to find.
    Raises:
        ValueError: matches of different images or metrics.
    """
    images = pairs[0][0].images
    if any(each.images != images or each.metric != pairs[0][0].metric for pair in pairs for each in pair):
        raise ValueError(f"all matches must be of the same {images} images and one metric, got others among them")
    observed = float(difference(pairs, np.ones((1, images), dtype=int))[0])
    draws = difference(pairs, resampled(images, count, seed))
    draws = draws[~np.isnan(draws)]
    groups = np.array_split(np.random.default_rng(seed).permutation(images), min(GROUPS, images))
    without = difference(pairs, np.stack([~np.isin(np.arange(images), group) for group in groups]).astype(int))
    low, high = bca(observed, draws, without, level)
    return Interval(observed, low, high, float(draws.std(ddof=1))), draws


def bca(observed: float, draws: np.ndarray, without: np.ndarray, level: float = LEVEL) -> tuple[float, float]:
    """Efron's BCa interval: quantiles of the resampled values, moved for their bias and for a scatter that changes with the truth.

    Resampled scores need not be centred on the score itself, since a resample holds some images twice. The plain percentile interval keeps
    such a shift, the BCa interval takes it back.

    Args:
        observed: the value on the images as they are. draws: (R,) resampled values. without: (G,) values with one group of images left out.
    Source: Efron, Better bootstrap confidence intervals, JASA 82 (1987).
    """
    if len(draws) < 2 or np.ptp(draws) == 0:
        return (observed, observed) if len(draws) and draws[0] == observed else (np.nan, np.nan)
    influence = without.mean() - without
    scale = (influence**2).sum() ** 1.5
    skew = (influence**3).sum() / (6 * scale) if scale else 0.0
    below = np.mean(draws < observed) + np.mean(draws == observed) / 2
    shift = stats.norm.ppf(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    ends = shift + stats.norm.ppf([(1 - level) / 2, (1 + level) / 2])
    low, high = np.quantile(draws, stats.norm.cdf(shift + ends / (1 - skew * ends)))
    return float(low), float(high)


def both_noises(differences: Sequence[float], image_std: float, images: int, level: float = LEVEL) -> Interval:
    """The mean difference of n seeds with an interval for other seeds on other images: mean -+ t(f) sqrt(s^2 / n + v^2).

    s is the sample std of the seeds' differences, v the std over images of their mean; the two noises are independent, so their variances add.
    What seeds and images make together is in both, so the interval is rather too wide. f are Satterthwaite's degrees of freedom
    (Biometrics Bulletin 2, 1946): (a + b)^2 / (a^2 / (n - 1) + b^2 / (I - 1)) for a = s^2 / n, b = v^2.

    Args:
        differences: one a seed, all on the same images. image_std: of :func:`image_noise` over these seeds. images: I.
    Returns:
        Interval; NaN ends for fewer than two seeds, which say nothing about seeds.
    """
    values = np.asarray(differences, dtype=float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Interval(mean, np.nan, np.nan, np.nan)
    a, b = values.var(ddof=1) / n, image_std**2
    if a + b == 0:
        return Interval(mean, mean, mean, 0.0)
    freedom = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / max(images - 1, 1))
    std = float(np.sqrt(a + b))
    half = t_quantile((1 + level) / 2, freedom) * std
    return Interval(mean, mean - half, mean + half, std)
