"""Checkers of notebook 10: the solution is right, near misses are not."""
import math

import pytest

from fgdlab.lab.course.exercises import scale as check


def values(height, width, channels, strides):
    return channels * sum(math.ceil(height / stride) * math.ceil(width / stride) for stride in strides)


def work(student, teacher, cached):
    return 3 * student + (0 if cached else teacher)


def hours(rows, seeds, images, epochs, images_per_second):
    return rows * seeds * images * epochs / images_per_second / 3600


RIGHT = {"map_values": values, "step_flops": work, "sweep_hours": hours}
WRONG = {
    "grids rounded down": ("map_values", lambda h, w, c, strides: c * sum((h // s) * (w // s) for s in strides)),
    "cells not rounded": ("map_values", lambda h, w, c, strides: c * sum(h * w / s**2 for s in strides)),
    "finest level alone": ("map_values", lambda h, w, c, strides: values(h, w, c, strides[:1])),
    "last level left out": ("map_values", lambda h, w, c, strides: values(h, w, c, strides[:-1] or strides)),
    "channels left out": ("map_values", lambda h, w, c, strides: values(h, w, 1, strides)),
    "height twice": ("map_values", lambda h, w, c, strides: values(h, h, c, strides)),
    "bytes in place of values": ("map_values", lambda h, w, c, strides: 4 * values(h, w, c, strides)),
    "teacher trained too": ("step_flops", lambda s, t, cached: 3 * s + (0 if cached else 3 * t)),
    "backward forgotten": ("step_flops", lambda s, t, cached: s + (0 if cached else t)),
    "backward as cheap as forward": ("step_flops", lambda s, t, cached: 2 * s + (0 if cached else t)),
    "cache forgotten": ("step_flops", lambda s, t, cached: 3 * s + t),
    "cached turned around": ("step_flops", lambda s, t, cached: 3 * s + (t if cached else 0)),
    "epochs forgotten": ("sweep_hours", lambda r, s, i, e, ips: r * s * i / ips / 3600),
    "one seed": ("sweep_hours", lambda r, s, i, e, ips: r * i * e / ips / 3600),
    "one row": ("sweep_hours", lambda r, s, i, e, ips: s * i * e / ips / 3600),
    "minutes": ("sweep_hours", lambda r, s, i, e, ips: 60 * hours(r, s, i, e, ips)),
    "rows and seeds added": ("sweep_hours", lambda r, s, i, e, ips: (r + s - 1) * i * e / ips / 3600),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and verdict.message
