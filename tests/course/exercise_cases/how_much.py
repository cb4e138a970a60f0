"""Answers to the exercises of notebook 03."""
import math

import torch

from fgdlab import attention


def fraction_at(features, t):
    a = attention(features, t).spatial.flatten(1)
    return (a.mean(1) ** 2 / a.square().mean(1)).mean()


def search(low=1e-4, high=1e4, middle=lambda a, b: math.sqrt(a * b), fraction_at=fraction_at, rising=True, steps=60):
    def answer(features, fraction):
        ends = [low, high]
        for _ in range(steps):
            t = middle(*ends)
            ends[(fraction_at(features, t) > fraction) == rising] = t
        return t
    return answer


def pooled(features, t):
    a = attention(features, t).spatial
    return a.mean() ** 2 / a.square().mean()


RIGHT = {
    "effective_fraction": lambda a: 1 / a.square().mean() * a.mean() ** 2,
    "temperature_for": search(),
}
NEAR_MISSES = {
    "effective_fraction": {
        "a count": lambda a: a.mean() ** 2 / a.square().mean() * a.numel(),
        "assumes that the mean is 1": lambda a: 1 / a.square().mean(),
        "above the mean": lambda a: (a > a.mean()).float().mean(),
        "inverse": lambda a: a.square().mean() / a.mean() ** 2,
        "H instead of H W": lambda a: a.sum() ** 2 / a.square().sum() / len(a),
        "square forgotten": lambda a: a.abs().mean() / a.square().mean().sqrt(),
    },
    "temperature_for": {
        "first image only": lambda features, fraction: search()(features[:1], fraction),
        "all images as one map": search(fraction_at=pooled),
        "wrong direction": search(rising=False),
        "between 0.1 and 1": search(low=0.1, high=1.0),
        "too few steps": search(steps=6),
        "the paper's T": lambda features, fraction: 0.5,
        "nearest of six": lambda features, fraction: min(
            (0.1, 0.2, 0.5, 1.0, 2.0, 5.0), key=lambda t: abs(fraction_at(features, t) - fraction)),
        "mean of each image's T": lambda features, fraction: torch.tensor(
            [search()(each[None], fraction) for each in features]).mean(),
    },
}
