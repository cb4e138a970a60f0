"""The figure of a sweep along one setting, such as the length of training.

Left: the metric of each row against the setting, one curve per group of rows, and the teachers. Right: the difference
to the baseline of the same setting, paired by seed. Points are means, bars are 95 % t-intervals over seeds.
"""
import textwrap

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..plots import DISTILLED_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR
from ..stats import estimate, paired_difference, values_by_seed
from .runs import baseline_of, distinct, done_runs, runs_of

COLOURS = (STUDENT_COLOUR, "#8c6bb1", DISTILLED_COLOUR, "#b15928", "#555555")  # one per group of rows
WIDTH, HEIGHT, LINE = 11.0, 4.6, 140  # inches, inches, characters


def grouped_rows(runs: pd.DataFrame, sweep) -> dict[str, list[tuple[float, str]]]:
    """{group: [(value of the setting, row)], sorted}. A group is a label without its last part after a comma."""
    groups: dict[str, list[tuple[float, str]]] = {}
    for key, row in sweep.rows.items():
        values = distinct(runs[runs["row"] == key], sweep.curve)
        if values:
            groups.setdefault(row.label.rpartition(", ")[0] or row.label, []).append((float(values[0]), key))
    return {group: sorted(rows) for group, rows in groups.items()}


def draw_curve(ax: Axes, points: list, colour: str, label: str, shift: float) -> None:
    """points: (value of the setting, Estimate); shift: factor on the setting, so that bars of two curves stay apart."""
    points = [(x * shift, each) for x, each in points if each.n]
    if not points:
        return
    xs, means = [x for x, _ in points], [each.mean for _, each in points]
    ax.plot(xs, means, "o-", color=colour, label=label, markersize=4.5, linewidth=1.5, gid=f"curve-{label}")
    for x, each in points:
        if each.n > 1:
            ax.plot([x, x], [each.low, each.high], color=colour, linewidth=1.3, marker="_", markersize=6)


def curve_figure(results: pd.DataFrame, sweep, metric: str = "AP") -> Figure:
    """The figure of a sweep with a ``curve``.

    Args:
        results: one row per run; ``metric`` and teacher_AP in percent.
    Returns:
        A Figure outside of pyplot. Gids: ``curve-GROUP`` in both panels, ``teacher`` on the left.
    Raises:
        UserError: no run is done.
    """
    runs = runs_of(results, sweep)
    done = done_runs(runs, sweep)
    fig = Figure(figsize=(WIDTH, HEIGHT), facecolor="white", layout="constrained")
    left, right = fig.subplots(1, 2)
    groups = grouped_rows(done, sweep)
    for number, (group, rows) in enumerate(groups.items()):
        colour, shift = COLOURS[number % len(COLOURS)], 1.03**number
        draw_curve(left, [(x, estimate(values_by_seed(runs, key, metric))) for x, key in rows], colour, group, shift)
        pairs = [(x, key, baseline_of(sweep, key)) for x, key in rows]
        gains = [(x, paired_difference(runs, key, against, metric)) for x, key, against in pairs if key != against]
        draw_curve(right, gains, colour, group, shift)
    for number, value in enumerate(distinct(done, "teacher_AP") if metric == "AP" else ()):
        label = "teachers" if not number else None
        left.axhline(value, color=TEACHER_COLOUR, linestyle="--", linewidth=1.1, label=label, gid="teacher")
    right.axhline(0, color="black", linewidth=1)
    ticks = sorted({x for rows in groups.values() for x, _ in rows})
    gain = f"Δ{metric} to the baseline of equal {sweep.curve}, in points"
    for ax, name in ((left, f"{metric} in percent"), (right, gain)):
        ax.set_xscale("log")
        ax.set_xticks(ticks, [f"{x:g}" for x in ticks])
        ax.minorticks_off()
        ax.set_xlabel(sweep.curve)
        ax.set_ylabel(name)
        ax.grid(color="#dddddd", linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    left.legend(frameon=False, fontsize=8.5)
    seeds = sorted({len(values_by_seed(runs, key, metric)) for key in sweep.rows})
    counts = f"n = {seeds[0]}" if len(seeds) == 1 else f"n = {seeds[0]} to {seeds[-1]}"
    note = f"{', '.join(map(str, distinct(done, 'data')))}. {counts} per point; bars: 95 % t-intervals over seeds."
    fig.suptitle(f"{sweep.title}\n{textwrap.fill(note, LINE)}", fontsize=10, ha="left", x=0.01)
    return fig
