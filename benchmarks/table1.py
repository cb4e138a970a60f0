"""Table 1 as a whole: the time of `make table1` with an empty cache, and whether its numbers still hold.

    python -m benchmarks.table1                     eight to ten minutes of both cores
    python -m benchmarks.table1 --scale smoke       a trial of the script in a minute; writes nothing

The command line runs in a process of its own, with an empty cache and an empty folder of runs: it draws scenes, decodes
them, evaluates the shipped teacher and caches its maps. Times before the first run, of all runs, and after the last run
are wall time; times of parts of runs are summed over the slots. Each row's AP is compared with the committed one of the
same seeds: their difference, paired by seed, with its t-interval. Seeds fix the numbers on one machine, but not across
machines and versions. A row holds if the interval of its difference contains 0.
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from datetime import datetime
from pathlib import Path

import pandas as pd

from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.stats import mean_std, t_interval
from fgdlab.lab.sweeps import load_sweep, results_file

PATH = Path("benchmarks/results/table1.json")
NAME, SEEDS, BOUND = "table1_areas", (0, 1, 2), 600.0  # seconds on two cores


def sweep(folder: Path, scale: str) -> tuple[float, float]:
    """Run the command with an empty cache; when it started and when it ended, in seconds since 1970."""
    options = ["--scale", scale, "--seeds", ",".join(map(str, SEEDS)), "--out", str(folder / "runs" / NAME)]
    command = [sys.executable, "-m", "fgdlab", "sweep", NAME, *options]
    started = time.time()
    subprocess.run(command, check=True, env={**os.environ, "FGDLAB_HOME": str(folder / "home")})
    return started, time.time()


def parts(runs: Path, started: float, ended: float) -> dict[str, dict[str, float]]:
    """Wall time in seconds, and seconds of runs summed over their slots."""
    notebooks = [json.loads(path.read_text())["metadata"]["papermill"] for path in sorted(runs.glob("*/run.ipynb"))]
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]
    begun, done = (
        [datetime.fromisoformat(notebook[name]).timestamp() for notebook in notebooks]
        for name in ("start_time", "end_time")
    )
    of_notebooks = sum(b - a for a, b in zip(begun, done, strict=True))
    of_runs, training, evaluation = (
        sum(result[name] for result in results) for name in ("seconds", "train_seconds", "eval_seconds")
    )
    return {
        "clock": {
            "data, teacher and its maps made, first kernels": min(begun) - started,
            "all runs": max(done) - min(begun),
            "table and figure": ended - max(done),
        },
        "runs, summed": {
            "training": training, "detections and scores": evaluation,
            "opened and written": of_runs - training - evaluation,
            "kernel, imports and figures": of_notebooks - of_runs,
        },
    }


def against_committed(here: pd.DataFrame, committed: pd.DataFrame) -> list[dict]:
    """Mean AP of each row in both tables, over the seeds of ``here``, and their paired difference with its interval."""
    pairs = here.merge(committed, on=["row", "seed"], suffixes=("", "_committed"), validate="one_to_one")
    if len(pairs) != len(here):
        raise ValueError(
            f"the committed table must have every row and seed of this one, got {len(pairs)} of {len(here)}; "
            "run other seeds"
        )
    rows = []
    for row, group in pairs.groupby("row", sort=False):
        difference = group["AP"] - group["AP_committed"]
        low, high = t_interval(difference)
        rows.append({
            "row": row, "AP": round(group["AP"].mean(), 3), "committed_AP": round(group["AP_committed"].mean(), 3),
            "n": len(group), "difference": round(mean_std(difference)[0], 3),
            "interval": [round(low, 3), round(high, 3)], "holds": bool(low <= 0 <= high),
        })
    return rows


def main(scale: str = "laptop") -> None:
    load, table = os.getloadavg()[0], load_sweep(NAME)
    with tempfile.TemporaryDirectory() as folder:
        started, ended = sweep(Path(folder), scale)
        runs = Path(folder) / "runs" / NAME
        here, seconds = pd.read_csv(runs / "results.csv"), parts(runs, started, ended)
    whole = ended - started
    for kind, each in seconds.items():
        for name, value in each.items():
            print(f"{kind:12}  {name:46} {value:7.1f} s")
    print(f"{len(here)} runs of {table.title}: {whole:.0f} s, bound {BOUND:g} s")
    if scale != "laptop":
        print(f"a trial at scale {scale}: nothing is compared, nothing is written")
        return
    rows = against_committed(here, pd.read_csv(results_file(NAME, scale)))
    for row in rows:
        low, high = row["interval"]
        print(
            f"{row['row']:6} AP {row['AP']:6.2f}  committed {row['committed_AP']:6.2f}  "
            f"difference {row['difference']:+.2f} in [{low:+.2f}, {high:+.2f}]"
        )
    seeds = ",".join(map(str, SEEDS))
    rounded = {kind: {name: round(value, 1) for name, value in each.items()} for kind, each in seconds.items()}
    write_json(PATH, {
        "what": f"fgdlab sweep {NAME} --seeds {seeds}, cold cache, shipped teacher: {len(here)} runs",
        "seconds": round(whole, 1), "bound_seconds": BOUND, "kept": whole <= BOUND, "parts": rounded, "rows": rows,
        "all_rows_hold": all(row["holds"] for row in rows), "load_before": round(load, 2), "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    scales = ("laptop", "smoke")
    parser.add_argument("--scale", default="laptop", choices=scales, help="smoke is a trial and writes nothing")
    main(parser.parse_args().scale)
