"""Answers to the exercises of notebook 10."""
import math


def values(height, width, channels, strides):
    return channels * sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides)


def flops(student, teacher, cached):
    return 3 * student + (0 if cached else teacher)


def hours(rows, seeds, images, epochs, images_per_second):
    return rows * seeds * images * epochs / images_per_second / 3600


RIGHT = {"map_values": values, "step_flops": flops, "sweep_hours": hours}
NEAR_MISSES = {
    "map_values": {
        "grids rounded down": lambda h, w, c, strides: c * sum((h // s) * (w // s) for s in strides),
        "cells not rounded": lambda h, w, c, strides: c * sum(h * w / s**2 for s in strides),
        "finest level only": lambda h, w, c, strides: values(h, w, c, strides[:1]),
        "last level left out": lambda h, w, c, strides: values(h, w, c, strides[:-1] or strides),
        "channels left out": lambda h, w, c, strides: values(h, w, 1, strides),
        "height twice": lambda h, w, c, strides: values(h, h, c, strides),
        "bytes instead of values": lambda h, w, c, strides: 4 * values(h, w, c, strides),
    },
    "step_flops": {
        "teacher trained too": lambda s, t, cached: 3 * s + (0 if cached else 3 * t),
        "backward forgotten": lambda s, t, cached: s + (0 if cached else t),
        "backward as cheap as forward": lambda s, t, cached: 2 * s + (0 if cached else t),
        "cache forgotten": lambda s, t, cached: 3 * s + t,
        "cached reversed": lambda s, t, cached: 3 * s + (t if cached else 0),
    },
    "sweep_hours": {
        "epochs forgotten": lambda r, s, i, e, ips: hours(r, s, i, 1, ips),
        "one seed": lambda r, s, i, e, ips: hours(r, 1, i, e, ips),
        "one row": lambda r, s, i, e, ips: hours(1, s, i, e, ips),
        "minutes": lambda r, s, i, e, ips: 60 * hours(r, s, i, e, ips),
        "rows and seeds added": lambda r, s, i, e, ips: hours(r + s - 1, 1, i, e, ips),
    },
}
