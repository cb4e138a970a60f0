"""Answers to the exercises of notebook 06."""
import math

import torch


def cosine(step, steps, peak, start):
    return peak * 0.5 * (1 + math.cos(math.pi * (step - start) / (steps - start)))


def warm_up(then=cosine, first=1):
    def rate(step, steps, peak, warm):
        return peak * (step + first) / warm if step < warm else then(step, steps, peak, warm)
    return rate


def gradients(loss, parameters):
    grads = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    return [torch.zeros_like(p) if g is None else g for p, g in zip(parameters, grads, strict=True)]


def angle(one, other, parameters, first=None, norm=True):
    a, b = (torch.cat([g.flatten() for g in gradients(x, parameters)[:first]]) for x in (one, other))
    return a @ b / (a.norm() * b.norm() if norm else 1)


def mean_of_cosines(one, other, parameters):
    pairs = zip(gradients(one, parameters), gradients(other, parameters), strict=True)
    return torch.stack([torch.cosine_similarity(a.flatten(), b.flatten(), dim=0) for a, b in pairs]).mean()


RIGHT = {"rate": warm_up(), "gradient_cosine": angle}
NEAR_MISSES = {
    "rate": {
        "warm-up from 0": warm_up(first=0),
        "no warm-up": lambda step, steps, peak, warm: cosine(step, steps, peak, 0),
        "cosine over all steps": warm_up(lambda step, steps, peak, warm: cosine(step, steps, peak, 0)),
        "cosine one step late": warm_up(lambda step, steps, peak, warm: cosine(step + 1, steps, peak, warm)),
        "linear": warm_up(lambda step, steps, peak, warm: peak * (steps - step) / (steps - warm)),
        "constant after the warm-up": lambda step, steps, peak, warm: peak * min((step + 1) / warm, 1),
        "a whole cosine": warm_up(lambda step, steps, peak, warm: cosine(2 * step - warm, steps, peak, warm)),
        "half the peak": lambda *args: warm_up()(*args) / 2,
    },
    "gradient_cosine": {
        "mean of the cosines": mean_of_cosines,
        "product without lengths": lambda *a: angle(*a, norm=False),
        "absolute value": lambda *a: angle(*a).abs(),
        "first parameter only": lambda *a: angle(*a, first=1),
        "shared parameters only": lambda *a: angle(*a, first=2),
        "sine": lambda *a: (1 - angle(*a) ** 2).clamp(min=0).sqrt(),
        "values instead of gradients": lambda one, other, parameters: one * other / (one * other).abs(),
    },
}
