"""``fgdlab seeds``: how many seeds each contrast of a sweep needs, and intervals that stay valid as seeds are added."""
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from .. import stats
from ..errors import UserError, check_name
from ..tables import DASH, aligned, baseline_of, compared_rows, signed, wrapped


@dataclass(frozen=True)
class SeedTargets:
    """The precision that is wanted, in points of ``metric``.

    half_width: of the interval. difference: to be found by a t-test with this ``power``; None takes the mean so far.
    analyses: numbers of seeds of the planned analyses, fixed before any result was seen; () for anytime-valid
        intervals.
    """

    metric: str = "AP"
    half_width: float = 0.5
    difference: float | None = None
    power: float = 0.8
    analyses: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        wanted = 1 if self.difference is None else abs(self.difference)
        if not (0 < self.half_width < math.inf and 0 < wanted < math.inf and 0 < self.power < 1):
            must = "half_width must be above 0, difference not 0, power between 0 and 1, all finite"
            raise UserError(f"{must}; got {self.half_width}, {self.difference}, {self.power}")


def contrasts_of(sweep, row: str | None, against: str | None) -> list[tuple[str, str]]:
    for name in filter(None, (row, against)):
        check_name("row", name, sweep.rows)
    if row is None:
        return [(key, against) for key in sweep.present if key != against] if against else compared_rows(sweep)
    baseline = against or baseline_of(sweep, row)
    if row == baseline:
        raise UserError(
            f"--row and --against must be two rows, got {row!r} for both; choose among {', '.join(sweep.rows)}")
    return [(row, baseline)]


def count_cell(need: stats.SeedCount, n: int) -> str:
    """``12, 9 more (7 to 40)``: total seeds, how many are missing, the range for the interval of the std."""
    if math.isinf(need.seeds):
        return "endless"
    more = "enough" if need.seeds <= n else f"{need.seeds - n:.0f} more"
    return f"{need.seeds:.0f}, {more}\n({need.low:.0f} to {need.high:.0f})".replace("inf", "endless")


def table_line(label: str, differences: Sequence[float], targets: SeedTargets) -> list[str]:
    mean, std, n = stats.mean_std(differences)
    cells = [label, str(n), f"{signed(mean, 2)} ± {DASH if n == 1 else f'{std:.2f}'}" if n else DASH]
    if n < 2:
        return [*cells, *[DASH] * 4]
    analyses, half = targets.analyses, targets.half_width
    low, high = stats.group_sequential_interval(differences, analyses) if analyses else \
        stats.anytime_interval(differences)
    interval = "no analysis\nplanned here" if np.isnan(low) else f"[{signed(low, 2)}, {signed(high, 2)}]"
    counts = [
        stats.seeds_for_width(std, n, half, lambda n: stats.group_sequential_factor(n, max(len(analyses), 1))),
        stats.seeds_for_width(std, n, half, stats.anytime_factor),
        stats.seeds_for_power(std, n, mean if targets.difference is None else targets.difference, targets.power),
    ]
    return [*cells, interval, *(count_cell(need, n) for need in counts)]


def seeds_report(
    results: pd.DataFrame, sweep, targets: SeedTargets, row: str | None = None, against: str | None = None,
) -> str:
    """The table for a terminal, and the meaning of its columns.

    Args:
        results: one row per run, as ``fgdlab sweep`` writes it.
        row: one contrast of this row; None: each row against its baseline or ``against``, and the sweep's contrasts.
    """
    stats.check_metric(results, targets.metric)
    contrasts = contrasts_of(sweep, row, against)
    differences = [stats.seed_differences(results, *contrast, targets.metric).to_list() for contrast in contrasts]
    if not any(differences):
        raise UserError(
            f"a contrast of {sweep.name} must have a seed that is done in both rows, got none; "
            f"run `fgdlab sweep {sweep.name}` first"
        )
    labels = [f"{sweep.rows[a].label} minus {sweep.rows[b].label}" for a, b in contrasts]
    cells = [table_line(label, each, targets) for label, each in zip(labels, differences, strict=True)]
    half, analyses = f"±{targets.half_width:g}", targets.analyses
    headers = [
        f"Δ{targets.metric}, by seed", "n", "mean ± std",
        "95 % interval,\n" + ("planned" if analyses else "anytime-valid"),
        f"for {half},\nplanned", f"for {half},\nanytime-valid",
        "to detect\nthe mean" if targets.difference is None else f"to detect\n{targets.difference:+g}",
    ]
    planned = f"analyses at {', '.join(map(str, analyses))} seeds, Bonferroni-corrected" if analyses else \
        "one analysis, at a number of seeds that is fixed now"
    mean_so_far = " The mean so far is taken as the true difference; if it is large by chance, this is optimistic. " \
        "Give the smallest difference that matters by --difference."
    notes = [
        "Numbers are total seeds, and how many more than the n pairs so far. In brackets: the same for the ends of the "
        f"{100 * stats.STD_LEVEL:g} % interval of the std.",
        f"Planned: {planned}. Anytime-valid: the interval is valid at every n, so seeds may be added after each look. "
        "A plain t-interval is not: adding seeds until it excludes 0 finds differences where there are none.",
        f"To detect: one t-test at 5 % with a power of {100 * targets.power:g} %."
        + (mean_so_far if targets.difference is None else ""),
        stats.variance_covered("seeds", "All intervals cover") + " They are not corrected for multiple comparisons.",
    ]
    return f"{aligned(pd.DataFrame(cells, columns=headers))}\n\n{wrapped(notes)}"
