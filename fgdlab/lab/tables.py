"""The reader's runs beside the paper's numbers: from one row a run to one row a method.

    results (a row a run) --ablation_table, contrast_table--> numbers --render--> text | markdown | csv, with a caption

A sweep (fgdlab/lab/sweep.py) says which rows and seeds there should be, so a run that is not there counts as missing.
"""
import textwrap
from itertools import product, zip_longest

import pandas as pd
from tabulate import tabulate

from .errors import UserError, unknown_name
from .stats import check_metric, estimate, paired_difference, values_by_seed

DASH = "–"
WIDTH = 100                                 # columns of a terminal
SMOKE = "SMOKE SCALE: these numbers mean nothing; they show only that every step runs."
FORMATS = ("text", "markdown", "csv")
COLUMNS = ("row", "seed", "state")


def runs_of(results: pd.DataFrame, sweep) -> pd.DataFrame:
    """The runs in ``results`` that belong to ``sweep``, with row as str and seed as int; other sweeps' runs are left out.

    Raises:
        UserError: no run of the sweep's rows is done, a column is missing, or the sweep's baseline is none of its rows.
    """
    if sweep.baseline not in sweep.rows:
        raise unknown_name("baseline row", sweep.baseline, sweep.rows, f"mend the sweep {sweep.name!r}")
    absent = [name for name in COLUMNS if name not in results]
    if absent and len(results):
        raise UserError(f"results must have the columns {', '.join(COLUMNS)}, got none named {', '.join(absent)}; read the file that `fgdlab sweep` wrote")
    runs = results.reindex(columns=[*results.columns, *absent])
    runs = (runs[runs["sweep"] == sweep.name] if "sweep" in runs else runs).astype({"row": str, "seed": int})
    if done_runs(runs, sweep).empty:
        states = ", ".join(f"{count} {state}" for state, count in runs["state"].value_counts().items())
        raise UserError(f"a table of sweep {sweep.name!r} must have a run that is done, got {states or 'no run'}; run `fgdlab sweep {sweep.name}`")
    return runs


def done_runs(runs: pd.DataFrame, sweep) -> pd.DataFrame:
    """The done runs of the sweep's rows."""
    return runs[(runs["state"] == "done") & runs["row"].isin(list(sweep.rows))]


def distinct(runs: pd.DataFrame, column: str) -> list:
    """The different values of a column, sorted; [] where the column is missing or empty."""
    return sorted(runs[column].dropna().unique()) if column in runs else []


def expected_seeds(runs: pd.DataFrame, sweep) -> list[int]:
    """The sweep's seeds, and any other seed that was run."""
    return sorted({int(seed) for seed in sweep.seeds} | {int(seed) for seed in runs["seed"]})


def not_done(runs: pd.DataFrame, sweep, metric: str = "AP") -> pd.DataFrame:
    """One line for every expected run without a number: scale, row, seed, and why.

    Expected is every row of the sweep with every one of :func:`expected_seeds`, at every scale that ``runs`` has.
    Returns:
        DataFrame scale, row, seed, state; state is that of the run, "not run", or "done without AP" (or whichever metric).
    """
    check_metric(runs, metric)
    lines = []
    for scale, row, seed in product(distinct(runs, "scale") or [""], sweep.rows, expected_seeds(runs, sweep)):
        here = runs[(runs["row"] == row) & (runs["seed"] == seed)]
        here = here[here["scale"] == scale] if scale else here
        done = here[here["state"] == "done"]
        if done.empty:
            lines.append((scale, row, seed, here["state"].iloc[-1] if len(here) else "not run"))
        elif done[metric].isna().all():
            lines.append((scale, row, seed, f"done without {metric}"))
    return pd.DataFrame(lines, columns=["scale", "row", "seed", "state"])


def _paper_difference(sweep, row: str, against: str, metric: str) -> float:
    values = [sweep.rows[key].paper.get(metric, float("nan")) for key in (row, against)]
    return values[0] - values[1]


def _differences(runs: pd.DataFrame, sweep, row: str, against: str, metric: str) -> dict:
    mean, _, n, low, high = paired_difference(runs, row, against, metric)
    return {
        f"{metric}_paper_delta": _paper_difference(sweep, row, against, metric), f"{metric}_delta": mean,
        f"{metric}_delta_low": low, f"{metric}_delta_high": high, f"{metric}_delta_n": n,
    }


def ablation_table(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = ("AP", "AR")) -> pd.DataFrame:
    """One line a row of the sweep, in its order, all numbers in percent of AP or AR.

    Returns:
        Columns row, label, against (the baseline's key), then for every metric M:
        M_paper; M_mean, M_std (sample, n - 1), M_n runs, M_missing runs;
        M_paper_delta, M_delta, M_delta_low, M_delta_high, M_delta_n: difference to the baseline, paired by seed, with
        its 95 % t-interval and number of pairs. The baseline's own difference is NaN with 0 pairs. Unknown is NaN.
    """
    runs = runs_of(results, sweep)
    missing = {metric: not_done(runs, sweep, metric)["row"].value_counts() for metric in metrics}
    lines = []
    for key, row in sweep.rows.items():
        line = {"row": key, "label": row.label, "against": sweep.baseline}
        for metric in metrics:
            ours = estimate(values_by_seed(runs, key, metric))
            line |= {
                f"{metric}_paper": row.paper.get(metric, float("nan")), f"{metric}_mean": ours.mean, f"{metric}_std": ours.std,
                f"{metric}_n": ours.n, f"{metric}_missing": int(missing[metric].get(key, 0)),
            }
            difference = _differences(runs, sweep, key, sweep.baseline, metric)
            if key == sweep.baseline:       # zero by definition, no finding
                difference = {name: 0 if name.endswith("_n") else float("nan") for name in difference}
            line |= difference
        lines.append(line)
    return pd.DataFrame(lines)


def contrast_table(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = ("AP", "AR"), contrasts=None) -> pd.DataFrame:
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


def amount(value: float) -> str:
    """One decimal, or a dash."""
    return DASH if pd.isna(value) else f"{value:.1f}"


def signed(value: float) -> str:
    """One decimal with its sign, never "-0.0", or a dash."""
    return DASH if pd.isna(value) else f"{round(value, 1) + 0.0:+.1f}"


def _ours(line: pd.Series, metric: str) -> str:
    n, missing = line[f"{metric}_n"], line[f"{metric}_missing"]
    if n == 0:
        return DASH
    count = f"{n} of {n + missing}" if missing else f"{n}"
    return f"{amount(line[f'{metric}_mean'])} ± {amount(line[f'{metric}_std'])} ({count})"


def _delta(line: pd.Series, metric: str) -> str:
    low, high, n = (line[f"{metric}_delta_{part}"] for part in ("low", "high", "n"))
    if line["row"] == line["against"]:
        return "baseline"
    if n == 0:
        return DASH
    interval = f"[{signed(low)}, {signed(high)}]" if n > 1 else f"[{DASH}]"
    return f"{signed(line[f'{metric}_delta'])} {interval} ({n})"


def _aligned(headers: list[str], cells: list[list[str]]) -> str:
    """A table for a terminal: the first column wrapped so that the whole fits :data:`WIDTH`, the others to the right."""
    widths = [max(len(part) for cell in column for part in cell.split("\n")) for column in zip(headers, *cells, strict=True)]
    room = max(WIDTH - sum(widths[1:]) - 2 * len(widths[1:]), 14)
    cells = [["\n".join(textwrap.wrap(line[0], room)), *line[1:]] for line in cells]
    widths[0] = max(len(part) for line in [headers, *cells] for part in line[0].split("\n"))
    text = []
    for line in [headers, ["-" * width for width in widths], *cells]:
        for first, *others in zip_longest(*(cell.split("\n") for cell in line), fillvalue=""):
            text.append("  ".join([first.ljust(widths[0]), *(part.rjust(width) for part, width in zip(others, widths[1:], strict=True))]).rstrip())
    return "\n".join(text)


def _grid(headers: list[str], cells: list[list[str]], style: str) -> str:
    if style == "text":
        return _aligned(headers, cells)
    align = ["left"] + ["right"] * (len(headers) - 1)
    cells = [[cell.replace("|", "\\|") for cell in line] for line in cells]
    return tabulate(cells, [name.replace("\n", " ") for name in headers], "pipe", colalign=align, disable_numparse=True)


def _blocks(table: pd.DataFrame, metrics: tuple[str, ...], style: str, cost: dict[str, float]) -> list[str]:
    """The table of all metrics, in blocks that fit a terminal; difference to the baseline, and cost of a step, only beside the first metrics."""
    blocks = []
    for start in (0, *range(2, len(metrics), 3)):
        part = metrics[:2] if start == 0 else metrics[start:start + 3]
        paper = [metric for metric in part if table[f"{metric}_paper"].notna().any()]
        headers = ["", *(f"paper\n{metric}" for metric in paper), *(f"ours: {metric}\nmean ± std (n)" for metric in part)]
        cells = [[line["label"], *(amount(line[f"{metric}_paper"]) for metric in paper), *(_ours(line, metric) for metric in part)] for _, line in table.iterrows()]
        if start == 0:
            headers.append(f"ours: Δ{part[0]}, paired\n[95 % t-interval] (n)")
            cells = [[*shown, _delta(line, part[0])] for shown, (_, line) in zip(cells, table.iterrows(), strict=True)]
            if cost:
                headers.append("a step,\n× plain")
                cells = [[*shown, f"{cost[row]:.2f}" if row in cost else DASH] for shown, row in zip(cells, table["row"], strict=True)]
        blocks.append(_grid(headers, cells, style))
    return blocks


def _contrast_block(table: pd.DataFrame, metrics: tuple[str, ...], style: str) -> str:
    part = metrics[:2]
    paper = [metric for metric in part if table[f"{metric}_paper_delta"].notna().any()]
    headers = ["contrast", *(f"paper\nΔ{metric}" for metric in paper), *(f"ours: Δ{metric}, paired\n[95 % t-interval] (n)" for metric in part)]
    cells = [[line["label"], *(signed(line[f"{metric}_paper_delta"]) for metric in paper), *(_delta(line, metric) for metric in part)] for _, line in table.iterrows()]
    return _grid(headers, cells, style)


def one_or_mixed(runs: pd.DataFrame, column: str) -> str:
    """``Data: x``; or, where runs differ, a loud list of the values."""
    values = [str(value) for value in distinct(runs, column)]
    if len(values) > 1:
        return f"{column.capitalize()} MIXED, means and ± mix them: {' | '.join(values)}"
    return f"{column.capitalize()}: {values[0] if values else 'unknown'}"


def teachers(runs: pd.DataFrame) -> str:
    """``Teacher AP 46.0``, a range where there are several teachers, or that it is unknown."""
    values = distinct(runs, "teacher_AP")
    if not values:
        return "Teacher AP unknown"
    low, high = amount(values[0]), amount(values[-1])
    return f"Teacher AP {low}" if low == high else f"Several teachers, AP {low} to {high}"


def _missing_line(runs: pd.DataFrame, sweep, metric: str) -> str:
    missing = not_done(runs, sweep, metric)
    expected = len(sweep.rows) * len(expected_seeds(runs, sweep)) * max(len(distinct(runs, "scale")), 1)
    if missing.empty:
        return f"All {expected} runs are done."
    mixed = missing["scale"].nunique() > 1
    parts = []
    for (scale, row, state), group in missing.groupby(["scale", "row", "state"], sort=False):
        seeds = ", ".join(str(seed) for seed in group["seed"])
        parts.append(f"{scale + ': ' if mixed else ''}{sweep.rows[row].label}: seed{'s' if len(group) > 1 else ''} {seeds} {state}")
    return f"Not done, {len(missing)} of {expected} runs: {'; '.join(parts)}."


def caption(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = ("AP", "AR")) -> list[str]:
    """What a reader must know of the table, a statement a line: data, meaning of the numbers, tuning, what is missing, source."""
    runs = runs_of(results, sweep)
    done = done_runs(runs, sweep)
    seeds = ", ".join(str(seed) for seed in expected_seeds(runs, sweep))
    lines = [
        ". ".join([*(one_or_mixed(done, column) for column in ("data", "scale", "device")), f"Seeds: {seeds}", teachers(done)]) + ".",
        "AP is AP@[.50:.95] (the paper's mAP), AR is AR@100 (its mAR), in percent. ± is the sample standard deviation (n - 1) over n runs.",
        f"Δ is the mean difference to \"{sweep.rows[sweep.baseline].label}\" (in a contrast: to the second row), paired by seed, n pairs; [low, high] is its "
        "95 % t-interval, not corrected for several comparisons. ± and interval cover the seed noise of the student's "
        "training only, not that of the teacher, the data or the validation split.",
    ]
    if any(row.paper for row in sweep.rows.values()):
        lines.append(f"The paper's numbers are the paper's (COCO; {sweep.source.rstrip('.')}): compare directions, not values.")
    else:
        lines.append(f"The paper has no numbers for these rows. Source: {sweep.source.rstrip('.')}." if sweep.source else "The paper has no numbers for these rows.")
    lines += [f"Weights: {sweep.tuning.rstrip('.') or 'not stated how they were chosen'}.", _missing_line(runs, sweep, metrics[0])]
    if getattr(sweep, "cost", {}):
        lines.append("A step's cost, forward and backward with the teacher's maps cached, is over that of the plain student's step: `python -m benchmarks.methods`, medians of turns.")
    strangers = runs[~runs["row"].isin(list(sweep.rows))]
    if len(strangers):
        lines.append(f"Left out: {len(strangers)} runs of rows that the sweep does not name ({', '.join(distinct(strangers, 'row'))}).")
    return lines


def is_smoke(runs: pd.DataFrame) -> bool:
    """Whether any of the runs is of the scale whose numbers mean nothing."""
    return "smoke" in distinct(runs, "scale")


def _csv(table: pd.DataFrame, contrasts: pd.DataFrame, done: pd.DataFrame) -> str:
    tidy = pd.concat([table, contrasts], ignore_index=True)
    counts = [name for name in tidy if name.endswith(("_n", "_missing"))]
    tidy = tidy.astype({name: "Int64" for name in counts})                        # a contrast has no count of its own: empty, not 3.0
    for column in ("scale", "data", "device"):
        tidy[column] = " | ".join(str(value) for value in distinct(done, column))
    tidy["note"] = SMOKE if is_smoke(done) else ""
    return tidy.to_csv(index=False, float_format="%.6g")


def render(results: pd.DataFrame, sweep, format: str = "text", metrics: tuple[str, ...] = ("AP", "AR")) -> str:
    """The table for a reader, with contrasts and caption; ``csv`` is the numbers alone.

    Args:
        results: one row a run, AP and AR in percent; runs of other sweeps are left out.
        format: ``text`` fits a terminal of 100 columns, ``markdown``, or ``csv``: the columns of :func:`ablation_table`, then
            scale, data, device and note; contrasts are further lines, told by ``against``.
        metrics: the first is the one whose difference to the baseline is shown; csv has the differences of all.
    Raises:
        UserError: an unknown format, or no run is done.
    """
    if format not in FORMATS:
        raise unknown_name("format", format, FORMATS)
    done = done_runs(runs_of(results, sweep), sweep)
    table, contrasts = ablation_table(results, sweep, metrics), contrast_table(results, sweep, metrics)
    if format == "csv":
        return _csv(table, contrasts, done)
    markdown = format == "markdown"
    strong = "**" if markdown else ""
    heads = [*([SMOKE] if is_smoke(done) else []), sweep.title]
    parts = [f"{strong}{head}{strong}" for head in heads] + ([sweep.question] if sweep.question else [])
    parts = [part if markdown else textwrap.fill(part, WIDTH) for part in parts] + _blocks(table, metrics, format, getattr(sweep, "cost", {}))
    if len(contrasts):
        parts.append(_contrast_block(contrasts, metrics, format))
    lines = caption(results, sweep, metrics)
    parts.append("\n".join(f"- {line}" if markdown else textwrap.fill(line, WIDTH, subsequent_indent="  ") for line in lines))
    return "\n\n".join(parts) + "\n"
