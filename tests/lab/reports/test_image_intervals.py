"""A table with intervals over the choice of images has the same numbers as `fgdlab compare`."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.io import write_json
from fgdlab.lab.reports.comparison import compare, resampled_intervals
from fgdlab.lab.reports.comparison_inputs import comparison_of_rows
from fgdlab.lab.reports.sweep_runs import SweepRuns
from fgdlab.lab.stats.intervals import variance_covered
from fgdlab.lab.sweeps.collection import collect, write_results
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import load_sweep
from fgdlab.lab.tables.runs import compared_rows
from fgdlab.lab.training.evaluate import coco_scores

SIZES = {"none": 4.0, "fg": 2.0, "split": 1.0}  # pixels by which a row's boxes are misplaced


@pytest.fixture
def swept(coco_folder, tmp_path, monkeypatch):
    """A sweep of three rows and three seeds, done in runs/mine, on twelve images; detections are misplaced objects."""
    data = coco_folder(
        [(64, 64)] * 12,
        {k: [(6, 8, 14 + k, 24, 3, 0), (34, 30, 22, 20, 7, 0)] for k in range(1, 13)},
        splits={"train": [1], "val": list(range(1, 13))},
    )
    monkeypatch.chdir(tmp_path)
    rows = {
        row: {"label": f"the {row}", "set": {"method": "none"} if row == "none" else {"method": "fgd", "area": row}}
        for row in SIZES
    }
    base = {"data": str(data), "image_size": 0, "train_images": 0, "eval_images": 0}
    mine = {
        "title": "t",
        "question": "q?",
        "baseline": "none",
        "contrasts": [["split", "fg"]],
        "seeds": [0, 1, 2],
        "rows": rows,
        "base": base,
    }
    Path("mine.yaml").write_text(yaml.safe_dump(mine))
    sweep = load_sweep("mine.yaml").at("laptop")
    runs = plan(sweep, Path("runs/mine"))
    for run in runs:
        judged = open_split(run.config, "val", progress=False)
        rng = np.random.default_rng([run.seed, len(run.row)])
        found = [
            {
                "image_id": each["image_id"],
                "category_id": each["category_id"],
                "score": 0.9 - each["id"] / 100,
                "bbox": [*(np.array(each["bbox"][:2]) + rng.normal(0, SIZES[run.row], 2)).tolist(), *each["bbox"][2:]],
            }
            for each in judged.ground_truth()["annotations"]
        ]
        write_json(run.folder / "detections.json", found)
        scores = coco_scores(judged.ground_truth(), found, judged.image_ids)
        run.here.begin(run.config.dict(), {})
        write_json(
            run.folder / "result.json",
            {
                **scores,
                "seconds": 1.0,
                "settings": run.config.dict(),
                "data_hashes": {"eval": judged.content_hash()},
                "data_line": "12 images of val",
            },
        )
    write_results(collect(runs, sweep), Path("runs/mine/results.csv"))
    return sweep


def shown(*words: str):
    return CliRunner().invoke(main, ["table", "mine.yaml", "--resamples", "200", *words])


@pytest.mark.parametrize("noise", ["images", "both"])
def test_an_interval_of_the_table_is_the_one_that_compare_gives(swept, noise):
    intervals = resampled_intervals(SweepRuns.of("mine.yaml"), ("AP", "AR"), noise, 200)
    assert compared_rows(swept) == [("fg", "none"), ("split", "none"), ("split", "fg")]
    assert set(intervals) == {(*pair, metric) for pair in compared_rows(swept) for metric in ("AP", "AR")}
    for (row, against, metric), ends in intervals.items():
        compared = compare(comparison_of_rows(SweepRuns.of("mine.yaml"), row, against), metric, 200)
        interval = compared.intervals[noise]
        assert ends == (interval.low, interval.high) and ends[0] < interval.mean < ends[1]


def test_the_table_says_which_variance_its_intervals_cover_and_keeps_its_differences(swept):
    tables = {noise: shown("--noise", noise, "--format", "markdown") for noise in ("seeds", "images", "both")}
    lines = {}
    for noise, done in tables.items():
        assert done.exit_code == 0, done.stderr
        assert (
            variance_covered(noise, "± and interval cover" if noise == "seeds" else "The interval covers")
            in done.stdout
        )
        lines[noise] = re.search(
            r"^\| the split +\|.* ([+-]\S+) \[(\S+), (\S+)\] \(3\) +\|$", done.stdout, re.MULTILINE
        ).groups()
    assert len({line[0] for line in lines.values()}) == 1 and len({line[1:] for line in lines.values()}) == 3
    assert (
        "resampling images: the split minus the fg, 3 seeds" in tables["both"].stderr
        and tables["seeds"].stderr.count("\n") == 2  # where the runs are, and that they have no code hash
    )


def test_committed_results_have_no_detections_and_say_so(swept):
    gone = next(
        path
        for path in Path("runs/mine").iterdir()
        if path.is_dir() and json.loads((path / "result.json").read_text())["settings"]["area"] == "fg"
    )
    shutil.rmtree(gone)
    done = shown("--noise", "images")
    assert (
        done.exit_code == 1
        and done.stdout == ""
        and "need the detections of all runs, got none of 'the fg', seed " in done.stderr
    )
    assert "run `fgdlab sweep mine`, or take --noise seeds" in done.stderr and shown().exit_code == 0


def test_what_is_published_has_intervals_over_seeds(swept):
    done = shown("--noise", "both", "--publish")
    assert done.exit_code == 1 and done.stdout == "" and "--publish must go with intervals over seeds" in done.stderr


def test_one_seed_has_an_interval_over_images_and_none_over_seeds(swept):
    for run in plan(swept, Path("runs/mine")):
        if run.seed > 0:
            shutil.rmtree(run.folder)
    write_results(collect(plan(swept, Path("runs/mine")), swept), Path("runs/mine/results.csv"))
    words = {noise: shown("--noise", noise, "--format", "markdown").stdout for noise in ("seeds", "images", "both")}
    assert re.search(r"the split .*\[[+-]\S+, [+-]\S+\] \(1\)", words["images"])
    assert all(re.search(r"the split .*\[–\] \(1\)", words[noise]) for noise in ("seeds", "both"))
