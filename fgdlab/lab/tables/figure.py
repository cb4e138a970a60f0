"""The figure of a sweep: every run as a point, or curves along one setting, such as the length of training.

Left: the metric of each run, and the teacher's. Right: its difference to the baseline's run of the same seed, and the
paper's. Both with means and t-intervals.
"""
import textwrap
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import UserError
from ..plots import DISTILLED_COLOUR, NEUTRAL_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR, style_axes
from ..stats import estimate, paired_difference, seed_differences, values_by_seed
from .caption import conditions, smoke_warning, teacher_seeds, teachers
from .runs import baseline_of, distinct, done_runs, expected_seeds, not_done, runs_of

POINTS, MEAN, PAPER = (-0.30, -0.06), 0.12, 0.32  # heights in a row, in rows, downwards from its tick
WIDTH, ROW = 11.0, 0.62  # inches
LABEL, TITLE, LINE = 26, 96, 165  # characters per line: row label, title, small print
COLOURS = (STUDENT_COLOUR, "#8c6bb1", DISTILLED_COLOUR, "#b15928", NEUTRAL_COLOUR)  # one per group of rows
TEACHER_LINE = {"color": TEACHER_COLOUR, "linestyle": "--"}
DIAMOND = {"marker": "D", "markersize": 6.5, "markerfacecolor": "none", "markeredgecolor": NEUTRAL_COLOUR}


def seed_heights(seeds: list[int]) -> dict[int, float]:
    """{seed: height of its points within a row}, the same in every row, smallest seed on top."""
    heights = np.linspace(*POINTS, len(seeds)) if len(seeds) > 1 else [sum(POINTS) / 2]
    return {seed: float(height) for seed, height in zip(seeds, heights, strict=True)}


def draw_values(ax: Axes, values: pd.Series, row: int, heights: dict[int, float], color: str, name: str) -> None:
    """The values as points; below them the mean as a square and, for n > 1, the t-interval as a bar with ends."""
    y = [row + heights[seed] for seed in values.index.get_level_values("seed")]
    style = {"markersize": 5.5 if len(heights) <= 5 else 4, "markeredgewidth": 0, "alpha": 0.85}
    ax.plot(values, y, "o", color=color, gid=f"points-{name}", **style)
    mean, _, n, low, high = estimate(values)
    y = row + MEAN
    if n > 1:
        ax.plot([low, high], [y, y], color=color, linewidth=1.6, marker="|", markersize=7, gid=f"interval-{name}")
    if n > 0:
        style = {"markersize": 5, "markeredgecolor": "black", "markeredgewidth": 0.8, "zorder": 4}
        ax.plot([mean], [y], "s", color=color, gid=f"mean-{name}", **style)


def draw_remark(ax: Axes, row: int, text: str) -> None:
    """A text in a row without points, on white so that a vertical line does not cross it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    style = {"va": "center", "fontsize": 8, "color": NEUTRAL_COLOUR, "style": "italic", "zorder": 5}
    ax.text(0.02, row, text, transform=ax.get_yaxis_transform(), bbox=box, **style)


def draw_teachers(ax: Axes, runs: pd.DataFrame, rows: list[str]) -> None:
    style = TEACHER_LINE | {"linewidth": 1.4, "zorder": 1}
    if len(distinct(runs, "teacher_AP")) == 1:
        ax.axvline(distinct(runs, "teacher_AP")[0], gid="teacher", **style)
        return
    for i, key in enumerate(rows):
        for value in distinct(runs[runs["row"] == key], "teacher_AP"):
            ax.plot([value, value], [i - 0.4, i + 0.4], gid=f"teacher-{key}", **style)


def style_rows(ax: Axes, count: int) -> None:
    ax.set_ylim(count - 0.5, -0.5)  # first row on top
    ax.set_yticks(range(count))
    style_axes(ax, "x")
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelsize=8.5)
    ax.margins(x=0.06)
    for i in range(count - 1):
        ax.axhline(i + 0.5, color="#eeeeee", linewidth=0.8, zorder=0)
    ax.spines["left"].set_visible(False)
    low, high = ax.get_xlim()
    if high - low < 1:  # else equal values get a tiny range
        ax.set_xlim((low + high - 1) / 2, (low + high + 1) / 2)


def legend_lines(runs: pd.DataFrame, paper: bool, metric: str) -> list[Line2D]:
    entries = {
        "one run; smallest seed on top": {"marker": "o", "markersize": 5.5},
        "mean and 95 % t-interval over seeds":
            {"marker": "s", "markersize": 5, "markeredgecolor": "black", "linestyle": "-"},
    }
    if metric == "AP" and distinct(runs, "teacher_AP"):
        entries[teachers(runs).lower().replace("ap", "AP")] = TEACHER_LINE
    if len(teacher_seeds(runs)) > 1:
        entries["digit: mean over that teacher's seeds"] = {"marker": "$0$", "color": TEACHER_COLOUR}
    if paper:
        entries["paper (COCO): its own Δ"] = DIAMOND
    common = {"linestyle": "none", "color": NEUTRAL_COLOUR}
    return [Line2D([], [], label=label, **(common | style)) for label, style in entries.items()]


def draw_rows(left: Axes, right: Axes, runs: pd.DataFrame, sweep, metric: str) -> None:
    heights = seed_heights(expected_seeds(runs, sweep))
    for i, (key, row) in enumerate(sweep.rows.items()):
        against = baseline_of(sweep, key)
        color = STUDENT_COLOUR if key == against else DISTILLED_COLOUR
        values = values_by_seed(runs, key, metric)
        draw_values(left, values, i, heights, color, key)
        if values.empty:
            draw_remark(left, i, "not run here" if key in sweep.absent else "no run is done")
        if key == against:
            draw_remark(right, i, "baseline of the differences")
            continue
        differences = seed_differences(runs, key, against, metric)
        draw_values(right, differences, i, heights, color, key)
        if differences.empty and key not in sweep.absent:
            draw_remark(right, i, "no seed is done here and in the baseline")
        paper, baseline = row.paper.get(metric), sweep.rows[against].paper.get(metric)
        if paper is not None and baseline is not None:
            right.plot([paper - baseline], [i + PAPER], gid=f"paper-{key}", zorder=3, **DIAMOND)
        for ax, each in ((left, values), (right, differences)):
            draw_teacher_means(ax, each, runs[runs["row"] == key], i, key)
    right.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")


def draw_teacher_means(ax: Axes, values: pd.Series, runs: pd.DataFrame, row: int, key: str) -> None:
    """Where seeds learn from several teachers: the mean over the seeds of each, as the digit of its teacher_seed."""
    if len(teacher_seeds(runs)) > 1:
        teacher = runs.set_index("seed")["teacher_seed"]
        style = {"markersize": 5.5, "color": TEACHER_COLOUR, "markeredgewidth": 0, "gid": f"teacher-mean-{key}"}
        number_of = teacher.reindex(values.index.get_level_values("seed")).to_numpy()
        for number, mean in values.groupby(number_of).mean().items():
            ax.plot([mean], [row + (MEAN + PAPER) / 2], marker=f"${number:.0f}$", **style)


def table_figure(results: pd.DataFrame, sweep, metric: str = "AP") -> Figure:
    """The figure of a sweep, rows from top to bottom in the sweep's order; curves if the sweep names a ``curve``.

    Args:
        results: one row per run; ``metric`` and teacher_AP in percent.
        metric: the teacher's line is drawn for AP only, because runs record no other score of their teacher.
    Returns:
        A Figure outside of pyplot; the gid of each artist names what it shows, such as ``mean-KEY`` of row KEY.
    """
    if sweep.curve:
        return curve_figure(results, sweep, metric)
    runs = runs_of(results, sweep)
    done, missing = done_runs(runs, sweep), not_done(runs, sweep, metric)["row"].value_counts()
    counts = {key: len(values_by_seed(runs, key, metric)) for key in sweep.rows}
    least, most = min(counts.values()), max(counts.values())
    per_row = "1 run" if least == most == 1 else f"{' to '.join(map(str, sorted({least, most})))} runs"
    teachers_of = len(teacher_seeds(done))
    covered = " only" if teachers_of < 2 else f" and, in part, the choice among {teachers_of} teachers"
    note = (f"Intervals cover the seed variance of the student's training{covered}. On the right, runs are paired by "
            "seed. A single run has no interval.")
    facts = ". ".join([*conditions(done), f"n = {per_row} per row."])
    small = "\n".join(textwrap.fill(text, LINE) for text in (facts, note))
    title = "\n".join([*smoke_warning(done), textwrap.fill(sweep.title, TITLE)])

    height = 1.5 + ROW * len(sweep.rows) + 0.21 * (title.count("\n") + small.count("\n"))
    fig = Figure(figsize=(WIDTH, height), facecolor="white")
    fig.set_layout_engine("constrained", wspace=0.04)
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))
    draw_rows(left, right, runs, sweep, metric)
    if metric == "AP":
        draw_teachers(left, done, list(sweep.rows))
    for ax, name in ((left, f"{metric} in percent"), (right, f"Δ{metric} to the baseline, same seed, in points")):
        style_rows(ax, len(sweep.rows))
        ax.set_xlabel(name, fontsize=9)
    labels = []
    for key, row in sweep.rows.items():
        count = f"n = {counts[key]}" + (f", {missing[key]} missing" if key in missing else "")
        labels.append("\n".join([*textwrap.wrap(row.label, LABEL), count]))
    left.set_yticks(range(len(labels)), labels)
    right.tick_params(axis="y", labelleft=False)
    fig.suptitle(title, fontsize=12, weight="bold", x=0.01, ha="left")
    paper = any((line.get_gid() or "").startswith("paper-") for line in right.lines)
    legend = fig.legend(
        handles=legend_lines(done, paper, metric), loc="outside lower left", ncols=4, fontsize=8.5, frameon=False,
        columnspacing=1.6, title=small, title_fontsize=8.5, alignment="left",
    )
    legend.get_title().set_color(NEUTRAL_COLOUR)
    return fig


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
    ax.plot(*zip(*((x, each.mean) for x, each in points), strict=True), "o-", color=colour, label=label,
            markersize=4.5, linewidth=1.5, gid=f"curve-{label}")
    for x, each in points:
        ax.plot([x, x], [each.low, each.high], color=colour, linewidth=1.3, marker="_", markersize=6)


def curve_figure(results: pd.DataFrame, sweep, metric: str) -> Figure:
    """As :func:`table_figure`, of a sweep with a ``curve``. Points are means, bars 95 % t-intervals over seeds."""
    runs = runs_of(results, sweep)
    done = done_runs(runs, sweep)
    fig = Figure(figsize=(11, 4.6), facecolor="white", layout="constrained")
    left, right = fig.subplots(1, 2)
    groups = grouped_rows(done, sweep)
    for number, (group, rows) in enumerate(groups.items()):
        style = COLOURS[number % len(COLOURS)], group, 1.03**number
        draw_curve(left, [(x, estimate(values_by_seed(runs, key, metric))) for x, key in rows], *style)
        pairs = [(x, key, baseline_of(sweep, key)) for x, key in rows]
        gains = [(x, paired_difference(runs, key, against, metric)) for x, key, against in pairs if key != against]
        draw_curve(right, gains, *style)
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
        style_axes(ax, "both")
    left.legend(frameon=False, fontsize=8.5)
    seeds = sorted({len(values_by_seed(runs, key, metric)) for key in sweep.present})
    counts = " to ".join(map(str, dict.fromkeys([seeds[0], seeds[-1]])))
    data = ", ".join(map(str, distinct(done, "data")))
    note = textwrap.fill(f"{data}. n = {counts} per point; bars: 95 % t-intervals over seeds.", 140)
    fig.suptitle(f"{sweep.title}\n{note}", fontsize=10, ha="left", x=0.01)
    return fig


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write a figure as .png (150 dots per inch) or .svg; a UserError for any other suffix."""
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"a figure's path must end in .png or .svg, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=150)
    return path
