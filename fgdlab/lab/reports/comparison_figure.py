"""The picture of a comparison: every resample's difference as a histogram, below it the three intervals and the point of every seed."""
import textwrap

import numpy as np
from matplotlib.figure import Figure

from ..plots import BOX_COLOUR, DISTILLED_COLOUR, STUDENT_COLOUR, TEACHER_COLOUR
from ..stats import noise_covered
from .comparison import NOISES, Comparison

GREY = "#555555"
COLOURS = {"images": TEACHER_COLOUR, "seeds": STUDENT_COLOUR, "both": DISTILLED_COLOUR}
WIDTH, LINE = 8.0, 118                                               # inches; characters of small print


def comparison_figure(result: Comparison) -> Figure:
    """The figure; artists can be found by gid: ``draws``, ``points``, ``interval-images``, ``interval-seeds``, ``interval-both``, ``zero``."""
    contest, count = result.contest, len(result.scores_a)
    title = textwrap.fill(f"{result.metric}: {contest.name_a} minus {contest.name_b}", 76)
    shown = NOISES if count > 1 else NOISES[:1]
    print_ = [contest.data, *(noise_covered(noise, f"{noise.capitalize()}: covers") for noise in shown)]
    print_ += [] if count > 1 else ["One pair of runs says nothing about the noise of seeds."]
    notes = "\n".join(textwrap.fill(line, LINE) for line in print_)
    bottom = 0.2 + 0.16 * (notes.count("\n") + 1)
    height = 3.9 + bottom
    fig = Figure(figsize=(WIDTH, height), facecolor="white")
    fig.set_layout_engine("constrained", rect=(0.01, bottom / height, 0.98, 1 - bottom / height))
    top, lanes = fig.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    fig.suptitle(title, fontsize=10.5, weight="bold", x=0.015, ha="left")
    top.hist(result.draws, bins=30, color=TEACHER_COLOUR, alpha=0.35, gid="draws")
    top.set_ylabel("resamples of the images", fontsize=9)
    for i, noise in enumerate(shown):
        interval, color = getattr(result, noise), COLOURS[noise]
        lanes.plot([interval.low, interval.high], [i, i], color=color, linewidth=2, marker="|", markersize=9, gid=f"interval-{noise}")
        lanes.plot([interval.mean], [i], "s", color=color, markeredgecolor="black", markersize=5.5, zorder=4)
    lanes.plot(result.differences, np.full(count, len(shown)), "o", color=BOX_COLOUR, markersize=6, gid="points")
    lanes.set_yticks(range(len(shown) + 1), [*(f"95 %, {noise}" for noise in shown), "each seed" if count > 1 else "the runs"])
    lanes.set_ylim(len(shown) + 0.5, -0.5)
    lanes.set_xlabel(f"difference in {result.metric}, points; to the right of 0 the first is better", fontsize=9)
    for ax in (top, lanes):
        ax.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")
        ax.tick_params(labelsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
    fig.text(0.015, 0.1 / height, notes, fontsize=7.5, color=GREY, va="bottom")
    return fig
