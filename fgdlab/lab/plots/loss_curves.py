"""What a loss is made of: its terms over training, and where they come from.

    metrics.jsonl --read_metrics--> a line a term, level and step --loss_terms--> terms over steps, shares by level
"""
import json
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from ..errors import UserError
from .colours import BOX, DISTILLED, STUDENT
from .map_panels import DPI, PINK, SKY, Picture, plain

TERM_STYLES = {                                                      # the detector's own in the student's orange, foreground like a box
    "classification": (STUDENT, "-"), "bbox_regression": (STUDENT, "--"),
    "fg": (BOX, "-"), "bg": (SKY, "-"), "both": (BOX, "--"), "attention": (PINK, "-"), "global": (DISTILLED, "-"),
}
MORE_STYLES = [(color, line) for line in ("-.", ":") for color in (BOX, SKY, PINK, DISTILLED, STUDENT)]      # for terms that have no style of their own


def read_metrics(path: Path | str) -> pd.DataFrame:
    """metrics.jsonl as a table, one row a term, level and logged step: step, name, level, raw, weighted, ...; a half last line is left out.

    Raises:
        UserError: no such file, or nothing is logged in it.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise UserError(f"{path} must be the metrics.jsonl of a run, got no such file; run it first")
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:                                           # the half line of a run that is being written, or was killed
            continue
    if not rows:
        raise UserError(f"{path} must have a line for each term of a step, got none; let the run log a step first")
    return pd.DataFrame(rows)


def loss_terms(metrics: pd.DataFrame) -> Picture:
    """How large each term is: weighted values over the steps, summed over levels (left), and shares of the total by level at the end (right).

    Left on a logarithmic scale where values differ by more than a factor of 10. A value of 0 has no place there and leaves a gap.

    Args:
        metrics: of :func:`read_metrics`; its rows named "total" are left out, as the total here is the sum of the others.
    """
    terms = metrics[metrics["name"] != "total"]
    names, last = list(dict.fromkeys(terms["name"])), terms["step"].max()
    styles, spare = {}, iter(MORE_STYLES * len(names))
    for name in names:
        styles[name] = TERM_STYLES.get(name) or next(spare)
    figure = Picture(figsize=(11, 3.5), dpi=DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_curves(left, terms, styles)
    draw_shares(right, terms[terms["step"] == last], styles)
    right.set_title(f"Share of each term by level at step {last}, the last one logged", fontsize=9)
    handles = [Line2D([], [], color=color, linestyle=line, linewidth=2, label=name) for name, (color, line) in styles.items()]
    handles.append(Line2D([], [], color="black", linewidth=1, label="total"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=8.5, frameon=False)
    return figure


def draw_curves(ax: Axes, terms: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> None:
    by_step = terms.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum").reindex(columns=list(styles))
    marker = "o" if len(by_step) < 12 else None
    for name, (color, line) in styles.items():
        ax.plot(by_step.index, by_step[name], color=color, linestyle=line, linewidth=1.6, marker=marker, markersize=3.5, gid=f"term-{name}")
    ax.plot(by_step.index, by_step.sum(axis=1), color="black", linewidth=1, marker=marker, markersize=2.5, gid="total")
    positive = by_step.where(by_step > 0).stack()
    logarithmic = len(positive) > 0 and positive.max() > 10 * positive.min()
    if logarithmic:
        ax.set_yscale("log", nonpositive="mask")
        if positive.max() < 1000 * positive.min():                   # within three decades the powers of ten alone are too few
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
    else:
        ax.set_ylim(bottom=0)
    ax.set_title("Weighted terms, summed over levels", fontsize=9)
    ax.set_ylabel("weight x sum" + (" (log scale)" if logarithmic else ""), fontsize=8.5)
    ax.set_xlabel("step", fontsize=8.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(ax, "both")


def draw_shares(ax: Axes, terms: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> None:
    """A bar a level, finest first, stacked by term; all bars together are 100 %."""
    shares = terms.pivot_table(index="level", columns="name", values="weighted", aggfunc="sum").fillna(0.0)
    shares = 100 * shares / (shares.to_numpy().sum() or 1.0)
    levels = sorted(shares.index, key=lambda level: (level != "all", len(level), level))
    for i, level in enumerate(levels):
        start = 0.0
        for name in (each for each in styles if each in shares and shares.loc[level, each]):
            color, line = styles[name]
            width = float(shares.loc[level, name])
            ax.barh(i, width, left=start, height=0.62, color=color, edgecolor="white", linewidth=0.5, hatch=None if line == "-" else "////", gid=f"share-{name}-{level}")
            start += width
        ax.text(start, i, f"  {start:.3g} %", va="center", fontsize=8)
    ax.set_yticks(range(len(levels)), ["detector's own" if level == "all" else level for level in levels])
    ax.set_ylim(max(len(levels), 3) - 0.4, -0.6)
    ax.set_xlim(0, 1.18 * max(shares.sum(axis=1).max(), 1.0))
    ax.set_xlabel("percent of the total loss", fontsize=8.5)
    plain(ax, "x")
