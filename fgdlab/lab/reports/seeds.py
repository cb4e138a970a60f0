"""``fgdlab seeds``: one line for each contrast of a sweep, how sure it is and how many seeds would make it surer."""
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tabulate import tabulate

from ..errors import UserError, unknown_name
from ..stats import (
    SURE,
    Need,
    anytime_factor,
    anytime_interval,
    check_metric,
    look_interval,
    mean_std,
    noise_covered,
    planned,
    seed_differences,
    seeds_for_power,
    seeds_for_width,
)
from ..tables import compared_with, present_rows

WIDTH, DASH = 100, "–"


@dataclass(frozen=True)
class Question:
    """What is asked: an interval of at most ``half_width`` to each side, and to tell ``difference`` (None: the mean so far) from 0 with this power.

    looks: numbers of seeds at which to look, planned before any was seen; () to look at any time. All in points of ``metric``.
    """

    metric: str = "AP"
    half_width: float = 0.5
    difference: float | None = None
    power: float = 0.8
    looks: tuple[int, ...] = ()

    def __post_init__(self):
        if not 0 < self.half_width < math.inf:
            raise UserError(f"the half-width must be a number of points above 0, got {self.half_width}; 0.5 is half a point")
        if not 0 < self.power < 1:
            raise UserError(f"the power must be between 0 and 1, got {self.power}; 80 % is 0.8")
        if self.difference is not None and not 0 < abs(self.difference) < math.inf:
            raise UserError(f"the difference must be a number of points other than 0, got {self.difference}; name the smallest one that matters")


def planned_looks(text: str | None) -> tuple[int, ...]:
    """"3,6,12" as numbers of seeds; () for None."""
    if text is None:
        return ()
    try:
        looks = tuple(sorted({int(each) for each in text.split(",")}))
    except ValueError:
        looks = ()
    if not looks or looks[0] < 2:
        raise UserError(f"--looks must be whole numbers of at least 2 seeds with commas between, such as 3,6,12; got {text!r}")
    return looks


def contrasts_of(sweep, row: str | None, against: str | None) -> list[tuple[str, str]]:
    """The contrasts asked for: one row, or all rows that the scale can run against the baseline (their own, or ``against``) and then the sweep's own contrasts."""
    for name in (row, against):
        if name is not None and name not in sweep.rows:
            raise unknown_name("row", name, sweep.rows)
    if row is not None:
        base = against or compared_with(sweep, row)
        if row == base:
            raise UserError(f"--row and --against must be two rows, got {row!r} for both; leave one out, or choose among {', '.join(sweep.rows)}")
        return [(row, base)]
    pairs = [(each, against or compared_with(sweep, each)) for each in present_rows(sweep)]
    return list(dict.fromkeys([*((each, base) for each, base in pairs if each != base), *([] if against else sweep.contrasts)]))


def needed(need: Need, n: int) -> str:
    """``12, 9 more (7 to 40)``: seeds in all, how many are lacking, the range that the std leaves open."""
    def count(value: float) -> str:
        return "endless" if math.isinf(value) else str(int(value))

    more = "enough" if need.seeds <= n else f"{count(need.seeds - n)} more"
    return "endless" if math.isinf(need.seeds) else f"{count(need.seeds)}, {more}\n({count(need.low)} to {count(need.high)})"


def line(label: str, differences: Sequence[float], question: Question) -> list[str]:
    """The cells of one contrast."""
    mean, std, n = mean_std(differences)
    if n == 0:
        return [label, "0", *[DASH] * 5]
    shown = [label, str(n), f"{mean:+.2f} ± {DASH if n == 1 else f'{std:.2f}'}"]
    if n == 1:
        return [*shown, *[DASH] * 4]
    low, high = look_interval(differences, question.looks) if question.looks else anytime_interval(differences)
    interval = f"[{low:+.2f}, {high:+.2f}]" if not np.isnan(low) else "no look\nplanned here"
    fixed = seeds_for_width(std, n, question.half_width, lambda more: planned(more, looks=max(len(question.looks), 1)))
    open_ended = seeds_for_width(std, n, question.half_width, anytime_factor)
    told = seeds_for_power(std, n, mean if question.difference is None else question.difference, question.power)
    return [*shown, interval, needed(fixed, n), needed(open_ended, n), needed(told, n)]


def seeds_report(results: pd.DataFrame, sweep, question: Question, row: str | None = None, against: str | None = None) -> str:
    """The table for a terminal, with what its columns mean.

    Args:
        results: one row a run, as ``fgdlab sweep`` writes it. row, against: one contrast; by default all rows against the baseline.
    Raises:
        UserError: an unknown row or metric, or no contrast with a pair of seeds.
    """
    check_metric(results, question.metric)
    wanted = contrasts_of(sweep, row, against)
    differences = [seed_differences(results, *pair, question.metric).to_list() for pair in wanted]
    if not any(differences):
        raise UserError(f"a contrast of {sweep.name} must have a seed that is done in both rows, got none; run `fgdlab sweep {sweep.name}` first")
    cells = [line("\n".join(textwrap.wrap(f"{sweep.rows[a].label} minus {sweep.rows[b].label}", 24)), each, question) for (a, b), each in zip(wanted, differences, strict=True)]
    sure, half = f"{100 * SURE:g} %", f"±{question.half_width:g}"
    target = "to tell the\nmean from 0" if question.difference is None else f"to tell\n{question.difference:+g} from 0"
    headers = [f"Δ{question.metric}, by seed", "n", "mean ± std", "95 % interval,\n" + ("planned look" if question.looks else "any look"), f"for {half},\nplanned", f"for {half},\nany look", target]
    notes = [
        f"Seeds in all, then how many more than the n pairs so far; in brackets with the std at the ends of its {sure} interval, for n values know their std badly.",
        f"Planned: {'each of the looks at ' + ', '.join(map(str, question.looks)) + ' seeds (Bonferroni)' if question.looks else 'a number of seeds fixed now, and no look before it is reached'}. "
        "Any look: add seeds and look as you like; the interval holds at every n. Adding seeds until a plain t-interval leaves 0 finds differences in nothing.",
        f"To tell from 0: one t-test at 5 % with a power of {100 * question.power:g} %" + (
            "; the mean so far is taken for the truth, which flatters what came out large by luck: --difference names the smallest one that matters." if question.difference is None else "."),
        noise_covered("seeds", "All of it covers") + " Not corrected for several contrasts.",
    ]
    return "\n\n".join([tabulate(cells, headers, "simple", disable_numparse=True, colalign=["left", *["right"] * 6]), "\n".join(textwrap.fill(each, WIDTH, subsequent_indent="  ") for each in notes)])
