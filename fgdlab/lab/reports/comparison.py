"""AP difference of two detectors with confidence intervals over images, over seeds, and over both."""
import textwrap
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from ..errors import UserError
from ..stats import Interval, estimate, image_interval, match, seeds_and_images_interval, variance_covered
from ..tables import DASH
from .comparison_inputs import ComparisonInputs

WIDTH = 100  # columns of a terminal
SOURCES = ("images", "seeds", "both")


@dataclass(frozen=True)
class Comparison:
    """Scores of both detectors and three intervals of their difference A minus B, in points of ``metric``.

    scores_a, scores_b: (S,) one per pair, on the original images. draws: (R,) mean difference on each resample of the
        images.
    images, seeds, both: mean difference with its interval over this variance source; the ends of the latter two are NaN
        for one pair.
    """

    inputs: ComparisonInputs
    metric: str
    scores_a: np.ndarray
    scores_b: np.ndarray
    draws: np.ndarray
    images: Interval
    seeds: Interval
    both: Interval

    @property
    def differences(self) -> np.ndarray:
        return self.scores_a - self.scores_b


def compare(inputs: ComparisonInputs, metric: str = "AP", resamples: int = 1000, seed: int = 0) -> Comparison:
    """Match the detections of each detector once, then resample the images ``resamples`` times, for all pairs together.

    Raises:
        UserError: an unknown metric, or no object in the images that counts for the metric.
    """
    images = len(inputs.image_ids)
    sides = [
        [match(inputs.ground_truth, detections, inputs.image_ids, metric) for detections in side]
        for side in zip(*((pair.detections_a, pair.detections_b) for pair in inputs.pairs), strict=True)
    ]
    once = np.ones(images, dtype=int)
    scores_a, scores_b = (np.array([float(matches.scores(once)[0]) for matches in side]) for side in sides)
    if np.isnan(scores_a).any():
        raise UserError(f"{metric} needs objects of its size, got none in {images} images; take another, such as AP")
    pairs = list(zip(*sides, strict=True))
    by_images, draws = image_interval(pairs, resamples, seed)
    mean, std, _, low, high = estimate(scores_a - scores_b)
    both = seeds_and_images_interval(scores_a - scores_b, by_images.std, images)
    return Comparison(inputs, metric, scores_a, scores_b, draws, by_images, Interval(mean, low, high, std), both)


def signed(value: float) -> str:
    """Two decimals with a sign, never "-0.00"."""
    return f"{round(value, 2) + 0.0:+.2f}"


def comparison_text(result: Comparison) -> str:
    """The scores of each pair, the three intervals, and what each interval covers; fits :data:`WIDTH` columns."""
    inputs, metric, count = result.inputs, result.metric, len(result.scores_a)
    head = f"{metric}: A = {inputs.name_a}, B = {inputs.name_b}; {inputs.data}"
    labels, scores_a, scores_b = [pair.label for pair in inputs.pairs], list(result.scores_a), list(result.scores_b)
    if count > 1:
        labels, scores_a, scores_b = [*labels, "mean"], [*scores_a, np.mean(scores_a)], [*scores_b, np.mean(scores_b)]
    lines = zip(labels, scores_a, scores_b, strict=True)
    scores = [[label, f"{a:.2f}", f"{b:.2f}", signed(a - b)] for label, a, b in lines]
    methods = {
        "images": f"paired bootstrap (BCa), {len(result.draws)} resamples of {len(inputs.image_ids)} images",
        "seeds": f"paired t-interval, {count} seeds",
        "both": "variances added, t with Satterthwaite's degrees of freedom",
    }
    intervals = []
    for source, method in methods.items():
        interval = getattr(result, source)
        known = not np.isnan(interval.low)
        ends = f"[{signed(interval.low)}, {signed(interval.high)}]" if known else DASH
        intervals.append([source, signed(interval.mean), ends, method if known else "needs several seeds"])
    notes = inputs.notes + [variance_covered(each, f"The interval over {each} covers") for each in sources_of(result)]
    if count == 1:
        notes.append("For the seed variance compare several seeds: use --sweep, or several runs separated by commas.")
    return "\n\n".join([
        textwrap.fill(head, WIDTH), table(["", "A", "B", "A - B"], scores, "right"),
        table(["variance over", "A - B", "95 % interval", "method"], intervals, "left"),
        "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in notes),
    ])


def sources_of(result: Comparison) -> tuple[str, ...]:
    """The variance sources that have an interval: only the images if there is one pair of runs."""
    return SOURCES if len(result.scores_a) > 1 else SOURCES[:1]


def table(headers: list[str], rows: list[list[str]], last: str) -> str:
    return tabulate(rows, headers, "simple", disable_numparse=True, colalign=["left", "right", "right", last])
