"""Sweeps: plan the runs of a table, execute them side by side, collect what they gave.

    YAML --plan--> [PlannedRun] --execute (a process each, resume by default)--> run folders --collect--> results.csv

Everything about a run is in its folder, and result.json there is the only sign that it is done. So a sweep that was killed goes on
where it stopped, whatever was killed.
"""
import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Executor, ThreadPoolExecutor, wait
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from filelock import FileLock, Timeout
from tqdm import tqdm

from .adopt import adopt
from .config import RunConfig
from .disk import digest, make_folder, write_json, write_text
from .errors import UserError
from .essential import essential
from .launch import cpu_environment, end_children, launch
from .own_method import method_mark
from .sweep_file import Sweep, ablations_folder

SCORE_COLUMNS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR", "AR_1", "AR_10", "AR_S", "AR_M", "AR_L")
RESULT_COLUMNS = ("teacher_AP", "seconds", "train_seconds", "eval_seconds", "images_per_second", "peak_memory_gb", "parameters", "steps")


@dataclass(frozen=True)
class PlannedRun:
    """One cell of a sweep: row and seed, the settings they mean, the folder where it lives."""

    row: str
    seed: int
    config: RunConfig
    folder: Path

    @property
    def id(self) -> str:
        return self.folder.name


# --- plan ---------------------------------------------------------------------------------------------------------------------------

def runs_folder(sweep: Sweep, scale: str) -> Path:
    """``runs/NAME`` for the laptop, ``runs/NAME-SCALE`` for another scale, in the current folder."""
    return Path("runs") / (sweep.name if scale == "laptop" else f"{sweep.name}-{scale}")


def plan(sweep: Sweep, out: Path | None = None, *, scale: str = "laptop", overrides: dict | None = None) -> list[PlannedRun]:
    """Every row with every seed of ``sweep.seeds``, seed by seed, so that a table with fewer seeds is complete first.

    A run's id hashes the notebook's code, all settings that it uses and the data, so other settings never meet old results, and what two sweeps share has one id.
    """
    out = out or runs_folder(sweep, scale)
    notebook = notebook_code()
    runs = []
    for seed in sweep.seeds:
        for row in sweep.present:
            config = essential(sweep.settings(row, seed, scale, overrides))
            run_id = digest({"notebook": notebook, "settings": config.dict(), "data": data_mark(config), **teacher_mark(config), **method_mark(config)}, 16)
            runs.append(PlannedRun(row, seed, config, Path(out).absolute() / run_id))
    return runs


def notebook_path() -> Path:
    return ablations_folder() / "run_one.ipynb"


def notebook_code() -> str:
    """A hash of the code that every run executes: the notebook's cells without the parameters, which each run sets anew."""
    path = notebook_path()
    if not path.is_file():
        raise UserError(f"{path} must be the notebook that a run executes, got no such file; run from the project's folder")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return digest(["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code" and "parameters" not in cell["metadata"].get("tags", [])])


def data_mark(config: RunConfig) -> str:
    """What tells one data set from another without reading its images: the digit recipe's version, or a hash of a folder's JSON files."""
    if config.data == "digits":
        from .digits import RECIPE_VERSION

        return f"digits-v{RECIPE_VERSION}"
    folder = Path(config.data).expanduser()
    if not folder.is_dir():
        raise UserError(f"data must be 'digits' or a folder, got {config.data!r}, which is no folder; give --set data=FOLDER")
    return digest({path.relative_to(folder).as_posix(): digest(path.read_bytes()) for path in sorted([*folder.glob("*.json"), *folder.glob("annotations/*.json")])})


def teacher_mark(config: RunConfig) -> dict:
    """A hash of the teacher's file where one is given; a teacher that is shipped or trained follows from the settings."""
    path = Path(config.teacher_checkpoint).expanduser()
    return {"teacher": digest(path.read_bytes())} if config.teacher_checkpoint and path.is_file() else {}


# --- states -------------------------------------------------------------------------------------------------------------------------

STATES = ("done", "running", "failed", "interrupted", "pending")


def state_of(folder: Path) -> str:
    """done | running | failed | interrupted | pending, read from the run's folder alone."""
    if (folder / "result.json").exists():
        return "done"
    if (folder / "running.json").exists() and alive(folder / "running.json"):
        return "running"
    if (folder / "failed.json").exists():
        return "failed"
    return "interrupted" if (folder / "params.json").exists() or (folder / "running.json").exists() else "pending"


def alive(path: Path) -> bool:
    """Whether the process that a running.json names still runs; one on another host is believed while it logged in the last ten minutes."""
    try:
        claim = json.loads(path.read_text())
    except (OSError, ValueError):
        return False
    if claim["host"] != socket.gethostname():
        last = max((each.stat().st_mtime for each in path.parent.iterdir()), default=0)
        return time.time() - last < 600
    try:
        os.kill(claim["pid"], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def share_done(folder: Path) -> float:
    """How far a run has come, 0..1, from the last line of its metrics.jsonl."""
    if (folder / "result.json").exists():
        return 1.0
    try:
        with open(folder / "metrics.jsonl", "rb") as file:
            file.seek(max(os.path.getsize(file.name) - 4096, 0))
            last = [json.loads(line) for line in file.read().splitlines()[1:] if line.startswith(b"{") and line.endswith(b"}")]
        return 0.95 * max(row["step"] / row["steps"] for row in last if "steps" in row)
    except (OSError, ValueError):
        return 0.0


# --- execute ------------------------------------------------------------------------------------------------------------------------

def execute(
    runs: list[PlannedRun], *, jobs: int = 2, executor: Executor | None = None, retry_failed: bool = False, fail_fast: bool = False,
    say: Callable[[str], None] = print,
) -> dict[str, list[PlannedRun]]:
    """Run what is not done yet, ``jobs`` at a time, each in a process of its own. {state: runs} at the end.

    A run that fails takes nobody with it. Runs that failed before stay so unless ``retry_failed``; interrupted ones go on from their checkpoint.
    Ctrl-C once lets the running ones finish and starts no more; twice ends them, and the next call goes on.

    Args:
        executor: where :func:`fgdlab.lab.launch.launch` is submitted; None = threads of this process, ``jobs`` of them.
    Raises:
        UserError: another runner is at work in the same folder.
    """
    out = make_folder(runs[0].folder.parent)
    lock = FileLock(out / ".runner.lock", timeout=2)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(f"{out} must have one runner at a time, and another is at work there; wait for it, or give --out another folder") from None
    try:
        wanted = ("pending", "interrupted", "running", *(["failed"] if retry_failed else []))
        todo = list({run.folder: run for run in runs if state_of(run.folder) in wanted}.values())        # equal settings share a folder: one run
        todo = [run for run in todo if not taken_over(run, say)]
        make_ready(todo, say)
        with nullcontext(executor) if executor else ThreadPoolExecutor(jobs) as pool:                    # the caller's own is not ours to shut down
            watch(runs, todo, pool, jobs, fail_fast, say)
    finally:
        lock.release()
    return {state: [run for run in runs if state_of(run.folder) == state] for state in STATES}


def make_ready(todo: list[PlannedRun], say: Callable[[str], None]) -> None:
    """Make what runs share (data, teacher, teacher's maps) before they start, with bars, and stop here if a teacher is too weak."""
    if not todo:
        return
    import torch

    from .run import prepare
    from .teachers import DECISIVE

    torch.set_num_threads(os.cpu_count() or 1)
    asked = (*DECISIVE, "data", "eval_images", "eval_split", "method", "device", "teacher_checkpoint", "teacher_floor", "teacher_cache", "teacher_cache_gb")
    shown = set()
    for config in {(tuple(getattr(run.config, name) for name in asked), run.config.area == "none"): run.config for run in todo}.values():
        parts = prepare(config)
        if parts.teacher and (parts.teacher.path, config.eval_split) not in shown:
            shown.add((parts.teacher.path, config.eval_split))
            say(f"teacher {config.teacher} ({parts.teacher.origin}): AP {parts.teacher.AP:.1f} on {config.eval_split}, floor {config.teacher_floor:g}")


def watch(runs: list[PlannedRun], todo: list[PlannedRun], pool: Executor, jobs: int, fail_fast: bool, say: Callable[[str], None]) -> None:
    """Keep ``jobs`` runs going, one progress line over all of them, until none is left or the user stops."""
    waiting, going, stopping = list(todo), {}, False
    done_before = len(runs) - len(todo)
    bar = tqdm(
        total=len(runs), initial=done_before, smoothing=0, desc="runs", dynamic_ncols=True, disable=None,
        bar_format="{desc} {n:.1f}/{total} |{bar}| {elapsed} gone, {remaining} left{postfix}",
    )
    said = say if bar.disable else bar.write
    while going or (waiting and not stopping):
        try:
            while waiting and not stopping and len(going) < jobs:
                run = waiting.pop(0)
                if taken_over(run, said):                            # done by another sweep in the meantime
                    continue
                going[start(run, pool)] = run
                bar.set_postfix_str(", ".join(f"{each.row}/{each.seed}" for each in going.values()))
            finished, _ = wait(going, timeout=1, return_when=FIRST_COMPLETED)
            for future in finished:
                run = going.pop(future)
                state, lost = state_of(run.folder), future.exception()
                said(f"{state:>11}  {run.row}, seed {run.seed}{outcome(run.folder, state)}{f' ({lost})' if lost else ''}")
                stopping = stopping or (fail_fast and state == "failed")
            bar.n = done_before + sum(share_done(run.folder) for run in todo if run not in waiting)
            bar.refresh()
        except KeyboardInterrupt:
            if stopping:
                said("ending the running ones now; the same command goes on from their checkpoints")
                end_children()
            else:
                said(f"starting no more; letting {len(going)} running ones finish (Ctrl-C again ends them)")
            stopping = True
        except BaseException:
            end_children()
            raise
    bar.close()


def taken_over(run: PlannedRun, say: Callable[[str], None]) -> bool:
    """Whether the run is done now because a sibling of this sweep had done it."""
    source = adopt(run.folder, job_of(run)) if state_of(run.folder) != "running" else None
    if source:
        say(f"{'done':>11}  {run.row}, seed {run.seed}: same run, done in {source.parent.parent.name}/{source.parent.name}: taken from there")
    return source is not None


def job_of(run: PlannedRun) -> dict:
    """What job.json says: the notebook, its parameters, the cell of the table."""
    return {"notebook": str(notebook_path()), "parameters": {**run.config.dict(), "out": str(run.folder)}, "row": run.row, "seed": run.seed}


def start(run: PlannedRun, pool: Executor):
    run.folder.mkdir(parents=True, exist_ok=True)
    (run.folder / "failed.json").unlink(missing_ok=True)
    write_json(run.folder / "job.json", job_of(run))
    return pool.submit(launch, str(run.folder), cpu_environment(run.config.threads))


def outcome(folder: Path, state: str) -> str:
    """What a line about a finished run adds: its AP, or its error and where the notebook lies."""
    if state == "done":
        result = json.loads((folder / "result.json").read_text())
        return f": AP {result['AP']:.1f}, AR {result['AR']:.1f}, {result['seconds']:.0f} s"
    if state == "failed":
        return f": {json.loads((folder / 'failed.json').read_text())['error']} (see {folder / 'run.ipynb'})"
    return f": no result (see {folder / 'log.txt'})"


# --- collect ------------------------------------------------------------------------------------------------------------------------

def collect(runs: list[PlannedRun], sweep: Sweep) -> pd.DataFrame:
    """One row a planned run, done or not: state, scores 0..100, times, settings, provenance. No path of this machine is in it."""
    records = []
    for run in runs:
        state = state_of(run.folder)
        result = json.loads((run.folder / "result.json").read_text()) if state == "done" else {}
        origin = result.get("provenance", {})
        settings = {name: value for name, value in run.config.dict().items() if name not in ("data", "scale", "seed", "teacher_checkpoint", "device")}
        records.append({
            "sweep": sweep.name, "scale": run.config.scale, "row": run.row, "label": sweep.rows[run.row].label, "seed": run.seed, "state": state,
            **{name: result.get(name) for name in (*SCORE_COLUMNS, *RESULT_COLUMNS)},
            "data": result.get("data_line"), "device": origin.get("device"), "run_id": run.id, **settings,
            "teacher_weights": (result.get("teacher") or {}).get("weights"), "commit": origin.get("commit"), "dirty": origin.get("dirty"),
            "cores": origin.get("cores"), "python": origin.get("python"), "torch": origin.get("packages", {}).get("torch"),
            "torchvision": origin.get("packages", {}).get("torchvision"), "finished": origin.get("finished"),
        })
    frame = pd.DataFrame(records)
    numbers = [name for name in (*SCORE_COLUMNS, *RESULT_COLUMNS) if name in frame]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def write_results(frame: pd.DataFrame, path: Path) -> Path:
    """results.csv, whole or not at all; numbers to six digits."""
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))
    return path


def read_results(sweep: Sweep, scale: str, out: Path | None = None) -> tuple[pd.DataFrame, Path]:
    """The newest results of a sweep: the reader's own in runs/, else the committed ones.

    Raises:
        UserError: there are none.
    """
    own = (out or runs_folder(sweep, scale)) / "results.csv"
    committed = ablations_folder() / "results" / f"{sweep.name}.csv"
    for path in (own, committed):
        if path.is_file():
            return pd.read_csv(path, dtype={"row": str}), path
    raise UserError(f"results of {sweep.name} must be in {own} or {committed}, got neither; run `fgdlab sweep {sweep.name}` first")
