"""Which runs a sweep has, and which it lacks: nothing is dropped in silence.

A sweep says which rows and seeds there should be, so a run that is not there counts as missing.
"""
from itertools import product

import pandas as pd

from ..errors import UserError, unknown_name
from ..stats import check_metric

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


def unavailable_rows(sweep) -> dict[str, str]:
    """{row: why} of the rows that the sweep's scale cannot run; they keep their line in a table, and no run of theirs is missing."""
    return getattr(sweep, "absent", {})


def baseline_of(sweep, row: str) -> str:
    """The row that ``row`` is compared with: its own ``against``, else the sweep's baseline. A row that this names is a baseline itself."""
    return getattr(sweep.rows[row], "against", "") or sweep.baseline


def runnable_rows(sweep) -> list[str]:
    return [row for row in sweep.rows if row not in unavailable_rows(sweep)]


def expected_count(runs: pd.DataFrame, sweep) -> int:
    """How many runs there should be: every row that can be run with every seed, at every scale that ``runs`` has."""
    return len(runnable_rows(sweep)) * len(expected_seeds(runs, sweep)) * max(len(distinct(runs, "scale")), 1)


def not_done(runs: pd.DataFrame, sweep, metric: str = "AP") -> pd.DataFrame:
    """One line for every expected run without a number: scale, row, seed, and why.

    Expected is every one of :func:`present_rows` with every one of :func:`expected_seeds`, at every scale that ``runs`` has.
    Returns:
        DataFrame scale, row, seed, state, error; state is that of the run, "not run", or "done without AP" (or whichever metric);
        error is what a failed run raised, where ``runs`` has a column of that name, else "".
    """
    check_metric(runs, metric)
    lines = []
    for scale, row, seed in product(distinct(runs, "scale") or [""], runnable_rows(sweep), expected_seeds(runs, sweep)):
        here = runs[(runs["row"] == row) & (runs["seed"] == seed)]
        here = here[here["scale"] == scale] if scale else here
        done = here[here["state"] == "done"]
        if done.empty:
            error = here["error"].iloc[-1] if "error" in here and len(here) else ""
            lines.append((scale, row, seed, here["state"].iloc[-1] if len(here) else "not run", "" if pd.isna(error) else error))
        elif done[metric].isna().all():
            lines.append((scale, row, seed, f"done without {metric}", ""))
    return pd.DataFrame(lines, columns=["scale", "row", "seed", "state", "error"])


def is_smoke(runs: pd.DataFrame) -> bool:
    """Whether any of the runs is of the scale whose numbers mean nothing."""
    return "smoke" in distinct(runs, "scale")
