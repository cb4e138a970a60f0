"""The figure of a comparison: a histogram of the resampled differences, below it the intervals and a point per seed."""
import textwrap

import numpy as np
from matplotlib.figure import Figure

from ..plots import BOX_COLOUR, DISTILLED_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR
from ..stats import variance_covered
from .comparison import Comparison, sources_of

GREY = "#555555"
COLOURS = {"images": TEACHER_COLOUR, "seeds": STUDENT_COLOUR, "both": DISTILLED_COLOUR}
WIDTH, LINE = 8.0, 118  # inches; characters per line of small print


def comparison_figure(result: Comparison) -> Figure:
    """The figure. Gids of its artists: ``draws``, ``points``, ``zero``, ``interval-images``, ``-seeds``, ``-both``."""
    inputs, count, sources = result.inputs, len(result.scores_a), sources_of(result)
    title = textwrap.fill(f"{result.metric}: {inputs.name_a} minus {inputs.name_b}", 76)
    lines = [inputs.data, *(variance_covered(source, f"{source.capitalize()}: covers") for source in sources)]
    lines += [] if count > 1 else ["One pair of runs shows no seed variance."]
    notes = "\n".join(textwrap.fill(line, LINE) for line in lines)
    bottom = 0.2 + 0.16 * (notes.count("\n") + 1)
    height = 3.9 + bottom
    fig = Figure(figsize=(WIDTH, height), facecolor="white")
    fig.set_layout_engine("constrained", rect=(0.01, bottom / height, 0.98, 1 - bottom / height))
    top, lower = fig.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    fig.suptitle(title, fontsize=10.5, weight="bold", x=0.015, ha="left")
    top.hist(result.draws, bins=30, color=TEACHER_COLOUR, alpha=0.35, gid="draws")
    top.set_ylabel("resamples of the images", fontsize=9)
    for i, source in enumerate(sources):
        interval, color = getattr(result, source), COLOURS[source]
        ends = [interval.low, interval.high]
        lower.plot(ends, [i, i], color=color, linewidth=2, marker="|", markersize=9, gid=f"interval-{source}")
        lower.plot([interval.mean], [i], "s", color=color, markeredgecolor="black", markersize=5.5, zorder=4)
    lower.plot(result.differences, np.full(count, len(sources)), "o", color=BOX_COLOUR, markersize=6, gid="points")
    points = "each seed" if count > 1 else "the runs"
    lower.set_yticks(range(len(sources) + 1), [*(f"95 %, {source}" for source in sources), points])
    lower.set_ylim(len(sources) + 0.5, -0.5)
    lower.set_xlabel(f"difference in {result.metric}, in points; above 0 the first is better", fontsize=9)
    for ax in (top, lower):
        ax.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")
        ax.tick_params(labelsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
    fig.text(0.015, 0.1 / height, notes, fontsize=7.5, color=GREY, va="bottom")
    return fig
