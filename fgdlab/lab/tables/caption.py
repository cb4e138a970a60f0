"""What a reader must know of a table before believing it: data, meaning of the numbers, which noise, what is missing, source."""
import pandas as pd

from ..stats import variance_covered
from .cells import amount
from .runs import baseline_of, distinct, done_runs, expected_count, expected_seeds, not_done, runs_of, unavailable_rows

SMOKE = "SMOKE SCALE: these numbers mean nothing; they show only that every step runs."


def caption(results: pd.DataFrame, sweep, metrics: tuple[str, ...] = ("AP", "AR"), noise: str = "seeds") -> list[str]:
    """A statement a line.

    Args:
        noise: which noise the intervals cover, a key of NOISES in stats.py: "seeds" for t-intervals over runs, "images" or "both" for resampled images.
    """
    runs = runs_of(results, sweep)
    done = done_runs(runs, sweep)
    return [
        setting(done, expected_seeds(runs, sweep)), *meaning(sweep, noise), source(sweep),
        f"Tuning: {one_line(sweep.tuning) or 'not stated how the weights were chosen'}.", missing_line(runs, sweep, metrics[0]), *additions(runs, sweep),
    ]


def one_line(text: str) -> str:
    """A text of a YAML on one line, without its last full stop."""
    return " ".join(text.split()).rstrip(".")


def setting(done: pd.DataFrame, seeds: list[int]) -> str:
    """Data, scale, device, seeds, teacher of the done runs."""
    listed = ", ".join(str(seed) for seed in seeds)
    return ". ".join([*(one_or_mixed(done, column) for column in ("data", "scale", "device")), f"Seeds: {listed}", teachers(done)]) + "."


def meaning(sweep, noise: str) -> list[str]:
    """What AP, AR, ± and Δ are, and which noise they cover."""
    covered = variance_covered(noise, "± and interval cover" if noise == "seeds" else "± is over seeds; the interval covers")
    return [
        "AP is AP@[.50:.95] (the paper's mAP), AR is AR@100 (its mAR), in percent. ± is the sample standard deviation (n - 1) over n runs.",
        f"Δ is the mean difference to {baselines(sweep)} (in a contrast: to the second row), paired by seed, n pairs; [low, high] is its "
        f"95 % {'t-' if noise == 'seeds' else ''}interval, not corrected for several comparisons. {covered}",
    ]


def baselines(sweep) -> str:
    """The row that all others are compared with; or, where rows name theirs, each of these with what is compared with it."""
    groups: dict[str, list[str]] = {}
    for key, row in sweep.rows.items():
        if baseline_of(sweep, key) != key:
            groups.setdefault(baseline_of(sweep, key), []).append(row.label)
    first, *others = [f'"{sweep.rows[key].label}"' for key in groups] or [f'"{sweep.rows[sweep.baseline].label}"']
    if not others:
        return first
    return f"the plain row above, which is {', '.join([first, *others[:-1]])} or {others[-1]}"


def source(sweep) -> str:
    """Where the paper's numbers come from, or that it has none."""
    said = one_line(sweep.source)
    if any(row.paper for row in sweep.rows.values()):
        return f"The paper's numbers are the paper's (COCO; {said}): compare directions, not values."
    return f"The paper has no numbers for these rows. Source: {said}." if said else "The paper has no numbers for these rows."


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


def missing_line(runs: pd.DataFrame, sweep, metric: str) -> str:
    """Which of the expected runs have no number, by row and state, with what they raised; or that all are done."""
    missing, expected = not_done(runs, sweep, metric), expected_count(runs, sweep)
    if missing.empty:
        return f"All {expected} runs are done."
    mixed, parts = missing["scale"].nunique() > 1, []
    for (scale, row, state, error), group in missing.groupby(["scale", "row", "state", "error"], sort=False):
        seeds = ", ".join(str(seed) for seed in group["seed"])
        why = f" ({one_line(error)})" if error else ""
        parts.append(f"{scale + ': ' if mixed else ''}{sweep.rows[row].label}: seed{'s' if len(group) > 1 else ''} {seeds} {state}{why}")
    return f"Not done, {len(missing)} of {expected} runs: {'; '.join(parts)}."


def additions(runs: pd.DataFrame, sweep) -> list[str]:
    """What only some tables need said."""
    reasons: dict[str, list[str]] = {}
    for row, why in unavailable_rows(sweep).items():
        reasons.setdefault(one_line(why), []).append(sweep.rows[row].label)
    lines = [f"No run here of {'; '.join(labels)}: {why}." for why, labels in reasons.items()]
    if getattr(sweep, "cost", {}):
        lines.append("A step's cost, forward and backward with the teacher's maps cached, is over that of the plain student's step: `python -m benchmarks.methods`, medians of turns.")
    strangers = runs[~runs["row"].isin(list(sweep.rows))]
    if len(strangers):
        lines.append(f"Left out: {len(strangers)} runs of rows that the sweep does not name ({', '.join(distinct(strangers, 'row'))}).")
    return lines
