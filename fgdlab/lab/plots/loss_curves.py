"""Loss terms over training, and their percentages by pyramid level."""
import json
from collections.abc import Iterable
from contextlib import suppress
from itertools import cycle
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator, MaxNLocator

from ..errors import UserError
from .map_panels import (
    ATTENTION_COLOUR,
    BACKGROUND_COLOUR,
    BOX_COLOUR,
    DISTILLED_COLOUR,
    DPI,
    STUDENT_COLOUR,
    NotebookFigure,
    style_axes,
)

TERM_STYLES = {  # name: (colour, line style)
    "classification": (STUDENT_COLOUR, "-"), "bbox_regression": (STUDENT_COLOUR, "--"),
    "fg": (BOX_COLOUR, "-"), "bg": (BACKGROUND_COLOUR, "-"), "both": (BOX_COLOUR, "--"),
    "attention": (ATTENTION_COLOUR, "-"), "global": (DISTILLED_COLOUR, "-"),
}


def term_styles(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    colours = BOX_COLOUR, BACKGROUND_COLOUR, ATTENTION_COLOUR, DISTILLED_COLOUR, STUDENT_COLOUR
    extra = cycle((color, line) for line in ("-.", ":") for color in colours)
    return {name: TERM_STYLES.get(name) or next(extra) for name in names}


def terms_legend(figure: NotebookFigure, styles: dict[str, tuple[str, str]]) -> None:
    styles = {**styles, "total": ("black", "-")}
    handles = [Line2D([], [], color=color, linestyle=line, label=name) for name, (color, line) in styles.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=8.5, frameon=False)


def read_metrics(path: Path | str) -> pd.DataFrame:
    """metrics.jsonl with one row per term, level and logged step: step, name, level, raw, weighted, ...

    An incomplete last line is skipped.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise UserError(f"{path} must be the metrics.jsonl of a run, got no such file; run it first")
    for line in path.read_text().splitlines():
        with suppress(ValueError):  # the run is still writing, or was killed
            rows.append(json.loads(line))
    if not rows:
        raise UserError(f"{path} must have a line for each term of a step, got none; let the run log a step first")
    return pd.DataFrame(rows)


def by_step(metrics: pd.DataFrame) -> pd.DataFrame:
    """Weighted terms summed over levels: one line per step, one column per term, and their total."""
    terms = metrics[metrics["name"] != "total"]
    wide = terms.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum", sort=False)
    return wide.assign(total=wide.sum(axis=1))


def loss_terms(metrics: pd.DataFrame) -> NotebookFigure:
    """Left: weighted terms over steps, summed over levels. Right: percent of the total by level at the last step.

    The left axis is logarithmic if values differ by more than a factor of 10; a value of 0 then leaves a gap.

    Args:
        metrics: from :func:`read_metrics`. Rows named "total" are ignored.
    """
    terms = metrics[metrics["name"] != "total"]
    last_step, styles = terms["step"].max(), term_styles(terms["name"].unique())
    figure = NotebookFigure(figsize=(11, 3.5), dpi=DPI, layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    curves = by_step(metrics)
    draw_term_curves(left, [curves], styles, marker="o" if len(curves) < 12 else None)
    positive = curves[list(styles)].where(lambda values: values > 0).stack()
    logarithmic = len(positive) > 0 and positive.max() > 10 * positive.min()
    if logarithmic:
        left.set_yscale("log", nonpositive="mask")
        if positive.max() < 1000 * positive.min():  # powers of ten would be too few ticks
            left.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            left.yaxis.set_major_formatter("{x:g}")
            left.minorticks_off()
    else:
        left.set_ylim(bottom=0)
    left.set_title("Weighted terms, summed over levels", fontsize=9)
    left.set_ylabel("weight x sum" + (" (log scale)" if logarithmic else ""), fontsize=8.5)
    left.set_xlabel("step", fontsize=8.5)
    draw_loss_percentages(right, terms[terms["step"] == last_step], styles)
    right.set_title(f"Percent of the total loss by level at step {last_step}, the last one logged", fontsize=9)
    terms_legend(figure, styles)
    return figure


def draw_term_curves(ax: Axes, seeds: list[pd.DataFrame], styles: dict[str, tuple[str, str]], **style) -> None:
    """Frames of :func:`by_step`: thin lines are seeds, thick ones their mean."""
    mean = pd.concat(seeds).groupby(level=0).mean()
    for name, (color, line) in {**styles, "total": ("black", "-")}.items():
        for frame in seeds if len(seeds) > 1 else []:
            if name in frame:
                ax.plot(frame[name], color=color, linestyle=line, linewidth=0.5, alpha=0.35)
        if name in mean:
            width = 1.0 if name == "total" else 1.6
            ax.plot(mean[name], color=color, linestyle=line, linewidth=width, markersize=3, gid=f"term-{name}", **style)
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    style_axes(ax, "both")


def draw_loss_percentages(ax: Axes, terms: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> None:
    """One bar per level, finest first, stacked by term; all bars together are 100 %."""
    weighted = terms.pivot_table(index="level", columns="name", values="weighted", aggfunc="sum").fillna(0.0)
    percent = 100 * weighted / (weighted.to_numpy().sum() or 1.0)
    levels = sorted(percent.index, key=lambda level: (level != "all", level))
    percent = percent.reindex(index=levels, columns=list(styles), fill_value=0.0)
    ends = percent.cumsum(axis=1)
    for name, (color, line) in styles.items():
        style = {"color": color, "edgecolor": "white", "linewidth": 0.5, "hatch": None if line == "-" else "////"}
        starts = ends[name] - percent[name]
        ax.barh(range(len(levels)), percent[name], left=starts, height=0.62, gid=f"percent-{name}", **style)
    for i, total in enumerate(percent.sum(axis=1)):
        ax.text(total, i, f"  {total:.3g} %", va="center", fontsize=8)
    ax.set_yticks(range(len(levels)), ["task loss" if level == "all" else level for level in levels])
    ax.set_ylim(max(len(levels), 3) - 0.4, -0.6)
    ax.set_xlim(0, 1.18 * max(percent.sum(axis=1).max(), 1.0))
    ax.set_xlabel("percent of the total loss", fontsize=8.5)
    style_axes(ax, "x")
