"""Benchmarks: implementations agree, times add up, and all of them are in `make bench`."""
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import benchmarks.__main__ as bench
from benchmarks import data_check, evaluation, gpu_step, making, own_data, table1
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.digits import DigitScenes
from fgdlab.lab.sweeps.spec import load_sweep, results_file
from fgdlab.lab.training.evaluate import PYCOCOTOOLS

FOLDER = Path(bench.__file__).parent
TOOLS = {"__init__", "__main__", "gpu_kernels", "gpu_waits", "plain_fgd", "timing"}
ON_GPU, ON_FOLDERS = {"gpu_step"}, {"own_data"}


def test_make_bench_runs_every_benchmark_once_and_each_has_its_own_file():
    named = [each.__name__.rsplit(".", 1)[-1] for each in bench.ALL]
    assert sorted(named) == sorted({path.stem for path in FOLDER.glob("*.py")} - TOOLS - ON_GPU - ON_FOLDERS)
    assert all(callable(each.main) for each in bench.ALL)
    assert {path.stem for path in (FOLDER / "results").glob("*.json")} <= {*named, *ON_GPU, *ON_FOLDERS, "gpu_fgd_loss"}


# ---- evaluation ----

@pytest.mark.parametrize("of", ["bbox", "segm"])
def test_both_packages_give_the_drawn_data_set_the_same_scores(of):
    ground_truth, found = evaluation.coco_sized(12, 20, masks=of == "segm")
    assert len(ground_truth["categories"]) == 80 and max(each["id"] for each in ground_truth["categories"]) > 80
    assert len(found) == 240
    row = evaluation.against_pycocotools("some", ground_truth, found, of, turns=1)
    assert row["ours"] == "faster-coco-eval" and row["baseline"] == "pycocotools"
    assert row["largest_difference"] <= 1e-12 and row["AP"] > 0
    assert row["baseline_over_ours"] > 0 and (row["images"], row["detections"]) == (12, 240)


def test_scores_that_differ_are_refused(monkeypatch):
    real = evaluation.coco_scores
    monkeypatch.setattr(
        evaluation,
        "coco_scores",
        lambda *args, by, **settings: real(*args, by=by, **settings) | ({"AP75": 1.0} if by is PYCOCOTOOLS else {}),
    )
    with pytest.raises(ValueError, match="both packages must give the same scores of some"):
        evaluation.against_pycocotools("some", *evaluation.coco_sized(4, 10), turns=1)


def test_without_the_faster_package_pycocotools_is_timed_against_itself(monkeypatch):
    monkeypatch.setattr(evaluation, "evaluation_here", lambda: PYCOCOTOOLS)
    row = evaluation.against_pycocotools("some", *evaluation.coco_sized(4, 10), turns=1)
    assert (row["ours"], row["baseline"], row["largest_difference"]) == ("pycocotools", "pycocotools, again", 0)


# ---- data_check ----

def test_the_images_of_the_check_are_different_files_that_nothing_is_said_about(tmp_path):
    folder = data_check.make(tmp_path / "images", {"train": 3, "val": 2})
    assert len({path.read_bytes() for path in folder.glob("*/*.jpg")}) == 5
    call = data_check.check(folder, tmp_path / "home")
    assert call["seconds"] > 0 and call["peak_mb"] > 100 and data_check.decode(folder) > 0


# ---- Table 1 on your own data ----

def test_rows_are_compared_with_the_plain_student_seed_by_seed():
    AP = {"none": (10, 20, 30), "split": (11, 22, 33)}
    rows = [{"row": row, "seed": i, "AP": each} for row in AP for i, each in enumerate(AP[row])]
    results = pd.DataFrame(rows).assign(state="done", seconds=60.0)
    results["teacher_AP"] = results["row"].map({"split": 21.0})
    found = own_data.compared(results)
    half = 4.302653 / np.sqrt(3)  # of a t-interval with n = 3 and a standard deviation of 1
    assert found["minus_plain_student"] == {
        "split": {"mean": 2.0, "interval": pytest.approx([2 - half, 2 + half], abs=0.01)}
    }
    assert found["teacher_above_plain_student"] and found["AP"] == {"none": 20, "split": 22} and found["seeds"] == 3
    assert not own_data.compared(results.assign(teacher_AP=20.0))["teacher_above_plain_student"]


def test_the_lines_that_say_what_follows_from_the_boxes_are_kept():
    lines = [
        "bccd: 205 training images, 2805 boxes, 3 classes; evaluation on val", "image_size 224: median box 36 px",
        "anchors 9x9: 99 %", "train_steps 10: 1 pass", "teacher_steps 10: 2 passes", "to do: 15 runs",
        "Table 1: 15 runs in runs/bccd (image size, anchors and steps follow from it)",
    ]
    assert [bool(own_data.CHOSEN.match(each)) for each in lines] == [True] * 5 + [False] * 2


def test_two_rows_with_more_seeds_are_one_line_of_the_table_and_rows_that_were_not_run_are_dashes(tmp_path):
    sweep = load_sweep(own_data.only(["none", "split"], tmp_path))
    assert list(sweep.rows) == ["none", "split"]
    assert sweep.at("photos").seeds == load_sweep(own_data.NAME).at("photos").seeds
    gain = {"split": {"mean": 2.0, "interval": [1.0, 3.0]}}
    found = {"data": "bccd", "seeds": 8, "teacher_AP": 48.0, "AP": {"none": 39.0, "split": 41.0}, "minutes": 41.0}
    lines = own_data.table([{**found, "minus_plain_student": gain, "chosen": ["anchors 9x9: 99.7% of the boxes"]}])
    assert lines.splitlines()[-1] == "| bccd | 99.7 % | 48.0 | 39.0 | – | – | – | +2.0 [+1.0, +3.0] (8) | 41 |"


@pytest.mark.parametrize("rows", ["split", "none", "none,fast"])
def test_rows_without_the_baseline_or_of_unknown_names_are_refused_in_one_line(rows, capsys):
    with pytest.raises(SystemExit):
        own_data.arguments(["bccd", "--rows", rows])
    assert f"got {rows}" in capsys.readouterr().err
    assert own_data.arguments(["bccd", "--rows", "split,none"]).rows == "split,none"


# ---- making ----

@pytest.mark.parametrize("masks", [False, True])
def test_every_turn_makes_new_scenes_and_all_of_them_are_read_back(tmp_path, monkeypatch, masks):
    monkeypatch.setattr(making, "TURNS", 1)
    row = making.against_reading("some", DigitScenes(64, 3, 1, 2, masks=masks), tmp_path)
    assert row["images"] == 6 and row["made_per_second"] > 0 and row["read_per_second"] > 0
    assert sorted(each.name for each in tmp_path.iterdir() if each.is_dir()) == [
        "0",
        "1",
        "2",
    ]  # two turns to warm up, one that counts
    assert all(len(list((tmp_path / name / "images").iterdir())) == 6 for name in "012")


# ---- a step on a GPU, tried on the CPU ----

def test_the_breakdown_of_a_fed_step_adds_up(lab_home, monkeypatch):
    for name, value in {"TURNS": 1, "WARM": 0, "LOADED": 2, "SCENES": 12}.items():
        monkeypatch.setattr(gpu_step, name, value)
    config = RunConfig.of({**gpu_step.QUICK, "device": "cpu", "method": "fgd"})
    first, found = gpu_step.measure(config, "cpu")
    assert {**found, **first} == found and "loader" not in first
    assert list(found["share_of_the_fed_step"]) == ["data", "student", "teacher", "distillation"]
    assert sum(found["share_of_the_fed_step"].values()) == pytest.approx(1, abs=0.003)
    taken = 1000 * config.batch_size / found["ms"]["fgd"]
    for each in found["loader"].values():
        assert each["over_the_fgd_step"] == pytest.approx(each["images_per_second"] / taken, rel=0.02)
    assert set(found["loader"]) == {"shared pixels", "files"} and found["settings"]["workers"] == 1
    assert found["ms"]["fgd, readable"] > 0


def test_scenes_from_files_equal_the_cached_ones_and_are_not_kept(tiny_scenes):
    scenes = tiny_scenes()
    files = gpu_step.FromFiles(scenes.annotations)
    assert all(torch.equal(a, b) for (a, _), (b, _) in zip(scenes, files, strict=True)) and not files._kept
    assert scenes._kept


# ---- table 1 ----

def results(**AP) -> pd.DataFrame:
    return pd.DataFrame(
        [{"row": row, "seed": seed, "AP": value} for row, values in AP.items() for seed, value in enumerate(values)]
    )


def test_a_row_holds_if_the_interval_of_its_difference_contains_0():
    committed = results(none=[5, 6, 7, 8], fg=[15, 16, 17, 18])
    rows = table1.against_committed(results(none=[5.5, 5.5, 7.0], fg=[16, 17.1, 17.9]), committed)
    assert [(each["row"], each["n"], each["difference"], each["holds"]) for each in rows] == [
        ("none", 3, 0.0, True),
        ("fg", 3, 1.0, False),
    ]
    half = 4.302653 * np.std([0.5, -0.5, 0.0], ddof=1) / np.sqrt(3)
    assert rows[0]["interval"] == pytest.approx([-half, half], abs=1e-3)
    assert (rows[1]["AP"], rows[1]["committed_AP"]) == (17.0, 16.0)
    assert all(each["holds"] and each["interval"] == [0, 0] for each in table1.against_committed(committed, committed))
    with pytest.raises(ValueError, match="must have every row and seed of this one, got 4 of 5"):
        table1.against_committed(results(none=[5, 6, 7, 8, 9]), committed)


def test_the_committed_table_has_the_rows_and_seeds_that_are_compared():
    committed = pd.read_csv(results_file(table1.NAME, "laptop"))
    here = committed[committed["seed"].isin(table1.SEEDS)]
    assert len(here) == len(load_sweep(table1.NAME).rows) * len(table1.SEEDS) == 15
    assert {each["difference"] for each in table1.against_committed(here, committed)} == {0}


def test_wall_times_add_up_to_the_whole_and_times_of_runs_to_their_notebooks(tmp_path):
    for number, (begun, done) in enumerate([("00:10", "00:40"), ("00:12", "00:50"), ("00:40", "01:20")]):
        folder = tmp_path / str(number)
        folder.mkdir()
        times = {"start_time": f"1970-01-01T00:{begun}+00:00", "end_time": f"1970-01-01T00:{done}+00:00"}
        (folder / "run.ipynb").write_text(json.dumps({"metadata": {"papermill": times}}))
        (folder / "result.json").write_text(json.dumps({"seconds": 25, "train_seconds": 18, "eval_seconds": 4}))
    seconds = table1.parts(tmp_path, 3.0, 85.0)
    assert seconds["clock"] == {
        "data, teacher and its maps made, first kernels": 7,
        "all runs": 70,
        "table and figure": 5,
    }
    assert list(seconds["runs, summed"].values()) == [54, 12, 9, 33]
    assert sum(seconds["runs, summed"].values()) == 30 + 38 + 40
