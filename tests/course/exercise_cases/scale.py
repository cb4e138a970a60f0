"""Answers to the exercises of notebook 10."""
import math


def factor(sizes, divisor, side=math.ceil, largest=max, count=len):
    height, width = (side(largest(x) / divisor) * divisor for x in zip(*sizes, strict=True))
    return count(sizes) * height * width / sum(h * w for h, w in sizes)


def backward(forward, first):
    return 2 * sum(forward[first:]) - forward[first]


RIGHT = {"padding_factor": factor, "backward_flops": backward}
NEAR_MISSES = {
    "padding_factor": {
        "rounded down": lambda sizes, d: factor(sizes, d, side=math.floor),
        "not rounded": lambda sizes, d: factor(sizes, d, side=float),
        "largest image": lambda sizes, d: len(sizes) * max(h * w for h, w in sizes) / sum(h * w for h, w in sizes),
        "smallest sides": lambda sizes, d: factor(sizes, d, largest=min),
        "one image padded": lambda sizes, d: factor(sizes, d, count=lambda sizes: 1),
        "a square": lambda sizes, d: factor([2 * (max(size),) for size in sizes], d),
        "images over batch": lambda sizes, d: 1 / factor(sizes, d),
    },
    "backward_flops": {
        "twice the forward": lambda forward, first: 2 * sum(forward),
        "frozen layers only left out": lambda forward, first: 2 * sum(forward[first:]),
        "gradients of the inputs of all": lambda forward, first: sum(forward) + sum(forward[first:]),
        "weights only": lambda forward, first: sum(forward[first:]),
        "one product less at the end": lambda forward, first: 2 * sum(forward[first:]) - forward[-1],
        "first layer of the chain": lambda forward, first: 2 * sum(forward[first:]) - forward[0],
    },
}
