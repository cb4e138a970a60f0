"""The caption of a table: data, meaning of the numbers, variance covered, source, tuning, missing runs."""
import pandas as pd

from ..errors import listed
from ..provenance import code_of
from ..stats import variance_covered
from .cells import amount
from .runs import baseline_of, distinct, done_runs, expected_runs, expected_seeds, not_done

LEAST_LEAD = 1.0  # AP of a teacher above the plain student
SMOKE_WARNING = "SMOKE SCALE: these numbers mean nothing; they show only that every step runs."
COST = (
    "Step time: forward and backward with cached teacher maps, relative to a step of the plain student; medians, "
    "by `python -m benchmarks.methods`."
)


def caption(runs: pd.DataFrame, sweep, metric: str, variance: str, older_code: bool) -> list[str]:
    """One statement per line, on the runs of :func:`runs_of`; the other arguments are those of :class:`Table`."""
    done = done_runs(runs, sweep)
    seeds = f"Seeds: {', '.join(map(str, expected_seeds(runs, sweep)))}"
    interval, subject = ("t-interval", "± and interval cover") if variance == "seeds" else \
        ("interval", "The interval covers")
    return [
        ". ".join([*conditions(done), seeds, teachers(done)]) + ".", *origin(done),
        "AP is AP@[.50:.95] (the paper's mAP), AR is AR@100 (its mAR), in percent. "
        "±: sample standard deviation (n - 1) over n runs.",
        f"Δ: mean difference to {baseline_names(sweep)} (in a contrast: to the second row), paired by seed, n pairs; "
        f"[low, high]: its 95 % {interval}, not corrected for multiple comparisons.",
        variance_covered(variance, subject, len(teacher_seeds(done))), paper_line(sweep),
        f"Tuning: {one_line(sweep.tuning) or 'not stated how the weights were chosen'}.",
        *teacher_warning(done, sweep), missing_line(runs, sweep, metric),
        *(older_code_lines(done) if older_code else []), *notes(runs, sweep),
    ]


def smoke_warning(runs: pd.DataFrame) -> list[str]:
    return [SMOKE_WARNING] if "smoke" in distinct(runs, "scale") else []


def conditions(runs: pd.DataFrame) -> list[str]:
    """``Data: x``, ``Scale: y``, ``Device: z``; where runs differ, a warning with all values."""
    parts = []
    for column in ("data", "scale", "device"):
        values = [str(value) for value in distinct(runs, column)] or ["unknown"]
        mixed = " MIXED, means and ± mix them" if len(values) > 1 else ""
        parts.append(f"{column.capitalize()}{mixed}: {' | '.join(values)}")
    return parts


def teacher_warning(done: pd.DataFrame, sweep) -> list[str]:
    """Says so where no teacher is LEAST_LEAD above the plain student of the baseline, and what to change."""
    plain = done[done["row"] == sweep.baseline]
    if not {"AP", "teacher_AP"} <= set(done) or plain["teacher_AP"].notna().any():
        return []
    student, teacher = plain["AP"].mean(), done["teacher_AP"].max()
    return [
        f'The teacher (AP {amount(teacher)}) is not {LEAST_LEAD:g} AP above "{sweep.rows[sweep.baseline].label}" (AP '
        f"{amount(student)}), so it has little to teach: train it longer (teacher_steps, teacher_epochs), or take a "
        "larger or a trained one (teacher, teacher_checkpoint)."
    ] if teacher < student + LEAST_LEAD else []


def older_code_lines(runs: pd.DataFrame) -> list[str]:
    """How many of the done ``runs`` have another code hash than their method has now; [] if none has."""
    if "code_hash" not in runs or runs["code_hash"].isna().all():
        return ["The runs were made before code hashes were recorded; their numbers may be outdated."]
    current = runs["method"].map(lambda method: code_of(method)["hash"])
    older = int((runs["code_hash"] != current).sum())
    return [f"{older} of {len(runs)} runs were made by older code; their numbers may be outdated."] if older else []


def one_line(text: str) -> str:
    return " ".join(text.split()).rstrip(".")


def origin(done: pd.DataFrame) -> list[str]:
    days, hashes = [str(day)[:10] for day in distinct(done, "finished")], distinct(done, "code_hash")
    if not hashes or not days:
        return []
    when = " to ".join(dict.fromkeys([days[0], days[-1]]))
    return [f"Runs finished on {when}; code hash {listed(hashes)}, per run in the results."]


def baseline_names(sweep) -> str:
    keys = [baseline_of(sweep, key) for key in sweep.rows if baseline_of(sweep, key) != key] or [sweep.baseline]
    *others, last = [f'"{sweep.rows[key].label}"' for key in dict.fromkeys(keys)]
    return f"the baseline above it, {', '.join(others)} or {last}" if others else last


def paper_line(sweep) -> str:
    source = one_line(sweep.source)
    if any(row.paper for row in sweep.rows.values()):
        return f"The paper's numbers are on COCO ({source}). Compare directions, not values."
    return "The paper has no numbers for these rows." + (f" Source: {source}." if source else "")


def teachers(runs: pd.DataFrame) -> str:
    values = distinct(runs, "teacher_AP")
    if not values:
        return "Teacher AP unknown"
    low, high = amount(values[0]), amount(values[-1])
    return f"Teacher AP {low}" if low == high else f"Several teachers, AP {low} to {high}"


def teacher_seeds(runs: pd.DataFrame) -> list[int]:
    return distinct(runs[runs["teacher_AP"].notna()], "teacher_seed") if "teacher_AP" in runs else []


def missing_line(runs: pd.DataFrame, sweep, metric: str) -> str:
    missing, expected = not_done(runs, sweep, metric), len(expected_runs(runs, sweep))
    if missing.empty:
        return f"All {expected} runs are done."
    parts = []
    for (scale, row, state, error), group in missing.groupby(["scale", "row", "state", "error"], sort=False):
        where = f"{scale}: " if missing["scale"].nunique() > 1 else ""
        seeds = f"seed{'s' if len(group) > 1 else ''} {', '.join(map(str, group['seed']))}"
        parts.append(f"{where}{sweep.rows[row].label}: {seeds} {state}" + (f" ({one_line(error)})" if error else ""))
    return f"Not done, {len(missing)} of {expected} runs: {'; '.join(parts)}."


def notes(runs: pd.DataFrame, sweep) -> list[str]:
    reasons: dict[str, list[str]] = {}
    for row, why in sweep.absent.items():
        reasons.setdefault(one_line(why), []).append(sweep.rows[row].label)
    lines = [f"Not run here: {'; '.join(labels)}. Reason: {why}." for why, labels in reasons.items()]
    lines += [COST] if sweep.cost else []
    unknown = runs[~runs["row"].isin(list(sweep.rows))]
    if len(unknown):
        rows = ", ".join(distinct(unknown, "row"))
        lines.append(f"Left out: {len(unknown)} runs of rows that the sweep does not name ({rows}).")
    return lines
