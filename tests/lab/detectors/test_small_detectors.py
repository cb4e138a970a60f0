"""Small detectors have the levels of the large ones, and their weights load into torchvision's own parts."""
import sys
from pathlib import Path

import pytest
import torch
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet

from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.detectors.builder import DETECTORS, build
from fgdlab.lab.detectors.gfl import GFL
from fgdlab.lab.detectors.reppoints import RepPoints
from fgdlab.lab.detectors.yolox import YOLOX
from fgdlab.lab.training.evaluate import detections

sys.path.insert(0, str(Path(__file__).parents[3] / "ablations"))
import check_detectors

KINDS = {"retinanet": RetinaNet, "fcos": FCOS, "faster_rcnn": FasterRCNN, "mask_rcnn": MaskRCNN, "reppoints": RepPoints}
KINDS |= {"gfl": GFL, "yolox": YOLOX}
LEVELS = dict.fromkeys(KINDS, ("P3", "P4", "P5", "P6", "P7"))
LEVELS |= dict.fromkeys(("faster_rcnn", "mask_rcnn"), ("P2", "P3", "P4", "P5", "P6")) | {"yolox": ("P3", "P4", "P5")}


@pytest.mark.parametrize("backbone", ["small_s", "small_t"])
@pytest.mark.parametrize("name", DETECTORS)
def test_each_detector_builds_small_with_its_levels_and_gives_its_losses(name, backbone):
    detector = build(name, backbone, 3)
    assert isinstance(detector, KINDS[name]) and detector.levels == LEVELS[name]
    masks = torch.zeros(2, 64, 64, dtype=torch.uint8)
    masks[:, 10:30, 8:24] = 1
    boxes = torch.tensor([[8.0, 10.0, 24.0, 30.0], [8.0, 10.0, 24.0, 30.0]])
    losses = detector(
        [torch.rand(3, 64, 64)] * 2, [{"boxes": boxes, "labels": torch.tensor([1, 3]), "masks": masks}] * 2
    )
    assert all(torch.isfinite(each) for each in losses.values()) and ("loss_mask" in losses) == (name == "mask_rcnn")
    sum(losses.values()).backward()
    unused = [each for each, parameter in detector.named_parameters() if parameter.grad is None]
    assert unused == []


def test_the_teacher_is_larger_than_the_student():
    for name in DETECTORS:
        student, teacher = (
            sum(each.numel() for each in build(name, backbone, 10).parameters()) for backbone in ("small_s", "small_t")
        )
        assert teacher > 2 * student


def test_options_reach_the_detector():
    for name in ("retinanet", "fcos", "reppoints"):
        assert build(name, "small_s", 3, score_thresh=0.25).score_thresh == 0.25
    assert build("mask_rcnn", "small_s", 3, box_detections_per_img=3).roi_heads.detections_per_img == 3


def test_what_the_small_family_has_not_is_refused(refusal):
    assert "flavour must be 'torchvision' on 'small_s', got 'mmdet'" in refusal(
        build, "fcos", "small_s", 7, flavour="mmdet"
    )
    assert "init must be 'random' for yolox on 'small_t'" in refusal(build, "yolox", "small_t", 7, pretrained=True)


@pytest.mark.parametrize("size", ["s", "t"])
@pytest.mark.parametrize("name", ["retinanet", "fcos", "faster_rcnn", "mask_rcnn", "reppoints", "gfl"])
def test_a_pretrained_small_backbone_computes_what_the_compact_one_that_classified_glyphs_does(name, size):
    pixels = torch.rand(2, 3, 64, 64)
    small = build(name, f"small_{size}", 3, pretrained=True).eval().backbone.body(pixels)
    compact = build("retinanet", f"compact_{size}", 3, pretrained=True).eval().backbone.stage_maps(pixels)
    for ours, expected in zip(list(small.values())[-3:], compact.values(), strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", DETECTORS)
def test_the_state_of_a_small_student_loads_into_torchvisions_parts_and_finds_the_same(name, lab_home, tiny_config):
    dataset = open_split(tiny_config(detector=name), "val", progress=False)
    student = build(name, "small_s", 10)
    with torch.no_grad():
        for each in student.modules():                               # statistics that are not those of a new norm
            if isinstance(each, torch.nn.BatchNorm2d):
                each.running_mean.uniform_(-0.1, 0.1)
                each.running_var.uniform_(0.5, 1.5)
    if name in check_detectors.OURS:
        other = build(name, "small_s", 10, min_size=64, max_size=64)
    else:
        other = check_detectors.plain_detector(name, 10, 64)
        assert {type(each).__module__.split(".")[0] for each in other.modules()} == {"torch", "torchvision"}
    other.load_state_dict(student.state_dict())                      # strict
    for each in (student, other):                                    # what knows nothing yet is sure of nothing
        (each.roi_heads if name.endswith("rcnn") else each).score_thresh = 0.0
    found = detections(student, dataset)
    assert len(found) > 0 and found == detections(other, dataset)
