"""The reader's runs beside the paper's numbers: from one row a run to one row a method.

    results (a row a run) --ablation_table, contrast_table--> numbers --table_cells.py--> words --Table, render--> text | markdown | latex | csv | html

Which runs there should be: table_runs.py. What a reader must know of them: table_caption.py.
"""
import re
from pathlib import Path

import pandas as pd

from ..errors import UserError, unknown_name
from ..stats import VARIANCE_SOURCES, check_metric, estimate, paired_difference, values_by_seed, variance_covered
from .caption import SMOKE, caption
from .cells import Block, blocks, contrast_block
from .runs import baseline_of, distinct, done_runs, is_smoke, not_done, runs_of

FORMATS = ("text", "markdown", "latex", "csv", "html")
METRICS = ("AP", "AR")


# --- numbers ------------------------------------------------------------------------------------------------------------------------

def _paper_difference(sweep, row: str, against: str, metric: str) -> float:
    values = [sweep.rows[key].paper.get(metric, float("nan")) for key in (row, against)]
    return values[0] - values[1]


def _differences(runs: pd.DataFrame, sweep, row: str, against: str, metric: str) -> dict:
    mean, _, n, low, high = paired_difference(runs, row, against, metric)
    return {
        f"{metric}_paper_delta": _paper_difference(sweep, row, against, metric), f"{metric}_delta": mean,
        f"{metric}_delta_low": low, f"{metric}_delta_high": high, f"{metric}_delta_n": n,
    }


def ablation_table(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS) -> pd.DataFrame:
    """One line a row of the sweep, in its order, all numbers in percent of AP or AR.

    Returns:
        Columns row, label, against (the baseline's key, or that of the row which this one names in its stead), then for every metric M:
        M_paper; M_mean, M_std (sample, n - 1), M_n runs, M_missing runs;
        M_paper_delta, M_delta, M_delta_low, M_delta_high, M_delta_n: difference to the baseline, paired by seed, with
        its 95 % t-interval and number of pairs. The baseline's own difference is NaN with 0 pairs. Unknown is NaN.
    """
    runs = runs_of(results, sweep)
    missing = {metric: not_done(runs, sweep, metric)["row"].value_counts() for metric in metrics}
    lines = []
    for key, row in sweep.rows.items():
        against = baseline_of(sweep, key)
        line = {"row": key, "label": row.label, "against": against}
        for metric in metrics:
            ours = estimate(values_by_seed(runs, key, metric))
            line |= {
                f"{metric}_paper": row.paper.get(metric, float("nan")), f"{metric}_mean": ours.mean, f"{metric}_std": ours.std,
                f"{metric}_n": ours.n, f"{metric}_missing": int(missing[metric].get(key, 0)),
            }
            difference = _differences(runs, sweep, key, against, metric)
            if key == against:              # zero by definition, no finding
                difference = {name: 0 if name.endswith("_n") else float("nan") for name in difference}
            line |= difference
        lines.append(line)
    return pd.DataFrame(lines)


def contrast_table(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS, contrasts=None) -> pd.DataFrame:
    """Paired differences between rows that are not the baseline, e.g. ("split", "fg"): split minus fg.

    Args:
        contrasts: pairs of row keys (row, against); by default the sweep's own.
    Returns:
        Columns row, label, against, and the _delta columns of :func:`ablation_table`; no line where there is no contrast.
    """
    runs = runs_of(results, sweep)
    lines = []
    for row, against in getattr(sweep, "contrasts", ()) if contrasts is None else contrasts:
        for key in (row, against):
            if key not in sweep.rows:
                raise unknown_name("row of a contrast", key, sweep.rows, f"mend the sweep {sweep.name!r}")
        line = {"row": row, "label": f"{sweep.rows[row].label} minus {sweep.rows[against].label}", "against": against}
        for metric in metrics:
            line |= _differences(runs, sweep, row, against, metric)
        lines.append(line)
    return pd.DataFrame(lines)


def with_intervals(table: pd.DataFrame, intervals: dict | None) -> pd.DataFrame:
    """The same differences with other ends: ``intervals`` {(row, against, metric): (low, high)}, see tabular/noise.py; None leaves the t-intervals."""
    if intervals is None or table.empty:
        return table
    table = table.copy()
    for metric in [name.removesuffix("_delta_low") for name in table if name.endswith("_delta_low")]:
        ends = [intervals.get((row, against, metric), (float("nan"),) * 2) for row, against in zip(table["row"], table["against"], strict=True)]
        table[f"{metric}_delta_low"], table[f"{metric}_delta_high"] = ([each[i] for each in ends] for i in (0, 1))
    return table


# --- the table as a reader sees it --------------------------------------------------------------------------------------------------

class Table:
    """A sweep's table with contrasts and caption, in any format; as the last expression of a cell it shows itself.

        Table.of("table1_areas")                                     # the newest results: the reader's own, else the committed ones
        Table(results, sweep, ("AP", "AP_S")).latex()

    Args:
        results: one row a run, AP and AR in percent; runs of other sweeps are left out. A column ``error`` gives the reason of a failed run.
        metrics: the first is the one whose difference to the baseline is shown; csv has the differences of all.
        noise: which noise the intervals of differences cover: a key of NOISES in stats.py. ± is over seeds in every table.
        intervals: of :func:`resampled_intervals` in tabular/noise.py, where the noise is not that of the seeds alone.
    Attributes:
        numbers, contrasts: the frames of :func:`ablation_table` and :func:`contrast_table`; heads, blocks, caption: the words.
    Raises:
        UserError: no run is done, there is no such metric or noise, or none of its intervals is given.
    """

    def __init__(self, results: pd.DataFrame, sweep, metrics: tuple[str, ...] = METRICS, *, noise: str = "seeds", intervals: dict | None = None):
        if noise not in VARIANCE_SOURCES:
            raise unknown_name("noise", noise, VARIANCE_SOURCES)
        if (noise == "seeds") != (intervals is None):
            raise UserError(f"intervals over {noise} must {'follow from the results' if noise == 'seeds' else 'be given'}, got {'some' if intervals else 'none'}; see fgdlab/lab/reports/noise.py")
        self.noise = noise
        self.sweep, self.metrics, self.runs = sweep, tuple(dict.fromkeys(metrics)), runs_of(results, sweep)
        if not self.metrics:
            raise UserError("a table must show at least one metric, got none; name one, such as AP")
        for metric in self.metrics:
            check_metric(self.runs, metric)
        self.done = done_runs(self.runs, sweep)
        self.numbers, self.contrasts = (with_intervals(made(results, sweep, self.metrics), intervals) for made in (ablation_table, contrast_table))
        warnings = [SMOKE] if is_smoke(self.done) else []
        self.strong = len(warnings) + 1                              # so many headings are bold
        self.heads = [*warnings, sweep.title, *([sweep.question] if sweep.question else [])]
        self.blocks: list[Block] = blocks(self.numbers, self.metrics, getattr(sweep, "cost", {}), noise)
        if len(self.contrasts):
            self.blocks.append(contrast_block(self.contrasts, self.metrics, noise))
        self.caption = caption(results, sweep, self.metrics, noise)

    @classmethod
    def of(cls, name: str, scale: str = "laptop", runs: Path | None = None, metrics: tuple[str, ...] = METRICS) -> "Table":
        """The table of a sweep by name, of the runs in folder ``runs`` (default runs/NAME, then ablations/results)."""
        from ..sweeps import load_sweep, read_results

        sweep = load_sweep(name).at(scale)
        return cls(read_results(sweep, scale, runs)[0], sweep, metrics)

    def text(self) -> str:
        """For a terminal of 100 columns."""
        from .text import text

        return text(self.heads, self.blocks, self.caption)

    def markdown(self) -> str:
        """For a README."""
        from .text import markdown

        return markdown(self.heads, self.blocks, self.caption, self.strong)

    def latex(self) -> str:
        """For a paper: a floating table that needs booktabs alone."""
        from .latex import latex

        return latex(self.sweep.name, self.heads, self.blocks, self.caption)

    def csv(self) -> str:
        """The numbers alone: the columns of :func:`ablation_table`, then scale, data, device and note; contrasts are further lines, told by ``against``."""
        tidy = pd.concat([self.numbers, self.contrasts], ignore_index=True)
        counts = [name for name in tidy if name.endswith(("_n", "_missing"))]
        tidy = tidy.astype({name: "Int64" for name in counts})                    # a contrast has no count of its own: empty, not 3.0
        for column in ("scale", "data", "device"):
            tidy[column] = " | ".join(str(value) for value in distinct(self.done, column))
        tidy["note"] = " ".join([*([SMOKE] if is_smoke(self.done) else []), *([variance_covered(self.noise)] if self.noise != "seeds" else [])])
        return tidy.to_csv(index=False, float_format="%.6g")

    def html(self, page: bool = True) -> str:
        """A page that any browser shows without a network, on light or dark ground; or, for a notebook, what goes into it."""
        from . import html as table_html

        inner = table_html.html(re.sub("[^A-Za-z0-9-]+", "-", self.sweep.name), self.heads, self.blocks, self.caption, self.strong)
        return table_html.page(self.sweep.title, inner) if page else inner

    def _repr_html_(self) -> str:
        return self.html(page=False)

    def __str__(self) -> str:
        return self.text()

    __repr__ = __str__


def render(
    results: pd.DataFrame, sweep, format: str = "text", metrics: tuple[str, ...] = METRICS, noise: str = "seeds", intervals: dict | None = None,
) -> str:
    """The :class:`Table` written in one of :data:`FORMATS`.

    Raises:
        UserError: an unknown format or metric, or no run is done.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    return getattr(Table(results, sweep, metrics, noise=noise, intervals=intervals), format)()
