"""Stored detections get the scores that pycocotools computes from the folder's own files.

This covers labels, splits and category ids.
"""
import json

import pytest
from click.testing import CliRunner

from fgdlab.lab.commands.cli import main
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.training.evaluate import PYCOCOTOOLS
from tests.robustness.compare_scores import SAME, SCORES, compare, differences


@pytest.fixture
def gaps(coco_folder):
    """Eight images with two to four objects of categories 90, 4 and 27, in this order in the file; 61 has none, one
    object is a crowd."""
    boxes = {
        n: [
            (4 + 9 * k, 6 + n, 8 + 12 * (k % 2), 10 + 2 * n, (90, 4, 27)[(n + k) % 3], int((n, k) == (3, 1)))
            for k in range(2 + n % 3)
        ] for n in range(1, 9)
    }
    return coco_folder(
        [(80, 60)] * 8, boxes, categories=(90, 4, 61, 27), splits={"train": [1, 2], "val": [8, 3, 4, 5, 6, 7]},
    )


@pytest.mark.parametrize("by", [None, PYCOCOTOOLS], ids=["the package that is here", "pycocotools"])
def test_category_ids_with_gaps_give_pycocotools_own_numbers(gaps, by):
    mine, theirs, count = compare(gaps, "val", by=by)
    assert (
        count > 30 and set(theirs) == {*SCORES, "class 4", "class 27", "class 61", "class 90"}
        and max(differences(mine, theirs).values()) <= SAME
    )
    assert (
        5 < theirs["AP"] < 95 and len({round(theirs[f"class {number}"], 3) for number in (4, 27, 90)}) == 3
        and theirs["class 61"] != theirs["class 61"]
    )


def test_boxes_of_shrunk_images_are_scaled_back(gaps):
    mine, theirs, _ = compare(gaps, "val", long_side=33)
    assert max(differences(mine, theirs).values()) <= SAME


def test_a_runs_stored_detections_give_the_scores_of_the_run(gaps, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FGDLAB_HOME", "home")
    words = [
        "run", "--data", str(gaps), "--image-size", "0", "--train-images", "0", "--eval-images", "0", "--epochs", "1",
        "--batch-size", "2", "--out", "mine", "--lr", "0.3", "--clip", "0",
    ]
    assert CliRunner().invoke(main, words).exit_code == 0
    result = json.loads((tmp_path / "mine/result.json").read_text())
    stored = tmp_path / "mine/detections.json"
    mine, theirs, count = compare(gaps, "val", stored)
    assert count > 50 and max(differences(mine, theirs).values()) <= SAME
    of_run = {**{name: result[name] for name in SCORES}, **result["AP_per_class"]}
    assert max(
        differences({name: float("nan") if value is None else value for name, value in of_run.items()}, theirs).values()
    ) <= SAME


@pytest.mark.parametrize("spoilt", ["labels", "names", "crowds"])
def test_a_mistake_in_labels_names_or_crowds_is_found(gaps, monkeypatch, spoilt):
    def wrong_ground_truth(dataset, ground_truth=DetectionDataset.ground_truth):
        found = ground_truth(dataset)
        if spoilt == "names":
            for each, name in zip(
                found["categories"], [each["name"] for each in found["categories"]][::-1], strict=True,
            ):
                each["name"] = name
        for each in found["annotations"] if spoilt == "crowds" else []:
            each["iscrowd"] = 0
        return found

    if spoilt == "labels":
        reversed_ids = property(lambda self: self.annotations.category_ids[::-1], lambda self, value: None)
        monkeypatch.setattr(DetectionDataset, "category_ids", reversed_ids, raising=False)
    monkeypatch.setattr(DetectionDataset, "ground_truth", wrong_ground_truth)
    mine, theirs, _ = compare(gaps, "val")
    assert max(differences(mine, theirs).values()) > 0.1
