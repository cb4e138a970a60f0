"""The overhead of a sweep: seconds per run besides its notebook's, two slots against one, a thousand planned runs.

    python -m benchmarks.runner            about six minutes on two idle cores

Overhead of a run = its share of a whole call of ``execute`` in one slot - the time of its notebook's cells. It includes
the check of data and teacher, and the start of slots, processes and kernels. It is measured on twelve smoke runs, about
as many as the fifteen of `make table1`.
Two slots against one: on four runs of the laptop scale, the usual case; and on the twelve smoke runs of 1.5 seconds
each, where the start of the slots matters most. Data and teacher are made before the clock starts. Each run draws its
figures, as in a sweep.
"""
import json
import os
import tempfile
import time
from concurrent.futures import Executor, Future
from pathlib import Path

from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.sweeps import (
    SCORE_COLUMNS,
    PlannedRun,
    Sweep,
    collect,
    dry_run,
    execute,
    load_sweep,
    plan,
    prepare_shared,
    write_results,
)

PATH = Path("benchmarks/results/runner.json")
BOUNDS = {"overhead_seconds": 3.0, "two_slots_over_one": 1.8, "thousand_seconds": 10.0}
SMOKE_SEEDS, LAPTOP_SEEDS = [0, 1, 2], [0]
ROWS = ("fg", "bg", "both", "split")  # of Table 1: of equal work, so that two slots can share it evenly
MEGABYTES = 20  # of annotations that the ids of a thousand runs hash, as many as COCO's val2017


def sweep_time(runs: list[PlannedRun], slots: int) -> float:
    """Seconds of a whole call of execute, from the check of states to the last result."""
    started = time.perf_counter()
    states = execute(runs, jobs=slots)
    assert len(states["done"]) == len(runs)
    return time.perf_counter() - started


def cell_seconds(run: PlannedRun) -> float:
    """The time of the notebook's cells, as papermill measured it."""
    cells = json.loads((run.folder / "run.ipynb").read_text())["cells"]
    return sum(cell["metadata"].get("papermill", {}).get("duration") or 0.0 for cell in cells)


def one_and_two_slots(folder: Path, sweep: Sweep, scale: str) -> dict:
    """The same runs in one slot, then in two; in separate folders, so that no run is reused."""
    times, own = {}, {}
    for slots in (1, 2):
        runs = [run for run in plan(sweep, folder / f"{scale}_{slots}" / "runs", scale=scale) if run.row in ROWS]
        prepare_shared(runs, print)
        times[slots] = sweep_time(runs, slots)
        own[slots] = [round(cell_seconds(run), 2) for run in runs]
    return {
        "runs": len(own[1]), "one_slot_seconds": round(times[1], 2), "two_slots_seconds": round(times[2], 2),
        "two_slots_over_one": round(times[1] / times[2], 2),
        "notebook_seconds": own[1], "notebook_seconds_in_two_slots": own[2],
        "overhead_seconds": round((times[1] - sum(own[1])) / len(own[1]), 2),
    }


class AtOnce(Executor):
    """An executor without processes: every run is done at once, with the numbers of ``result``."""

    def __init__(self, result: dict):
        self.result = result

    def submit(self, call, /, folder: str, environment: dict[str, str]) -> Future:
        job, future = json.loads(Path(folder, "job.json").read_text()), Future()
        Path(folder, "result.json").write_text(json.dumps({"line": ""} if "module" in job else self.result))
        future.set_result(0)
        return future


def a_thousand(folder: Path, sweep: Sweep) -> dict:
    """A thousand planned runs on a data set with large annotations, 900 of them done: listed, resumed, collected."""
    data = folder / "data"
    data.mkdir(parents=True)
    (data / "annotations.json").write_bytes(b'{"images": []}' + b" " * (MEGABYTES * 2**20))
    rows, settings = list(sweep.rows), {"data": str(data)}
    sweep = Sweep(**{**vars(sweep), "seeds": list(range(1000 // len(rows)))})
    result = {
        **{name: 20.0 for name in SCORE_COLUMNS}, "teacher_AP": 30.0, "seconds": 30.0, "train_seconds": 20.0,
        "eval_seconds": 2.0, "images_per_second": 40.0, "steps": 6,
        "settings": sweep.settings(rows[0], 0, "smoke", settings).dict(), "provenance": provenance(),
        "data_line": "scenes",
    }
    times = {}

    def clock(name: str, call):
        started = time.perf_counter()
        value = call()
        times[name] = round(time.perf_counter() - started, 2)
        return value

    runs = clock("plan_seconds", lambda: plan(sweep, folder / "runs" / "many", scale="smoke", overrides=settings))
    for run in runs[:900]:
        run.folder.mkdir(parents=True)
        for name, value in {"params.json": run.config.dict(), "job.json": {}, "result.json": result}.items():
            (run.folder / name).write_text(json.dumps(value))
    lines = clock("list_seconds", lambda: dry_run(runs, sweep, "smoke", 2))
    executor = AtOnce(result)
    states = clock(
        "resume_seconds", lambda: execute(runs, jobs=2, executor=executor, elsewhere=True, say=lambda line: None),
    )
    frame = clock("collect_seconds", lambda: collect(runs, sweep))
    clock("write_seconds", lambda: write_results(frame, folder / "runs" / "many" / "results.csv"))
    assert len(runs) == len(lines) - 1 == len(states["done"]) == len(frame) == 1000
    times["thousand_seconds"] = round(sum(times.values()), 2)
    return {"runs": len(runs), "done_before": 900, "annotation_megabytes": MEGABYTES, **times}


def main() -> None:
    table, load = load_sweep("table1_areas"), os.getloadavg()[0]
    smoke, laptop = table.at("smoke", SMOKE_SEEDS), table.at("laptop", LAPTOP_SEEDS)
    with tempfile.TemporaryDirectory() as folder:
        many = a_thousand(Path(folder) / "many", smoke)
        slots = {
            scale: one_and_two_slots(Path(folder), sweep, scale)
            for scale, sweep in (("smoke", smoke), ("laptop", laptop))
        }
    measured = {
        "overhead_seconds": slots["smoke"]["overhead_seconds"], **many,
        "two_slots_over_one": slots["laptop"]["two_slots_over_one"],
    }
    kept = {}
    for name, bound in BOUNDS.items():
        value = measured[name]
        kept[name] = value >= bound if name == "two_slots_over_one" else value <= bound
        print(f"{name:20} {value:6.2f}   bound {bound:g}   {'kept' if kept[name] else 'NOT KEPT'}")
    print(f"two slots over one on smoke runs: {slots['smoke']['two_slots_over_one']:.2f}")
    write_json(PATH, {
        "what": "the runner: overhead of a smoke run over its notebook's cells, two slots over one on laptop runs, "
                "a thousand planned runs listed, resumed and collected",
        "bounds": BOUNDS, "kept": kept, "slots": slots, "thousand": many, "load_before": round(load, 2),
        "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
