"""GFL: assignment by ATSS and its losses equal loops; degenerate batches; what is detected."""
import math

import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.detectors.builder import build
from fgdlab.lab.detectors.dense import STRIDES, grid_points
from fgdlab.lab.detectors.gfl import BINS, GFL, GFLHead, distribution_focal_loss, match_by_atss, quality_focal_loss

BOXES = torch.tensor([[4.0, 6.0, 40.0, 50.0], [20.0, 20.0, 60.0, 62.0], [1.0, 1.0, 9.0, 12.0]])
MAPS = [torch.zeros(1, 1, -(-64 // stride), -(-64 // stride)) for stride in STRIDES]


def naive_iou(a, b):
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def naive_atss(corners, strides, boxes, scale):
    """Object by object: nine nearest cells of each level, the threshold of their overlaps, then the largest overlap."""
    anchors = [
        [x - scale * s / 2, y - scale * s / 2, x + scale * s / 2, y + scale * s / 2]
        for (x, y), s in zip(corners.tolist(), strides.tolist(), strict=True)
    ]
    owner, best, thresholds = [-1] * len(anchors), [-1.0] * len(anchors), []
    for k, box in enumerate(boxes.tolist()):
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        near = []
        for stride in sorted(set(strides.tolist())):
            level = [i for i, s in enumerate(strides.tolist()) if s == stride]
            near += sorted(level, key=lambda i, m=middle: math.dist(corners[i].tolist(), m))[:9]
        overlaps = [naive_iou(anchors[i], box) for i in near]
        mean = sum(overlaps) / len(overlaps)
        thresholds.append(mean + math.sqrt(sum((each - mean) ** 2 for each in overlaps) / (len(overlaps) - 1)))
        for i, overlap in zip(near, overlaps, strict=True):
            x, y = corners[i].tolist()
            inside = min(x - box[0], y - box[1], box[2] - x, box[3] - y) > 0.01
            if inside and overlap >= thresholds[-1] and overlap > best[i]:
                owner[i], best[i] = k, overlap
    return owner, thresholds


@pytest.fixture(scope="module")
def small():
    torch.manual_seed(0)
    return build("gfl", "small_s", 3)


@pytest.mark.parametrize("scale", [3.0, 8.0])
def test_atss_equals_the_loop(scale):
    corners, strides = grid_points(MAPS)
    corners = corners + torch.rand(corners.shape, generator=torch.Generator().manual_seed(1)) / 8  # no equal distances
    half = scale / 2 * strides[:, None]
    owner, threshold = match_by_atss(torch.cat([corners - half, corners + half], dim=1), strides, BOXES)
    wanted, thresholds = naive_atss(corners, strides, BOXES, scale)
    assert owner.tolist() == wanted and set(wanted) >= {-1, 0, 1}
    assert_close(threshold, torch.tensor(thresholds))


def test_a_box_without_a_cell_in_it_gets_none(small):
    _, owner, threshold = small.assign(MAPS, torch.tensor([[1.0, 1.0, 7.0, 7.0]]))  # no corner in it
    assert owner.max() == -1 and len(threshold) == 1


def test_without_boxes_every_cell_is_background(small):
    _, owner, threshold = small.assign(MAPS, torch.zeros(0, 4))
    assert owner.max() == -1 and threshold.shape == (0,)


def test_distances_are_the_means_of_the_distributions():
    head, bins = GFLHead(32, 3), torch.full((2, 4, BINS), -1e9)
    for side, distance in enumerate((0, 3, 7, 16)):
        bins[0, side, distance] = 0.0
        bins[1, side, [distance, 5]] = 0.0
    assert_close(head.distances(bins.flatten(1)), torch.tensor([[0.0, 3, 7, 16], [2.5, 4, 6, 10.5]]))


def test_the_distribution_loss_is_least_at_the_two_neighbours_of_a_distance():
    bins = torch.full((1, BINS), -30.0)
    bins[0, 2], bins[0, 3] = math.log(0.75), math.log(0.25)
    found = distribution_focal_loss(bins, torch.tensor([2.25]))
    assert_close(found, torch.tensor([-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))]))
    assert distribution_focal_loss(torch.zeros(1, BINS), torch.tensor([2.25])) > found


def test_the_quality_loss_vanishes_where_the_score_is_the_quality():
    quality = torch.tensor([0.2, 0.9])
    assert_close(quality_focal_loss(quality.logit(), quality), torch.zeros(2))
    score, wanted = 1 / (1 + math.exp(-0.5)), 0.8
    entropy = -(wanted * math.log(score) + (1 - wanted) * math.log(1 - score))
    found = quality_focal_loss(torch.tensor([0.5]), torch.tensor([wanted]))
    assert_close(found, torch.tensor([(wanted - score) ** 2 * entropy]))


def test_a_batch_without_objects_has_only_a_loss_of_the_classes(small):
    losses = small.train()([torch.rand(3, 64, 64)], [{"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    assert losses["classification"] > 0 and losses["boxes"] == losses["bins"] == 0
    sum(losses.values()).backward()


def test_a_batch_counts_like_its_images_together(small):
    """Sums over images divided by sums of weights: twice the same image gives the losses of one."""
    maps = small.head([torch.rand(1, 64, n, n, generator=torch.Generator().manual_seed(n)) for n in (8, 4, 2, 1, 1)])
    maps = [(logits + 5, bins) for logits, bins in maps]  # weights whose sum is above 1
    target = {"boxes": BOXES[:2], "labels": torch.tensor([1, 3])}
    once = small.losses(maps, [target])
    twice = small.losses([tuple(each.expand(2, -1, -1, -1) for each in level) for level in maps], [target, target])
    assert once["boxes"] > 0 and once.keys() == twice.keys()
    assert_close(once, twice)


def test_a_sure_cell_is_detected_where_its_distributions_say(small):
    levels = []
    for side in (8, 4, 2, 1, 1):
        levels.append((torch.full((1, 3, side, side), -20.0), torch.full((1, 4 * BINS, side, side), -50.0)))
    levels[0][0][0, 2, 3, 4] = 5.0  # class 3 at y = 24, x = 32
    for side, distance in enumerate((1, 2, 3, 2)):
        levels[0][1][0, side * BINS + distance, 3, 4] = 50.0
    (found,) = small.detections(levels, [(64, 64)])
    assert found["labels"].tolist() == [3]
    assert_close(found["boxes"], torch.tensor([[32.0 - 8, 24 - 16, 32 + 24, 24 + 16]]))


def test_the_flavours_differ_only_in_the_backbones_norms():
    ours, theirs = (build("gfl", "resnet18", 2, flavour=flavour) for flavour in ("torchvision", "mmdet"))
    assert isinstance(ours, GFL) and ours.levels == theirs.levels == ("P3", "P4", "P5", "P6", "P7")
    assert [name for name, _ in ours.named_parameters()] == [name for name, _ in theirs.named_parameters()]
    kinds = {type(each).__name__ for each in theirs.backbone.modules()}
    assert "FrozenStatsBatchNorm2d" in kinds and "BatchNorm2d" in {type(m).__name__ for m in ours.backbone.modules()}
