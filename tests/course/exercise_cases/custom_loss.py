"""Answers to the exercises of notebook 09."""
import torch


def moved(values, index, step):
    values = values.clone()
    values[index] += step
    return values


def slope(function, values, index, step):
    return (function(moved(values, index, step)) - function(moved(values, index, -step))) / (2 * step)


def in_place(function, values, index, step):
    values[index] += step
    up = function(values)
    values[index] -= 2 * step
    return (up - function(values)) / (2 * step)


def cosine_loss(student, teacher, weight, of_image=True, merge=torch.mean):
    if of_image:
        weight = weight / weight.sum(dim=(1, 2), keepdim=True)
    angle = 1 - (student * teacher).sum(1) / student.norm(dim=1) / teacher.norm(dim=1)
    return merge((weight * angle).sum(dim=(1, 2)))


def lengths(student, teacher):
    return (student.norm(dim=1) * teacher.norm(dim=1)).detach()


def equal(loss, n=3, uneven=True, cells=True, rtol=1e-4, same=False):
    """Whether a loss is right on random maps: of n images, of different magnitude or not, with uneven cells or not."""
    generator = torch.Generator().manual_seed(n)
    s, t = torch.randn(2, n, 4, 3, 5, generator=generator)
    s, t = s, s if same else t / (1 if cells else t.norm(dim=1, keepdim=True))
    t = t * (torch.arange(1.0, n + 1)[:, None, None, None] if uneven else 1)
    return bool(torch.isclose(loss(s, t).float(), cosine_loss(s, t, t.norm(dim=1)), rtol=rtol, atol=1e-6))


RIGHT = {"slope": slope, "weighted_by_both": lambda s, t: cosine_loss(s, t, lengths(s, t)), "passes": equal}
NEAR_MISSES = {
    "slope": {
        "one-sided": lambda f, x, i, h: (f(moved(x, i, h)) - f(x)) / h,
        "divided by the step": lambda f, x, i, h: (f(moved(x, i, h)) - f(moved(x, i, -h))) / h,
        "down minus up": lambda f, x, i, h: (f(moved(x, i, -h)) - f(moved(x, i, h))) / (2 * h),
        "all entries moved": lambda f, x, i, h: (f(x + h) - f(x - h)) / (2 * h),
        "entry 0": lambda f, x, i, h: slope(f, x, 0, h),
        "in place": in_place,
    },
    "weighted_by_both": {
        "gradient through the weight": lambda s, t: cosine_loss(s, t, s.norm(dim=1) * t.norm(dim=1)),
        "teacher's length only": lambda s, t: cosine_loss(s, t, t.norm(dim=1)),
        "student's length only": lambda s, t: cosine_loss(s, t, s.norm(dim=1).detach()),
        "weights over the batch": lambda s, t: cosine_loss(s, t, lengths(s, t) / lengths(s, t).sum(), of_image=False),
        "not normalised": lambda s, t: cosine_loss(s, t, lengths(s, t), of_image=False),
        "sum over images": lambda s, t: cosine_loss(s, t, lengths(s, t), merge=torch.sum),
        "no gradient": lambda s, t: cosine_loss(s, t, lengths(s, t)).detach(),
    },
    "passes": {
        "equal maps only": lambda loss: equal(loss, same=True),
        "one image": lambda loss: equal(loss, n=1),
        "images of one magnitude": lambda loss: equal(loss, uneven=False, cells=False),
        "even cells": lambda loss: equal(loss, cells=False),
        "a wide tolerance": lambda loss: equal(loss, rtol=1.0),
        "everything passes": lambda loss: True,
        "nothing passes": lambda loss: False,
    },
}
