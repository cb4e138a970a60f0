"""Intervals of a score difference over the choice of images, and over images and seeds.

Both detectors are scored on the same resampled images. No interval covers another teacher or other training data.
"""
from collections.abc import Sequence

import numpy as np
from scipy import stats

from .intervals import LEVEL, Estimate, t_quantile
from .resampling import Matches

JACKKNIFE_GROUPS = 200  # groups of images left out in turn, to estimate the skewness of the difference
Pair = tuple[Matches, Matches]


def bootstrap_weights(images: int, count: int, seed: int = 0) -> np.ndarray:
    """(count, images) integers: how often each image is drawn in each bootstrap sample."""
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def score_difference(pairs: Sequence[Pair], weights: np.ndarray) -> np.ndarray:
    """(R,) score of A minus score of B on the same images, averaged over the pairs; ``weights`` (R, I)."""
    return np.mean([a.scores(weights) - b.scores(weights) for a, b in pairs], axis=0)


def image_interval(pairs: Sequence[Pair], count: int = 1000, seed: int = 0) -> tuple[Estimate, np.ndarray]:
    """Difference of two detectors with its interval over the choice of images, by a paired bootstrap (BCa).

    Args:
        pairs: matches of A and B, one pair per seed, of the same images and metric.
        count: bootstrap samples. 1,000 fix the ends to about a tenth of the interval's half-width.
    Returns:
        Estimate in points of the metric, n images; and the (count,) resampled differences, whose std it has, without
        samples that hold no object.
    """
    images = pairs[0][0].images
    observed = float(score_difference(pairs, np.ones((1, images), dtype=int))[0])
    draws = score_difference(pairs, bootstrap_weights(images, count, seed))
    draws = draws[~np.isnan(draws)]
    groups = np.array_split(np.random.default_rng(seed).permutation(images), min(JACKKNIFE_GROUPS, images))
    left_out = np.stack([~np.isin(np.arange(images), group) for group in groups]).astype(int)
    low, high = bca(observed, draws, score_difference(pairs, left_out))
    return Estimate(observed, float(draws.std(ddof=1)), images, low, high), draws


def bca(observed: float, draws: np.ndarray, jackknife: np.ndarray) -> tuple[float, float]:
    """Efron's BCa interval: quantiles of the (R,) bootstrap values, corrected for bias and for skewness.

    A resample holds some images twice, so its scores are biased. A percentile interval keeps this bias; BCa removes it.

    Args:
        observed: the value on the original images.
        jackknife: (G,) values with one group of images left out.
    Source: Efron, Better bootstrap confidence intervals, JASA 82 (1987).
    """
    if len(draws) < 2 or np.ptp(draws) == 0:
        return (observed, observed) if len(draws) and draws[0] == observed else (np.nan, np.nan)
    influence = jackknife.mean() - jackknife
    scale = (influence**2).sum() ** 1.5
    acceleration = (influence**3).sum() / (6 * scale) if scale else 0.0
    below = np.mean(draws < observed) + np.mean(draws == observed) / 2
    bias = stats.norm.ppf(np.clip(below, 0.5 / len(draws), 1 - 0.5 / len(draws)))
    ends = bias + stats.norm.ppf([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    low, high = np.quantile(draws, stats.norm.cdf(bias + ends / (1 - acceleration * ends)))
    return float(low), float(high)


def seeds_and_images_interval(differences: Sequence[float], image_std: float, images: int) -> Estimate:
    """Mean difference over n seeds, with its interval over seeds and images: mean -+ t(f) sqrt(s^2 / n + v^2).

    s is the sample std of the differences over seeds, v the bootstrap std of their mean over images. Independent
    variances add. Their interaction is in both, so the interval is rather too wide. f are Satterthwaite's degrees of
    freedom (Biometrics Bulletin 2, 1946).

    Args:
        differences: one per seed, all on the same I ``images``.
        image_std: ``std`` of :func:`image_interval` for these seeds.
    Returns:
        Estimate with the standard error as its std; that and the ends are NaN for fewer than two seeds.
    """
    values = np.asarray(differences, dtype=float)
    n, mean = len(values), float(np.mean(values))
    if n < 2:
        return Estimate(mean, np.nan, n, np.nan, np.nan)
    a, b = values.var(ddof=1) / n, image_std**2
    if a + b == 0:
        return Estimate(mean, 0.0, n, mean, mean)
    degrees = (a + b) ** 2 / (a**2 / (n - 1) + b**2 / max(images - 1, 1))
    std = float(np.sqrt(a + b))
    half = t_quantile((1 + LEVEL) / 2, degrees) * std
    return Estimate(mean, std, n, mean - half, mean + half)
