"""Images, boxes and batches: what a student sees, in which order, and that detections find the way back."""
import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.datasets import dataset as data
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.augmentation import Augmentation
from fgdlab.lab.datasets.batch_sampler import epoch_batches
from fgdlab.lab.datasets.dataset import (
    DetectionDataset,
    foreground_fractions,
    load_batches,
    open_split,
    shuffled_batches,
)
from fgdlab.lab.training.evaluate import detections


@pytest.fixture
def mixed(coco_folder):
    """Four images of different shape: a wide one, a small one, one of crowd and ordinary boxes, one without boxes."""
    return read_split(coco_folder([(100, 60), (50, 40), (48, 96), (64, 64)], {
        1: [(10, 20, 40, 30, 7, 0)],
        2: [(4, 8, 20, 16, 3, 0)],
        3: [(6, 12, 18, 30, 7, 1), (24, 54, 12, 36, 3, 0)],
    }), "all")


def inked(image) -> list[int]:
    """x1, y1, x2, y2 around what is brighter than half."""
    bright = image.mean(dim=0) > 0.5
    rows, cols = bright.any(dim=1).nonzero(), bright.any(dim=0).nonzero()
    return [int(cols[0]), int(rows[0]), int(cols[-1]) + 1, int(rows[-1]) + 1]


# ---- one item ---

def test_an_item_is_an_image_in_0_to_1_and_its_target(mixed):
    image, target = DetectionDataset(mixed)[0]
    assert image.dtype == torch.float32 and image.shape == (3, 60, 100) and image.min() == 0 and image.max() == 1
    assert target.keys() == {"boxes", "labels", "image_id", "scale"}
    assert target["boxes"].dtype == torch.float32 and target["boxes"].tolist() == [[10, 20, 50, 50]]
    assert inked(image) == [10, 20, 50, 50]
    assert int(target["image_id"]) == 1 and target["scale"].tolist() == [1, 1, 1, 1]


def test_labels_run_from_1_in_the_order_of_category_ids(mixed):
    dataset = DetectionDataset(mixed)
    assert (dataset.category_ids, dataset.classes) == ([3, 7], ["class 3", "class 7"])
    assert [dataset[i][1]["labels"].tolist() for i in range(4)] == [[2], [1], [1], []]
    assert all(dataset[i][1]["labels"].dtype == torch.int64 for i in range(4))


def test_an_image_without_boxes_has_empty_ones(mixed):
    _, target = DetectionDataset(mixed)[3]
    assert target["boxes"].shape == (0, 4) and target["boxes"].dtype == torch.float32 and target["labels"].shape == (0,)


def test_a_crowd_region_is_no_target_but_ground_truth(mixed):
    dataset = DetectionDataset(mixed)
    assert dataset[2][1]["boxes"].tolist() == [[24, 54, 36, 90]]
    assert [each["iscrowd"] for each in dataset.ground_truth()["annotations"] if each["image_id"] == 3] == [1, 0]


def test_an_item_is_the_same_each_time_it_is_read(mixed, monkeypatch):
    kept, fresh = DetectionDataset(mixed, long_side=50), DetectionDataset(mixed, long_side=50)
    monkeypatch.setattr(data, "MAX_KEPT_BYTES", 0)
    not_kept = [fresh[0][0] for _ in range(2)]
    monkeypatch.undo()
    first = kept[0][0]
    first.mul_(0.5)  # a caller may write into what it got
    assert torch.equal(kept[0][0], not_kept[0]) and torch.equal(not_kept[0], not_kept[1]) and len(kept._kept) == 1
    assert not fresh._kept


def test_memory_for_decoded_images_is_bounded(mixed, monkeypatch):
    monkeypatch.setattr(data, "MAX_KEPT_BYTES", 3 * 60 * 100 + 3 * 40 * 50)
    dataset = DetectionDataset(mixed)
    for i in (0, 2, 1, 3):
        assert dataset[i][0].shape[1:] == dataset.loaded_size(i)
    assert sorted(dataset._kept) == [0, 1] and dataset._kept_bytes == data.MAX_KEPT_BYTES


# ---- shrinking ---

def test_the_long_side_shrinks_and_never_grows(mixed):
    dataset = DetectionDataset(mixed, long_side=50)
    sizes = [(30, 50), (40, 50), (50, 25), (50, 50)]
    assert [dataset[i][0].shape[1:] for i in range(4)] == sizes == [dataset.loaded_size(i) for i in range(4)]


@pytest.mark.parametrize("long_side", [0, 50, 33])
def test_boxes_shrink_with_the_image(mixed, long_side):
    dataset = DetectionDataset(mixed, long_side=long_side)
    for i in (0, 1):
        image, target = dataset[i]
        assert_close(torch.tensor([inked(image)], dtype=torch.float32), target["boxes"], rtol=0, atol=1.0)
        height, width = image.shape[-2:]
        entry = dataset.entries[i]
        assert_close(
            target["scale"], torch.tensor([width / entry["width"], height / entry["height"]] * 2, dtype=torch.float64)
        )


@pytest.mark.parametrize("long_side", [0, 50, 33])
def test_detections_come_back_in_pixels_of_the_original_file(mixed, long_side):
    """A detector that returns the boxes of the loaded images is right in original pixels and category ids."""
    dataset = DetectionDataset(mixed, long_side=long_side)
    answers = iter([dataset[i][1] for i in range(4)])

    class Knowing(torch.nn.Module):
        def forward(self, images):
            return [{"boxes": each["boxes"], "labels": each["labels"], "scores": torch.ones(len(each["labels"]))}
                    for each in (next(answers) for _ in images)]

    found = detections(Knowing(), dataset, batch_size=3)
    ordinary = [each for each in dataset.ground_truth()["annotations"] if not each["iscrowd"]]
    assert [(each["image_id"], each["category_id"]) for each in found] == [
        (each["image_id"], each["category_id"]) for each in ordinary
    ]
    assert_close([each["bbox"] for each in found], [each["bbox"] for each in ordinary], rtol=1e-5, atol=1e-4)


# ---- mirroring ---

def test_mirroring_turns_image_and_boxes_together(mixed):
    dataset = DetectionDataset(mixed)
    plain = [dataset[i] for i in range(4)]
    dataset.augment(Augmentation(1.0), seed=0, epoch=0)
    for i, (image, target) in enumerate(plain):
        mirrored, its_target = dataset[i]
        assert torch.equal(mirrored, image.flip(-1)) and torch.equal(its_target["labels"], target["labels"])
        width, boxes = image.shape[-1], target["boxes"]
        assert_close(
            its_target["boxes"],
            torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1),
        )
    assert dataset[0][1]["boxes"].tolist() == [inked(dataset[0][0])]


def mirrored_ids(dataset, chance=0.5, **key) -> set[int]:
    """Which images come mirrored, found by comparing pixels."""
    dataset.augment(Augmentation(0.0), 0, 0)
    plain = [dataset[i][0] for i in range(len(dataset))]
    dataset.augment(Augmentation(chance), **key)
    return {dataset.image_ids[i] for i in reversed(range(len(dataset))) if not torch.equal(dataset[i][0], plain[i])}


def test_which_images_are_mirrored_depends_on_seed_epoch_and_image_alone(tiny_scenes):
    whole, part = tiny_scenes(), tiny_scenes(limit=5)
    drawn = {(seed, epoch): mirrored_ids(whole, seed=seed, epoch=epoch) for seed in (0, 1) for epoch in range(4)}
    assert len(set(map(frozenset, drawn.values()))) == 8             # 2^12 ways: equal draws would be a defect
    assert 20 < sum(map(len, drawn.values())) < 76                   # of 96, half on average
    for (seed, epoch), ids in drawn.items():
        torch.manual_seed(seed + epoch)
        assert mirrored_ids(whole, seed=seed, epoch=epoch) == ids
        assert mirrored_ids(part, seed=seed, epoch=epoch) == ids & set(part.image_ids)


def test_without_a_chance_nothing_is_mirrored(tiny_scenes):
    assert mirrored_ids(tiny_scenes(), chance=0.0, seed=0, epoch=0) == set()


def test_a_sliver_keeps_some_width_through_shrinking_and_mirroring(coco_folder):
    """Its width is 0 after rounding to float32 at the far side, and torchvision's detectors refuse such boxes."""
    folder = coco_folder([(1000, 500)], {1: [(0, 4, 8, 8, 3, 0)]})
    document = json.loads((folder / "annotations.json").read_text())
    document["annotations"][0]["bbox"] = [1e-7, 4, 1e-7, 8]
    (folder / "annotations.json").write_text(json.dumps(document))
    dataset = DetectionDataset(read_split(folder, "all"), long_side=333)
    for chance in (0.0, 1.0):
        dataset.augment(Augmentation(chance), seed=0, epoch=0)
        boxes = dataset[0][1]["boxes"]
        assert (boxes[:, 2:] > boxes[:, :2]).all() and boxes[0, 2] - boxes[0, 0] < 1e-4


# ---- batches ---

def ids_of(found) -> list[list[int]]:
    return [[int(target["image_id"]) for target in targets] for _, targets in found]


def test_batches_are_full_and_take_every_image_at_most_once(tiny_scenes):
    found = ids_of(shuffled_batches(tiny_scenes(), 5, seed=0, epoch=0))
    assert [len(each) for each in found] == [5, 5] and len(set(sum(found, []))) == 10
    assert sorted(sum(ids_of(shuffled_batches(tiny_scenes(), 4, seed=0, epoch=0)), [])) == tiny_scenes().image_ids


def test_the_order_depends_on_seed_and_epoch_alone(tiny_scenes):
    orders = {}
    for key in [(seed, epoch) for seed in (0, 1, 2) for epoch in (0, 1, 2)]:
        torch.manual_seed(sum(key))
        np.random.seed(sum(key))
        orders[key] = ids_of(shuffled_batches(tiny_scenes(), 4, seed=key[0], epoch=key[1]))
        torch.manual_seed(123)
        augmented = shuffled_batches(tiny_scenes(), 4, seed=key[0], epoch=key[1], augmentation=Augmentation(0.5))
        assert ids_of(augmented) == orders[key]
    assert len(set(map(str, orders.values()))) == 9


def test_batches_leave_the_global_random_state_alone(tiny_scenes):
    torch.manual_seed(4)
    before = torch.get_rng_state()
    list(shuffled_batches(tiny_scenes(), 4, seed=0, epoch=0, augmentation=Augmentation(0.5)))
    assert torch.equal(torch.get_rng_state(), before)


def test_first_skips_exactly_so_many_batches(tiny_scenes):
    everything = ids_of(shuffled_batches(tiny_scenes(), 4, seed=3, epoch=1))
    for first in range(4):
        assert ids_of(shuffled_batches(tiny_scenes(), 4, seed=3, epoch=1, first=first)) == everything[first:]


def same_batches(here, there) -> None:
    """To the last bit."""
    assert ids_of(here) == ids_of(there)
    for (images, targets), (other_images, other_targets) in zip(here, there, strict=True):
        assert all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(images, other_images, strict=True))
        assert all(torch.equal(a[name], b[name]) for a, b in zip(targets, other_targets, strict=True) for name in a)


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_batches_are_the_items_of_their_epoch_whoever_loads_them(tiny_scenes, workers):
    """Order, pixels and mirroring, over three epochs in one go."""
    settings = {"seed": 0, "epoch": 1, "augmentation": Augmentation(0.5), "workers": workers}
    whole = list(shuffled_batches(tiny_scenes(), 4, epochs=3, **settings))
    dataset, expected = tiny_scenes(), []
    for epoch in (1, 2, 3):
        chunks = epoch_batches(dataset, 4, 0, epoch)
        dataset.augment(Augmentation(0.5), 0, epoch)
        expected += [tuple(zip(*(dataset[i] for i in chunk), strict=True)) for chunk in chunks]
    same_batches(whole, expected)
    assert len(whole) == 9 and all(image.dtype == torch.float32 for images, _ in whole for image in images)
    assert len({tuple(each) for each in ids_of(whole)}) == 9
    for first in (1, 2):
        same_batches(
            list(shuffled_batches(tiny_scenes(), 4, epochs=3, first=first, **settings)), expected[first:],
        )
    assert list(shuffled_batches(tiny_scenes(), 4, seed=0, epoch=1, epochs=0, workers=workers)) == []


class Signed(DetectionDataset):
    """Says which process loaded an item."""

    def as_bytes(self, i, epoch=None):
        image, target = super().as_bytes(i, epoch)
        return image, target | {"by": torch.tensor(os.getpid())}


def test_the_processes_of_a_loader_outlive_its_epochs(tiny_scenes):
    by = [
        int(target["by"])
        for _, targets in shuffled_batches(Signed(tiny_scenes().annotations), 2, seed=0, epoch=0, epochs=4, workers=2)
        for target in targets
    ]
    assert len(by) == 4 * 12 and len(set(by)) == 2 and os.getpid() not in by


def test_pixels_travel_as_bytes_and_only_what_is_learned_goes_to_the_device(tiny_scenes, monkeypatch):
    sent = []
    monkeypatch.setattr(
        data, "zero_to_one",
        lambda pixels, real=data.zero_to_one: (sent.append((pixels.dtype, pixels.device.type)), real(pixels))[1],
    )
    for images, targets in shuffled_batches(tiny_scenes(), 4, seed=0, epoch=0, device="meta"):
        assert {(each.dtype, each.device.type) for each in images} == {(torch.float32, "meta")}
        for target in targets:
            assert {name: value.device.type for name, value in target.items()} == {
                "boxes": "meta", "labels": "meta", "image_id": "cpu", "scale": "cpu",
            }
    assert sent == [(torch.uint8, "meta")] * 3  # one conversion for a batch


def test_an_item_is_its_bytes_over_255(mixed):
    dataset = DetectionDataset(mixed)
    for chance in (0.0, 1.0):
        dataset.augment(Augmentation(chance), seed=0, epoch=0)
        for i in range(4):
            image, (pixels, target) = dataset[i][0], dataset.as_bytes(i)
            assert pixels.dtype == torch.uint8 and torch.equal(image, pixels / 255)
            assert target.keys() == dataset[i][1].keys()


def test_what_a_step_writes_into_its_images_is_not_kept(tiny_scenes):
    dataset = tiny_scenes()
    before = [image.clone() for image, _ in dataset]
    for images, _ in shuffled_batches(dataset, 4, seed=0, epoch=0):
        for image in images:
            image.zero_()
    assert all(torch.equal(image, old) for (image, _), old in zip(dataset, before, strict=True))


@pytest.mark.parametrize("workers, kept", [(0, 6), (2, 3), (4, 1)])
def test_the_processes_of_a_loader_share_the_bound_of_what_is_kept(tiny_scenes, monkeypatch, workers, kept):
    dataset = tiny_scenes()
    monkeypatch.setattr(data, "MAX_KEPT_BYTES", 6 * 3 * 64 * 64)
    monkeypatch.setattr(data, "get_worker_info", lambda: SimpleNamespace(num_workers=workers) if workers else None)
    for i in range(len(dataset)):
        dataset[i]
    assert len(dataset._kept) == kept


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_are_lists_as_images_differ_in_size_and_in_what_they_show(mixed, workers):
    """One of them shows nothing; masks come along where there are any."""
    segmentations = {image_id: [[[4.0, 4, 20, 4, 20, 20]]] * len(crowd) for image_id, crowd in mixed.crowd.items()}
    dataset = DetectionDataset(replace(mixed, segmentations=segmentations))
    ((images, targets),) = load_batches(dataset, [[(3, None), (0, None), (1, None)]], workers=workers)
    assert type(images) is type(targets) is list
    assert [tuple(each.shape) for each in images] == [(3, 64, 64), (3, 60, 100), (3, 40, 50)]
    for i, image, target in zip((3, 0, 1), images, targets, strict=True):
        expected, its_target = dataset[i]
        assert torch.equal(image, expected) and target.keys() == its_target.keys() and "masks" in target
        assert all(
            target[name].dtype == value.dtype and torch.equal(target[name], value) for name, value in its_target.items()
        )


# ---- which images ---

def test_a_limit_spreads_over_the_ids(coco_folder):
    folder = coco_folder([(8, 8)] * 20, {})
    for limit, ids in {
        0: list(range(1, 21)), 20: list(range(1, 21)), 99: list(range(1, 21)), 1: [1], 2: [1, 20],
        5: [1, 6, 10, 15, 20],
    }.items():
        dataset = DetectionDataset(read_split(folder, "all"), limit=limit)
        assert len(dataset) == len(ids) and len(set(dataset.image_ids)) == len(ids)
        assert dataset.image_ids == pytest.approx(ids, abs=1)
        assert [each["id"] for each in dataset.ground_truth()["images"]] == dataset.image_ids


def test_truth_holds_original_pixels_of_the_held_images_only(mixed):
    ground_truth = DetectionDataset(mixed, long_side=20, limit=2).ground_truth()
    assert [each["id"] for each in ground_truth["images"]] == [1, 4]
    assert [each["bbox"] for each in ground_truth["annotations"]] == [[10, 20, 40, 30]]
    assert min(each["id"] for each in ground_truth["annotations"]) == 1


def test_the_content_hash_changes_with_what_is_learned_or_evaluated(mixed):
    prints = [
        DetectionDataset(mixed).content_hash(), DetectionDataset(mixed, limit=2).content_hash(),
        DetectionDataset(mixed, long_side=50).content_hash(),
        DetectionDataset(replace(mixed, content_hash="another")).content_hash(),
    ]
    assert len(set(prints)) == 4 and DetectionDataset(mixed).content_hash() == prints[0]
    flipped = DetectionDataset(mixed)
    flipped.augment(Augmentation(1.0), 0, 0)
    assert flipped.content_hash() == prints[0]


# ---- from a run's settings ---

@pytest.fixture
def twenty(coco_folder):
    splits = {"train": list(range(1, 13)), "tune": [13, 14, 15], "val": list(range(16, 21))}
    return coco_folder([(40, 20)] * 20, {n: [(4, 4, 10, 10, 3, 0)] for n in range(1, 21)}, splits=splits)


def test_settings_decide_split_limit_and_size(tiny_config, twenty):
    config = tiny_config(data=str(twenty), train_images=6, eval_images=2, image_size=20)
    assert [len(open_split(config, name)) for name in ("train", "val")] == [6, 2]
    assert open_split(config, "train")[0][0].shape == (3, 10, 20)
    everything = config.but(train_images=0, eval_images=0, image_size=0)
    assert [len(open_split(everything, name)) for name in ("train", "tune", "val")] == [12, 3, 5]
    assert open_split(everything, "train")[0][0].shape == (3, 20, 40)


def test_digit_scenes_come_at_the_size_they_were_made_in(lab_home, tiny_config):
    config = tiny_config()
    assert [len(open_split(config, name, progress=False)) for name in ("train", "tune", "val")] == [12, 8, 8]
    assert open_split(config, "train")[0][0].shape == (3, 64, 64) and len(open_split(config, "train").classes) == 10


def test_a_run_evaluated_on_its_training_images_still_learns_from_all_of_them(lab_home, tiny_config):
    """Both settings name one split: open_split must not limit the training images to eval_images."""
    config = tiny_config(eval_split="train", train_images=12, eval_images=8)
    assert len(open_split(config, config.train_split)) == 12


def test_foreground_fractions_count_cells_by_hand(coco_folder):
    dataset = DetectionDataset(read_split(coco_folder([(64, 64), (64, 64)], {1: [(0, 0, 32, 16, 3, 0)]}), "all"))
    assert foreground_fractions(dataset) == {"P3": 8 / 64 / 2, "P4": 2 / 16 / 2, "P5": 1 / 4 / 2}
    assert foreground_fractions(dataset, rounding="authors") == {"P3": 15 / 64 / 2, "P4": 6 / 16 / 2, "P5": 4 / 4 / 2}
