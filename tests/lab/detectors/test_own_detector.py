"""The example of custom detectors: a custom backbone in RetinaNet and a custom detector learn from a wider teacher."""
import sys
from pathlib import Path

import pytest
import torch

import fgdlab
from fgdlab import Distiller, FGDLoss
from fgdlab.lab.training.preflight_checks import preflight
from fgdlab.scene import look

sys.path.insert(0, str(Path(fgdlab.__file__).parents[1] / "ablations"))
import own_detector

MAKERS = {"yolo": own_detector.Yolo, "retinanet": own_detector.retinanet}


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_both_keep_the_contract(make):
    detector = make(16, 3).eval()
    images = [torch.rand(3, 64, 64), torch.rand(3, 40, 90)]
    scene = look(detector, images)
    assert tuple(scene.features) == own_detector.LEVELS and scene.features["P3"].shape == (2, 16, 8, 12)
    with torch.no_grad():
        found = detector(images)
    assert len(found) == 2 and all(each.keys() == {"boxes", "scores", "labels"} for each in found)


def test_the_detector_written_by_hand_finds_an_object_that_it_was_shown():
    torch.manual_seed(0)
    detector = own_detector.Yolo(16, 2)
    image = torch.zeros(3, 64, 64)
    image[:, 16:48, 8:40] = 1.0
    target = {"boxes": torch.tensor([[8.0, 16.0, 40.0, 48.0]]), "labels": torch.tensor([2])}
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}
    optimizer = torch.optim.AdamW(detector.parameters(), 1e-2)
    for _ in range(60):
        losses = detector([image, torch.zeros(3, 64, 64)], [target, empty])
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
    with torch.no_grad():
        found = detector.eval()([image])[0]
    assert found["labels"][0] == 2 and (found["boxes"][0] - target["boxes"][0]).abs().max() < 6
    assert found["scores"][0] > 0.3


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_both_are_distilled_from_a_wider_one(make, tiny_scenes):
    dataset = tiny_scenes()
    student, teacher = make(8, 10), make(16, 10)
    lines = preflight(Distiller(student, teacher, FGDLoss(own_detector.LEVELS, 8, 16)), dataset)
    assert all(line.passed is not False for line in lines)
    assert any(line.name == "loss ratio of 'global'" for line in lines)


def test_the_example_runs_on_data_of_ones_own(coco_folder, tiny_config):
    boxes = {n: [(8, 8, 24, 32, 3, 0)] for n in range(1, 9)}
    folder = coco_folder([(64, 64)] * 8, boxes, splits={"train": [1, 2, 3, 4, 5, 6], "val": [7, 8]})
    config = tiny_config(data=str(folder), image_size=0, train_images=0, eval_images=0, epochs=1, batch_size=2)
    scores = own_detector.distil(own_detector.Yolo, config, 8, 16, progress="off")
    assert scores.keys() == {"teacher", "alone", "distilled"} and all(0 <= each <= 100 for each in scores.values())
