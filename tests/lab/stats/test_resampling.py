"""Scores on resampled images equal those of pycocotools, also on lists of images with repeats."""

import contextlib
import io

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgdlab.lab.errors import UserError
from fgdlab.lab.stats.resampling import match, metric_of
from fgdlab.lab.training.evaluate import SCORES, coco_scores
from tests.helpers.coco_cases import drawn


def draws(images: int, count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).multinomial(images, np.full(images, 1 / images), size=count)


def by_pycocotools(truth, found, weights) -> dict[str, float]:
    """COCOeval's twelve scores on its own records, each image listed as often as its weight says."""
    coco = COCO()
    with contextlib.redirect_stdout(io.StringIO()):
        coco.dataset = {**truth, "annotations": [dict(each) for each in truth["annotations"]]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(each) for each in found]), "bbox")
        evaluation.evaluate()
        images, listed = len(weights), np.repeat(np.arange(len(weights)), weights)
        parts = [evaluation.evalImgs[start : start + images] for start in range(0, len(evaluation.evalImgs), images)]
        evaluation.evalImgs = [part[i] for part in parts for i in listed]
        evaluation.params.imgIds = evaluation._paramsEval.imgIds = list(range(len(listed)))
        evaluation.accumulate()
        evaluation.summarize()
    return {name: 100 * value if value > -1 else np.nan for name, value in zip(SCORES, evaluation.stats, strict=True)}


@pytest.mark.parametrize("seed", range(3))
def test_with_every_image_once_all_twelve_scores_are_those_of_pycocotools(seed):
    truth, found, image_ids = drawn(seed)
    expected = coco_scores(truth, found, image_ids)
    ours = {name: match(truth, found, image_ids, name).scores(np.ones(len(image_ids), dtype=int))[0] for name in SCORES}
    assert ours == pytest.approx({name: expected[name] for name in SCORES}, rel=1e-12, nan_ok=True)
    assert 1 < ours["AP"] < 99 and len({round(value, 6) for value in ours.values()}) > 8


def test_repeated_images_count_as_in_pycocotools_accumulate():
    truth, found, image_ids = drawn(7)
    weights = draws(len(image_ids), 4, seed=1)
    expected = [by_pycocotools(truth, found, each) for each in weights]
    for name in SCORES:
        ours = match(truth, found, image_ids, name).scores(weights)
        assert ours == pytest.approx([each[name] for each in expected], rel=1e-12, nan_ok=True), name
    assert len({round(each["AP"], 6) for each in expected}) == 4


def test_resamples_together_score_as_each_alone(monkeypatch):
    truth, found, image_ids = drawn(2)
    weights, matches = draws(len(image_ids), 9, seed=3), match(truth, found, image_ids)
    together = matches.scores(weights)
    assert together == pytest.approx([matches.scores(each)[0] for each in weights], rel=1e-14)
    monkeypatch.setattr("fgdlab.lab.stats.resampling.MAX_WEIGHTS", 100)  # a few rows at a time
    assert matches.scores(weights) == pytest.approx(together, rel=1e-14)


def test_weights_follow_the_order_of_the_image_ids_given():
    truth, found, image_ids = drawn(1)
    weights = np.arange(len(image_ids))
    turned = match(truth, found, image_ids[::-1]).scores(weights[::-1])
    assert turned == pytest.approx(match(truth, found, image_ids).scores(weights), rel=1e-12)
    assert turned != pytest.approx(match(truth, found, image_ids[::-1]).scores(weights), abs=1e-3)


def test_only_the_named_images_are_evaluated():
    truth, found, image_ids = drawn(4)
    some = image_ids[::2]
    assert match(truth, found, some).scores(np.ones(len(some), dtype=int))[0] == pytest.approx(
        coco_scores(truth, found, some)["AP"], rel=1e-12
    )


def test_a_class_whose_objects_are_all_in_images_left_out_does_not_count():
    truth, found, image_ids = drawn(5)
    kind = truth["annotations"][0]["category_id"]
    without = [
        int(
            not any(
                each["category_id"] == kind and not each["iscrowd"]
                for each in truth["annotations"]
                if each["image_id"] == image_id
            )
        )
        for image_id in image_ids
    ]
    assert 0 < sum(without) < len(image_ids)
    assert match(truth, found, image_ids).scores(without)[0] == pytest.approx(
        by_pycocotools(truth, found, without)["AP"], rel=1e-12
    )


def test_no_object_left_is_nan_and_no_detection_at_all_is_0():
    truth, found, image_ids = drawn(3)
    assert np.isnan(match(truth, found, image_ids).scores(np.zeros(len(image_ids), dtype=int))).all()
    for metric in ("AP", "AR"):
        assert match(truth, [], image_ids, metric).scores(np.ones(len(image_ids), dtype=int)).tolist() == [0.0]


def test_an_annotation_id_of_0_is_no_miss():
    truth, found, image_ids = drawn(6)
    zero = {**truth, "annotations": [{**each, "id": each["id"] - 1} for each in truth["annotations"]]}
    ones = np.ones(len(image_ids), dtype=int)
    assert match(zero, found, image_ids).scores(ones) == match(truth, found, image_ids).scores(ones)


def test_matching_changes_neither_truth_nor_detections():
    truth, found, image_ids = drawn(0)
    before = repr((truth, found))
    match(truth, found, image_ids)
    assert repr((truth, found)) == before


def test_an_unknown_metric_is_named():
    with pytest.raises(UserError, match="unknown metric 'APs'; did you mean 'AP"):
        metric_of("APs")
