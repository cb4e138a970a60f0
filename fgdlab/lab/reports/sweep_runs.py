"""The runs behind a table or a report: their results, and where each run's folder lies, if it does.

    runs/NAME/results.csv, or ablations/results/NAME.csv --SweepRuns.of--> frame, folders
    SweepRuns --settings, cost, provenance, failures--> DataFrames, a line a row of the sweep, a fact, or a missing run
"""
import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from ..config import RunConfig, unused_settings
from ..errors import UserError
from ..run import RunFolder
from ..sweeps import Sweep, load_sweep, read_results, runs_folder
from ..tables import done_runs, not_done, runs_of, unavailable_rows

SIDE_BY_SIDE = " | "


@dataclass(frozen=True)
class SweepRuns:
    """A sweep at one scale and what was run of it.

    ``frame``: one row a run as in results.csv, with a column ``error`` where a run failed; ``path``: the file it was read from;
    ``home``: the folder where the runs lie, or would lie.
    """

    sweep: Sweep
    frame: pd.DataFrame
    path: Path
    home: Path

    @classmethod
    def of(cls, name: str, scale: str = "laptop", runs: Path | str | None = None) -> "SweepRuns":
        """The newest results of a sweep by name: those in folder ``runs``, else the committed ones.

        Without ``runs`` they are sought in runs/NAME of the current folder, then of the one above it, where a notebook in ablations/ has them.

        Raises:
            UserError: no such sweep or scale, or no results.
        """
        sweep = load_sweep(name).at(scale)
        home = Path(runs) if runs else runs_folder(sweep, scale)
        if not runs and not (home / "results.csv").is_file() and (".." / home / "results.csv").is_file():
            home = ".." / home
        frame, path = read_results(sweep, scale, home)
        return cls(sweep, with_errors(frame, path.parent), path, home)

    def folder(self, row: str, seed: int) -> Path | None:
        """Where a run lies; None where only its line in results.csv is here."""
        lines = self.frame[(self.frame["row"] == row) & (self.frame["seed"] == seed)]
        return folder_of(lines.iloc[-1], self.path.parent) if len(lines) else None

    def finished(self, row: str) -> dict[int, Path]:
        """{seed: folder} of the row's done runs whose folders are here, smallest seed first."""
        seeds = sorted(int(seed) for seed in self.frame.loc[(self.frame["row"] == row) & (self.frame["state"] == "done"), "seed"])
        folders = {seed: self.folder(row, seed) for seed in seeds}
        return {seed: folder for seed, folder in folders.items() if folder is not None and RunFolder(folder).has("result.json")}


def folder_of(line: pd.Series, home: Path) -> Path | None:
    run_id = line.get("run_id")
    folder = None if pd.isna(run_id) else home / str(run_id)
    return folder if folder is not None and folder.is_dir() else None


def with_errors(frame: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The same runs with what each failed one raised, from its failed.json; no new column where none failed."""
    if "error" in frame or not (frame["state"] == "failed").any():
        return frame
    errors = []
    for _, line in frame.iterrows():
        folder = folder_of(line, home) if line["state"] == "failed" else None
        errors.append(RunFolder(folder).error() if folder else None)
    return frame.assign(error=pd.Series(errors, index=frame.index, dtype=object))


# --- what a report tells of them ------------------------------------------------------------------------------------------------------

def settings(runs: SweepRuns) -> pd.DataFrame:
    """What tells the rows apart: the settings, of those in results.csv, that differ between done runs. One line a row; None where a row does not use one."""
    done = done_runs(runs_of(runs.frame, runs.sweep), runs.sweep)
    names = [each.name for each in fields(RunConfig) if each.name in done and each.name not in ("seed", "scale")]
    used = pd.DataFrame([{name: None if name in idle_knobs(line) else plain(line[name]) for name in names} for _, line in done.iterrows()], index=done.index)
    differing = [name for name in names if used[name].nunique() > 1]
    lines = []
    for key, row in runs.sweep.rows.items():
        here = used[done["row"] == key]
        lines.append({"row": row.label, **{name: SIDE_BY_SIDE.join(here[name].dropna().unique()) or None for name in differing}})
    return pd.DataFrame(lines)


def idle_knobs(line: pd.Series) -> tuple[str, ...]:
    """Settings that a run with this method makes no use of."""
    if not known(line.get("method")):
        return ()
    inherits = known(line.get("inherit")) and bool(line["inherit"])
    distils = line["method"] != "none"
    return tuple(name for name in unused_settings(distils, line["method"], distils or inherits) if name != "method")


def cost(runs: SweepRuns) -> pd.DataFrame:
    """Means over a row's done runs: seconds in all, of training, of judging; images a second; GB of memory at most. The last line: all runs together."""
    done = done_runs(runs_of(runs.frame, runs.sweep), runs.sweep)
    columns = {"seconds a run": "seconds", "training": "train_seconds", "judging": "eval_seconds", "images / s": "images_per_second", "peak memory, GB": "peak_memory_gb"}
    lines = []
    for key, row in runs.sweep.rows.items():
        here = done[done["row"] == key]
        lines.append({"row": row.label, "runs": len(here), **{title: here[name].mean() if name in here else float("nan") for title, name in columns.items()}})
    whole = done["seconds"].sum() if "seconds" in done else float("nan")
    return pd.DataFrame([*lines, {"row": "all together", "runs": len(done), "seconds a run": whole}])


def failures(runs: SweepRuns) -> pd.DataFrame:
    """Every expected run without a number: row, seed, state, why, and where its notebook lies; then the rows that this scale cannot run."""
    lines = []
    for _, line in not_done(runs_of(runs.frame, runs.sweep), runs.sweep).iterrows():
        folder = runs.folder(line["row"], line["seed"])
        notebook = folder / "run.ipynb" if folder else None
        lines.append({
            "row": runs.sweep.rows[line["row"]].label, "seed": str(line["seed"]), "state": line["state"], "why": line["error"] or None,
            "notebook": shown_path(notebook) if notebook and notebook.is_file() else None,
        })
    lines += [{"row": runs.sweep.rows[row].label, "seed": None, "state": "cannot be run here", "why": why, "notebook": None} for row, why in unavailable_rows(runs.sweep).items()]
    return pd.DataFrame(lines, columns=["row", "seed", "state", "why", "notebook"])


def provenance(runs: SweepRuns) -> pd.DataFrame:
    """Where the numbers come from: a line a fact; where runs differ, each value with its number of runs."""
    done = done_runs(runs_of(runs.frame, runs.sweep), runs.sweep)
    known = [facts(line, result_of(line, runs.path.parent)) for _, line in done.iterrows()]
    lines = []
    for name in dict.fromkeys(name for each in known for name in each):
        counts = Counter(each[name] for each in known if each.get(name))
        if counts:
            values = list(counts) if len(counts) == 1 else [f"{value} ({count} runs)" for value, count in counts.items()]
            lines.append({"fact": name, "value": SIDE_BY_SIDE.join(values)})
    finished = sorted(str(value) for value in done["finished"].dropna()) if "finished" in done else []
    if finished:
        lines.append({"fact": "finished", "value": finished[0] if finished[0] == finished[-1] else f"{finished[0]} to {finished[-1]}"})
    return pd.DataFrame([*lines, {"fact": "read from", "value": shown_path(runs.path)}])


def result_of(line: pd.Series, home: Path) -> dict:
    """result.json of a run, {} where it is not here."""
    folder = folder_of(line, home)
    try:
        return RunFolder(folder).read("result.json") if folder else {}
    except UserError:
        return {}


def facts(line: pd.Series, result: dict) -> dict[str, str]:
    """What one run tells of its origin, in words; from result.json where that is here, else as much as results.csv has of it."""
    origin, teacher, prints = result.get("provenance") or {}, result.get("teacher") or {}, result.get("data_hashes") or {}
    packages = origin.get("packages") or {name: line[name] for name in ("torch", "torchvision") if known(line.get(name))}
    dirty = {True: ", with uncommitted changes", False: ", no change left uncommitted"}.get(line.get("dirty") if known(line.get("dirty")) else None, "")
    weights = teacher.get("weights") or (line.get("teacher_weights") if known(line.get("teacher_weights")) else "")
    return {
        "commit": f"{line['commit']}{dirty}" if known(line.get("commit")) else "",
        "device": f"{line['device']}" + (f", {int(line['cores'])} cores" if known(line.get("cores")) else "") if known(line.get("device")) else "",
        "system": origin.get("system") or "",
        "packages": ", ".join([f"Python {line['python']}"] * known(line.get("python")) + [f"{name} {version}" for name, version in packages.items()]),
        "data": f"{line['data']}" if known(line.get("data")) else "",
        "data fingerprints": ", ".join(f"{split} {mark}" for split, mark in prints.items()),
        "teacher": (f"weights {weights}" + (f", {teacher['origin']}" if teacher.get("origin") else "")
                    + (f", AP {line['teacher_AP']:.1f}" if known(line.get("teacher_AP")) else "")) if weights else "",
    }


def known(value) -> bool:
    return value is not None and not pd.isna(value) and value != ""


def plain(value) -> str:
    """A setting as a person writes it."""
    if not known(value):
        return "–"
    return f"{value:g}" if isinstance(value, float) else str(value)


def shown_path(path: Path) -> str:
    """A path from the current folder where it lies below it, else as it is given."""
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()
