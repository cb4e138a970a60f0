"""YOLOX (Ge et al., 2021): a decoupled head without anchors, and objects matched by cost (SimOTA).

    P3, P4, P5 --class tower--> class logits (N, C, H, W)
               --box tower----> centre and log sides in strides (N, 4, H, W), objectness logits (N, 1, H, W)

A detection's score is class score times objectness.
"""
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import box_convert, box_iou

from .batched import padded
from .darknet import DarknetPyramid, wide_conv
from .dense import DenseDetector, flat, grid_points, paired_iou

DEPTH_AND_WIDTH = {
    "yolox_nano": (1 / 3, 0.25), "yolox_tiny": (1 / 3, 0.375), "yolox_s": (1 / 3, 0.5), "yolox_m": (2 / 3, 0.75),
    "yolox_l": (1.0, 1.0), "yolox_x": (4 / 3, 1.25),
}
CENTRE_RADIUS, MOST_CELLS, IOU_COST = 2.5, 10, 3.0  # strides; cells of an object, at most; weight of its overlap


def yolox_pyramid(size: str) -> DarknetPyramid:
    depth, width = DEPTH_AND_WIDTH[size]
    widths = tuple(int(channels * width) for channels in (64, 128, 256, 512, 1024))
    counts = tuple(round(count * depth) for count in (3, 9, 9, 3))
    return DarknetPyramid(widths, counts, widths[2], depthwise=size == "yolox_nano")


class YOLOXHead(nn.Module):
    """Two towers of 3x3 convolutions and 1x1 predictions for each level: class logits (N, C, H, W), boxes (N, 4, H, W),
    objectness (N, 1, H, W)."""

    def __init__(self, channels: int, classes: int, convs: int = 2, depthwise: bool = False):
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(*(wide_conv(channels, channels, depthwise=depthwise) for _ in range(convs)))

        self.cls_convs, self.reg_convs = (nn.ModuleList(tower() for _ in range(3)) for _ in range(2))
        self.conv_cls, self.conv_reg, self.conv_obj = (
            nn.ModuleList(nn.Conv2d(channels, outputs, 1) for _ in range(3)) for outputs in (classes, 4, 1))
        for layer in (*self.conv_cls, *self.conv_obj):
            nn.init.constant_(layer.bias, -math.log(99))  # score 1 % at the start

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        outputs = []
        for i, features in enumerate(maps):
            classes, boxes = self.cls_convs[i](features), self.reg_convs[i](features)
            outputs.append((self.conv_cls[i](classes), self.conv_reg[i](boxes), self.conv_obj[i](boxes)))
        return outputs


class YOLOX(DenseDetector):
    """YOLOX on P3, P4, P5.

    Differs: no mosaic and mixup, nor the L1 loss of the boxes with which the authors train after them.
    """

    STRIDES = (8, 16, 32)

    def __init__(self, backbone: nn.Module, head: YOLOXHead, **options):
        defaults = {"score_thresh": 0.01, "nms_thresh": 0.65, "topk_candidates": 10_000}
        super().__init__(backbone, head, **{**defaults, **options})

    def losses(self, levels: list[list[Tensor]], targets: list[dict]) -> dict[str, Tensor]:
        """Cross-entropy of objectness everywhere, of classes at positive cells with the IoU as target, and 1 - IoU^2 of
        the boxes, each over the positives of the batch."""
        corners, strides = grid_points([logits for logits, _, _ in levels], self.STRIDES)
        logits, boxes, objectness = flat(levels)  # (N, A, C), (N, A, 4), (N, A, 1)
        boxes = decode(boxes, corners, strides[:, None])
        with torch.no_grad():
            scores, centres = (logits.sigmoid() * objectness.sigmoid()).sqrt(), corners + strides[:, None] / 2
            owners = torch.stack([
                match_by_cost(scores[i], boxes[i], centres, strides, target["boxes"], target["labels"] - 1)
                for i, target in enumerate(targets)
            ])  # (N, A)
        positive = owners >= 0
        image, cell = positive.nonzero(as_tuple=True)  # (F,) each
        wanted, labels = (each[image, owners[image, cell]] for each in padded(targets))
        iou, count = paired_iou(boxes[positive], wanted), positive.sum().clamp(min=1)
        quality = torch.zeros_like(logits[positive])  # (F, C)
        quality[torch.arange(len(labels), device=labels.device), labels - 1] = iou.detach()

        def entropy(logits: Tensor, target: Tensor) -> Tensor:
            return binary_cross_entropy_with_logits(logits, target, reduction="sum") / count

        return {
            "classification": entropy(logits[positive], quality),
            "boxes": 5 * (1 - iou.square()).sum() / count,
            "objectness": entropy(objectness[..., 0], positive.to(objectness)),
        }

    def cell_scores(self, maps: list[Tensor]) -> Tensor:
        """Only the best class of a cell counts, as in the authors' code."""
        logits, _, objectness = (each.flatten(1).mT for each in maps)
        scores = logits.sigmoid() * objectness.sigmoid()
        return scores * (scores == scores.amax(dim=1, keepdim=True))

    def cell_boxes(self, maps: list[Tensor], cells: Tensor, corners: Tensor, stride: int) -> Tensor:
        return decode(maps[1].flatten(1).mT[cells], corners, stride)


def decode(predicted: Tensor, corners: Tensor, stride: Tensor | int) -> Tensor:
    """Boxes (..., 4) xyxy in pixels from centres, relative to the corners (..., 2), and log sides in strides."""
    centres, sides = predicted[..., :2] * stride + corners, predicted[..., 2:].exp() * stride
    return box_convert(torch.cat([centres, sides], dim=-1), "cxcywh", "xyxy")


def match_by_cost(
    scores: Tensor, boxes: Tensor, centres: Tensor, strides: Tensor, gt_boxes: Tensor, labels: Tensor,
) -> Tensor:
    """SimOTA: (A,) index of the object, -1 for none.

    An object takes the k cells of least cost, where k is the sum of its ten largest overlaps, at least 1. The cost is
    the cross-entropy of the cell's scores to the object's class, minus 3 log IoU of the predicted box. Cells in both
    the object's box and the square of 2.5 strides around its centre come first, then cells in the box or square of any
    object. A cell of several objects belongs to the one of least cost.

    scores: (A, C) in 0..1. boxes: (A, 4) predicted. centres, strides: (A, 2), (A,) of the cells. labels: from 0.
    """
    owner = torch.full((len(scores),), -1, device=scores.device)
    low, high = gt_boxes[:, None].split(2, dim=-1)  # (K, 1, 2)
    in_box = ((centres > low) & (centres < high)).all(dim=2)  # (K, A)
    radius = CENTRE_RADIUS * strides[:, None]
    central = ((centres - (low + high) / 2).abs() < radius).all(dim=2)
    near = (in_box | central).any(dim=0).nonzero()[:, 0]  # (V,)
    if not len(near):
        return owner
    iou = box_iou(gt_boxes, boxes[near])  # (K, V)
    yes, no = (part[near].log().clamp(min=-100) for part in (scores, 1 - scores))  # (V, C)
    entropy = (no[:, labels] - yes[:, labels] - no.sum(dim=1, keepdim=True)).T
    cost = entropy - IOU_COST * (iou + 1e-7).log() + 1e8 * ~(in_box & central)[:, near]
    count = iou.topk(min(MOST_CELLS, len(near)), dim=1).values.sum(dim=1).int().clamp(min=1)  # (K,)
    taken = cost.argsort(dim=1).argsort(dim=1) < count[:, None]  # (K, V)
    several = taken.sum(dim=0) > 1
    best = torch.where(several, cost.argmin(dim=0), taken.int().argmax(dim=0))
    owner[near] = torch.where(taken.any(dim=0), best, -1)
    return owner
