"""The runs behind a table or a report: their results, folders, settings, cost and provenance."""
import os
from collections import Counter
from dataclasses import dataclass, fields
from pathlib import Path

import pandas as pd

from ..config import RunConfig, unused_settings
from ..errors import UserError
from ..run import RunFolder
from ..sweeps import Sweep, load_sweep, read_results, runs_folder
from ..tables import done_runs, runs_of

SEPARATOR = " | "
COST = {  # {title: column of results.csv}
    "seconds per run": "seconds", "training": "train_seconds", "evaluation": "eval_seconds",
    "images / s": "images_per_second", "peak memory, GB": "peak_memory_gb",
}
UNUSED_BY_AREA = {"fg": ("beta",), "bg": ("alpha",), "both": ("beta",), "none": ("alpha", "beta")}
DIRTY = {True: ", with uncommitted changes", False: ", no change left uncommitted"}


@dataclass(frozen=True)
class SweepRuns:
    """A sweep at one scale and its runs.

    ``frame``: one row per run as in results.csv, and the ``error`` of failed ones; ``path``: the file it was read from;
    ``home``: the folder of the runs.
    """

    sweep: Sweep
    frame: pd.DataFrame
    path: Path
    home: Path

    @classmethod
    def of(
        cls, name: str, scale: str = "laptop", runs: Path | str | None = None, seeds: list[int] | None = None,
    ) -> "SweepRuns":
        """The results in folder ``runs``; None: one's own, else the committed ones.

        ``seeds``: the expected ones; by default those that the reader's own sweep was started with.
        """
        sweep = load_sweep(name).at(scale, seeds)
        home = home_of(sweep, scale, runs)
        frame, path = read_results(sweep, scale, home, not runs)
        if seeds:
            frame = frame[frame["seed"].isin(seeds)].reset_index(drop=True)
        elif path.parent == home:
            sweep = sweep.at(scale, sorted(map(int, set(frame["seed"]))))
        return cls(sweep, with_errors(frame, path.parent), path, home)

    def finished(self, row: str) -> dict[int, Path]:
        """{seed: folder} of the row's done runs whose folders are here, smallest seed first."""
        done = self.frame[(self.frame["row"] == row) & (self.frame["state"] == "done")].sort_values("seed")
        folders = {int(line["seed"]): folder_of(line, self.path.parent) for _, line in done.iterrows()}
        return {seed: folder for seed, folder in folders.items() if RunFolder(folder).has("result.json")}

    def missing_folders(self) -> str:
        return (
            f"these figures need the runs' own folders, and there is none of a finished run beside {self.path.name}; "
            f"run `fgdlab sweep {self.sweep.name}`, or name the folder by --runs"
        )

    def done(self) -> pd.DataFrame:
        return done_runs(runs_of(self.frame, self.sweep), self.sweep)

    def settings(self) -> pd.DataFrame:
        """The settings that differ between done runs, one line per row; None if a row does not use one."""
        done = self.done()
        used = used_settings(done).groupby(done["row"]).agg(lambda each: SEPARATOR.join(each.dropna().unique()) or None)
        used = used.reindex(list(self.sweep.rows)).reset_index(drop=True)
        used.insert(0, "row", [row.label for row in self.sweep.rows.values()])
        return used

    def cost(self) -> pd.DataFrame:
        """Means over the done runs of each row. The last line has the number and the total seconds of all runs."""
        done, lines = self.done().reindex(columns=["row", *COST.values()]), []
        for key, row in self.sweep.rows.items():
            here = done[done["row"] == key]
            lines.append({"row": row.label, "runs": len(here), **here[[*COST.values()]].mean().set_axis(COST)})
        total = done["seconds"].sum(min_count=1)
        return pd.DataFrame([*lines, {"row": "all together", "runs": len(done), "seconds per run": total}])

    def provenance(self) -> pd.DataFrame:
        """Code, packages, machine, data and teacher. If runs differ, each value has its number of runs."""
        done = self.done()
        of_runs = [facts(line, result_of(line, self.path.parent)) for _, line in done.iterrows()]
        lines = []
        for name in dict.fromkeys(name for each in of_runs for name in each):
            counts = Counter(each[name] for each in of_runs if each.get(name))
            values = list(counts) if len(counts) == 1 else [f"{value} ({n} runs)" for value, n in counts.items()]
            if values:
                lines.append((name, SEPARATOR.join(values)))
        finished = sorted(map(str, done["finished"].dropna())) if "finished" in done else []
        if finished:
            lines.append(("finished", " to ".join(dict.fromkeys([finished[0], finished[-1]]))))
        return pd.DataFrame([*lines, ("read from", relative_path(self.path))], columns=["fact", "value"])


def home_of(sweep: Sweep, scale: str, runs: Path | str | None) -> Path:
    """``runs``; or runs/NAME here or, for notebooks, in the parent folder."""
    home = Path(runs) if runs else runs_folder(sweep, scale)
    return home if runs or home.is_dir() or not (".." / home).is_dir() else ".." / home


def folder_of(line: pd.Series, home: Path) -> Path:
    return home / str(line.get("run_id"))


def with_errors(frame: pd.DataFrame, home: Path) -> pd.DataFrame:
    failed = frame["state"] == "failed"
    if "error" in frame or not failed.any():
        return frame
    errors = [RunFolder(folder_of(line, home)).error() for _, line in frame[failed].iterrows()]
    return frame.assign(error=pd.Series(errors, index=frame.index[failed], dtype=object))


def used_settings(frame: pd.DataFrame) -> pd.DataFrame:
    """Text of the settings that differ between runs; None where a run does not use one."""
    others = ("seed", "scale", "data", "device")
    names = [field.name for field in fields(RunConfig) if field.name in frame and field.name not in others]
    used = pd.DataFrame([
        {name: None if name in unused_by_run(line) else setting_text(line[name]) for name in names}
        for _, line in frame.iterrows()
    ], frame.index, dtype=object)
    return used[[name for name in names if used[name].nunique() > 1]]


def unused_by_run(line: pd.Series) -> tuple[str, ...]:
    if not known(line.get("method")):
        return ()
    inherits, distils = known(line.get("inherit")) and bool(line["inherit"]), line["method"] != "none"
    of_area = UNUSED_BY_AREA.get(line.get("area"), ()) if line["method"] == "fgd" else ()
    return *({*unused_settings(distils, line["method"], distils or inherits)} - {"method"}), *of_area


def result_of(line: pd.Series, home: Path) -> dict:
    """result.json of a run; {} if it is missing or broken."""
    try:
        return RunFolder(folder_of(line, home)).read("result.json")
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
    return not pd.isna(value) and value != ""


def setting_text(value) -> str:
    return (f"{value:g}" if isinstance(value, float) else str(value)) if known(value) else "–"


def relative_path(path: Path) -> str:
    path, here = Path(os.path.abspath(path)), Path.cwd()
    return path.relative_to(here).as_posix() if path.is_relative_to(here) else path.as_posix()
