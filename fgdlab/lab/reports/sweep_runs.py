"""The runs behind a table or a report: their results, folders, settings, cost, failures and provenance."""
import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from ..config import RunConfig, unused_settings
from ..errors import UserError
from ..run import RunFolder
from ..sweeps import Sweep, load_sweep, read_results, runs_folder
from ..tables import done_runs, not_done, runs_of

SEPARATOR = " | "
COST = {  # {title: column of results.csv}
    "seconds per run": "seconds", "training": "train_seconds", "evaluation": "eval_seconds",
    "images / s": "images_per_second", "peak memory, GB": "peak_memory_gb",
}
DIRTY = {True: ", with uncommitted changes", False: ", no change left uncommitted"}


@dataclass(frozen=True)
class SweepRuns:
    """A sweep at one scale and its runs.

    ``frame``: one row per run as in results.csv, with a column ``error`` if a run failed; ``path``: the file it was
    read from; ``home``: the folder of the runs.
    """

    sweep: Sweep
    frame: pd.DataFrame
    path: Path
    home: Path

    @classmethod
    def of(cls, name: str, scale: str = "laptop", runs: Path | str | None = None) -> "SweepRuns":
        """The newest results of a sweep by name: those in folder ``runs``, else the committed ones.

        By default ``runs`` is runs/NAME in the current folder, then in its parent, for notebooks in ablations/.

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
        """The folder of a run, if it is here."""
        lines = self.frame[(self.frame["row"] == row) & (self.frame["seed"] == seed)]
        return folder_of(lines.iloc[-1], self.path.parent) if len(lines) else None

    def finished(self, row: str) -> dict[int, Path]:
        """{seed: folder} of the row's done runs whose folders are here, smallest seed first."""
        done = self.frame[(self.frame["row"] == row) & (self.frame["state"] == "done")]
        folders = {seed: self.folder(row, seed) for seed in sorted(map(int, done["seed"]))}
        return {seed: folder for seed, folder in folders.items() if folder and RunFolder(folder).has("result.json")}

    def done(self) -> pd.DataFrame:
        return done_runs(runs_of(self.frame, self.sweep), self.sweep)


def folder_of(line: pd.Series, home: Path) -> Path | None:
    folder = None if pd.isna(line.get("run_id")) else home / str(line["run_id"])
    return folder if folder and folder.is_dir() else None


def with_errors(frame: pd.DataFrame, home: Path) -> pd.DataFrame:
    """The same runs with a column of the errors in failed.json, if a run failed."""
    if "error" in frame or not (frame["state"] == "failed").any():
        return frame
    folders = [folder_of(line, home) if line["state"] == "failed" else None for _, line in frame.iterrows()]
    errors = [RunFolder(folder).error() if folder else None for folder in folders]
    return frame.assign(error=pd.Series(errors, index=frame.index, dtype=object))


def settings(runs: SweepRuns) -> pd.DataFrame:
    """The settings that differ between done runs, one line per row; None if a row does not use one."""
    done = runs.done()
    names = [field.name for field in fields(RunConfig) if field.name in done and field.name not in ("seed", "scale")]
    used = pd.DataFrame([
        {name: None if name in unused_by_run(line) else setting_text(line[name]) for name in names}
        for _, line in done.iterrows()
    ], index=done.index)
    differing = [name for name in names if used[name].nunique() > 1]
    lines = []
    for key, row in runs.sweep.rows.items():
        values = {name: used.loc[done["row"] == key, name].dropna().unique() for name in differing}
        lines.append({"row": row.label, **{name: SEPARATOR.join(each) or None for name, each in values.items()}})
    return pd.DataFrame(lines)


def unused_by_run(line: pd.Series) -> tuple[str, ...]:
    """Settings that the method of this run does not use."""
    if not known(line.get("method")):
        return ()
    inherits = known(line.get("inherit")) and bool(line["inherit"])
    distils = line["method"] != "none"
    return tuple(name for name in unused_settings(distils, line["method"], distils or inherits) if name != "method")


def cost(runs: SweepRuns) -> pd.DataFrame:
    """Means over the done runs of each row. The last line has the number and the total seconds of all runs."""
    done, lines = runs.done(), []
    for key, row in runs.sweep.rows.items():
        here = done[done["row"] == key]
        means = {title: here[name].mean() if name in here else float("nan") for title, name in COST.items()}
        lines.append({"row": row.label, "runs": len(here), **means})
    total = done["seconds"].sum() if "seconds" in done else float("nan")
    return pd.DataFrame([*lines, {"row": "all together", "runs": len(done), "seconds per run": total}])


def failures(runs: SweepRuns) -> pd.DataFrame:
    """The expected runs without a score, why, and their notebooks; then the rows that cannot be run at this scale."""
    rows, lines = runs.sweep.rows, []
    for _, line in not_done(runs_of(runs.frame, runs.sweep), runs.sweep).iterrows():
        folder = runs.folder(line["row"], line["seed"])
        notebook = relative_path(folder / "run.ipynb") if folder and (folder / "run.ipynb").is_file() else None
        lines.append((rows[line["row"]].label, str(line["seed"]), line["state"], line["error"] or None, notebook))
    for row, why in runs.sweep.absent.items():
        lines.append((rows[row].label, None, "cannot be run here", why, None))
    return pd.DataFrame(lines, columns=["row", "seed", "state", "why", "notebook"])


def provenance(runs: SweepRuns) -> pd.DataFrame:
    """One line per fact; if runs differ, each value with its number of runs."""
    done = runs.done()
    of_runs = [facts(line, result_of(line, runs.path.parent)) for _, line in done.iterrows()]
    lines = []
    for name in dict.fromkeys(name for each in of_runs for name in each):
        counts = Counter(each[name] for each in of_runs if each.get(name))
        values = list(counts) if len(counts) == 1 else [f"{value} ({count} runs)" for value, count in counts.items()]
        if values:
            lines.append((name, SEPARATOR.join(values)))
    finished = sorted(map(str, done["finished"].dropna())) if "finished" in done else []
    if finished:
        lines.append(("finished", " to ".join(dict.fromkeys([finished[0], finished[-1]]))))
    return pd.DataFrame([*lines, ("read from", relative_path(runs.path))], columns=["fact", "value"])


def result_of(line: pd.Series, home: Path) -> dict:
    """result.json of a run; {} if it is missing or broken."""
    folder = folder_of(line, home)
    try:
        return RunFolder(folder).read("result.json") if folder else {}
    except UserError:
        return {}


def facts(line: pd.Series, result: dict) -> dict[str, str]:
    """The provenance of one run as text: from result.json if it is here, else from results.csv."""
    def text(name: str, form: str = "{}") -> str:
        return form.format(line[name]) if known(line.get(name)) else ""

    origin, teacher, hashes = (result.get(name) or {} for name in ("provenance", "teacher", "data_hashes"))
    packages = origin.get("packages") or {name: text(name) for name in ("torch", "torchvision")}
    packages = {"Python": text("python"), **packages}
    weights = teacher.get("weights") or text("teacher_weights")
    of_teacher = [f"weights {weights}", teacher.get("origin") or "", text("teacher_AP", "AP {:.1f}")]
    return {
        "commit": text("commit") and text("commit") + DIRTY.get(line["dirty"] if text("dirty") else None, ""),
        "device": text("device") and text("device") + text("cores", ", {:.0f} cores"),
        "system": origin.get("system") or "",
        "packages": ", ".join(f"{name} {version}" for name, version in packages.items() if version),
        "data": text("data"),
        "data hashes": ", ".join(f"{split} {value}" for split, value in hashes.items()),
        "teacher": ", ".join(filter(None, of_teacher)) if weights else "",
    }


def known(value) -> bool:
    return value is not None and not pd.isna(value) and value != ""


def setting_text(value) -> str:
    return (f"{value:g}" if isinstance(value, float) else str(value)) if known(value) else "–"


def relative_path(path: Path) -> str:
    """The path relative to the current folder, if it is below it."""
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()
