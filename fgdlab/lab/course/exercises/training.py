"""Checkers of notebook 06: the total of eq. 14, the learning rate of a step, shares read off a log."""
import torch

from fgdlab.terms import Term

from ...config import RunConfig
from ...training import learning_rate
from .judge import Case, Verdict, judge


def total_loss(answer) -> Verdict:
    """answer(terms): what is optimised, of a list of Term(name, level, raw, weight)."""
    own = Term("classification", "all", torch.tensor(1.25))
    focal = [Term("fg", "P3", torch.tensor(400.0), 1e-3), Term("fg", "P4", torch.tensor(300.0), 1e-3), Term("bg", "P3", torch.tensor(50.0), 4e-3)]
    return judge(answer, [
        Case("one term of the detector's own", ([own],), 1.25),
        Case("one term of 400 with weight 1e-3", (focal[:1],), 0.4, hint="raw is the sum before its coefficient: multiply by weight."),
        Case("own loss, foreground on two levels, background on one", ([own, *focal],), 1.25 + 0.4 + 0.3 + 0.2,
             hint="add every term, the detector's own too."),
    ])


def rate(answer) -> Verdict:
    """answer(step, steps, peak, warm): linear from peak / warm at step 0 to peak at step warm - 1, then half a cosine from there towards 0."""
    settings = RunConfig(lr=0.005, warmup=0.1)
    cases = [
        ("the first step of 100, 10 of them to warm up", 0, "steps count from 0: the first rate is a tenth of the peak, not 0."),
        ("the last step of the warm-up", 9, "the ramp ends at the peak."),
        ("the first step of the cosine", 10, "the cosine begins at the peak: count its steps from the end of the warm-up."),
        ("half-way down", 55, "peak x (1 + cos(pi x)) / 2, x from 0 to 1 between the end of the warm-up and `steps`."),
        ("step 80", 80, ""),
        ("the last step", 99, "close to 0, not below."),
    ]
    expected = {step: learning_rate(step, 100, settings) for _, step, _ in cases}
    return judge(answer, [Case(name, (step, 100, 0.005, 10), expected[step], rtol=1e-4, atol=1e-9, hint=hint) for name, step, hint in cases])


def shares(answer) -> Verdict:
    """answer(log): {name: share of the total, 0..1} of the rows of one step, summed over levels."""
    def row(name: str, level: str, raw: float, weighted: float) -> dict:
        return {"step": 1, "name": name, "level": level, "raw": raw, "weighted": weighted}

    log = [
        row("classification", "all", 1.0, 1.0), row("fg", "P3", 600.0, 0.6), row("bg", "P3", 20.0, 0.1),
        row("fg", "P4", 200.0, 0.2), row("bg", "P4", 20.0, 0.1),
    ]
    return judge(answer, [
        Case("one term alone", (log[:1],), {"classification": 1.0}),
        Case("two terms on one level", (log[1:3],), {"fg": 6 / 7, "bg": 1 / 7}, hint='shares of the column "weighted", which is what is optimised.'),
        Case("three terms, two of them on two levels", (log,), {"classification": 0.5, "fg": 0.4, "bg": 0.1}, hint="add up a name's levels."),
    ])
