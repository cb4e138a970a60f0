"""RepPoints with the moment transform (Yang et al., ICCV 2019): an object as nine points, refined once.

    P3..P7 --box tower--> init points (N, 18, H, W) --moment box--> init box, matched to objects by centre and size
           |                +--> PointConv of the box tower --> refined points --moment box--> box, matched by overlap
           +--class tower---+--> PointConv of the class tower --> class logits (N, C, H, W)

Points are (y, x) pairs in cells, relative to the corner of their cell.
"""
import math
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.ops import box_iou, sigmoid_focal_loss

from .batched import padded
from .dense import DenseDetector, flat, grid_points, positives, start_small, tower

POINTS = 9  # taps of a 3x3 kernel
BASE_SCALE = 4  # a level is for objects of about four strides
GRADIENT_TO_INIT = 0.1  # factor of the refinement's gradient
MOMENT_LEARNING = 0.01  # factor of the gradient to the moment factors
SMOOTH_L1_BETA = 1 / 9
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4


class PointConv(nn.Conv2d):
    """A deformable 3x3 convolution: out(cell) = sum_k W_k F(cell + point_k), bilinear, 0 outside the map.

    Maps (N, C, H, W), points (N, 18, H, W) -> (N, C', H, W).

    Differs: MMDetection calls deform_conv2d. The sum is the same in a sixth of the time on a CPU
        (benchmarks/laptop_step.py).
    """

    def forward(self, features: Tensor, points: Tensor) -> Tensor:
        size = features.shape[-2:]
        y, x = points.unflatten(1, (POINTS, 2)).unbind(2)  # (N, 9, H, W) each
        rows, columns = (torch.arange(side, dtype=torch.float32, device=points.device) for side in size)
        place = torch.stack([(x + columns + 0.5) / size[1], (y + rows[:, None] + 0.5) / size[0]], dim=-1)  # 0..1
        sampled = nn.functional.grid_sample(features, 2 * place.flatten(1, 2) - 1, align_corners=False)
        return (self.weight.flatten(1) @ sampled.view(len(sampled), -1, size.numel())).unflatten(2, size)


class RepPointsHead(nn.Module):
    """Two towers, two point predictions and one class prediction.

    Args:
        convs, norm: per tower, and their norm. out_norm: of the three last ones, which have none in the paper.
    Returns per level: logits (N, C, H, W), init points (N, 18, H, W), refined points (N, 18, H, W).
    """

    def __init__(
        self, channels: int, classes: int, convs: int = 3, norm=partial(nn.GroupNorm, 32), out_norm=nn.Identity,
    ):
        super().__init__()
        self.class_tower, self.box_tower = (tower(channels, convs, norm) for _ in range(2))
        self.class_conv = PointConv(channels, channels, 3, bias=False)
        self.class_out = nn.Conv2d(channels, classes, 1)
        self.init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.init_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.refine_conv = PointConv(channels, channels, 3, bias=False)
        self.refine_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.class_norm, self.init_norm, self.refine_norm = (out_norm(channels) for _ in range(3))
        self.moment = nn.Parameter(torch.zeros(2))  # log factors of width and height
        start_small(self)

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [self.forward_level(features) for features in maps]

    def forward_level(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        classes, boxes = self.class_tower(features), self.box_tower(features)
        init = self.init_out(self.init_norm(self.init_conv(boxes)).relu())
        slowed = GRADIENT_TO_INIT * init + (1 - GRADIENT_TO_INIT) * init.detach()
        logits = self.class_out(self.class_norm(self.class_conv(classes, slowed)).relu())
        refined = self.refine_out(self.refine_norm(self.refine_conv(boxes, slowed)).relu()) + init.detach()
        return logits, init, refined

    def moment_box(self, points: Tensor) -> Tensor:
        """Points (..., 18) in cells -> boxes (..., 4) xyxy in cells: mean +- standard deviation * exp(moment)."""
        pairs = points.unflatten(-1, (POINTS, 2)).flip(-1)  # (..., 9, 2): x, y
        moment = MOMENT_LEARNING * self.moment + (1 - MOMENT_LEARNING) * self.moment.detach()
        centre, half = pairs.mean(dim=-2), pairs.std(dim=-2) * moment.exp()
        return torch.cat([centre - half, centre + half], dim=-1)


class RepPoints(DenseDetector):
    """RepPoints on a pyramid P3..P7.

    Args:
        classes: of the default head, which stands in where ``head`` is None. Others: those of ``DenseDetector``.
    Differs: MMDetection assigns no points in the padding of a batch; here they take part, as torchvision's anchors do.
        The authors distil the maps before the neck's group norm, this project those after it.
    """

    def __init__(self, backbone: nn.Module, classes: int, *, head: nn.Module | None = None, **options):
        super().__init__(backbone, RepPointsHead(backbone.out_channels, classes) if head is None else head, **options)

    def losses(self, levels: list[list[Tensor]], targets: list[dict]) -> dict[str, Tensor]:
        """Focal loss of the classes and smooth L1 of both boxes, each over the positives of the batch."""
        corners, strides = grid_points([logits for logits, _, _ in levels], self.STRIDES)  # (A, 2), (A,) pixels
        logits, *points = flat(levels)  # (N, A, C), 2 x (N, A, 18)
        init_boxes, boxes = (self.head.moment_box(p) * strides[:, None] + corners.repeat(1, 2) for p in points)
        gt_boxes, labels = padded(targets)
        by_iou, by_centre = (  # (N, A) each
            torch.stack(of_images) for of_images in zip(*(
                (match_by_iou(init.detach(), target["boxes"]), match_by_centre(corners, strides, target["boxes"]))
                for init, target in zip(init_boxes, targets, strict=True)), strict=True))
        image, point = (by_iou >= 0).nonzero(as_tuple=True)
        one_hot = torch.zeros_like(logits)
        one_hot[image, point, labels[image, by_iou[image, point]] - 1] = 1.0
        focal = sigmoid_focal_loss(logits, one_hot).sum(dim=2) * (by_iou > -2)

        def box_loss(predicted: Tensor, match: Tensor) -> Tensor:
            image, point = (match >= 0).nonzero(as_tuple=True)
            unit = BASE_SCALE * strides[point, None]
            error = nn.functional.smooth_l1_loss(
                predicted[image, point] / unit, gt_boxes[image, match[image, point]] / unit, beta=SMOOTH_L1_BETA,
                reduction="sum",
            )
            return error / positives(match)

        return {
            "classification": focal.sum() / positives(by_iou),
            "init_boxes": 0.5 * box_loss(init_boxes, by_centre), "boxes": box_loss(boxes, by_iou),
        }

    def cell_boxes(self, maps: list[Tensor], cells: Tensor, corners: Tensor, stride: int) -> Tensor:
        return self.head.moment_box(maps[2].flatten(1).mT[cells]) * stride + corners.repeat(1, 2)


def match_by_centre(corners: Tensor, strides: Tensor, gt_boxes: Tensor) -> Tensor:
    """(A,) index of the object of each point, -1 for none: the nearest point of the level for its size. Of two objects
    a point takes the nearest.

    The level l of a box has 2^l = side / 4, where side is the geometric mean of width and height. Distances are in
    widths and heights of the box.
    """
    if not len(gt_boxes):
        return torch.full((len(corners),), -1, device=corners.device)
    centres, sides = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2, (gt_boxes[:, 2:] - gt_boxes[:, :2]).clamp(min=1e-6)
    point_level = strides.log2().round()  # (A,)
    level = (sides / BASE_SCALE).log2().mean(dim=1).trunc().clamp(point_level.min(), point_level.max())  # (K,)
    distance = ((corners - centres[:, None]) / sides[:, None]).norm(dim=2)  # (K, A)
    distance = distance.masked_fill(point_level != level[:, None], math.inf)
    nearest = distance.argmin(dim=1, keepdim=True)  # (K, 1)
    claimed = torch.full_like(distance, math.inf).scatter(1, nearest, distance.gather(1, nearest))
    best, owner = claimed.min(dim=0)
    return torch.where(best < math.inf, owner, -1)


def match_by_iou(boxes: Tensor, gt_boxes: Tensor) -> Tensor:
    """(A,) index of the object that each init box overlaps by IoU >= 0.5, -1 for none (< 0.4), -2 between, which no
    loss counts. Each object also gets the boxes that overlap it most.
    """
    if not len(gt_boxes):
        return torch.full((len(boxes),), -1, device=boxes.device)
    iou = box_iou(gt_boxes, boxes)  # (K, A)
    best, owner = iou.max(dim=0)
    match = torch.where(best >= POSITIVE_IOU, owner, torch.where(best < NEGATIVE_IOU, -1, -2))
    most = iou.amax(dim=1, keepdim=True)
    own = (iou == most) & (most > 0)  # an object that no box overlaps gets none
    last = len(gt_boxes) - 1 - own.flip(0).int().argmax(dim=0)  # of several objects the last, as in MMDetection
    return torch.where(own.any(dim=0), last, match)
