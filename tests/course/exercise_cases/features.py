"""Answers to the exercises of notebook 01."""
import torch


def padded_grid(height, width, stride):
    return tuple((side + 31) // 32 * (32 // stride) for side in (height, width))


def correlation(teacher, student, flat=lambda f: f.transpose(0, 1).flatten(1), centre=True, absolute=False):
    pairs = []
    for t, s in zip(flat(teacher), flat(student), strict=True):
        if centre:
            t, s = t - t.mean(), s - s.mean()
        r = torch.dot(t, s) / (t.norm() * s.norm())
        pairs.append(r.abs() if absolute else r)
    return torch.stack(pairs)


def image_by_image(teacher, student):
    return torch.stack([correlation(t[None], s[None]) for t, s in zip(teacher, student, strict=True)]).mean(0)


def covariance(teacher, student):
    t, s = (f.transpose(0, 1).flatten(1) for f in (teacher, student))
    return ((t - t.mean(1, keepdim=True)) * (s - s.mean(1, keepdim=True))).mean(1)


RIGHT = {
    "grid_size": padded_grid,
    "magnitude": lambda features: features.abs().sum(1) / features.shape[1],
    "same_channel_correlation": correlation,
}
NEAR_MISSES = {
    "grid_size": {
        "no padding, rounded down": lambda h, w, stride: (h // stride, w // stride),
        "no padding, rounded up": lambda h, w, stride: (-(-h // stride), -(-w // stride)),
        "width first": lambda h, w, stride: padded_grid(w, h, stride),
        "padded downwards": lambda h, w, stride: (h // 32 * 32 // stride, w // 32 * 32 // stride),
        "pads full sides": lambda h, w, stride: ((h // 32 + 1) * 32 // stride, (w // 32 + 1) * 32 // stride),
        "number of cells": lambda h, w, stride: padded_grid(h, w, stride)[0] * padded_grid(h, w, stride)[1],
    },
    "magnitude": {
        "no absolute value": lambda f: f.mean(1),
        "absolute value of the mean": lambda f: f.mean(1).abs(),
        "sum": lambda f: f.abs().sum(1),
        "root of the mean square": lambda f: f.square().mean(1).sqrt(),
        "mean over pixels": lambda f: f.abs().mean((2, 3)),
        "channel dimension kept": lambda f: f.abs().mean(1, keepdim=True),
        "maximum": lambda f: f.abs().amax(1),
        "mean over images": lambda f: f.abs().mean(0),
    },
    "same_channel_correlation": {
        "image by image": image_by_image,
        "covariance": covariance,
        "mean not subtracted": lambda t, s: correlation(t, s, centre=False),
        "absolute value": lambda t, s: correlation(t, s, absolute=True),
        "images and channels mixed up": lambda t, s: correlation(t, s, flat=lambda f: f.reshape(f.shape[1], -1)),
        "mean over channels": lambda t, s: correlation(t, s).mean(),
        "first image only": lambda t, s: correlation(t[:1], s[:1]),
        "squared": lambda t, s: correlation(t, s).square(),
    },
}
