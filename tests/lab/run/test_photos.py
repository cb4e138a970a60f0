"""Scale photos: settings that follow from a user's own data."""
import itertools

import numpy as np
import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings
from fgdlab.lab.detectors.anchors import parse_anchors
from fgdlab.lab.run import photos
from fgdlab.lab.run.photos import fit_to_data

SPLITS = {"train": [1, 2, 4, 5], "val": [3, 6]}
SIZES = [(400, 300)] * 3 + [(300, 400)] * 3


@pytest.fixture
def fit(coco_folder, monkeypatch):
    """fit(boxes of each image as (width, height), **settings) -> (chosen settings, lines)."""
    monkeypatch.setattr(photos, "seconds_per_image", lambda *_: 0.6)
    numbers = itertools.count()

    def of(boxes, given=(), splits=SPLITS, **settings):
        annotations = {i: [(5, 5, width, height, 3, 0) for width, height in boxes] for i in range(1, 7)}
        folder = coco_folder(SIZES, annotations, splits=splits, name=f"folder{next(numbers)}")
        return fit_to_data(RunConfig.of({**scale_settings("photos"), "data": str(folder), **settings}), given)

    return of


@pytest.mark.parametrize("side, image_size", [(20, 320), (64, 224), (100, 128), (250, 128)])
def test_images_are_as_large_as_the_median_box_needs(fit, side, image_size):
    chosen, lines = fit([(side, side)] * 3)
    assert chosen["image_size"] == image_size
    assert f"the median box is {side * image_size / 400:.0f} px" in lines[1]


def test_anchors_are_fitted_in_the_pixels_that_the_detector_sees(fit):
    chosen, lines = fit([(100, 50)] * 3)
    scale = chosen["image_size"] / 400
    assert {tuple(pair) for level in parse_anchors(chosen["anchors"]) for pair in level.tolist()} == {
        (round(100 * scale), round(50 * scale))}
    assert "100.0% of the boxes meet one at IoU 0.5" in lines[2]


def test_settings_of_the_user_stay_and_the_others_follow_them(fit):
    free, _ = fit([(100, 50)] * 3)
    chosen, lines = fit([(100, 50)] * 3, given={"image_size", "train_steps"}, image_size=400, train_steps=7)
    assert {"image_size", "train_steps"} & chosen.keys() == set() and chosen["anchors"] != free["anchors"]
    assert "image_size 400" in lines[1] and lines[3].startswith("train_steps 7: 14 passes, about 0.6 min of compact_s")


def test_steps_are_so_many_passes_but_no_longer_than_the_time_for_them(fit, monkeypatch):
    chosen, _ = fit([(100, 50)] * 3)
    assert chosen["train_steps"] == round(40 * 4 / 8) and chosen["teacher_steps"] == round(80 * 4 / 8)
    monkeypatch.setattr(photos, "STUDENT", (40, 1e-3, 2e-7))
    chosen, lines = fit([(100, 50)] * 3)
    assert chosen["train_steps"] == 3 * 4 // 8 and lines[3].startswith("train_steps 1: 2.0 passes")


def test_a_folder_without_val_is_evaluated_on_its_test_split(fit):
    chosen, lines = fit([(100, 50)], splits={"train": [1, 2, 3], "test": [4, 5, 6]})
    assert chosen["eval_split"] == "test" and lines[0].endswith("evaluation on test")


def test_equal_data_give_equal_settings(fit):
    assert fit([(40, 30), (90, 20)])[0] == fit([(40, 30), (90, 20)])[0]


def test_a_detector_without_anchors_gets_none(fit):
    chosen, lines = fit([(40, 30)], detector="fcos", student="small_s", teacher="small_t")
    assert "anchors" not in chosen and not any(line.startswith("anchors") for line in lines)


def test_digits_and_a_folder_without_boxes_are_refused(fit, refusal):
    assert "got no folder; give data=DIR" in refusal(fit_to_data, RunConfig(), ())
    assert "must have boxes to learn from" in refusal(fit, [])


def test_crowds_are_no_boxes_to_fit(coco_folder):
    from fgdlab.lab.datasets.annotations import read_split
    from fgdlab.lab.datasets.dataset import DetectionDataset

    folder = coco_folder(SIZES[:1], {1: [(5, 5, 40, 30, 3, 0), (5, 5, 90, 80, 3, 1)]})
    sizes = photos.box_sizes(DetectionDataset(read_split(folder, "all"), long_side=200))
    assert np.concatenate(sizes).tolist() == [[20.0, 15.0]]
