"""Answers to the exercises of notebook 06."""
import math

TASK_LOSS = ("classification", "bbox_regression")


def weighted(terms):
    return sum(term.weight * term.raw for term in terms)


def cosine(step, steps, peak, start):
    return peak * 0.5 * (1 + math.cos(math.pi * (step - start) / (steps - start)))


def warm_up(then=cosine, first=1):
    def rate(step, steps, peak, warm):
        return peak * (step + first) / warm if step < warm else then(step, steps, peak, warm)
    return rate


def fractions(log, column="weighted", whole=1.0):
    sums = {}
    for row in log:
        sums[row["name"]] = sums.get(row["name"], 0.0) + row[column]
    return {name: whole * value / sum(sums.values()) for name, value in sums.items()}


def last_level(log):
    values = {row["name"]: row["weighted"] for row in log}
    return {name: value / sum(values.values()) for name, value in values.items()}


RIGHT = {"total_loss": weighted, "rate": warm_up(), "fractions": fractions}
NEAR_MISSES = {
    "total_loss": {
        "raw sums": lambda terms: sum(term.raw for term in terms),
        "mean instead of sum": lambda terms: weighted(terms) / len(terms),
        "distillation only": lambda terms: weighted(term for term in terms if term.name not in TASK_LOSS),
        "task loss only": lambda terms: weighted(term for term in terms if term.name in TASK_LOSS),
        "one level of each name": lambda terms: weighted({term.name: term for term in terms}.values()),
        "weights only": lambda terms: sum(term.weight for term in terms),
    },
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
    "fractions": {
        "of the raw sums": lambda log: fractions(log, "raw"),
        "percent": lambda log: fractions(log, whole=100.0),
        "last level of a name": last_level,
        "no division": lambda log: {k: v * sum(row["weighted"] for row in log) for k, v in fractions(log).items()},
        "by level": lambda log: fractions([{**row, "name": row["level"]} for row in log]),
        "a list": lambda log: list(fractions(log).values()),
    },
}
