"""Scores are pycocotools' own, of exactly the images that were looked at, whichever package counts them."""
import copy
import json
import math
import socket
from importlib.metadata import PackageNotFoundError, version

import numpy as np
import pytest
import torch
from faster_coco_eval import COCOeval_faster
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.provenance.environment import provenance
from fgdlab.lab.training import evaluate
from fgdlab.lab.training.evaluate import (
    PYCOCOTOOLS,
    SCORES,
    all_scores,
    coco_scores,
    detections,
    evaluation_here,
    percent,
)


def truth_of(boxes, images=4, categories=(3, 7, 9)) -> dict:
    """boxes: (image id, category id, x, y, w, h[, iscrowd])."""
    return {
        "info": {},
        "images": [{"id": n, "file_name": f"{n}.png", "width": 300, "height": 300} for n in range(1, images + 1)],
        "annotations": [
            {
                "id": k,
                "image_id": image,
                "category_id": category,
                "bbox": [x, y, w, h],
                "area": w * h,
                "iscrowd": crowd[0] if crowd else 0,
            }
            for k, (image, category, x, y, w, h, *crowd) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": each, "name": f"class {each}"} for each in categories],
    }


BOXES = [  # small, medium and large ones; every class in two images
    (1, 3, 10, 10, 20, 25),
    (1, 7, 60, 60, 50, 60),
    (2, 3, 30, 30, 120, 130),
    (2, 9, 200, 10, 12, 14),
    (3, 7, 5, 5, 15, 20),
    (3, 9, 100, 100, 110, 100),
    (4, 3, 40, 40, 60, 60),
    (4, 9, 150, 150, 70, 50),
]


def found_of(truth, score=0.9) -> list[dict]:
    return [
        {"image_id": each["image_id"], "category_id": each["category_id"], "bbox": list(each["bbox"]), "score": score}
        for each in truth["annotations"]
        if not each["iscrowd"]
    ]


def numbers(scores) -> dict:
    return {name: scores[name] for name in SCORES}


def random_case(seed):
    """Objects and detections: moved, of the wrong class, doubled, invented; crowds; sizes from 5 to 150 pixels."""
    rng = np.random.default_rng(seed)
    sides = np.exp(np.linspace(1.6, 5, 40))                          # pixels; so that every size class has objects
    truth = truth_of(
        [
            (
                int(rng.integers(1, 6)),
                int(rng.choice([3, 7, 9])),
                *rng.uniform(0, 120, 2).tolist(),
                float(side),
                float(side * rng.uniform(0.8, 1.25)),
                int(rng.random() < 0.1),
            )
            for side in sides
        ],
        images=6,
    )                                                     # no object in image 6
    found = []
    for each in found_of(truth) * 2:
        if rng.random() < 0.7:
            x, y, w, h = (np.array(each["bbox"]) * rng.normal(1, 0.04, 4)).tolist()
            category = each["category_id"] if rng.random() < 0.8 else int(rng.choice([3, 7, 9]))
            found.append(each | {"bbox": [x, y, w, h], "category_id": category, "score": float(rng.random())})
    found += [
        {
            "image_id": int(rng.integers(1, 7)),
            "category_id": 7,
            "bbox": rng.uniform(1, 150, 4).tolist(),
            "score": float(rng.random()),
        }
        for _ in range(15)
    ]
    return truth, found


def by_hand(truth, found, folder):
    """COCOeval as its demo writes it, from files."""
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps(found))
    coco = COCO(folder / "truth.json")
    evaluation = COCOeval(coco, coco.loadRes(str(folder / "found.json")), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


# ---- scores ----------------------------------------------------------------------------------------------------------

def test_perfect_detections_score_100():
    truth = truth_of(BOXES)
    scores = coco_scores(truth, found_of(truth))
    assert {name: round(scores[name], 6) for name in SCORES if name not in ("AR_1", "AR_10")} == dict.fromkeys(
        ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR", "AR_S", "AR_M", "AR_L"), 100.0)
    assert scores["AP_per_class"] == pytest.approx({"class 3": 100, "class 7": 100, "class 9": 100})


def test_no_detection_at_all_scores_0():
    scores = coco_scores(truth_of(BOXES), [])
    assert numbers(scores) == dict.fromkeys(SCORES, 0.0) and scores["AP_per_class"] == {
        "class 3": 0,
        "class 7": 0,
        "class 9": 0,
    }


@pytest.mark.parametrize("seed", range(8))
def test_scores_are_those_of_pycocotools_by_hand(tmp_path, capsys, seed):
    truth, found = random_case(seed)
    evaluation = by_hand(truth, found, tmp_path)
    capsys.readouterr()
    scores = coco_scores(truth, found)
    assert capsys.readouterr().out == ""  # nothing of pycocotools' chatter
    assert [scores[name] for name in SCORES] == pytest.approx(
        [100 * each if each > -1 else math.nan for each in evaluation.stats], abs=1e-9, nan_ok=True
    )
    assert 5 < scores["AP"] < 90 and not any(map(math.isnan, numbers(scores).values()))
    assert scores["AP"] == pytest.approx(np.mean(list(scores["AP_per_class"].values())))


def test_only_the_named_images_are_judged():
    truth, found = random_case(3)
    ids = [2, 5]
    part = {**truth, "images": [each for each in truth["images"] if each["id"] in ids],
            "annotations": [each for each in truth["annotations"] if each["image_id"] in ids]}
    alone = coco_scores(copy.deepcopy(part), [dict(each) for each in found if each["image_id"] in ids])
    assert numbers(coco_scores(copy.deepcopy(truth), [dict(each) for each in found], ids)) == pytest.approx(
        numbers(alone), nan_ok=True
    )
    assert numbers(alone) != pytest.approx(numbers(coco_scores(truth, found)), nan_ok=True)


def test_images_that_were_never_looked_at_do_not_lower_a_score():
    truth = truth_of(BOXES)
    half = [each for each in found_of(truth) if each["image_id"] <= 2]
    assert coco_scores(truth, copy.deepcopy(half), [2, 1])["AP"] == pytest.approx(100)
    assert coco_scores(truth, half)["AP"] < 70


def test_a_class_without_objects_is_nan_and_left_out_of_the_mean():
    truth = truth_of([each for each in BOXES if each[1] != 9])
    invented = {"image_id": 1, "category_id": 9, "bbox": [0, 0, 30, 30], "score": 0.8}
    for found in (found_of(truth), [*found_of(truth), invented]):
        scores = coco_scores(truth, found)
        assert math.isnan(scores["AP_per_class"]["class 9"]) and scores["AP"] == pytest.approx(100)


def test_sizes_are_judged_apart():
    truth = truth_of(BOXES)                                          # small below 32^2, large above 96^2 square pixels
    without_large = [each for each in found_of(truth) if each["bbox"][2] * each["bbox"][3] <= 96**2]
    scores = coco_scores(truth, without_large)
    assert (scores["AP_S"], scores["AP_M"], scores["AP_L"]) == pytest.approx((100, 100, 0))
    assert (scores["AR_S"], scores["AR_M"], scores["AR_L"]) == pytest.approx((100, 100, 0)) and 0 < scores["AP"] < 100


def test_a_size_without_objects_is_nan():
    truth = truth_of([each for each in BOXES if each[4] * each[5] < 96**2])
    scores = coco_scores(truth, found_of(truth))
    assert math.isnan(scores["AP_L"]) and math.isnan(scores["AR_L"]) and scores["AP_S"] == pytest.approx(100)


def test_a_split_without_objects_is_nan_and_no_crash():
    truth = truth_of([])
    for found in ([], [{"image_id": 1, "category_id": 3, "bbox": [0, 0, 5, 5], "score": 0.5}]):
        scores = coco_scores(truth, found)
        assert all(math.isnan(scores[name]) for name in SCORES) and all(
            map(math.isnan, scores["AP_per_class"].values())
        )


def test_recall_counts_so_many_detections_an_image():
    truth = truth_of([(1, 3, 40 * n, 10, 30, 30) for n in range(6)], images=1, categories=(3,))
    scores = coco_scores(truth, found_of(truth))
    assert (scores["AR_1"], scores["AR_10"], scores["AR"]) == pytest.approx((100 / 6, 100, 100))


def test_scoring_changes_neither_truth_nor_detections():
    """What is written to detections.json afterwards is what the detector found."""
    truth, found = random_case(0)
    before = copy.deepcopy((truth, found))
    coco_scores(truth, found)
    assert (truth, found) == before


def test_percent_keeps_0_and_turns_minus_1_into_nan():
    assert percent(0.0) == 0 and percent(0.5) == 50 and math.isnan(percent(-1))


# ---- by faster-coco-eval ---------------------------------------------------------------------------------------------

def agree(truth, found, image_ids=None, of="bbox") -> dict:
    """The scores, once both packages gave the same."""
    before = copy.deepcopy((truth, found))
    quick, plain = (coco_scores(truth, found, image_ids, of, by) for by in (evaluation_here(), PYCOCOTOOLS))
    assert (truth, found) == before
    for a, b in ((numbers(quick), numbers(plain)), (quick["AP_per_class"], plain["AP_per_class"])):
        assert a == pytest.approx(b, rel=0, abs=1e-12, nan_ok=True)
    return quick


def crowded(seed):
    truth, found = random_case(seed)
    for each in truth["annotations"][20:24]:
        each["iscrowd"] = 1
    return truth, found


def with_masks(truth, found):
    """Objects and detections as ellipses in their boxes: polygons, run lengths as text and as lists in turn."""

    def ellipse(box):
        turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        x, y, w, h = box
        return [
            np.stack([x + w / 2 * (1 + np.cos(turn)), y + h / 2 * (1 + np.sin(turn))], axis=1)
            .clip(0, 300)
            .flatten()
            .tolist()
        ]

    def run_lengths(outline, plain):
        packed = coco_mask.merge(coco_mask.frPyObjects(outline, 300, 300))
        if not plain:
            return {"size": [300, 300], "counts": packed["counts"].decode()}
        flat = coco_mask.decode(packed).flatten(order="F")
        edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
        return {"size": [300, 300], "counts": np.diff(np.concatenate([[0], edges])).tolist()}

    objects = []
    for k, each in enumerate(truth["annotations"]):
        outline = ellipse(each["bbox"])
        objects.append(
            each
            | {
                "segmentation": outline
                if k % 3 == 0 and not each["iscrowd"]
                else run_lengths(outline, plain=k % 3 == 1 or each["iscrowd"])
            }
        )
    return {**truth, "annotations": objects}, [
        each | {"segmentation": run_lengths(ellipse(each["bbox"]), plain=False)} for each in found
    ]


def test_where_it_is_installed_it_counts_and_the_result_says_so(monkeypatch):
    assert evaluation_here().package == "faster-coco-eval" and provenance()["packages"]["faster-coco-eval"] == version(
        "faster-coco-eval"
    )
    truth, seen = truth_of(BOXES), []
    monkeypatch.setattr(
        COCOeval_faster,
        "evaluate",
        lambda self, real=COCOeval_faster.evaluate: (seen.append(self.params.iouType), real(self)),
    )
    assert coco_scores(truth, found_of(truth))["AP"] == pytest.approx(100) and seen == ["bbox"]


@pytest.mark.parametrize("part, key", [("images", "image_id"), ("categories", "category_id")])
@pytest.mark.parametrize("first", [2**31, 2**53, 2**62])
def test_ids_that_float64_does_not_tell_apart_are_told_apart(part, key, first):
    truth = truth_of(BOXES)
    new = {each["id"]: first + number for number, each in enumerate(truth[part])}
    truth[part] = [each | {"id": new[each["id"]]} for each in truth[part]]
    truth["annotations"] = [each | {key: new[each[key]]} for each in truth["annotations"]]
    assert coco_scores(truth, found_of(truth))["AP"] == pytest.approx(100)


def test_where_it_is_not_pycocotools_counts_and_the_result_says_so(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(evaluate, "find_spec", lambda name: None)
    monkeypatch.setattr(COCOeval_faster, "evaluate", lambda self: pytest.fail("it is not installed"))
    monkeypatch.setattr(
        "fgdlab.lab.provenance.environment.version",
        lambda name: absent(name) if name == "faster-coco-eval" else version(name),
    )
    truth = truth_of(BOXES)
    assert evaluation_here() is PYCOCOTOOLS and coco_scores(truth, found_of(truth))["AP"] == pytest.approx(100)
    assert "faster-coco-eval" not in provenance()["packages"] and provenance()["packages"]["pycocotools"] == version(
        "pycocotools"
    )


@pytest.mark.parametrize("seed", range(8))
def test_both_packages_agree_on_boxes_with_crowds_and_gaps_in_category_ids(seed):
    truth, found = crowded(seed)
    assert 5 < agree(truth, found)["AP"] < 90
    agree(truth, found, [5, 2])


@pytest.mark.parametrize("seed", range(4))
def test_both_packages_agree_on_masks_of_every_kind_with_crowds(seed):
    truth, found = with_masks(*crowded(seed))
    assert {type(each["segmentation"]) for each in truth["annotations"]} == {list, dict}
    boxes, masks = (
        agree(truth, found),
        agree(truth, [{name: value for name, value in each.items() if name != "bbox"} for each in found], of="segm"),
    )
    assert 5 < masks["AP"] < 90 and masks["AP"] != pytest.approx(boxes["AP"])
    assert (
        numbers(all_scores(truth, found, masks=True)) == numbers(boxes)
        and all_scores(truth, found, masks=True)["mask_AP"] == masks["AP"]
    )


@pytest.mark.parametrize("of", ["bbox", "segm"])
def test_both_packages_agree_where_there_is_nothing(of):
    truth, found = with_masks(truth_of(BOXES), found_of(truth_of(BOXES)))
    assert numbers(agree(truth, [], of=of)) == dict.fromkeys(SCORES, 0.0)
    empty = {**truth, "annotations": []}
    for some in ([], found):
        assert all(map(math.isnan, numbers(agree(empty, some, of=of)).values()))
    assert math.isnan(
        agree(
            {**truth, "annotations": [each for each in truth["annotations"] if each["category_id"] != 9]}, found, of=of
        )["AP_per_class"]["class 9"]
    )


def test_both_packages_look_at_a_hundred_detections_an_image_and_class_the_best_first():
    """Of 60 objects half are found early, half behind 70 strangers: those past the hundredth detection are lost."""
    rng = np.random.default_rng(1)
    truth = truth_of([(1, 3, 4.0 * n, 10, 30, 30) for n in range(60)] + [(2, 7, 50, 50, 40, 40)], images=2)
    objects = found_of(truth)
    found = [each | {"score": 0.9 - 0.001 * k} for k, each in enumerate(objects[:30])] + [
        each | {"score": 0.2 - 0.001 * k} for k, each in enumerate(objects[30:])
    ]
    found += [
        {
            "image_id": 1,
            "category_id": 3,
            "bbox": [*rng.uniform(0, 200, 2).tolist(), 3.0, 3.0],
            "score": float(rng.uniform(0.3, 0.8)),
        }
        for _ in range(65)
    ]
    for order in (found, found[::-1]):
        scores = agree(truth, order)
        assert scores["AR"] == pytest.approx(100 * (35 / 60 + 1) / 2)
    assert len([each for each in found if each["image_id"] == 1]) == 125


@pytest.mark.parametrize("seed", range(4))
def test_both_packages_agree_where_scores_are_equal(seed):
    truth, found = random_case(seed)
    agree(truth, [each | {"score": round(each["score"], 1)} for each in found])


def test_it_prints_nothing_and_asks_nobody(capfd, monkeypatch):
    monkeypatch.setattr(socket, "socket", lambda *rest: pytest.fail("a socket was opened"))
    truth, found = with_masks(*random_case(0))
    all_scores(truth, found, masks=True)
    assert capfd.readouterr() == ("", "")


# ---- detections ------------------------------------------------------------------------------------------------------

class Answering(torch.nn.Module):
    """Answers with given outputs, image by image, and notes how it was called."""

    def __init__(self, outputs):
        super().__init__()
        self.outputs, self.batches = iter(outputs), []

    def forward(self, images):
        self.batches.append((len(images), self.training, torch.is_grad_enabled()))
        return [next(self.outputs) for _ in images]


def output(labels, scores=None, boxes=None):
    count = len(labels)
    return {
        "boxes": torch.tensor(boxes or [[2.0, 3.0, 12.0, 33.0]] * count).reshape(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores or [0.5] * count),
    }


@pytest.fixture
def gaps(coco_folder):
    """Categories 2, 30 and 90 listed out of order; three images."""
    return DetectionDataset(
        read_split(
            coco_folder(
                [(40, 40)] * 3,
                {1: [(2, 3, 10, 30, 90, 0)], 2: [(2, 3, 10, 30, 2, 0)], 3: [(2, 3, 10, 30, 30, 0)]},
                (90, 2, 30),
            ),
            "all",
        )
    )


def test_labels_become_the_category_ids_of_the_file(gaps):
    found = detections(Answering([output([3, 1]), output([2]), output([])]), gaps)
    assert [(each["image_id"], each["category_id"]) for each in found] == [(1, 90), (1, 2), (2, 30)]
    assert all(each.keys() == {"image_id", "category_id", "bbox", "score"} for each in found)
    assert found[0]["bbox"] == [2, 3, 10, 30] and found[0]["score"] == 0.5
    json.dumps(found)                                                # plain numbers


def test_right_answers_on_category_ids_with_gaps_score_100(gaps):
    found = detections(Answering([output([3]), output([1]), output([2])]), gaps)
    assert coco_scores(gaps.ground_truth(), found, gaps.image_ids)["AP"] == pytest.approx(100)
    shifted = detections(Answering([output([1]), output([2]), output([3])]), gaps)
    assert coco_scores(gaps.ground_truth(), shifted, gaps.image_ids)["AP"] == 0


def test_label_0_is_nobody(gaps):
    assert [each["category_id"] for each in detections(Answering([output([0, 1]), output([0]), output([])]), gaps)] == [
        2
    ]


def test_every_image_is_seen_once_in_eval_mode_without_gradients(gaps):
    detector = Answering([output([])] * 3).train()
    assert detections(detector, gaps, batch_size=2) == []
    assert detector.batches == [(2, False, False), (1, False, False)]


def test_the_size_of_the_batch_does_not_matter(tiny_scenes):
    torch.manual_seed(2)
    detector, scenes = build("retinanet", "compact_s", 10, score_thresh=0.0, detections_per_img=5), tiny_scenes("val")
    one, many = (detections(detector, scenes, batch_size=size) for size in (1, 8))
    assert len(one) == len(many) > 0
    for a, b in zip(one, many, strict=True):
        assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
        assert a["bbox"] == pytest.approx(b["bbox"], abs=1e-2) and a["score"] == pytest.approx(b["score"], abs=1e-5)


def test_whoever_loads_the_images_the_detections_are_the_same(tiny_scenes):
    torch.manual_seed(2)
    detector = build("retinanet", "compact_s", 10, score_thresh=0.0, detections_per_img=5)
    alone = detections(detector, tiny_scenes("val"), batch_size=3)
    assert alone and detections(detector, tiny_scenes("val"), batch_size=3, workers=2) == alone
