"""Anchors fitted to boxes, and detectors that have them."""
import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.detectors import anchors as anchors_module
from fgdlab.lab.detectors.anchors import FIT, FittedAnchors, fit_anchors, iou, parse_anchors
from fgdlab.lab.detectors.builder import build

TEXT = "10x20,16x16/30x28,41x40/70x80,99x120"


def test_a_text_is_widths_and_heights_level_by_level():
    assert [level.tolist() for level in parse_anchors(TEXT)][1:] == [[[30, 28], [41, 40]], [[70, 80], [99, 120]]]


@pytest.mark.parametrize(
    "text", ["10", "10x", "10x20;30x40", "10x20,", "/10x20", "10x20/30x40,50x60", "0x5", "-1x5", "a"])
def test_another_text_is_refused(text, refusal):
    assert refusal(parse_anchors, text).startswith("anchors must ")


def test_iou_of_sizes_is_that_of_boxes_around_one_centre():
    from torchvision.ops import box_iou

    sizes = np.random.default_rng(0).uniform(1, 50, (20, 2))
    others = np.random.default_rng(1).uniform(1, 50, (7, 2))
    boxes = [torch.from_numpy(np.concatenate([-each, each], 1) / 2) for each in (sizes, others)]
    assert_close(torch.from_numpy(iou(sizes, others)), box_iou(*boxes))


def test_clusters_of_boxes_are_found_and_small_ones_are_on_the_fine_levels():
    centres = np.array([[8, 20], [20, 8], [30, 30], [60, 30], [90, 90], [200, 50]])
    sizes = np.repeat(centres, 50, axis=0) * np.random.default_rng(0).uniform(0.95, 1.05, (300, 2))
    text, met = fit_anchors(sizes, 3)
    levels = parse_anchors(text)
    found = torch.cat(levels).numpy()
    assert met == 1.0 and len(found) == 6 and iou(centres, found).max(1).min() > 0.9
    areas = [level.prod(1) for level in levels]
    assert areas[0].max() <= areas[1].min() and areas[1].max() <= areas[2].min()


def test_more_anchors_are_fitted_until_the_share_is_met(monkeypatch):
    sizes = np.exp(np.random.default_rng(0).uniform(np.log(6), np.log(200), (3000, 2)))
    found = []
    for share in (0.5, 0.9):
        monkeypatch.setattr(anchors_module, "SHARE", share)
        found.append(fit_anchors(sizes, 3))
    (few, low), (many, high) = found
    assert low >= 0.5 and high >= 0.9 and many.count("x") > few.count("x")
    anchors = torch.cat(parse_anchors(many)).tolist()
    best = [
        max(min(w, a) * min(h, b) / (w * h + a * b - min(w, a) * min(h, b)) for a, b in anchors) for w, h in sizes
    ]
    assert high == pytest.approx(np.mean(np.array(best) >= FIT))


@pytest.mark.parametrize("sizes, met", [([[12.0, 9.0]], 1.0), ([[0.2, 0.2]] * 5, 0.0)])
def test_one_box_and_equal_boxes_have_anchors_too(sizes, met):
    text, share = fit_anchors(np.array(sizes), 3)
    assert len(parse_anchors(text)) == 3 and share == met


@pytest.mark.parametrize("name, backbone, levels", [
    ("retinanet", "compact_s", 3), ("retinanet", "small_s", 5), ("faster_rcnn", "small_s", 5),
    ("mask_rcnn", "small_s", 5),
])
def test_a_detector_learns_with_the_anchors_of_its_settings(name, backbone, levels):
    text = "/".join(f"{8 * 2 ** k}x{9 * 2 ** k},{5 * 2 ** k}x{4 * 2 ** k},{7 * 2 ** k}x7" for k in range(levels))
    detector = build(name, backbone, 3, anchors=text)
    generator = getattr(detector, "rpn", detector).anchor_generator
    assert generator.num_anchors_per_location() == [3] * levels
    batch, _ = detector.transform([torch.zeros(3, 64, 64)])
    anchors = generator(batch, [torch.zeros(1, 1, max(8 >> k, 1), max(8 >> k, 1)) for k in range(levels)])[0]
    assert_close((anchors[:, 2:] - anchors[:, :2])[:3], parse_anchors(text)[0])
    assert_close(anchors[:3, :2] + anchors[:3, 2:], torch.zeros(3, 2))
    target = {"boxes": torch.tensor([[4.0, 4, 30, 40]]), "labels": torch.tensor([1])}
    target["masks"] = torch.ones(1, 64, 64).byte()
    losses = detector.train()([torch.rand(3, 64, 64)] * 2, [target] * 2)
    assert all(value.isfinite() for value in losses.values())


def test_torchvisions_retinanet_has_a_head_for_them():
    detector = build("retinanet", "resnet18", 2, anchors="/".join(["8x8,9x9"] * 5))
    assert detector.head.classification_head.num_anchors == 2


def test_anchors_are_refused_where_a_detector_has_none_or_other_levels(refusal):
    assert "must be empty for fcos" in refusal(build, "fcos", "small_s", 2, anchors=TEXT)
    assert "flavour mmdet" in refusal(build, "retinanet", "resnet18", 2, flavour="mmdet", anchors=TEXT)
    text = refusal(build, "retinanet", "small_s", 2, anchors=TEXT)
    assert "must have 5 levels for retinanet on small_s, got 3" in text


def test_without_a_text_anchors_are_those_of_digits():
    generator = build("retinanet", "compact_s", 2).anchor_generator
    assert not isinstance(generator, FittedAnchors) and generator.sizes == ((14, 20), (28, 40), (56, 79))
