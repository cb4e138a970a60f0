"""Table 1 on data of your own, by one line: how long it takes, what is chosen, and whether the teacher is better.

    python -m benchmarks.own_data DIR...            about half an hour of both cores per folder
    python -m benchmarks.own_data DIR --seeds 0,1,2,3,4,5,6,7 --rows none,split     two rows, more seeds

For each folder `fgdlab sweep table1_areas --set data=DIR` runs in a process of its own, with an empty cache and an
empty folder of runs. Its first lines, which say what follows from the boxes, are kept as they are. Rows are compared
with the plain student, paired by seed, with a t-interval. Results of a folder replace earlier ones of the same name
and number of seeds, and the table in ablations/README.md is written anew.
"""
import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
import yaml
from tqdm import tqdm

from fgdlab.lab.io import load_yaml, write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.reports.publishing import publish_table
from fgdlab.lab.stats import paired_difference
from fgdlab.lab.sweeps import ablations_folder, load_sweep
from fgdlab.lab.tables import DASH, difference_text
from fgdlab.lab.tables.caption import LEAST_LEAD

PATH = Path("benchmarks/results/own_data.json")
NAME, BOUND = "table1_areas", 30.0  # minutes on two cores, for 700 images
CHOSEN = re.compile(r"\S+: \d+ training images, .*; evaluation on|image_size \d|anchors \d|(train|teacher)_steps \d")


def only(rows: list[str], folder: Path) -> str:
    """The path of a YAML file in ``folder`` with only these rows of the sweep."""
    sweep = load_yaml((ablations_folder() / "sweeps" / f"{NAME}.yaml").read_text(encoding="utf-8"))
    sweep["rows"] = {row: sweep["rows"][row] for row in rows}
    sweep["contrasts"] = [each for each in sweep["contrasts"] if set(each) <= set(rows)]
    sweep["scales"] = {scale: sweep["scales"][scale] for scale in ("smoke", "photos")}
    for each in sweep["scales"].values():
        each["rows"] = {row: value for row, value in each.get("rows", {}).items() if row in rows}
    path = folder / f"{NAME}.yaml"
    path.write_text(yaml.safe_dump(sweep))
    return str(path)


def measure(data: Path, out: Path, seeds: str = "", rows: str = "") -> dict:
    """Run the line in the empty folder ``out``; minutes, first lines, and the table's rows."""
    load = os.getloadavg()[0]
    options = ["--seeds", seeds] if seeds else []
    with tempfile.TemporaryDirectory() as home:
        name = only(rows.split(","), Path(home)) if rows else NAME
        command = [sys.executable, "-m", "fgdlab", "sweep", name, "--set", f"data={data}", "--out", str(out), *options]
        started, lines, environment = time.perf_counter(), [], {**os.environ, "FGDLAB_HOME": home}
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
            for line in process.stdout:
                print(line, end="", flush=True)
                lines.append(line.rstrip())
        if process.returncode:
            raise RuntimeError(f"the sweep must end with exit status 0, got {process.returncode}; see its output above")
        minutes, results = (time.perf_counter() - started) / 60, pd.read_csv(out / "results.csv")
    return {
        "data": data.name, "command": " ".join(["fgdlab sweep", NAME, "--set", f"data={data.name}", *options]),
        **({"rows": rows.split(",")} if rows else {}), "minutes": round(minutes, 1),
        **({} if seeds or rows else {"bound_minutes": BOUND, "kept": minutes <= BOUND}),
        "chosen": [line for line in lines if CHOSEN.match(line)],
        **compared(results), "load_before": round(load, 2), "machine": provenance(),
    }


def compared(results: pd.DataFrame) -> dict:
    """The teacher's AP, the plain student's, and each row minus the plain student, paired by seed."""
    baseline = load_sweep(NAME).baseline
    AP = results.pivot(index="seed", columns="row", values="AP")[list(dict.fromkeys(results["row"]))]
    teacher = float(results["teacher_AP"].dropna().mean())
    differences = {}
    for row in AP.columns.drop(baseline):
        found = paired_difference(results, row, baseline, "AP")
        differences[row] = {"mean": round(found.mean, 4), "interval": [round(found.low, 4), round(found.high, 4)]}
    return {
        "seeds": len(AP), "teacher_AP": round(teacher, 4), "AP": AP.mean().round(4).to_dict(),
        "teacher_above_plain_student": bool(teacher >= AP[baseline].mean() + LEAST_LEAD),
        "minus_plain_student": differences,
        "median_seconds_per_run": round(float(results["seconds"].median()), 1),
    }


def table(folders: list[dict]) -> str:
    """A markdown table, one row per folder and number of seeds."""
    sweep = load_sweep(NAME)
    rows = [row for row in sweep.rows if row != sweep.baseline]
    labels = [f"{sweep.rows[row].label}, ΔAP" for row in rows]
    head = ["data", "boxes that meet an anchor", "teacher, AP", "no distillation, AP", *labels, "minutes"]
    lines = [head, [":--", *["--:"] * (len(head) - 1)]]
    for each in folders:
        met = re.search(r"([\d.]+)% of the boxes", " ".join(each["chosen"]))[1]
        found = each["minus_plain_student"]
        lines.append([
            each["data"], f"{met} %", f"{each['teacher_AP']:.1f}", f"{each['AP'][sweep.baseline]:.1f}",
            *(
                difference_text(found[row]["mean"], *found[row]["interval"], each["seeds"]) if row in found else DASH
                for row in rows
            ),
            f"{each['minutes']:.0f}",
        ])
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def named(found: dict) -> tuple[str, int]:
    return found["data"], found["seeds"]


def main(folders: list[Path], out: Path, seeds: str = "", rows: str = "") -> None:
    if any(map(Path.exists, of := [out / data.name for data in folders])):
        raise SystemExit(f"--out must have no results of these folders yet, got {out}; give another one")
    for data, runs in zip(tqdm(folders, "folders", unit="folder"), of, strict=True):
        found = measure(data, runs, seeds, rows)
        known = json.loads(PATH.read_text())["folders"] if PATH.exists() else []
        every = [*(each for each in known if named(each) != named(found)), found]
        every.sort(key=named)
        write_json(PATH, {"what": "Table 1 on folders of photographs, with an empty cache", "folders": every})
        publish_table("own_data", table(every))
        print(f"{data.name}: {found['minutes']} minutes; written to {PATH}")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, metavar="DIR", help="a folder that `fgdlab data check` reads")
    parser.add_argument("--out", type=Path, default=Path("runs/own_data"), help="new folder of the runs; %(default)s")
    parser.add_argument("--seeds", default="", metavar="0,1,2", help="seeds instead of the YAML's")
    parser.add_argument("--rows", default="", metavar="none,split", help="only these rows, none among them")
    given, sweep = parser.parse_args(words), load_sweep(NAME)
    if given.rows and not {sweep.baseline} < set(given.rows.split(",")) <= {*sweep.rows}:
        parser.error(
            f"--rows must be {sweep.baseline} and others of {', '.join(sweep.rows)}, with commas, got {given.rows}")
    return given


if __name__ == "__main__":
    given = arguments()
    main(given.folders, given.out, given.seeds, given.rows)
