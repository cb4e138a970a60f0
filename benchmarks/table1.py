"""Table 1 as a whole: what `make table1` takes on a machine that has nothing in its cache but the shipped teacher, and whether its numbers still hold.

    python -m benchmarks.table1                     four to five minutes of both cores
    python -m benchmarks.table1 --scale smoke       rehearses the script in a minute; writes nothing

The command line runs in a process of its own, with an empty cache and an empty folder of runs: scenes are made, decoded, the teacher judged, its maps
kept. Seconds before the first run, of all runs, and after the last are of the clock; what runs do is summed over the slots they share. Every row's AP
stands beside the committed one of the same seeds, as a difference paired by seed with its t-interval. Seeds fix the numbers on one machine, but not across
machines and versions; a row holds where the interval of its difference has 0 in it.
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
NAME, SEEDS, BOUND = "table1_areas", (0, 1, 2), 300.0                # seconds on two cores


def sweep(folder: Path, scale: str) -> tuple[float, float]:
    """The command, in a cold cache; when it started and when it ended, in seconds since 1970."""
    command = [sys.executable, "-m", "fgdlab", "sweep", NAME, "--scale", scale, "--seeds", ",".join(map(str, SEEDS)), "--out", str(folder / "runs" / NAME)]
    started = time.time()
    subprocess.run(command, check=True, env={**os.environ, "FGDLAB_HOME": str(folder / "home")})
    return started, time.time()


def parts(runs: Path, started: float, ended: float) -> dict[str, dict[str, float]]:
    """Seconds of the clock, and seconds of runs summed over their slots."""
    notebooks = [json.loads(path.read_text())["metadata"]["papermill"] for path in sorted(runs.glob("*/run.ipynb"))]
    results = [json.loads(path.read_text()) for path in sorted(runs.glob("*/result.json"))]
    begun, done = (at(notebooks, name) for name in ("start_time", "end_time"))
    whole, inside = sum(b - a for a, b in zip(begun, done, strict=True)), sum(each["seconds"] for each in results)
    training, judging = (sum(each[name] for each in results) for name in ("train_seconds", "eval_seconds"))
    return {
        "clock": {"data, teacher and its maps made, first kernels": min(begun) - started, "all runs": max(done) - min(begun), "table and figure": ended - max(done)},
        "runs, summed": {"training": training, "detections and scores": judging, "opened and written": inside - training - judging, "kernel, imports and figures": whole - inside},
    }


def at(notebooks: list[dict], name: str) -> list[float]:
    """papermill's times, UTC, in seconds since 1970."""
    return [datetime.fromisoformat(each[name]).timestamp() for each in notebooks]


def beside(here: pd.DataFrame, committed: pd.DataFrame) -> list[dict]:
    """Each row's mean AP in both tables, over the seeds of ``here``; their difference, paired by seed, with its interval."""
    pairs = here.merge(committed, on=["row", "seed"], suffixes=("", "_committed"), validate="one_to_one")
    if len(pairs) != len(here):
        raise ValueError(f"the committed table must have every row and seed of this one, got {len(pairs)} of {len(here)}; run other seeds")
    rows = []
    for row, group in pairs.groupby("row", sort=False):
        apart = group["AP"] - group["AP_committed"]
        low, high = t_interval(apart)
        rows.append({
            "row": row, "AP": round(group["AP"].mean(), 3), "committed_AP": round(group["AP_committed"].mean(), 3), "n": len(group), "difference": round(mean_std(apart)[0], 3),
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
        print(f"a rehearsal at scale {scale}: nothing is compared, nothing is written")
        return
    rows = beside(here, pd.read_csv(results_file(NAME, scale)))
    for each in rows:
        print(f"{each['row']:6} AP {each['AP']:6.2f}  committed {each['committed_AP']:6.2f}  difference {each['difference']:+.2f} in [{each['interval'][0]:+.2f}, {each['interval'][1]:+.2f}]")
    write_json(PATH, {
        "what": f"fgdlab sweep {NAME} --seeds {','.join(map(str, SEEDS))}, cold cache, shipped teacher: {len(here)} runs", "seconds": round(whole, 1), "bound_seconds": BOUND,
        "kept": whole <= BOUND, "parts": {kind: {name: round(value, 1) for name, value in each.items()} for kind, each in seconds.items()}, "rows": rows,
        "all_rows_hold": all(each["holds"] for each in rows), "load_before": round(load, 2), "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scale", default="laptop", choices=("laptop", "smoke"), help="smoke rehearses and writes nothing")
    main(parser.parse_args().scale)
