"""Answers to the exercises of notebook 05."""
import torch

from fgdlab.relation import RelationTerm


def context(features, key, axis=1):
    pixels = features.flatten(2)  # (N, C, HW)
    weights = torch.softmax((key[:, None] * pixels).sum(dim=1), dim=axis)
    return (pixels * weights[:, None]).sum(dim=2)


def scores(features, key):
    return torch.einsum("nchw,c->nhw", features, key)


def weighted_sum(features, weights):
    return torch.einsum("nchw,nhw->nc", features, weights)


def whole_batch(features, key):
    """One softmax over the pixels of all images together."""
    s = scores(features, key)
    return weighted_sum(features, torch.softmax(s.flatten(), dim=0).view_as(s))


def largest_pixel(features, key):
    return features.flatten(2)[torch.arange(len(features)), :, scores(features, key).flatten(1).argmax(1)]


def centred(student, teacher, dims=(2, 3)):
    difference = student - teacher
    return (difference - difference.mean(dim=dims, keepdim=True)).square().sum() / len(student)


def plain(student, teacher):
    return RelationTerm(student.shape[1], "mse")(student, teacher)


def mirrored(student, teacher):
    return 2 * teacher - student


RIGHT = {"context": context, "lower_bound": centred, "equal_distance": mirrored}
NEAR_MISSES = {
    "context": {
        "mean instead of weights": lambda f, k: f.mean(dim=(2, 3)),
        "softmax over the images": lambda f, k: context(f, k, axis=0),
        "one softmax for the batch": whole_batch,
        "exponentials not normalised": lambda f, k: weighted_sum(f, scores(f, k).exp()),
        "weights without exponential": lambda f, k: weighted_sum(f, scores(f, k)),
        "largest pixel only": largest_pixel,
        "divided by the pixels": lambda f, k: context(f, k) / f[0, 0].numel(),
        "shape of the block's context": lambda f, k: context(f, k)[..., None],
    },
    "lower_bound": {
        "plain squared distance": plain,
        "mean over the batch too": lambda s, t: centred(s, t, dims=(0, 2, 3)),
        "mean over the channels": lambda s, t: centred(s, t, dims=(1,)),
        "mean over all": lambda s, t: centred(s, t, dims=(1, 2, 3)),
        "mean over rows only": lambda s, t: centred(s, t, dims=(2,)),
        "not averaged over the batch": lambda s, t: centred(s, t) * len(s),
        "mean instead of sum": lambda s, t: centred(s, t) / s[0].numel(),
        "only what blocks can remove": lambda s, t: plain(s, t) - centred(s, t),
    },
    "equal_distance": {
        "the student itself": lambda s, t: s,
        "the teacher": lambda s, t: t,
        "a constant added": lambda s, t: s + 0.5,
        "pixels of the student shuffled": lambda s, t: s.flip(-1),
        "mirrored at 0": lambda s, t: -s,
        "mirrored at the student": lambda s, t: 2 * s - t + 0.1,
        "another shape": lambda s, t: mirrored(s, t)[:1, :, :1],
    },
}
