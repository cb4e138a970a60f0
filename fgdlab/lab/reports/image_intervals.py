"""Intervals of a table's differences over the choice of images, from the detections in the folders of finished runs."""
from collections.abc import Callable

from ..errors import UserError
from ..stats import values_by_seed
from ..tables import compared_rows, runs_of
from .comparison import compare
from .comparison_inputs import comparison_of_runs
from .sweep_runs import SweepRuns

Intervals = dict[tuple[str, str, str], tuple[float, float]]  # {(row, against, metric): (low, high)}


def resampled_intervals(
    runs: SweepRuns, metrics: tuple[str, ...], source: str, resamples: int = 1000,
    report: Callable[[str], None] = lambda line: None,
) -> Intervals:
    """The ends of each difference's 95 % interval, by pair of rows and metric.

    Args:
        source: "images", a paired bootstrap over the choice of images; "both", with the seed variance added.
        report: called with one line per pair of rows, because matching takes time.
    Raises:
        UserError: the folder of a done run is missing. Committed results have no detections.
    """
    frame, intervals = runs_of(runs.frame, runs.sweep), {}
    for row, against in compared_rows(runs.sweep):
        labels = [runs.sweep.rows[key].label for key in (row, against)]
        done = [set(values_by_seed(frame, key, metrics[0]).index.get_level_values("seed")) for key in (row, against)]
        seeds, folders = sorted(done[0] & done[1]), [runs.finished(key) for key in (row, against)]
        for label, of_row in zip(labels, folders, strict=True):
            missing = [seed for seed in seeds if seed not in of_row]
            if missing:
                raise UserError(
                    f"intervals over images need the detections of all runs, got none of {label!r}, seed {missing[0]}; "
                    f"run `fgdlab sweep {runs.sweep.name}`, or take --noise seeds"
                )
        if not seeds:
            continue
        report(f"resampling images: {labels[0]} minus {labels[1]}, {len(seeds)} seed{'s' if len(seeds) > 1 else ''}")
        inputs = comparison_of_runs(*([of_row[seed] for seed in seeds] for of_row in folders), *labels)
        for metric in metrics:
            interval = getattr(compare(inputs, metric, resamples), source)
            intervals[row, against, metric] = (interval.low, interval.high)
    return intervals
