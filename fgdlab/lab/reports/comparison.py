"""Which of two detectors is better, and by which noise could it be otherwise? One contest, three intervals side by side.

    Contest --match--> matches --image_noise, estimate, both_noises--> Comparison --comparison_text--> a page for the terminal
"""
import textwrap
from dataclasses import dataclass

import numpy as np
from tabulate import tabulate

from ..errors import UserError
from ..stats import Interval, both_noises, estimate, image_noise, match, noise_covered
from .comparison_inputs import ComparisonInputs

WIDTH = 100
DASH = "–"


@dataclass(frozen=True)
class Comparison:
    """What a contest gave, in points of ``metric``.

    scores_a, scores_b: (S,) one a round, on the images as they are. draws: (R,) the mean difference, A minus B, on each resample.
    images, seeds, both: the mean difference with its interval over each noise; NaN ends for the latter two where there is one round.
    """

    contest: ComparisonInputs
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


def compare(contest: ComparisonInputs, metric: str = "AP", resamples: int = 1000, seed: int = 0) -> Comparison:
    """Match every detector once, then resample the images ``resamples`` times, for all rounds together.

    Raises:
        UserError: an unknown metric, or images without an object that the metric counts.
    """
    pairs = [tuple(match(contest.ground_truth, found, contest.image_ids, metric) for found in (each.found_a, each.found_b)) for each in contest.rounds]
    whole = np.ones((1, len(contest.image_ids)), dtype=int)
    scores_a, scores_b = (np.array([float(pair[side].scores(whole)[0]) for pair in pairs]) for side in (0, 1))
    if np.isnan(scores_a).any():
        raise UserError(f"{metric} must have an object to find, got none of its sizes in {len(contest.image_ids)} images; choose another metric, such as AP")
    by_images, draws = image_noise(pairs, resamples, seed)
    mean, std, _, low, high = estimate(scores_a - scores_b)
    together = both_noises(scores_a - scores_b, by_images.std, len(contest.image_ids))
    return Comparison(contest, metric, scores_a, scores_b, draws, by_images, Interval(mean, low, high, std), together)


def signed(value: float) -> str:
    """Two decimals with a sign, or a dash."""
    return DASH if np.isnan(value) else f"{round(value, 2) + 0.0:+.2f}"


def ends(interval: Interval) -> str:
    return DASH if np.isnan(interval.low) else f"[{signed(interval.low)}, {signed(interval.high)}]"


def comparison_text(result: Comparison) -> str:
    """Scores run by run, then the three noises side by side, then what each covers; fits :data:`WIDTH` columns."""
    contest, metric, count = result.contest, result.metric, len(result.scores_a)
    head = f"{metric}: A = {contest.name_a}, B = {contest.name_b}; {contest.data}"
    scores = [[each.label, f"{a:.2f}", f"{b:.2f}", signed(a - b)] for each, a, b in zip(contest.rounds, result.scores_a, result.scores_b, strict=True)]
    if count > 1:
        scores.append(["mean", f"{result.scores_a.mean():.2f}", f"{result.scores_b.mean():.2f}", signed(result.images.mean)])
    alone = "one pair of runs says nothing about seeds"
    noises = [
        ["images", signed(result.images.mean), ends(result.images), f"paired bootstrap (BCa), {len(result.draws)} resamples of {len(contest.image_ids)} images"],
        ["seeds", signed(result.seeds.mean), ends(result.seeds), f"paired t-interval, {count} seeds" if count > 1 else alone],
        ["both", signed(result.both.mean), ends(result.both), "variances added, t with Satterthwaite's degrees of freedom" if count > 1 else alone],
    ]
    captions = [*contest.notes, *(noise_covered(noise, f"The interval of {noise!r} covers") for noise in (NOISES if count > 1 else NOISES[:1]))]
    if count == 1:
        captions.append("For the noise of seeds compare several of them, by --sweep or by runs with commas between.")
    return "\n\n".join([
        textwrap.fill(head, WIDTH), table(["", "A", "B", "A - B"], scores), table(["noise of", "A - B", "95 % interval", "how"], noises),
        "\n".join(textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in captions),
    ])


NOISES = ("images", "seeds", "both")


def table(headers: list[str], rows: list[list[str]]) -> str:
    return tabulate(rows, headers, "simple", disable_numparse=True, colalign=["left", *["right"] * 2, "left" if headers[-1] == "how" else "right"])
