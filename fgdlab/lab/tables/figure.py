"""The figure of a sweep: every run as a point.

Left: the metric of each run, the mean of the row with its t-interval, the teacher. Right: each run minus the baseline's
run of the same seed, their mean with t-interval, the paper's own difference.
"""
import io
import re
import textwrap
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from ..errors import UserError
from ..io import write_text
from ..plots import BOX_COLOUR, DISTILLED_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR
from ..stats import estimate, seed_differences, values_by_seed
from .caption import SMOKE_WARNING, one_value, teacher_seeds, teachers
from .runs import baseline_of, distinct, done_runs, expected_seeds, is_smoke, not_done, runs_of

GREY = "#555555"
POINTS, MEAN, PAPER = (-0.30, -0.06), 0.12, 0.32  # heights in a row, in rows, downwards from its tick
WIDTH, ROW = 11.0, 0.62  # inches
LABEL, TITLE, LINE = 26, 96, 140  # characters per line: row label, title, small print
BOTTOM = 0.62  # inches below the panels: legend and caption
CAPTION = (
    "Intervals cover the seed variance of the student's training{}. On the right, runs are paired by seed. "
    "A single run has no interval."
)
TEACHER_LINE = {"color": TEACHER_COLOUR, "linestyle": "--"}


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


def _remark(ax: Axes, row: int, text: str) -> None:
    """A text in a row without points, on white so that a vertical line does not cross it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    style = {"va": "center", "fontsize": 8, "color": GREY, "style": "italic", "zorder": 5}
    ax.text(0.02, row, text, transform=ax.get_yaxis_transform(), bbox=box, **style)


def _teacher(ax: Axes, runs: pd.DataFrame, rows: list[str]) -> None:
    """One dashed line over all rows; or, if runs have different teachers, one over each row."""
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
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelsize=8.5)
    ax.margins(x=0.06)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for i in range(count - 1):
        ax.axhline(i + 0.5, color="#eeeeee", linewidth=0.8, zorder=0)
    ax.spines[["top", "right", "left"]].set_visible(False)
    low, high = ax.get_xlim()
    if high - low < 1:  # else equal values get a tiny range
        ax.set_xlim((low + high - 1) / 2, (low + high + 1) / 2)


def _headings(done: pd.DataFrame, sweep, counts: list[int]) -> list[tuple[str, float, dict]]:
    """Title, warning, and conditions of the runs: each with its height in inches and its style."""
    title = textwrap.fill(sweep.title, TITLE)
    runs = "1 run" if counts == [1] else f"{' to '.join(map(str, sorted({counts[0], counts[-1]})))} runs"
    parts = [*(one_value(done, column) for column in ("data", "scale", "device")), f"n = {runs} per row."]
    conditions = textwrap.fill(". ".join(parts), LINE)
    warning = (SMOKE_WARNING, 0.17, {"fontsize": 9, "weight": "bold", "color": BOX_COLOUR})
    return [
        (title, 0.01 + 0.2 * (title.count("\n") + 1), {"fontsize": 12, "weight": "bold"}),
        *([warning] if is_smoke(done) else []),
        (conditions, 0.17 * (conditions.count("\n") + 1), {"fontsize": 9, "color": GREY}),
    ]


def _legend(runs: pd.DataFrame, paper: bool, metric: str) -> list[Line2D]:
    entries = [
        ("one run; smallest seed on top", {"marker": "o", "markersize": 5.5}),
        ("mean and 95 % t-interval over seeds",
         {"marker": "s", "markersize": 5, "markeredgecolor": "black", "linestyle": "-"}),
    ]
    if metric == "AP" and distinct(runs, "teacher_AP"):
        entries.append((teachers(runs).lower().replace("ap", "AP"), TEACHER_LINE))
    if len(teacher_seeds(runs)) > 1:
        entries.append(("digit: mean over that teacher's seeds", {"marker": "$0$", "color": TEACHER_COLOUR}))
    if paper:
        entries.append(("paper (COCO): its own Δ", {"marker": "D", "markersize": 6.5, "markerfacecolor": "none"}))
    return [Line2D([], [], label=label, **({"linestyle": "none", "color": GREY} | style)) for label, style in entries]


def _draw_rows(left: Axes, right: Axes, runs: pd.DataFrame, sweep, metric: str) -> None:
    heights = seed_heights(expected_seeds(runs, sweep))
    diamond = {"markersize": 6.5, "markerfacecolor": "none", "markeredgecolor": GREY, "zorder": 3}
    for i, (key, row) in enumerate(sweep.rows.items()):
        against = baseline_of(sweep, key)
        color = STUDENT_COLOUR if key == against else DISTILLED_COLOUR
        values = values_by_seed(runs, key, metric)
        draw_values(left, values, i, heights, color, key)
        if values.empty:
            _remark(left, i, "cannot be run here" if key in sweep.absent else "no run is done")
        if key == against:
            _remark(right, i, "baseline of the differences")
            continue
        differences = seed_differences(runs, key, against, metric)
        draw_values(right, differences, i, heights, color, key)
        if differences.empty and key not in sweep.absent:
            _remark(right, i, "no seed is done here and in the baseline")
        paper, baseline = row.paper.get(metric), sweep.rows[against].paper.get(metric)
        if paper is not None and baseline is not None:
            right.plot([paper - baseline], [i + PAPER], "D", gid=f"paper-{key}", **diamond)
        for ax, each in ((left, values), (right, differences)):
            draw_teacher_means(ax, each, runs[runs["row"] == key], i, key)
    right.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")


def draw_teacher_means(ax: Axes, values: pd.Series, runs: pd.DataFrame, row: int, key: str) -> None:
    """Where seeds learn from several teachers: the mean over the seeds of each, as the digit of its teacher_seed."""
    if len(teacher_seeds(runs)) > 1:
        teacher = runs.set_index("seed")["teacher_seed"]
        means = values.groupby(teacher.reindex(values.index.get_level_values("seed")).to_numpy()).mean()
        for number, mean in means.items():
            style = {"markersize": 5.5, "color": TEACHER_COLOUR, "markeredgewidth": 0}
            ax.plot([mean], [row + (MEAN + PAPER) / 2], marker=f"${number:.0f}$", gid=f"teacher-mean-{key}", **style)


def table_figure(results: pd.DataFrame, sweep, metric: str = "AP") -> Figure:
    """The figure of a sweep, rows from top to bottom in the sweep's order; curves if the sweep names a ``curve``.

    Args:
        results: one row per run; ``metric`` and teacher_AP in percent.
        metric: the teacher's line is drawn for AP only, because runs record no other score of their teacher.
    Returns:
        A Figure outside of pyplot. Gids of its artists: ``points-KEY``, ``mean-KEY``, ``interval-KEY`` in both panels,
        with several teachers ``teacher-mean-KEY``; ``paper-KEY`` on the right, ``teacher`` on the left.
    Raises:
        UserError: no run is done.
    """
    if sweep.curve:
        from .curve import curve_figure

        return curve_figure(results, sweep, metric)
    runs = runs_of(results, sweep)
    done, missing = done_runs(runs, sweep), not_done(runs, sweep, metric)["row"].value_counts()
    counts = {key: len(values_by_seed(runs, key, metric)) for key in sweep.rows}
    headings = _headings(done, sweep, sorted(set(counts.values())))

    top = 0.18 + sum(height for _, height, _ in headings)  # inches above the panels
    height = top + 0.65 + ROW * len(sweep.rows) + BOTTOM
    fig = Figure(figsize=(WIDTH, height), facecolor="white")
    rect = (0.008, BOTTOM / height, 0.984, 1 - (top + BOTTOM) / height)
    fig.set_layout_engine("constrained", rect=rect, wspace=0.04)
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))

    _draw_rows(left, right, runs, sweep, metric)
    if metric == "AP":
        _teacher(left, done, list(sweep.rows))
    for ax, name in ((left, f"{metric} in percent"), (right, f"Δ{metric} to the baseline, same seed, in points")):
        style_rows(ax, len(sweep.rows))
        ax.set_xlabel(name, fontsize=9)
    labels = []
    for key, row in sweep.rows.items():
        count = f"n = {counts[key]}" + (f", {missing[key]} missing" if key in missing else "")
        labels.append("\n".join([*textwrap.wrap(row.label, LABEL), count]))
    left.set_yticks(range(len(labels)), labels)
    right.tick_params(axis="y", labelleft=False)

    x, y = 0.15 / WIDTH, 1 - 0.14 / height
    for text, inches, style in headings:
        fig.text(x, y, text, va="top", **style)
        y -= inches / height
    paper = any((line.get_gid() or "").startswith("paper-") for line in right.lines)
    fig.legend(
        handles=_legend(done, paper, metric), loc="lower left", bbox_to_anchor=(x, 0.34 / height), ncols=4,
        bbox_transform=fig.transFigure, fontsize=8.5, frameon=False, borderaxespad=0, borderpad=0, columnspacing=1.6,
    )
    count = len(teacher_seeds(done))
    covered = CAPTION.format(" only" if count < 2 else f" and, in part, the choice among {count} teachers")
    fig.text(x, 0.08 / height, covered, fontsize=8.5, va="bottom", color=GREY)
    return fig


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write a figure as .png (150 dots per inch) or .svg; the same results give the same bytes.

    Raises:
        UserError: any other suffix.
    """
    path = Path(path)
    if path.suffix not in (".png", ".svg"):
        raise UserError(f"a figure's path must end in .png or .svg, got {path.name!r}")
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".png":
        fig.savefig(path, dpi=150)
        return path
    file = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "fgdlab", "svg.fonttype": "path"}):
        fig.savefig(file, format="svg", metadata={"Date": None})
    write_text(path, renumbered(file.getvalue()))
    return path


def renumbered(svg: str) -> str:
    """Replace matplotlib's hashed ids (a letter and ten digits) by numbers: some hash an address in memory."""
    ids = dict.fromkeys(re.findall(r'id="([a-zA-Z][0-9a-f]{10})"', svg))
    order = {name: f"{name[0]}{i}" for i, name in enumerate(ids)}
    return re.sub(r'(?<=[#"])[a-zA-Z][0-9a-f]{10}(?=["\)])', lambda found: order.get(found[0], found[0]), svg)
