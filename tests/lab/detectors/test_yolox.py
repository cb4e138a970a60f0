"""YOLOX: matching by cost equals a loop; sizes; degenerate batches; pixels; what is detected and refused."""
import math

import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.detectors.builder import build
from fgdlab.lab.detectors.darknet import DarknetPixels, Focus
from fgdlab.lab.detectors.dense import grid_points
from fgdlab.lab.detectors.yolox import DEPTH_AND_WIDTH, YOLOX, YOLOXHead, match_by_cost, yolox_pyramid

PARAMETERS = {  # millions, of MMDetection's table of YOLOX (configs/yolox): 80 classes
    "yolox_nano": 0.91, "yolox_tiny": 5.06, "yolox_s": 8.97, "yolox_m": 25.33, "yolox_l": 54.21, "yolox_x": 99.07,
}


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build("yolox", "small_s", 3)


def cells(side=64):
    return grid_points([torch.zeros(1, 1, side // stride, side // stride) for stride in YOLOX.STRIDES], YOLOX.STRIDES)


def naive_iou(a, b):
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def naive_match(scores, boxes, centres, strides, gt_boxes, labels):
    """Costs of every cell and object, cell by cell; then each object takes its cheapest cells."""
    cells, objects = range(len(scores)), range(len(gt_boxes))

    def near(a, k):
        (x, y), (x0, y0, x1, y1), radius = centres[a].tolist(), gt_boxes[k].tolist(), 2.5 * float(strides[a])
        in_box = x0 < x < x1 and y0 < y < y1
        return in_box, abs(x - (x0 + x1) / 2) < radius and abs(y - (y0 + y1) / 2) < radius

    allowed = [a for a in cells if any(any(near(a, k)) for k in objects)]
    cost, overlap = {}, {}
    for a in allowed:
        for k in objects:
            overlap[a, k] = naive_iou(boxes[a].tolist(), gt_boxes[k].tolist())
            entropy = sum(
                -math.log(p) if c == labels[k] else -math.log(1 - p) for c, p in enumerate(scores[a].tolist()))
            cost[a, k] = entropy - 3 * math.log(overlap[a, k] + 1e-7) + (0 if all(near(a, k)) else 1e8)
    owners = {}
    for k in objects:
        count = max(int(sum(sorted((overlap[a, k] for a in allowed), reverse=True)[:10])), 1)
        for a in sorted(allowed, key=lambda a, k=k: cost[a, k])[:count]:
            owners.setdefault(a, []).append(k)
    return [
        -1 if a not in owners else owners[a][0] if len(owners[a]) == 1 else min(objects, key=lambda k, a=a: cost[a, k])
        for a in cells
    ]


@pytest.mark.parametrize("seed", range(4))
def test_matching_equals_the_loop(seed):
    generator = torch.Generator().manual_seed(seed)
    corners, strides = (each.double() for each in cells())
    centres = corners + strides[:, None] / 2
    gt_boxes = torch.tensor([[5.0, 8, 40, 44], [12.0, 10, 45, 50], [50.0, 2, 56, 9]]).double()
    labels = torch.tensor([0, 2, 1])
    nearest = gt_boxes[torch.randint(3, (len(corners),), generator=generator)]
    boxes = nearest + 3 * torch.randn(nearest.shape, generator=generator).double()
    scores = torch.rand(len(corners), 3, generator=generator).double() * 0.9 + 0.05
    found = match_by_cost(scores, boxes, centres, strides, gt_boxes, labels).tolist()
    assert found == naive_match(scores, boxes, centres, strides, gt_boxes, labels)
    assert set(found) == {-1, 0, 1, 2} and found.count(0) > 1


def test_without_boxes_every_cell_is_background():
    corners, strides = cells()
    none = match_by_cost(
        torch.rand(len(corners), 3), torch.rand(len(corners), 4), corners, strides, torch.zeros(0, 4),
        torch.zeros(0).long())
    assert none.tolist() == [-1] * len(corners)


def test_a_tiny_box_still_gets_the_cheapest_cell_around_its_centre():
    corners, strides = cells()
    box = torch.tensor([[17.0, 17, 18, 18]])  # no cell's centre lies in it
    found = match_by_cost(
        torch.full((len(corners), 1), 0.5), torch.cat([corners, corners + strides[:, None]], dim=1),
        corners + strides[:, None] / 2, strides, box, torch.tensor([0]))
    assert (found == 0).sum() == 1


def test_a_batch_without_objects_has_only_a_loss_of_objectness(small):
    losses = small.train()([torch.rand(3, 64, 64)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    assert losses["objectness"] > 0 and losses["boxes"] == losses["classification"] == 0
    sum(losses.values()).backward()


def test_a_sure_cell_is_detected_with_its_best_class_alone(small):
    levels = [
        (torch.full((1, 3, n, n), -20.0), torch.zeros(1, 4, n, n), torch.full((1, 1, n, n), -20.0)) for n in (8, 4, 2)]
    logits, boxes, objectness = levels[1]
    logits[0, :, 2, 1] = torch.tensor([2.0, 3.0, 1.0])
    objectness[0, 0, 2, 1] = 4.0
    boxes[0, :, 2, 1] = torch.tensor([0.5, 0.25, math.log(2), math.log(1.5)])  # centre 24, 36; sides 32, 24
    (found,) = small.detections(levels, [(64, 64)])
    assert found["labels"].tolist() == [2]
    assert_close(found["boxes"], torch.tensor([[8.0, 24, 40, 48]]))
    assert_close(found["scores"], (torch.tensor([3.0]).sigmoid() * torch.tensor([4.0]).sigmoid()))


@pytest.mark.parametrize("size", DEPTH_AND_WIDTH)
def test_a_size_has_its_published_number_of_parameters(size):
    with torch.device("meta"):
        pyramid = yolox_pyramid(size)
        head = YOLOXHead(pyramid.out_channels, 80, depthwise=size == "yolox_nano")
    count = sum(each.numel() for module in (pyramid, head) for each in module.parameters())
    assert abs(count / 1e6 - PARAMETERS[size]) < 0.01


def test_pixels_are_the_images_bytes_in_reverse_order_of_colours():
    bgr = torch.tensor([10.0, 20.0, 30.0])
    rgb = bgr.flip(0) / 255
    normalised = (rgb - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    assert_close(DarknetPixels()(normalised[None, :, None, None]).flatten(), bgr, atol=1e-4, rtol=0)


def test_the_stem_reads_the_four_pixels_of_a_cell_column_by_column():
    stem = Focus(4)
    stem.conv = torch.nn.Identity()
    found = stem(torch.arange(16.0).view(1, 1, 4, 4).expand(1, 3, 4, 4))
    assert found[0, ::3, 0, 0].tolist() == [0, 4, 1, 5] and found.shape == (1, 12, 2, 2)


def test_other_backbones_and_imagenet_weights_are_refused(refusal):
    assert "detector must be 'yolox' on one of yolox_nano" in refusal(build, "yolox", "resnet50", 3)
    assert "got 'fcos' on 'yolox_s'" in refusal(build, "fcos", "yolox_s", 3)
    for fixed in ({"pretrained": True}, {"frozen_norms": True}):
        assert "pretrained and frozen_norms must be off for 'yolox_s'" in refusal(build, "yolox", "yolox_s", 3, **fixed)
