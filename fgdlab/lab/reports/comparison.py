"""AP difference of two detectors with confidence intervals over images, over seeds, and over both."""
import textwrap
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from tabulate import tabulate

from .. import plots, stats
from ..errors import UserError, plural
from ..tables import DASH, WIDTH, compared_rows, runs_of, signed, wrapped
from .comparison_inputs import ComparisonInputs, comparison_of_rows
from .sweep_runs import SweepRuns

COLOURS = {"images": plots.TEACHER_COLOUR, "seeds": plots.STUDENT_COLOUR, "both": plots.DISTILLED_COLOUR}


@dataclass(frozen=True)
class Comparison:
    """Scores of both detectors and three intervals of their difference A minus B, in points of ``metric``.

    scores: (2, S), of A and B, one per pair, on the original images. draws: (R,) mean difference on each resample.
    intervals: by variance source "images", "seeds", "both"; the ends of the latter two are NaN for one pair.
    """

    inputs: ComparisonInputs
    metric: str
    scores: np.ndarray
    draws: np.ndarray
    intervals: dict[str, stats.Estimate]

    @property
    def differences(self) -> np.ndarray:
        return self.scores[0] - self.scores[1]

    def known(self) -> dict[str, stats.Estimate]:
        return {source: each for source, each in self.intervals.items() if not np.isnan(each.low)}


def compare(inputs: ComparisonInputs, metric: str = "AP", resamples: int = 1000) -> Comparison:
    """Match the detections of each detector once, then resample the images, for all pairs together."""
    images = len(inputs.image_ids)
    pairs = [
        tuple(stats.match(inputs.ground_truth, detections, inputs.image_ids, metric) for detections in pair)
        for pair in inputs.pairs.values()
    ]
    once = np.ones(images, dtype=int)
    scores = np.array([[side.scores(once)[0] for side in pair] for pair in pairs]).T
    if np.isnan(scores).any():
        raise UserError(f"{metric} needs objects of its size, got none in {images} images; take another, such as AP")
    by_images, draws = stats.image_interval(pairs, resamples)
    both = stats.seeds_and_images_interval(scores[0] - scores[1], by_images.std, images)
    intervals = {"images": by_images, "seeds": stats.estimate(scores[0] - scores[1]), "both": both}
    return Comparison(inputs, metric, scores, draws, intervals)


def comparison_text(result: Comparison) -> str:
    inputs, count, shown = result.inputs, len(result.differences), result.known()
    lines = dict(zip(inputs.pairs, result.scores.T, strict=True))
    if count > 1:
        lines["mean"] = result.scores.mean(axis=1)
    scores = [[label, f"{a:.2f}", f"{b:.2f}", signed(a - b, 2)] for label, (a, b) in lines.items()]
    methods = {
        "images": f"paired bootstrap (BCa), {len(result.draws)} resamples of {len(inputs.image_ids)} images",
        "seeds": f"paired t-interval, {count} seeds",
        "both": "variances added, t with Satterthwaite's degrees of freedom",
    }
    intervals = []
    for source, method in methods.items():
        mean, _, _, low, high = result.intervals[source]
        ends, method = (f"[{signed(low, 2)}, {signed(high, 2)}]", method) if source in shown else \
            (DASH, "needs several seeds")
        intervals.append([source, signed(mean, 2), ends, method])
    notes = inputs.notes + [stats.variance_covered(source, f"The interval over {source} covers") for source in shown]
    if count == 1:
        notes.append("For the seed variance compare several seeds: use --sweep, or several runs separated by commas.")
    return "\n\n".join([
        textwrap.fill(f"{result.metric}: A = {inputs.names[0]}, B = {inputs.names[1]}; {inputs.data}", WIDTH),
        table(["", "A", "B", "A - B"], scores, "right"),
        table(["variance over", "A - B", "95 % interval", "method"], intervals, "left"), wrapped(notes),
    ])


def table(headers: list[str], rows: list[list[str]], last: str) -> str:
    return tabulate(rows, headers, "simple", disable_numparse=True, colalign=["left", "right", "right", last])


def comparison_figure(result: Comparison) -> Figure:
    inputs, count, shown = result.inputs, len(result.differences), result.known()
    lines = [inputs.data, *(stats.variance_covered(source, f"{source.capitalize()}: covers") for source in shown)]
    lines += [] if count > 1 else ["One pair of runs shows no seed variance."]
    notes = "\n".join(textwrap.fill(line, 118) for line in lines)
    fig = Figure(figsize=(8, 4.1 + 0.16 * notes.count("\n")), facecolor="white", layout="constrained")
    top, lower = fig.subplots(2, 1, sharex=True, height_ratios=(1.5, 1))
    title = textwrap.fill(f"{result.metric}: {inputs.names[0]} minus {inputs.names[1]}", 76)
    fig.suptitle(title, fontsize=10.5, weight="bold", x=0.015, ha="left")
    top.hist(result.draws, bins=30, color=plots.TEACHER_COLOUR, alpha=0.35, gid="draws")
    top.set_ylabel("resamples of the images", fontsize=9)
    for i, (source, (mean, _, _, low, high)) in enumerate(shown.items()):
        style = {"color": COLOURS[source], "linewidth": 2, "marker": "|", "markersize": 9}
        lower.plot([low, high], [i, i], gid=f"interval-{source}", **style)
        lower.plot([mean], [i], "s", color=COLOURS[source], markeredgecolor="black", markersize=5.5, zorder=4)
    lower.plot(result.differences, np.full(count, len(shown)), "o", color=plots.BOX_COLOUR, markersize=6, gid="points")
    points = "each seed" if count > 1 else "the runs"
    lower.set_yticks(range(len(shown) + 1), [*(f"95 %, {source}" for source in shown), points])
    lower.set_ylim(len(shown) + 0.5, -0.5)
    lower.set_xlabel(f"difference in {result.metric}, in points; above 0 the first is better", fontsize=9)
    for ax in (top, lower):
        ax.axvline(0, color="black", linewidth=1, zorder=1, gid="zero")
        ax.tick_params(labelsize=8.5)
        ax.spines[["top", "right"]].set_visible(False)
    fig.supxlabel(notes, fontsize=7.5, color=plots.NEUTRAL_COLOUR, x=0.015, ha="left")
    return fig


def resampled_intervals(
    runs: SweepRuns, metrics: tuple[str, ...], source: str, resamples: int = 1000,
    report: Callable[[str], None] = lambda line: None,
) -> dict[tuple[str, str, str], tuple[float, float]]:
    """{(row, against, metric): (low, high)}: the 95 % interval of each difference in a table.

    Args:
        source: "images", or "both" with the seed variance added.
        report: called with one line per pair of rows, because matching takes time.
    """
    frame, intervals = runs_of(runs.frame, runs.sweep), {}
    for pair in compared_rows(runs.sweep):
        labels = [runs.sweep.rows[row].label for row in pair]
        seeds = {*stats.seed_differences(frame, *pair, metrics[0]).index.get_level_values("seed")}
        for row, label in zip(pair, labels, strict=True):
            for seed in seeds - set(runs.finished(row)):
                raise UserError(
                    f"intervals over images need the detections of all runs, got none of {label!r}, seed {seed}; "
                    f"run `fgdlab sweep {runs.sweep.name}`, or take --noise seeds"
                )
        if not seeds:
            continue
        report(f"resampling images: {labels[0]} minus {labels[1]}, {plural(len(seeds), 'seed')}")
        inputs = comparison_of_rows(runs, *pair)
        for metric in metrics:
            interval = compare(inputs, metric, resamples).intervals[source]
            intervals[*pair, metric] = (interval.low, interval.high)
    return intervals
