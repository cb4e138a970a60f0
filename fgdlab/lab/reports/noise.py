"""Intervals of a table's differences that cover the choice of images: from the detections that finished runs left in their folders.

    SweepRuns --a Contest for each pair of rows, statistics/compare.py--> {(row, against, metric): (low, high)} --tables.py--> a table
"""
from collections.abc import Callable

from ..errors import UserError
from ..stats import values_by_seed
from ..tables import compared_with, present_rows, runs_of
from .sweep_runs import SweepRuns

Intervals = dict[tuple[str, str, str], tuple[float, float]]
RESAMPLES = 1000


def pairs_of(sweep) -> list[tuple[str, str]]:
    """Every difference that a table shows: (row, the row it is compared with), then the sweep's contrasts; rows that this scale cannot run apart."""
    rows = present_rows(sweep)
    pairs = [*((row, compared_with(sweep, row)) for row in rows), *getattr(sweep, "contrasts", ())]
    return list(dict.fromkeys((row, against) for row, against in pairs if row != against and {row, against} <= set(rows)))


def resampled_intervals(runs: SweepRuns, metrics: tuple[str, ...], noise: str, resamples: int = RESAMPLES, say: Callable[[str], None] = lambda line: None) -> Intervals:
    """The ends of each difference's 95 % interval, over the images or over seeds and images, by pair of rows and metric.

    Args:
        noise: "images", a paired bootstrap over the choice of images for these very runs; or "both", with the noise of the seeds added.
        say: called with a line for each pair of rows, since detections take a while to match.
    Raises:
        UserError: a done run whose folder is not here, as in committed results, which hold no detections.
    """
    from .comparison import compare
    from .comparison_inputs import comparison_of_runs

    frame, intervals = runs_of(runs.frame, runs.sweep), {}
    for row, against in pairs_of(runs.sweep):
        labels = [runs.sweep.rows[key].label for key in (row, against)]
        done = [set(values_by_seed(frame, key, metrics[0]).index.get_level_values("seed")) for key in (row, against)]
        here = [runs.finished(key) for key in (row, against)]
        seeds = sorted(done[0] & done[1])
        for label, folders in zip(labels, here, strict=True):
            gone = [seed for seed in seeds if seed not in folders]
            if gone:
                raise UserError(
                    f"intervals over {'images' if noise == 'images' else 'images and seeds'} must have the detections of every run, got none of {label!r}, seed {gone[0]}; "
                    f"{runs.path} has numbers alone: run `fgdlab sweep {runs.sweep.name}`, or take --noise seeds"
                )
        if not seeds:
            continue
        say(f"resampling images: {labels[0]} minus {labels[1]}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        contest = comparison_of_runs([here[0][seed] for seed in seeds], [here[1][seed] for seed in seeds], *labels)
        for metric in metrics:
            result = compare(contest, metric, resamples)
            intervals[row, against, metric] = tuple(getattr(result, noise)[1:3])
    return intervals
