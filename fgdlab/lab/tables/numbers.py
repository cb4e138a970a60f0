"""The table of a sweep: mean and std per row, paired differences, beside the paper's numbers, in five formats.

    results (one row per run) --ablation_table, contrast_table--> numbers --cells.py--> Blocks --Table--> a format
"""
import re

import pandas as pd

from ..errors import UserError, check_name
from ..stats import estimate, paired_difference, values_by_seed, variance_covered
from . import html, latex, text
from .caption import caption, smoke_warning
from .cells import contrast_block, table_blocks
from .runs import baseline_of, distinct, done_runs, not_done, runs_of

FORMATS = ("text", "markdown", "latex", "csv", "html")
METRICS = ("AP", "AR")
NAN = float("nan")


def _differences(runs: pd.DataFrame, sweep, row: str, against: str, metric: str, intervals: dict | None) -> dict:
    """The _delta columns of one metric. A row against itself has NaN and 0 pairs."""
    values = (NAN, NAN, NAN, NAN, 0)
    if row != against:
        mean, _, n, low, high = paired_difference(runs, row, against, metric)
        low, high = (low, high) if intervals is None else intervals.get((row, against, metric), (NAN, NAN))
        paper = [sweep.rows[key].paper.get(metric, NAN) for key in (row, against)]
        values = (paper[0] - paper[1], mean, low, high, n)
    names = ("paper_delta", "delta", "delta_low", "delta_high", "delta_n")
    return {f"{metric}_{name}": value for name, value in zip(names, values, strict=True)}


def ablation_table(
    results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS, intervals: dict | None = None
) -> pd.DataFrame:
    """One line per row of the sweep, in its order, all numbers in percent of AP or AR.

    Args:
        intervals: {(row, against, metric): (low, high)} in place of the t-intervals.
    Returns:
        Columns row, label, against (the key of its baseline), then per metric M:
        M_paper; M_mean, M_std (sample, n - 1), M_n runs, M_missing runs;
        M_paper_delta, M_delta, M_delta_low, M_delta_high, M_delta_n: difference to the baseline, paired by seed, with
        its 95 % t-interval and number of pairs. The baseline's own difference is NaN with 0 pairs. Unknown is NaN.
    """
    runs = runs_of(results, sweep)
    missing = {metric: not_done(runs, sweep, metric)["row"].value_counts() for metric in metrics}
    lines = []
    for key, row in sweep.rows.items():
        line = {"row": key, "label": row.label, "against": baseline_of(sweep, key)}
        for metric in metrics:
            ours = estimate(values_by_seed(runs, key, metric))
            line |= {
                f"{metric}_paper": row.paper.get(metric, NAN), f"{metric}_mean": ours.mean, f"{metric}_std": ours.std,
                f"{metric}_n": ours.n, f"{metric}_missing": int(missing[metric].get(key, 0)),
                **_differences(runs, sweep, key, line["against"], metric, intervals),
            }
        lines.append(line)
    return pd.DataFrame(lines)


def contrast_table(
    results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS, intervals: dict | None = None
) -> pd.DataFrame:
    """The sweep's contrasts: paired differences between rows that are not the baseline, e.g. split minus fg.

    Returns:
        Columns row, label, against, and the _delta columns of :func:`ablation_table`; empty without contrasts.
    """
    runs, lines = runs_of(results, sweep), []
    for row, against in sweep.contrasts:
        line = {"row": row, "label": f"{sweep.rows[row].label} minus {sweep.rows[against].label}", "against": against}
        for metric in metrics:
            line |= _differences(runs, sweep, row, against, metric, intervals)
        lines.append(line)
    return pd.DataFrame(lines)


class Table:
    """A sweep's table with contrasts and caption, in any format. As the last expression of a cell it displays itself.

    Args:
        results: one row per run, AP and AR in percent; runs of other sweeps are left out.
            Optional column ``error``: why a run failed.
        metrics: the difference to the baseline is shown for the first; csv has the differences of all.
        variance: what intervals of differences cover: "seeds", "images" or "both". ± is always over seeds.
        intervals: of reports.resampled_intervals, if ``variance`` is not "seeds".
        older_code: count the runs of older code in the caption. It then depends on the present code.
    Attributes: numbers, contrasts: frames of :func:`ablation_table` and :func:`contrast_table`.
    """

    def __init__(
        self, results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS, *, variance: str = "seeds",
        intervals: dict | None = None, older_code: bool = False,
    ):
        variance_covered(variance)  # raises for an unknown one
        if (variance == "seeds") != (intervals is None):
            raise ValueError(f"intervals must be given for variance 'images' or 'both' only, got variance {variance!r}")
        self.sweep, self.variance = sweep, variance
        self.metrics, runs = tuple(dict.fromkeys(metrics)), runs_of(results, sweep)
        if not self.metrics:
            raise UserError("a table must show at least one metric, got none; name one, such as AP")
        self.done = done_runs(runs, sweep)
        self.numbers = ablation_table(results, sweep, self.metrics, intervals)
        self.contrasts = contrast_table(results, sweep, self.metrics, intervals)
        self.headings = [*smoke_warning(self.done), sweep.title, sweep.question]
        self.blocks = table_blocks(self.numbers, self.metrics, sweep.cost, variance)
        if len(self.contrasts):
            self.blocks.append(contrast_block(self.contrasts, self.metrics, variance))
        self.caption = caption(runs, sweep, self.metrics[0], variance, older_code)

    def text(self) -> str:
        return text.text(self.headings, self.blocks, self.caption)

    def markdown(self) -> str:
        return text.markdown(self.headings, self.blocks, self.caption)

    def latex(self) -> str:
        return latex.latex(self.sweep.name, self.headings, self.blocks, self.caption)

    def csv(self) -> str:
        """The columns of :func:`ablation_table`, then scale, data, device and note; contrasts are further lines."""
        tidy = pd.concat([self.numbers, self.contrasts], ignore_index=True)
        counts = [name for name in tidy if name.endswith(("_n", "_missing"))]
        tidy = tidy.astype(dict.fromkeys(counts, "Int64"))  # a contrast has no count: empty, not NaN
        for column in ("scale", "data", "device"):
            tidy[column] = " | ".join(map(str, distinct(self.done, column)))
        variance = [variance_covered(self.variance)] if self.variance != "seeds" else []
        tidy["note"] = " ".join(smoke_warning(self.done) + variance)
        return tidy.to_csv(index=False, float_format="%.6g")

    def html(self, page: bool = True) -> str:
        """A page that needs no network, for light and dark ground; or only its body, for a notebook."""
        name = re.sub("[^A-Za-z0-9-]+", "-", self.sweep.name)
        body = html.html(name, self.headings, self.blocks, self.caption)
        return html.page(self.sweep.title, body) if page else body

    def _repr_html_(self) -> str:
        return self.html(page=False)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def render(results: pd.DataFrame, sweep, format: str = "text", metrics: tuple[str, ...] = METRICS, **options) -> str:
    """The :class:`Table`, with its ``options``, written in one of :data:`FORMATS`; a UserError for another format."""
    check_name("format", format, FORMATS)
    return getattr(Table(results, sweep, metrics, **options), format)()
