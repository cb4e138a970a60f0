"""The results of a sweep as one table, with one row per planned run, done or not."""
import math
from pathlib import Path

import pandas as pd

from ..config import DEFAULTS, METADATA, active_settings
from ..errors import UserError
from ..io import checked_read, write_text
from ..run import RunFolder
from .planning import PlannedRun
from .spec import Sweep, results_file

SCORE_COLUMNS = (
    "AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR", "AR_1", "AR_10", "AR_S", "AR_M", "AR_L", "mask_AP",
)
RESULT_COLUMNS = (
    "teacher_AP", "seconds", "train_seconds", "eval_seconds", "images_per_second", "peak_memory_gb", "parameters",
    "steps",
)
NUMBERS = (*SCORE_COLUMNS, *RESULT_COLUMNS)
UNRECORDED = ("data", "scale", "seed", "teacher_checkpoint", "device")  # settings that other columns stand for
NEEDED = ("row", "seed", "state", "AP", "AR")  # columns without which there is no table


def collect(runs: list[PlannedRun], sweep: Sweep, keep_stale: bool = False) -> pd.DataFrame:
    """One row per planned run: state, scores in 0..100, times, settings, provenance; no path of this machine.

    keep_stale: runs of other code count as done; their code_hash tells them apart. UserError: a damaged result.json.
    """
    return with_numbers(pd.DataFrame([record(run, sweep, keep_stale) for run in runs]))


def with_numbers(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype({name: float for name in NUMBERS if name in frame})


def record(run: PlannedRun, sweep: Sweep, keep_stale: bool) -> dict:
    state = run.state()
    if keep_stale and state == "stale" and run.here.has("result.json"):
        state = "done"
    result = run.here.result() if state == "done" else {}
    settings = {name: value for name, value in run.config.dict().items() if name not in UNRECORDED}
    with checked_read(run.folder / "result.json"):
        origin = result.get("provenance", {})
        return {
            "sweep": sweep.name, "scale": run.config.scale, "row": run.row, "label": sweep.rows[run.row].label,
            "seed": run.seed, "state": state,
            **{name: None if result.get(name) is None else float(result[name]) for name in NUMBERS},
            "data": result.get("data_line"), "device": origin.get("device"), "run_id": run.id, **settings,
            "teacher_weights": (result.get("teacher") or {}).get("weights"),
            **{name: origin.get(name) for name in ("code_hash", "commit", "dirty", "cores", "python")},
            **{name: origin.get("packages", {}).get(name) for name in ("torch", "torchvision")},
            "finished": origin.get("finished"),
        }


def seeds_in(folder: Path) -> set[int]:
    """The seeds of the finished runs in a folder, whatever their settings."""
    finished = (RunFolder(path.parent) for path in folder.glob("*/result.json"))
    return {here.read("job.json")["seed"] for here in finished if here.has("job.json")}


def write_results(frame: pd.DataFrame, path: Path) -> Path:
    write_text(path, frame.to_csv(index=False, float_format="%.6g"))
    return path


def read_results(sweep: Sweep, scale: str, home: Path, committed: bool = True) -> tuple[pd.DataFrame, Path]:
    """The results of a sweep at a scale: the user's own in ``home``, else ``committed`` ones.

    UserError: there are none, a damaged file, or one with runs of another scale.
    """
    paths = [home / "results.csv", *[results_file(sweep.name, scale)] * committed]
    for path in paths:
        if path.is_file():
            return of_one_scale(read_frame(path), scale, path), path
    at = "" if scale == "laptop" else f" at scale {scale}"
    command = f"fgdlab sweep {sweep.name}" + (f" --scale {scale}" if at else "")
    raise UserError(
        f"results of {sweep.name}{at} must be in {' or '.join(map(str, paths))}, got none; run `{command}` first")


def outdated(frame: pd.DataFrame, sweep: Sweep, scale: str) -> str:
    """Why results do not answer a sweep as it is now, "" if they do: provenance that is missing, or a changed setting.

    Data folders and code are not compared; the runs' code hashes are in the results.
    """
    done = frame[frame["state"] == "done"]
    for column in ("code_hash", "device", "finished"):
        if column not in done or done[column].isna().any():
            return f"no {column.replace('_', ' ')} was recorded"
    for _, line in done.iterrows():
        if line["row"] not in sweep.rows:
            return f"the sweep has no row {line['row']!r} now"
        for name, now in active_settings(sweep.settings(line["row"], line["seed"], scale)).deciding().items():
            before = line.get(name, DEFAULTS[name] if METADATA[name]["later"] else None)
            if name not in UNRECORDED and not same_setting(before, now):
                return f"{name} was {before}, is now {now}"
    return ""


def same_setting(recorded, now) -> bool:
    """Is a setting read from a CSV the present one? An empty text is NaN there."""
    try:
        return math.isclose(float(recorded), float(now), rel_tol=1e-5)
    except (TypeError, ValueError):
        return now == "" if pd.isna(recorded) else str(recorded) == str(now)


def of_one_scale(frame: pd.DataFrame, scale: str, what: Path | str) -> pd.DataFrame:
    others = sorted(set(frame["scale"].dropna().astype(str)) - {scale}) if "scale" in frame else []
    if others:
        raise UserError(
            f"{what} must hold runs of scale {scale} alone, got runs of {' and '.join(others)}; say --scale "
            f"{others[0]}, or name another folder")
    return frame


def read_frame(path: Path) -> pd.DataFrame:
    with checked_read(path):
        frame = pd.read_csv(path, dtype={"row": str})
        missing = [name for name in NEEDED if name not in frame]
        if missing:
            raise ValueError(f"no column {', '.join(missing)}")
        return with_numbers(frame).astype({"seed": int})
