"""Exercises of notebook 06: the total loss of eq. 14, the learning rate of a step, fractions of the loss from a log."""
import torch

from fgdlab.terms import Term

from ...config import RunConfig
from ...training import learning_rate
from .answers import Case, Verdict, check_answer


def total_loss(answer) -> Verdict:
    """answer(terms): the number that is optimised, from a list of Term(name, level, raw, weight)."""
    task = Term("classification", "all", torch.tensor(1.25))
    focal = [
        Term("fg", "P3", torch.tensor(400.0), 1e-3), Term("fg", "P4", torch.tensor(300.0), 1e-3),
        Term("bg", "P3", torch.tensor(50.0), 4e-3),
    ]
    return check_answer(answer, [
        Case("one term of the task loss", ([task],), 1.25),
        Case("one term of 400 with weight 1e-3", (focal[:1],), 0.4,
             hint="raw is the sum before its coefficient: multiply by weight."),
        Case("task loss, foreground on two levels, background on one", ([task, *focal],), 1.25 + 0.4 + 0.3 + 0.2,
             hint="add every term, including the task loss."),
    ])


def rate(answer) -> Verdict:
    """answer(step, steps, peak, warm): linear from peak / warm to peak over warm steps, then half a cosine to 0."""
    config = RunConfig(lr=0.005, warmup=0.1)
    cases = [
        ("the first step of 100, 10 of them warm-up", 0,
         "steps count from 0: the first rate is a tenth of the peak, not 0."),
        ("the last step of the warm-up", 9, "the warm-up ends at the peak."),
        ("the first step of the cosine", 10,
         "the cosine begins at the peak: count its steps from the end of the warm-up."),
        ("half-way down", 55,
         "peak x (1 + cos(pi x)) / 2, x from 0 to 1 between the end of the warm-up and `steps`."),
        ("step 80", 80, ""),
        ("the last step", 99, "close to 0, not below."),
    ]
    return check_answer(answer, [
        Case(name, (step, 100, 0.005, 10), learning_rate(step, 100, config), rtol=1e-4, atol=1e-9, hint=hint)
        for name, step, hint in cases
    ])


def fractions(answer) -> Verdict:
    """answer(log): {name: fraction of the total, 0..1} from the rows of one step, summed over levels."""
    rows = [
        ("classification", "all", 1.0, 1.0), ("fg", "P3", 600.0, 0.6), ("bg", "P3", 20.0, 0.1),
        ("fg", "P4", 200.0, 0.2), ("bg", "P4", 20.0, 0.1),
    ]
    log = [dict(zip(("step", "name", "level", "raw", "weighted"), (1, *row), strict=True)) for row in rows]
    return check_answer(answer, [
        Case("one term only", (log[:1],), {"classification": 1.0}),
        Case("two terms on one level", (log[1:3],), {"fg": 6 / 7, "bg": 1 / 7},
             hint='use the column "weighted", which is optimised.'),
        Case("three terms, two of them on two levels", (log,), {"classification": 0.5, "fg": 0.4, "bg": 0.1},
             hint="sum each name over its levels."),
    ])
