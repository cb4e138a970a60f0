"""Answers to the exercises of notebook 01."""
from itertools import permutations

import torch
from scipy.optimize import linear_sum_assignment


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


def best(table, maximize=True):
    return linear_sum_assignment(table.numpy(), maximize=maximize)[1]


def by_trial(table):
    rows = table.tolist()
    orders = permutations(range(len(rows)))
    return max(orders, key=lambda order: sum(row[column] for row, column in zip(rows, order, strict=True)))


def greedy(table):
    table, order = table.clone(), [0] * len(table)
    for _ in order:
        row, column = divmod(table.argmax().item(), len(table))
        order[row], table[row], table[:, column] = column, -9, -9
    return order


RIGHT = {"same_channel_correlation": correlation, "best_order": by_trial}
NEAR_MISSES = {
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
    "best_order": {
        "largest of each row": lambda table: table.argmax(1),
        "greedy": greedy,
        "smallest sum": lambda table: best(table, maximize=False),
        "absolute values": lambda table: best(table.abs()),
        "row of each column": lambda table: best(table.T),
        "no change": lambda table: range(len(table)),
        "the sum": lambda table: table.max(1).values.sum(),
    },
}
