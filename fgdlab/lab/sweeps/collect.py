"""What the runs of a sweep gave, as one table: a line for every planned run, done or not.

    run folders --collect--> DataFrame --write_results--> results.csv --read_results--> tables
"""
import json
from pathlib import Path

import pandas as pd

from ..disk import write_text
from ..errors import UserError
from .file import Sweep, ablations_folder
from .plan import PlannedRun, runs_folder
from .states import state_of

SCORE_COLUMNS = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR", "AR_1", "AR_10", "AR_S", "AR_M", "AR_L")
RESULT_COLUMNS = ("teacher_AP", "seconds", "train_seconds", "eval_seconds", "images_per_second", "peak_memory_gb", "parameters", "steps")


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
