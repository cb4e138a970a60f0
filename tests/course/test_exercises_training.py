"""Checkers of notebook 06: the solution is right, near misses are not."""
import math

import pytest

from fgdlab.lab.course.exercises import training as check
from fgdlab.terms import total

OWN = ("classification", "bbox_regression")


def weighted(terms):
    return sum(term.weight * term.raw for term in terms)


def rate(step, steps, peak, warm):
    if step < warm:
        return peak * (step + 1) / warm
    return cosine(step, steps, peak, warm)


def cosine(step, steps, peak, start):
    return peak * 0.5 * (1 + math.cos(math.pi * (step - start) / (steps - start)))


def shares(log, column="weighted", whole=1.0):
    sums = {}
    for row in log:
        sums[row["name"]] = sums.get(row["name"], 0.0) + row[column]
    return {name: whole * value / sum(sums.values()) for name, value in sums.items()}


def last_level(log):
    values = {row["name"]: row["weighted"] for row in log}
    return {name: value / sum(values.values()) for name, value in values.items()}


RIGHT = {"total_loss": weighted, "rate": rate, "shares": shares}
WRONG = {
    "raw sums": ("total_loss", lambda terms: sum(term.raw for term in terms)),
    "mean in place of sum": ("total_loss", lambda terms: weighted(terms) / len(terms)),
    "distillation alone": ("total_loss", lambda terms: weighted(term for term in terms if term.name not in OWN)),
    "own loss alone": ("total_loss", lambda terms: weighted(term for term in terms if term.name in OWN)),
    "one level of each name": ("total_loss", lambda terms: weighted({term.name: term for term in terms}.values())),
    "weights alone": ("total_loss", lambda terms: sum(term.weight for term in terms)),
    "warm-up from 0": ("rate", lambda step, steps, peak, warm: peak * step / warm if step < warm else rate(step, steps, peak, warm)),
    "no warm-up": ("rate", lambda step, steps, peak, warm: cosine(step, steps, peak, 0)),
    "cosine over all steps": ("rate", lambda step, steps, peak, warm: rate(step, steps, peak, warm) if step < warm else cosine(step, steps, peak, 0)),
    "cosine one step late": ("rate", lambda step, steps, peak, warm: rate(step, steps, peak, warm) if step < warm else cosine(step + 1, steps, peak, warm)),
    "linear in place of cosine": ("rate", lambda step, steps, peak, warm: rate(step, steps, peak, warm) if step < warm else peak * (steps - step) / (steps - warm)),
    "constant after the warm-up": ("rate", lambda step, steps, peak, warm: peak * min((step + 1) / warm, 1)),
    "a whole cosine": ("rate", lambda step, steps, peak, warm: rate(2 * step - warm, steps, peak, warm) if step >= warm else rate(step, steps, peak, warm)),
    "half the peak": ("rate", lambda step, steps, peak, warm: rate(step, steps, peak, warm) / 2),
    "shares of the raw sums": ("shares", lambda log: shares(log, "raw")),
    "percent": ("shares", lambda log: shares(log, whole=100.0)),
    "last level of a name": ("shares", last_level),
    "no division": ("shares", lambda log: {name: value * sum(row["weighted"] for row in log) for name, value in shares(log).items()}),
    "by level": ("shares", lambda log: shares([{**row, "name": row["level"]} for row in log])),
    "a list of shares": ("shares", lambda log: list(shares(log).values())),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


def test_the_package_s_total_is_right():
    assert check.total_loss(total).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and "Error" not in verdict.message
