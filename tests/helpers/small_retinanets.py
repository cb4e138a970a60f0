"""Two small RetinaNets in float64 and a scene for their heads, for tests of methods with heads and anchors."""
from functools import partial

import torch
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead

from fgdlab.distill import Distiller
from fgdlab.lab.detectors.builder import build
from fgdlab.scene import Scene
from fgdlab.terms import total

LEVELS = ("P3", "P4")
GRIDS = {"P3": (4, 4), "P4": (2, 2)}
SIZES = ((9, 13), (18, 26))  # two anchors a cell


class NoBackbone(nn.Module):
    """Only ``out_channels``: the tests hand over maps."""

    def __init__(self, channels: int):
        super().__init__()
        self.out_channels = channels


def small_retinanet(channels: int = 4, depth: int = 1, classes: int = 3, sizes=SIZES, seed: int = 0) -> RetinaNet:
    """Head towers of ``depth`` convolutions with group norm; weights off their start, so that scores and boxes vary."""
    torch.manual_seed(seed)
    head = RetinaNetHead(channels, len(sizes[0]), classes, norm_layer=partial(nn.GroupNorm, 2))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:depth]
    anchors = AnchorGenerator(sizes, ((1.0,),) * len(sizes))
    detector = RetinaNet(NoBackbone(channels), classes, anchor_generator=anchors, head=head).double()
    with torch.no_grad():
        for parameter in detector.head.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
        detector.head.classification_head.cls_logits.bias.add_(3.0)
    return detector


def small_scene(channels: int = 4, seed: int = 0, boxes=None, grad: bool = False) -> Scene:
    """A batch of two on 32 x 32 pixels; three boxes on the first image, none on the second."""
    draw = torch.Generator().manual_seed(seed)
    features = {
        level: torch.randn(2, channels, *grid, generator=draw, dtype=torch.float64).requires_grad_(grad)
        for level, grid in GRIDS.items()
    }
    if boxes is None:
        near = torch.rand(3, 2, generator=draw, dtype=torch.float64) * 16
        boxes = [
            torch.cat([near, near + 5 + 10 * torch.rand(3, 2, generator=draw, dtype=torch.float64)], dim=1),
            torch.zeros(0, 4).double(),
        ]
    return Scene(torch.zeros(2, 3, 32, 32), boxes, [(32, 32), (28, 30)], features)


def teacher_maps(channels: int = 4, seed: int = 1) -> dict:
    draw = torch.Generator().manual_seed(seed + 1000)
    return {
        level: torch.randn(2, channels, *grid, generator=draw, dtype=torch.float64) for level, grid in GRIDS.items()
    }


def raws(terms) -> dict:
    return {(term.name, term.level): term.raw for term in terms}


def gradients(loss, features) -> list:
    """Of a scalar by every map; 0 where it does not reach."""
    wanted = list(features.values())
    found = torch.autograd.grad(loss, wanted, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(f) if g is None else g for f, g in zip(wanted, found, strict=True)]


def one_step(method_class, **settings):
    """A compact student and teacher under Distiller, one backward: (terms of the method, student, the whole module)."""
    torch.manual_seed(0)
    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)
    loss = method_class(student.levels, student, teacher, **settings)
    distiller = Distiller(student, teacher, loss).train()
    boxes = torch.tensor([[10.0, 12.0, 40.0, 44.0], [30.0, 5.0, 60.0, 30.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    terms = distiller([torch.rand(3, 64, 64), torch.rand(3, 64, 64)], targets)[2:]  # after the detector's own two
    total(terms).backward()
    return terms, student, distiller


# ---- plain Python: boxes are lists of four floats or 0-dim tensors ----

def naive_iou(a, b):
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    inter = max(width, 0) * max(height, 0)
    return inter / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter)


def naive_anchors(level: str, sizes=SIZES) -> list:
    """x1, y1, x2, y2 by row, column and anchor: squares around the cell's upper left corner, half sides rounded."""
    (rows, cols), stride = GRIDS[level], 2 ** int(level[1:])
    halves = [torch.tensor([-s, -s, s, s]).div(2).round().tolist() for s in map(float, sizes[LEVELS.index(level)])]
    return [
        [j * stride + h[0], i * stride + h[1], j * stride + h[2], i * stride + h[3]]
        for i in range(rows)
        for j in range(cols)
        for h in halves
    ]


def naive_match(boxes, anchors, high=0.5, low=0.4):
    """For every anchor: index of its box, -1 background, -2 in between.

    A box's best anchors belong to it whatever their IoU, ties included. Such an anchor gets the box that it overlaps
    most.
    """
    if not boxes:
        return [-1] * len(anchors)
    iou = [[naive_iou(box, anchor) for anchor in anchors] for box in boxes]
    found = []
    for a in range(len(anchors)):
        column = [row[a] for row in iou]
        best = column.index(max(column))
        is_best_of_a_box = any(row[a] == max(row) for row in iou)
        found.append(best if column[best] >= high or is_best_of_a_box else -2 if column[best] >= low else -1)
    return found
