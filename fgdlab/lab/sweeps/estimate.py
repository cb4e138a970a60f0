"""The runs of a sweep that are left and their time, by the runs that were measured: ``fgdlab sweep NAME --dry-run``.

    training time of a run = steps x batch size / measured images per second;  evaluation and loading as measured
"""
from pathlib import Path

import pandas as pd

from ..errors import plural
from .collection import collect, read_frame
from .planning import PlannedRun
from .spec import Sweep, results_file


def dry_run(
    runs: list[PlannedRun], sweep: Sweep, scale: str, slots: int | None, retry_failed: bool = False,
    keep_stale: bool = False,
) -> list[str]:
    """A line per run with its state and the time left, and a line for all. slots: runs at a time; None = unknown."""
    frame, origin = measured(runs, sweep, scale)
    lines, left = [], {}
    for run in runs:
        state, note = run.state(), ""
        if state == "stale" and keep_stale:
            note = "  kept"
        elif state not in ("done", "failed") or (state == "failed" and retry_failed):
            source = run.done_elsewhere()
            left[run.folder] = 0.0 if source else seconds_left(run, frame)
            if source:
                note = f"  done in {source.parent.parent.name}/{source.parent.name}"
            elif left[run.folder] is not None:
                note = f"  about {span(left[run.folder])}"
        if state == "stale":
            note += f"  changed: {', '.join(run.stale_reasons())}"
        lines.append(f"{state:>11}  {run}  {run.id}{note}")
    return [*lines, total(left, len(runs), slots, origin)]


def total(left: dict[Path, float | None], planned: int, slots: int | None, origin: str) -> str:
    head = f"to do: {len(left)} of {planned} runs"
    known = [each for each in left.values() if each is not None]
    if not left:
        return head
    if len(known) < len(left):
        return f"{head}; how long they take is not known: {origin}"
    wall = f", {span(max(sum(known) / slots, max(known)))} on {slots} slots" if slots and slots > 1 else ""
    return f"{head}, about {span(sum(known))} on one slot{wall} ({origin})"


def measured(runs: list[PlannedRun], sweep: Sweep, scale: str) -> tuple[pd.DataFrame, str]:
    own = collect(runs, sweep)
    own = own[own["state"] == "done"]
    if len(own):
        return own, f"measured on {plural(len(own), 'run')} that {'is' if len(own) == 1 else 'are'} done here"
    path = results_file(sweep.name, scale)
    if path.is_file():
        frame = read_frame(path)
        frame = frame[frame["state"] == "done"]
        if len(frame):
            devices = ", ".join(sorted({*frame["device"].dropna()}))
            return frame, f"measured on {plural(len(frame), 'run')} of {path.name} in ablations/results, {devices}"
    return own, f"no run at scale {scale} is done, here or in ablations/results"


def seconds_left(run: PlannedRun, frame: pd.DataFrame) -> float | None:
    """The median over measured runs of its row, else of all rows; None if none was measured."""
    frame = frame.dropna(subset=["images_per_second", "seconds", "steps"])
    alike = frame[frame["row"] == run.row]
    alike = alike if len(alike) else frame
    if not len(alike):
        return None
    config = run.config
    longer = config.train_steps / alike["steps"] if config.train_steps else config.epochs / alike["epochs"]
    if config.train_images and not config.train_steps:  # 0 = all of a folder, as in the measured runs
        before = alike["train_images"].where(alike["train_images"] > 0, config.train_images)
        longer = longer * config.train_images / before
    training = longer * alike["steps"] * alike["batch_size"] / alike["images_per_second"]
    rest = alike["seconds"] - alike["train_seconds"]
    return float((training * (1 - (0.0 if run.state() == "stale" else run.here.progress())) + rest).median())


def span(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
