"""Answers to the exercises of notebook 03."""
import torch


def over_image(g):
    return torch.softmax(g.flatten(1), 1).view_as(g)


def spatial(magnitude=lambda f: f.abs().mean(1), scale=lambda g, t: g / t, softmax=over_image,
            factor=lambda g: g[0].numel()):
    def answer(features, temperature):
        g = magnitude(features)
        return factor(g) * softmax(scale(g, temperature))
    return answer


def gap(difference=lambda t, s: (t - s).abs(), mean=lambda d, m: (d * m).sum() / m.sum()):
    def answer(teacher, student, binary):
        d = difference(teacher, student)
        return mean(d, binary), mean(d, 1 - binary)
    return answer


def mean_of_means(d, m):
    return ((d * m).sum((1, 2)) / m.sum((1, 2))).mean()


RIGHT = {
    "spatial_attention": spatial(),
    "effective_fraction": lambda a: 1 / a.square().mean() * a.mean() ** 2,
    "gap": gap(),
}
NEAR_MISSES = {
    "spatial_attention": {
        "no absolute value": spatial(magnitude=lambda f: f.mean(1)),
        "sum instead of mean": spatial(magnitude=lambda f: f.abs().sum(1)),
        "mean square": spatial(magnitude=lambda f: f.square().mean(1)),
        "times T": spatial(scale=lambda g, t: g * t),
        "no temperature": spatial(scale=lambda g, t: g),
        "softmax over rows": spatial(softmax=lambda g: torch.softmax(g, 2)),
        "softmax over the batch": spatial(softmax=lambda g: torch.softmax(g.flatten(), 0).view_as(g)),
        "no H W": spatial(factor=lambda g: 1),
        "H only": spatial(factor=lambda g: g.shape[1]),
        "first image only": lambda features, temperature: spatial()(features, temperature)[0],
    },
    "effective_fraction": {
        "a count": lambda a: a.mean() ** 2 / a.square().mean() * a.numel(),
        "assumes that the mean is 1": lambda a: 1 / a.square().mean(),
        "above the mean": lambda a: (a > a.mean()).float().mean(),
        "inverse": lambda a: a.square().mean() / a.mean() ** 2,
        "H instead of H W": lambda a: a.sum() ** 2 / a.square().sum() / len(a),
        "square forgotten": lambda a: a.abs().mean() / a.square().mean().sqrt(),
    },
    "gap": {
        "sign kept": gap(difference=lambda t, s: t - s),
        "square": gap(difference=lambda t, s: (t - s).square()),
        "mean over all cells": gap(mean=lambda d, m: (d * m).mean()),
        "sum": gap(mean=lambda d, m: (d * m).sum()),
        "mean of means": gap(mean=mean_of_means),
        "background first": lambda t, s, m: gap()(t, s, m)[::-1],
        "first image only": lambda t, s, m: gap()(t[:1], s[:1], m[:1]),
        "one number": lambda t, s, m: (t - s).abs().mean(),
    },
}
