"""Every run as a point: the table's numbers with nothing averaged away.

    results --left panel--> AP of each run, its mean with t-interval, the teacher
            --right panel-> run minus the baseline's run of the same seed, mean with t-interval, the paper's own difference

A row of the figure has three lanes: points above, mean and interval below them, the paper's diamond lowest (right only).
Colours are Okabe-Ito's, by role; no reader needs to tell hues apart, since places and shapes say the same.
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
from ..stats import Estimate, estimate, seed_differences, values_by_seed
from .caption import SMOKE, one_or_mixed, teachers
from .runs import baseline_of, distinct, done_runs, expected_seeds, is_smoke, not_done, runs_of, unavailable_rows

WARNING = BOX_COLOUR
GREY = "#555555"
POINTS, MEAN, PAPER = (-0.30, -0.06), 0.12, 0.32     # lanes, in rows, downwards from the row's tick
WIDTH, ROW = 11.0, 0.62                               # inches
LABEL, TITLE, LINE = 26, 96, 140                      # characters that fit in a line: a row's label, the title, small print
BOTTOM = 0.62                                         # inches below the panels: legend and caption
CAPTION = "Intervals cover the seed noise of the student's training only; on the right runs are paired by seed. A single run has no interval."


def seed_lanes(seeds: list[int]) -> dict[int, float]:
    """The height of each seed's points within a row: the same in every row, smallest seed on top, no jitter. In rows."""
    top, bottom = POINTS
    heights = np.linspace(top, bottom, len(seeds)) if len(seeds) > 1 else [(top + bottom) / 2]
    return {seed: float(height) for seed, height in zip(seeds, heights, strict=True)}


def _points(ax: Axes, values: pd.Series, row: int, lanes: dict[int, float], color: str, name: str) -> None:
    heights = [row + lanes[seed] for seed in values.index.get_level_values("seed")]
    ax.plot(values, heights, "o", color=color, markersize=5.5 if len(lanes) <= 5 else 4, markeredgewidth=0, alpha=0.85, gid=f"points-{name}")


def _mean(ax: Axes, of: Estimate, row: int, color: str, name: str) -> None:
    """The mean as a square and, for n > 1, the t-interval as a bar with ends."""
    if of.n == 0:
        return
    y = row + MEAN
    if of.n > 1:
        ax.plot([of.low, of.high], [y, y], color=color, linewidth=1.6, marker="|", markersize=7, gid=f"interval-{name}")
    ax.plot([of.mean], [y], "s", color=color, markersize=5, markeredgecolor="black", markeredgewidth=0.8, zorder=4, gid=f"mean-{name}")


def _remark(ax: Axes, row: int, text: str) -> None:
    """A word where a row has no point, on white so that a vertical line does not cross it."""
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    ax.text(0.02, row, text, transform=ax.get_yaxis_transform(), va="center", fontsize=8, color=GREY, style="italic", bbox=box, zorder=5)


def _teacher(ax: Axes, runs: pd.DataFrame, rows: list[str]) -> None:
    """One dashed line over all rows; or, where runs have different teachers, one over each row."""
    if len(distinct(runs, "teacher_AP")) == 1:
        ax.axvline(distinct(runs, "teacher_AP")[0], color=TEACHER_COLOUR, linestyle="--", linewidth=1.4, zorder=1, gid="teacher")
        return
    for i, key in enumerate(rows):
        for value in distinct(runs[runs["row"] == key], "teacher_AP"):
            ax.plot([value, value], [i - 0.4, i + 0.4], color=TEACHER_COLOUR, linestyle="--", linewidth=1.4, zorder=1, gid=f"teacher-{key}")


def _row_label(label: str, n: int, missing: int) -> str:
    count = f"n = {n}" + (f", {missing} missing" if missing else "")
    return "\n".join([*textwrap.wrap(label, LABEL), count])


def _style(ax: Axes, count: int) -> None:
    ax.set_ylim(count - 0.5, -0.5)                                                # first row on top
    ax.set_yticks(range(count))
    ax.tick_params(axis="y", length=0)
    ax.tick_params(labelsize=8.5)
    ax.margins(x=0.06)
    ax.grid(axis="x", color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for i in range(count - 1):
        ax.axhline(i + 0.5, color="#eeeeee", linewidth=0.8, zorder=0)
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)


def _at_least(ax: Axes, span: float) -> None:
    """Widen a panel to ``span`` units, so that equal values do not get an axis of thousandths."""
    low, high = ax.get_xlim()
    if high - low < span:
        ax.set_xlim((low + high - span) / 2, (low + high + span) / 2)


def _heads(done: pd.DataFrame, sweep, counts: list[int]) -> list[tuple[str, float, dict]]:
    """Title, warning, and what was run: each as text, its height in inches, its style."""
    title = textwrap.fill(sweep.title, TITLE)
    runs = "1 run" if counts == [1] else f"{' to '.join(str(count) for count in sorted({counts[0], counts[-1]}))} runs"
    setting = textwrap.fill(". ".join([*(one_or_mixed(done, column) for column in ("data", "scale", "device")), f"n = {runs} a row."]), LINE)
    warning = [(SMOKE, 0.17, {"fontsize": 9, "weight": "bold", "color": WARNING})] if is_smoke(done) else []
    return [
        (title, 0.01 + 0.2 * (title.count("\n") + 1), {"fontsize": 12, "weight": "bold"}), *warning,
        (setting, 0.17 * (setting.count("\n") + 1), {"fontsize": 9, "color": GREY}),
    ]


def _legend(runs: pd.DataFrame, paper: bool, metric: str) -> list[Line2D]:
    def mark(label, **style):
        return Line2D([], [], label=label, **({"linestyle": "none", "color": GREY} | style))

    return [
        mark("one run; smallest seed on top", marker="o", markersize=5.5),
        mark("mean and 95 % t-interval over seeds", marker="s", markersize=5, markeredgecolor="black", linestyle="-"),
        *([mark(teachers(runs).lower().replace("ap", "AP"), color=TEACHER_COLOUR, linestyle="--")] if metric == "AP" and distinct(runs, "teacher_AP") else []),
        *([mark("paper (COCO): its own Δ", marker="D", markersize=6.5, markerfacecolor="none")] if paper else []),
    ]


def _draw_rows(left: Axes, right: Axes, runs: pd.DataFrame, sweep, metric: str) -> None:
    lanes = seed_lanes(expected_seeds(runs, sweep))
    for i, (key, row) in enumerate(sweep.rows.items()):
        against = baseline_of(sweep, key)
        color, base = STUDENT_COLOUR if key == against else DISTILLED_COLOUR, sweep.rows[against].paper.get(metric)
        values = values_by_seed(runs, key, metric)
        _points(left, values, i, lanes, color, key)
        _mean(left, estimate(values), i, color, key)
        if values.empty:
            _remark(left, i, "cannot be run here" if key in unavailable_rows(sweep) else "no run is done")
        if key == against:
            _remark(right, i, "baseline of the differences")
            continue
        differences = seed_differences(runs, key, against, metric)
        _points(right, differences, i, lanes, color, key)
        _mean(right, estimate(differences), i, color, key)
        if differences.empty and key not in unavailable_rows(sweep):
            _remark(right, i, "no seed is done here and in the baseline")
        if metric in row.paper and base is not None:
            right.plot([row.paper[metric] - base], [i + PAPER], "D", markersize=6.5, markerfacecolor="none", markeredgecolor=GREY, zorder=3, gid=f"paper-{key}")
    right.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")


def table_figure(results: pd.DataFrame, sweep, metric: str = "AP") -> Figure:
    """The figure of a sweep, rows from top to bottom in the sweep's order.

    Args:
        results: one row a run; ``metric`` and teacher_AP in percent.
        metric: the teacher's line is drawn for AP only, the one number that a run records of its teacher.
    Returns:
        A Figure that pyplot does not know of. Artists can be found by gid: ``points-KEY``, ``mean-KEY``, ``interval-KEY`` in
        both panels, ``paper-KEY`` on the right, ``teacher`` on the left.
    Raises:
        UserError: no run is done.
    """
    runs = runs_of(results, sweep)
    done, lost = done_runs(runs, sweep), not_done(runs, sweep, metric)["row"].value_counts()
    counts = {key: len(values_by_seed(runs, key, metric)) for key in sweep.rows}
    heads = _heads(done, sweep, sorted(set(counts.values())))

    top = 0.18 + sum(height for _, height, _ in heads)                          # inches above the panels
    height = top + 0.65 + ROW * len(sweep.rows) + BOTTOM
    fig = Figure(figsize=(WIDTH, height), facecolor="white")
    fig.set_layout_engine("constrained", rect=(0.008, BOTTOM / height, 0.984, 1 - (top + BOTTOM) / height), wspace=0.04)
    left, right = fig.subplots(1, 2, sharey=True, width_ratios=(1.15, 1))

    _draw_rows(left, right, runs, sweep, metric)
    if metric == "AP":
        _teacher(left, done, list(sweep.rows))
    for ax, name in ((left, f"{metric} in percent"), (right, f"Δ{metric} to the baseline, same seed, in points")):
        _style(ax, len(sweep.rows))
        _at_least(ax, 1.0)
        ax.set_xlabel(name, fontsize=9)
    left.set_yticks(range(len(sweep.rows)), [_row_label(row.label, counts[key], int(lost.get(key, 0))) for key, row in sweep.rows.items()])
    right.tick_params(axis="y", labelleft=False)

    x, y = 0.15 / WIDTH, 1 - 0.14 / height
    for text, inches, style in heads:
        fig.text(x, y, text, va="top", **style)
        y -= inches / height
    paper = any((line.get_gid() or "").startswith("paper-") for line in right.lines)
    fig.legend(handles=_legend(done, paper, metric), loc="lower left", bbox_to_anchor=(x, 0.34 / height), bbox_transform=fig.transFigure,
               ncols=4, fontsize=8.5, frameon=False, borderaxespad=0, borderpad=0, columnspacing=1.6)
    fig.text(x, 0.08 / height, CAPTION, fontsize=8.5, va="bottom", color=GREY)
    return fig


def save_figure(fig: Figure, path: str | Path) -> Path:
    """Write a figure as .png (150 dots an inch) or .svg; the same results give the same bytes.

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
    drawn = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "fgdlab", "svg.fonttype": "path"}):
        fig.savefig(drawn, format="svg", metadata={"Date": None})
    write_text(path, renumbered(drawn.getvalue()))
    return path


def renumbered(svg: str) -> str:
    """Matplotlib's hashed ids (a letter and ten digits) numbered in their order: some hash an address in memory."""
    order = {name: f"{name[0]}{i}" for i, name in enumerate(dict.fromkeys(re.findall(r'id="([a-zA-Z][0-9a-f]{10})"', svg)))}
    return re.sub(r'(?<=[#"])[a-zA-Z][0-9a-f]{10}(?=["\)])', lambda found: order.get(found[0], found[0]), svg)
