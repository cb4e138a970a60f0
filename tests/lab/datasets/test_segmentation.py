"""COCO's polygons and run lengths are decoded as by pycocotools; invalid ones are refused; masks are evaluated."""
import json

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from fgdlab.lab.commands.cli import main
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.annotations import read_split, segmentation_counts
from fgdlab.lab.datasets.augmentation import Augmentation
from fgdlab.lab.datasets.dataset import DetectionDataset, open_split
from fgdlab.lab.datasets.segmentation import decode_mask, decode_run_lengths, expected_segmentation
from fgdlab.lab.training.evaluate import SCORES, all_scores, as_run_lengths, coco_scores

SIZE = (30, 40)                                                      # height, width


def blob(seed: int, size=SIZE) -> np.ndarray:
    rows, columns = np.mgrid[:size[0], :size[1]]
    rng = np.random.default_rng(seed)
    y, x, r = rng.uniform(5, size[0] - 5), rng.uniform(5, size[1] - 5), rng.uniform(2, 12)
    return ((rows - y) ** 2 + (columns - x) ** 2 < r * r).astype(np.uint8)


def packed(mask: np.ndarray) -> dict:
    made = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [int(side) for side in made["size"]], "counts": made["counts"].decode()}


def plain(mask: np.ndarray) -> dict:
    """The same as a list of run lengths."""
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [2]])))
    return {"size": list(mask.shape), "counts": np.diff(np.concatenate([[0], edges])).tolist()}


# ---- pixels ---

@pytest.mark.parametrize("seed", range(6))
def test_run_lengths_of_both_kinds_give_the_mask_that_was_packed(seed):
    mask = blob(seed) if seed else np.zeros(SIZE, np.uint8)
    for rle in (packed(mask), plain(mask)):
        assert expected_segmentation(rle, *SIZE) == "" and sum(decode_run_lengths(rle)) == mask.size
        assert np.array_equal(decode_mask(rle, SIZE, SIZE), mask)
    assert decode_run_lengths(packed(mask)) == plain(mask)["counts"]


def test_noise_with_runs_of_every_length_survives_packing():
    mask = (np.random.default_rng(0).random((64, 100)) < 0.3).astype(np.uint8)
    mask[:, 40:70] = 1
    assert np.array_equal(decode_mask(packed(mask), mask.shape, mask.shape), mask)


def test_polygons_are_filled_as_pycocotools_fills_them():
    polygons = [[3.0, 4.0, 20.5, 6.0, 11.0, 25.0], [25.0, 5.0, 35.0, 5.0, 35.0, 15.0, 25.0, 15.0]]
    expected = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, *SIZE)))
    assert np.array_equal(decode_mask(polygons, SIZE, SIZE), expected) and expected[10, 30] == 1
    assert expected[10, 11] == 1


def test_a_smaller_image_has_smaller_masks():
    square = [[10.0, 10.0, 30.0, 10.0, 30.0, 20.0, 10.0, 20.0]]
    half = decode_mask(square, SIZE, (15, 20))
    assert half.shape == (15, 20) and half[5:10, 5:15].all() and half.sum() == 50
    rle = packed(decode_mask(square, SIZE, SIZE))
    assert np.array_equal(decode_mask(rle, SIZE, (15, 20)), half)


def test_polygons_past_the_border_are_cut_there():
    assert decode_mask([[-1e9, -5.0, 1e9, -5.0, 1e9, 1e9, -1e9, 1e9]], SIZE, SIZE).all()


# ---- what is none ---

@pytest.mark.parametrize(
    "segmentation",
    [
        None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5, 6, 7]], [[1, 2, 3, 4, 5, float("nan")]], [1, 2, 3, 4, 5, 6], "text",
        {"size": [30, 40]}, {"size": [40, 30], "counts": [1200]}, {"size": [30, 40], "counts": [1199]},
        {"size": [30, 40], "counts": [1300, -100]}, {"size": [30, 40], "counts": [True, 1199]},
        {"size": [30, 40], "counts": "\x01"}, {"size": [30, 40], "counts": "~~~"},
        {"size": [30, 40], "counts": "o" * 40}, {"size": [30, 40], "counts": 3},
    ],
)
def test_what_is_no_segmentation_is_told_apart(segmentation):
    assert expected_segmentation(segmentation, *SIZE)


@pytest.fixture
def drawn(coco_folder):
    """drawn(change=None) -> a folder of three images with four segmented boxes, one a crowd. change edits the JSON."""

    def write(change=None, name="folder"):
        folder = coco_folder(
            [(40, 30)] * 3,
            {1: [(5, 5, 10, 10, 3, 0), (20, 10, 15, 15, 7, 0)], 2: [(0, 0, 40, 30, 3, 1), (8, 4, 6, 12, 7, 0)]},
            name=name,
        )
        file = folder / "annotations.json"
        document = json.loads(file.read_text())
        for each in document["annotations"]:
            x, y, w, h = each["bbox"]
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            mask = np.zeros(SIZE, np.uint8)
            mask[y:y + h, x:x + w] = 1
            each["segmentation"] = (
                plain(mask)
                if each["iscrowd"]
                else packed(mask)
                if each["category_id"] == 7
                else [[float(v) for v in corners]]
            )
        if change:
            change(document)
        file.write_text(json.dumps(document))
        return folder

    return write


def spoil(value):
    def change(document):
        for each in document["annotations"][1:]:
            each["segmentation"] = value
    return change


def test_a_missing_segmentation_is_refused_only_where_masks_are_asked_for(drawn, refusal):
    folder = drawn(spoil(None))
    assert read_split(folder, "all").segmentations is None
    text = refusal(read_split, folder, "all", masks=True)
    must = "must have polygons, or run lengths of size [30, 40], as 'segmentation'"
    assert f"annotation 2 of image 1 '1.png' {must}, got None (and 2 more like it)" in text
    assert "choose a detector without masks" in text


def test_outlines_are_counted_by_kind_and_those_that_are_none_in_words(drawn):
    def mixed(document):
        first, second, third, _ = document["annotations"]            # polygons, run lengths, run lengths, run lengths
        second["segmentation"], third["segmentation"] = [], [[1, 2, 3, 4]]

    ((file, found),) = segmentation_counts(drawn()).items()
    assert file.name == "annotations.json" and found == ({"polygons": 1, "run lengths": 3}, [])
    ((kinds, broken),) = segmentation_counts(drawn(spoil(None), "some")).values()
    assert kinds == {"polygons": 1, "without": 3} and broken == []
    ((kinds, broken),) = segmentation_counts(drawn(mixed, "mixed")).values()
    assert kinds == {"polygons": 1, "run lengths": 1, "without": 1, "broken": 1} and len(broken) == 1
    assert "annotation 3 of image 2 '2.png' must have polygons of at least 3 points" in broken[0]


def test_a_check_asks_for_outlines_only_where_it_is_told_to(drawn):
    def check(folder, *flags):
        return CliRunner().invoke(main, ["data", "check", str(folder), *flags])

    good, bare, odd = drawn(), drawn(spoil(None), "bare"), drawn(spoil([[1, 2, 3, 4]]), "odd")
    assert (
        f"segmentation masks in {good / 'annotations.json'}: 4 of 4 objects: 1 polygons, 3 run lengths"
        in check(good, "--masks").stdout
    )
    assert "note: 3 of 4 objects have no segmentation mask; mask_rcnn would refuse them" in check(bare).stdout
    assert check(bare, "--masks").exit_code == 1
    assert "got [[1, 2, 3, 4]] (and 2 more like it); mask_rcnn would refuse it" in check(odd).stdout
    assert check(odd, "--masks").exit_code == 1


def test_masks_are_part_of_the_fingerprint_where_they_are_read(drawn):
    folder = drawn()
    assert read_split(folder, "all", masks=True).content_hash != read_split(folder, "all").content_hash
    assert read_split(folder, "all", masks=True).content_hash == read_split(folder, "all", masks=True).content_hash


def test_only_mask_rcnn_reads_masks(drawn):
    config = RunConfig(data=str(drawn()), image_size=0, train_images=0, eval_images=0)
    for detector, there in (("faster_rcnn", False), ("mask_rcnn", True)):
        assert ("masks" in open_split(config.but(detector=detector), "all")[0][1]) == there


# ---- targets ---

@pytest.mark.parametrize("long_side", [0, 20])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_mask_covers_its_box_in_the_image_as_it_is_loaded(drawn, long_side, flip):
    scenes = DetectionDataset(read_split(drawn(), "all", masks=True), long_side=long_side)
    scenes.augment(Augmentation(flip), 0, 0)
    for i, count in enumerate((2, 1, 0)):                            # the crowd is no target
        image, target = scenes[i]
        assert target["masks"].dtype == torch.uint8 and target["masks"].shape == (count, *image.shape[-2:])
        assert len(target["boxes"]) == count
        for mask, box in zip(target["masks"], target["boxes"], strict=True):
            rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
            extent = torch.tensor([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1])
            assert (extent - box).abs().max() <= 1 and mask[rows[0]:rows[-1] + 1, columns[0]:columns[-1] + 1].all()


# ---- scores ---

def found_of(ground_truth, seed=None) -> list[dict]:
    """The objects themselves as detections; with a seed, moved by some pixels and scored at random."""
    rng, found = np.random.default_rng(seed), []
    for each in ground_truth["annotations"]:
        if each["iscrowd"]:
            continue
        mask = decode_mask(each["segmentation"], SIZE, SIZE)
        mask = mask if seed is None else np.roll(mask, rng.integers(-3, 4, 2), axis=(0, 1))
        found.append({
            "image_id": each["image_id"], "category_id": each["category_id"], "bbox": list(each["bbox"]),
            "score": float(rng.random()), "segmentation": packed(mask),
        })
    return found


def test_perfect_masks_score_100_and_moved_ones_what_pycocotools_says(drawn, tmp_path):
    ground_truth = read_split(drawn(), "all", masks=True).coco()
    perfect = all_scores(ground_truth, found_of(ground_truth), masks=True)
    assert perfect["mask_AP"] == pytest.approx(100) and perfect["AP"] == pytest.approx(100)
    moved = found_of(ground_truth, seed=3)
    scores = all_scores(ground_truth, moved, masks=True)
    for name, content in (
        ("truth", ground_truth),
        ("found", [{name: value for name, value in each.items() if name != "bbox"} for each in moved]),
    ):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    coco = COCO(tmp_path / "truth.json")
    evaluation = COCOeval(coco, coco.loadRes(str(tmp_path / "found.json")), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = [100 * each if each > -1 else float("nan") for each in evaluation.stats]
    assert [scores[f"mask_{name}"] for name in SCORES] == pytest.approx(expected, nan_ok=True)
    assert 0 < scores["mask_AP"] < 100 and scores["AP"] == pytest.approx(100)


def test_a_detectors_masks_come_back_as_run_lengths_of_the_original_size():
    masks = torch.stack([torch.from_numpy(blob(seed)) for seed in (1, 2)]).float()[:, None]
    for rle, mask in zip(as_run_lengths(masks, SIZE), masks, strict=True):
        assert np.array_equal(decode_mask(rle, SIZE, SIZE), mask[0].numpy()) and json.dumps(rle)
    doubled = as_run_lengths(masks, (60, 80))
    assert doubled[0]["size"] == [60, 80]
    assert sum(decode_run_lengths(doubled[0])[1::2]) == pytest.approx(4 * float(masks[0].sum()), rel=0.1)
    assert as_run_lengths(masks[:0], SIZE) == []


def test_boxes_are_judged_the_same_whether_or_not_detections_have_masks(drawn):
    ground_truth = read_split(drawn(), "all", masks=True).coco()
    found = found_of(ground_truth, seed=1)
    bare = [{name: value for name, value in each.items() if name != "segmentation"} for each in found]
    assert {name: coco_scores(ground_truth, found)[name] for name in SCORES} == pytest.approx(
        {name: coco_scores(ground_truth, bare)[name] for name in SCORES}, nan_ok=True
    )
