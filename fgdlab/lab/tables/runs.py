"""The runs of a sweep, done and missing: rows and seeds of the sweep say which runs are expected."""
from itertools import product

import pandas as pd

from ..errors import UserError
from ..stats import check_metric

COLUMNS = ("row", "seed", "state")


def runs_of(results: pd.DataFrame, sweep) -> pd.DataFrame:
    """The runs in ``results`` that belong to ``sweep``, with row as str and seed as int."""
    absent = [name for name in COLUMNS if name not in results]
    if absent and len(results):
        raise UserError(
            f"results must have the columns {', '.join(COLUMNS)}, got none named {', '.join(absent)}; "
            "read the file that `fgdlab sweep` wrote"
        )
    runs = results.reindex(columns=[*results.columns, *absent])
    runs = (runs[runs["sweep"] == sweep.name] if "sweep" in runs else runs).astype({"row": str, "seed": int})
    if done_runs(runs, sweep).empty:
        states = ", ".join(f"{count} {state}" for state, count in runs["state"].value_counts().items()) or "no run"
        command = f"fgdlab sweep {sweep.name}"
        raise UserError(f"a table of sweep {sweep.name!r} must have a run that is done, got {states}; run `{command}`")
    return runs


def done_runs(runs: pd.DataFrame, sweep) -> pd.DataFrame:
    return runs[(runs["state"] == "done") & runs["row"].isin(list(sweep.rows))]


def distinct(runs: pd.DataFrame, column: str) -> list:
    """The different values of a column, sorted; [] if the column is missing or empty."""
    return sorted(runs[column].dropna().unique()) if column in runs else []


def expected_seeds(runs: pd.DataFrame, sweep) -> list[int]:
    return sorted({*map(int, sweep.seeds), *map(int, runs["seed"])})


def baseline_of(sweep, row: str) -> str:
    """The row that ``row`` is compared with: its own ``against``, else the sweep's baseline. A baseline has itself."""
    return sweep.rows[row].against or sweep.baseline


def compared_rows(sweep) -> list[tuple[str, str]]:
    """(row, baseline) of every difference in a table, then the sweep's contrasts; without rows that cannot be run."""
    pairs = [*((row, baseline_of(sweep, row)) for row in sweep.present), *sweep.contrasts]
    return [pair for pair in dict.fromkeys(pairs) if pair[0] != pair[1] and set(pair) <= set(sweep.present)]


def expected_runs(runs: pd.DataFrame, sweep) -> list[tuple[str, str, int]]:
    """(scale, row, seed) of every row that can be run with every expected seed, at every scale in ``runs``."""
    return list(product(distinct(runs, "scale") or [""], sweep.present, expected_seeds(runs, sweep)))


def not_done(runs: pd.DataFrame, sweep, metric: str = "AP") -> pd.DataFrame:
    """The expected runs without a value of ``metric``.

    Returns:
        DataFrame scale, row, seed, state, error. state: that of the run, "not run", or "done without AP" (the metric).
        error: of a failed run, if ``runs`` has a column of that name, else "".
    """
    check_metric(runs, metric)
    lines = []
    for scale, row, seed in expected_runs(runs, sweep):
        here = runs[(runs["row"] == row) & (runs["seed"] == seed)]
        here = here[here["scale"] == scale] if scale else here
        done = here[here["state"] == "done"]
        if done.empty:
            last = here.iloc[-1] if len(here) else {"state": "not run"}
            error = last.get("error")
            lines.append((scale, row, seed, last["state"], "" if pd.isna(error) else error))
        elif done[metric].isna().all():
            lines.append((scale, row, seed, f"done without {metric}", ""))
    return pd.DataFrame(lines, columns=["scale", "row", "seed", "state", "error"])
