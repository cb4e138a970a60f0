"""Two detectors side by side: inputs, mistakes in one line, notes on each variance source."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.io import write_json
from fgdlab.lab.reports.comparison import compare, comparison_figure, comparison_text
from fgdlab.lab.reports.comparison_inputs import comparison_of_files, comparison_of_rows
from fgdlab.lab.reports.sweep_runs import SweepRuns
from fgdlab.lab.sweeps.collection import collect, write_results
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import load_sweep
from fgdlab.lab.training.evaluate import coco_scores
from tests.helpers.coco_cases import drawn, worse


@pytest.fixture
def files(tmp_path, monkeypatch):
    """truth.json, a.json and a worse b.json in the current folder: (truth, found_a, found_b)."""
    monkeypatch.chdir(tmp_path)
    truth, found, _ = drawn(3, images=20)
    write_json(Path("truth.json"), truth)
    write_json(Path("a.json"), found)
    write_json(Path("b.json"), worse(found))
    return truth, found, worse(found)


def of_files(a="a.json", b="b.json", truth="truth.json"):
    return comparison_of_files([Path(a)], [Path(b)], Path(truth))


# --- inputs -----------------------------------------------------------------------------------------------------------


def test_files_of_detections_are_evaluated_on_the_file_of_ground_truth(files):
    truth, detections_a, detections_b = files
    result = compare(of_files(), resamples=100)
    assert [*result.scores[:, 0]] == pytest.approx(
        [coco_scores(truth, each)["AP"] for each in (detections_a, detections_b)], rel=1e-12
    )
    assert (
        result.intervals["images"].mean == pytest.approx(result.differences[0])
        and result.intervals["images"].low < result.intervals["images"].mean < result.intervals["images"].high
    )
    assert np.isnan(result.intervals["seeds"].low) and np.isnan(result.intervals["both"].low)


def test_a_truth_without_area_and_iscrowd_is_filled_in(files):
    truth, detections_a, _ = files
    ordinary = [each for each in truth["annotations"] if not each["iscrowd"]]
    write_json(
        Path("truth.json"),
        {
            **truth,
            "annotations": [{key: each[key] for key in ("id", "image_id", "category_id", "bbox")} for each in ordinary],
        },
    )
    assert compare(of_files(), resamples=100).scores[0, 0] == pytest.approx(
        coco_scores({**truth, "annotations": ordinary}, detections_a)["AP"], rel=1e-12
    )


def test_runs_are_paired_by_seed_whatever_their_order(runs):
    a, b = [runs(f"a{seed}", seed, 1.0) for seed in (2, 0, 1)], [runs(f"b{seed}", seed, 3.0) for seed in (0, 1, 2)]
    inputs = comparison_of_files(a, b)
    assert list(inputs.pairs) == ["seed 0", "seed 1", "seed 2"] and inputs.data == "6 images of val"
    assert inputs.pairs["seed 1"] == tuple(json.loads(Path(f"{side}1/detections.json").read_text()) for side in "ab")
    result = compare(inputs, resamples=100)
    images, seeds, both = result.intervals.values()
    assert seeds.low < seeds.mean < seeds.high and both.std > max(images.std, seeds.std / 3**0.5)
    text = comparison_text(result)
    for words in ("seed 2", "mean", "paired t-interval, 3 seeds", "of 6 images", "The interval over both covers"):
        assert words in text
    assert max(map(len, text.splitlines())) <= 110


def test_rows_of_a_sweep_are_compared_over_the_seeds_that_both_have_done(runs):
    rows = {"none": {"label": "no distillation"}, "fg": {"label": "foreground", "set": {"method": "fgd", "area": "fg"}}}
    base = {"data": str(runs.data), "image_size": 0, "train_images": 0, "eval_images": 0}
    Path("mine.yaml").write_text(
        yaml.safe_dump(
            {"title": "t", "question": "q?", "baseline": "none", "seeds": [0, 1, 2], "rows": rows, "base": base}
        )
    )
    sweep = load_sweep("mine.yaml").at("laptop")
    for planned in plan(sweep, Path("runs/mine")):
        if (planned.row, planned.seed) != ("fg", 1):
            runs(planned.folder, planned.seed, 3.0 if planned.row == "none" else 1.0, planned.config)
    planned = plan(sweep, Path("runs/mine"))
    write_results(collect(planned, sweep, keep_stale=True), Path("runs/mine/results.csv"))
    inputs = comparison_of_rows(SweepRuns.of("mine.yaml"), "fg", "none")
    assert list(inputs.pairs) == ["seed 0", "seed 2"] and inputs.names == (
        "foreground",
        "no distillation",
    )
    shown = CliRunner().invoke(main, ["compare", "fg", "none", "--sweep", "mine.yaml", "--resamples", "100"])
    assert shown.exit_code == 0 and "A = foreground, B = no distillation" in shown.stdout and "2 seeds" in shown.stdout


def test_two_runs_of_different_seeds_are_compared_with_a_word_about_it(runs):
    assert "different seeds, 0 and 1" in comparison_of_files([runs("a", 0)], [runs("b", 1)]).notes[0]


def test_images_without_any_detection_are_counted_in_a_note(files):
    _, detections_a, detections_b = files
    for name, found in (("a.json", detections_a), ("b.json", detections_b)):
        write_json(Path(name), [each for each in found if each["image_id"] > 8])
    assert "4 of 20 images have no detection of either side" in of_files().notes[0]


def test_a_detector_without_any_detection_has_ap_0(files):
    write_json(Path("a.json"), [])
    result = compare(of_files(), resamples=100)
    assert result.scores[0] == [0] and result.scores[1] > 0 and result.intervals["images"].mean == -result.scores[1]


# --- mistakes ---------------------------------------------------------------------------------------------------------


def spoil(name, edit):
    def do():
        found = json.loads(Path(name).read_text())
        edit(found)
        Path(name).write_text(json.dumps(found))

    return do


MISTAKES = {
    "no such file": (None, ["nowhere.json", "b.json", "--truth", "truth.json"], ("nowhere.json", "No such file")),
    "no truth": (None, ["a.json", "b.json"], ("a.json must come with its ground truth", "--truth ANNOTATIONS.json")),
    "not JSON": (
        lambda: Path("a.json").write_text("[{"),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("a.json must be whole JSON",),
    ),
    "an object": (
        lambda: Path("a.json").write_text("{}"),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("a.json must hold a list of detections", "got {}"),
    ),
    "a key missing": (
        spoil("a.json", lambda found: found[3].pop("score")),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("detection 4 must have a finite 'score', got None", "detections.json"),
    ),
    "a label of words": (
        spoil("a.json", lambda found: found[0].update(category_id="cat")),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("detection 1 must have a 'category_id' among [1, 4, 7]", "'cat'"),
    ),
    "three numbers": (
        spoil("a.json", lambda found: found[0].update(bbox=[1, 2, 3])),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("x, y, width, height", "[1, 2, 3]"),
    ),
    "a negative width": (
        spoil("a.json", lambda found: found[0].update(bbox=[1, 2, -3, 4])),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("x, y, width, height", "-3"),
    ),
    "a score of NaN": (
        spoil("a.json", lambda found: found[0].update(score=float("nan"))),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("finite 'score'", "nan"),
    ),
    "another image": (
        spoil("b.json", lambda found: found[0].update(image_id=999)),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("'image_id' of one of the 20 images", "999", "ids of the ground truth"),
    ),
    "another category": (
        spoil("b.json", lambda found: found[0].update(category_id=2)),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("'category_id' among [1, 4, 7], got 2", "ids of the ground truth"),
    ),
    "a truth without objects": (
        spoil("truth.json", lambda truth: truth.update(annotations=[])),
        ["a.json", "b.json", "--truth", "truth.json"],
        ("truth.json must hold images and annotations",),
    ),
    "an unknown metric": (
        None,
        ["a.json", "b.json", "--truth", "truth.json", "--metric", "mAP"],
        ("unknown metric 'mAP'", "did you mean 'AP'"),
    ),
    "a strange figure": (
        None,
        ["a.json", "b.json", "--truth", "truth.json", "--figure", "a.pdf"],
        ("--figure must end in .png or .svg", "a.pdf"),
    ),
    "an unequal number": (None, ["a.json,a.json", "b.json", "--truth", "truth.json"], ("as many runs, got 2 and 1",)),
    "truth beside a sweep": (
        None,
        ["fg", "none", "--truth", "truth.json", "--sweep", "table1_areas"],
        ("--truth must go with files",),
    ),
    "an unknown row": (None, ["fgg", "none", "--sweep", "table1_areas"], ("unknown row 'fgg'", "did you mean 'fg'")),
    "no run is done": (
        None,
        ["fg", "none", "--sweep", "table1_areas"],
        ("must hold finished runs of 'fg' and 'none'", "fgdlab sweep table1_areas"),
    ),
    "an empty folder": (
        lambda: Path("empty").mkdir(),
        ["empty", "empty"],
        ("empty must be the folder of a finished run, with result.json and detections.json", "run it first"),
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_clear_line(files, mistake):
    spoiled, arguments, words = MISTAKES[mistake]
    if spoiled:
        spoiled()
    done = CliRunner().invoke(main, ["compare", *arguments])
    assert done.exit_code == 1 and "Traceback" not in done.output, repr(done.exception)
    (said,) = done.stderr.strip().splitlines()
    assert said.startswith("Error: ") and [each for each in words if each not in said] == [], said


def test_files_whose_detections_share_no_image_are_refused(files, refusal):
    _, detections_a, detections_b = files
    write_json(Path("a.json"), [each for each in detections_a if each["image_id"] < 12])
    write_json(Path("b.json"), [each for each in detections_b if each["image_id"] >= 12])
    assert "of the same images, got 7 and 13 images and none in both" in refusal(of_files)


def test_runs_on_different_images_are_refused(runs, refusal):
    text = refusal(comparison_of_files, [runs("a")], [runs("b", split="half")])
    assert "6 images of val" in text and "3 images of half" in text


def test_runs_of_different_seeds_make_no_pairs(runs, refusal):
    a, b = [runs("a0", 0), runs("a1", 1)], [runs("b0", 0), runs("b2", 2)]
    assert "got seeds [0, 1] and [0, 2]" in refusal(comparison_of_files, a, b)


def test_runs_whose_data_have_changed_since_are_refused(runs, refusal):
    a, b = runs("a"), runs("b")
    file = runs.data / "annotations.json"
    document = json.loads(file.read_text())
    document["annotations"][0]["bbox"][0] += 1
    file.write_text(json.dumps(document))
    text = refusal(comparison_of_files, [a], [b])
    assert "must hold the images and labels that a was evaluated on, got others" in text


def test_a_size_without_objects_is_refused(runs, refusal):
    assert "AP_L needs objects of its size" in refusal(compare, comparison_of_files([runs("a")], [runs("b")]), "AP_L")


# --- the figure -------------------------------------------------------------------------------------------------------


def test_the_figure_shows_every_resample_every_seed_and_three_intervals(runs):
    inputs = comparison_of_files(
        [runs(f"a{seed}", seed, 1.0) for seed in (0, 1)], [runs(f"b{seed}", seed, 3.0) for seed in (0, 1)]
    )
    result = compare(inputs, resamples=200)
    figure = comparison_figure(result)
    top, lanes = figure.axes
    assert sum(patch.get_height() for patch in top.patches) == 200
    lines = {line.get_gid(): line for line in lanes.lines if line.get_gid()}
    assert lines["points"].get_xdata() == pytest.approx(result.differences)
    for source in ("images", "seeds", "both"):
        interval = result.intervals[source]
        assert lines[f"interval-{source}"].get_xdata() == pytest.approx([interval.low, interval.high])
    words = " ".join(" ".join(text.get_text() for text in figure.texts).split())
    assert "Images: covers the variance from the choice of validation images" in words and "Both: covers" in words


def test_a_single_pair_is_drawn_without_intervals_over_seeds(files):
    done = CliRunner().invoke(
        main, ["compare", "a.json", "b.json", "--truth", "truth.json", "--figure", "here/c.svg", "--resamples", "100"]
    )
    assert done.exit_code == 0 and Path("here/c.svg").is_file() and "needs several seeds" in done.stdout
    figure = comparison_figure(compare(of_files(), resamples=100))
    assert [line.get_gid() for line in figure.axes[1].lines if "interval" in str(line.get_gid())] == ["interval-images"]
