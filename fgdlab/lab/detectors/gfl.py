"""GFL (Li et al., NeurIPS 2020): a score that is also the box's quality, and sides of a box as distributions.

    P3..P7 --class tower--> class logits (N, C, H, W): the IoU of the predicted box at the object's class, 0 elsewhere
           --box tower----> logits of 17 bins for each side (N, 68, H, W) --softmax, mean--> distances in strides

A square anchor around a cell's corner tells which cells belong to an object (ATSS, Zhang et al., CVPR 2020).
"""
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits
from torchvision.ops import box_iou, generalized_box_iou_loss

from .batched import padded
from .dense import STRIDES, DenseDetector, flat, grid_points, paired_iou, positives, start_small, tower

BINS = 17  # distances 0, 1, ..., 16 strides
CANDIDATES = 9  # of an object on each level


class GFLHead(nn.Module):
    """Two towers of 3x3 convolutions with group norm, and a learned scale of the bins' logits for each level.

    Per level: class logits (N, C, H, W), bin logits (N, 4 * 17, H, W), side by side.
    """

    def __init__(
        self, channels: int, classes: int, convs: int = 4, levels: int = len(STRIDES), norm=partial(nn.GroupNorm, 32),
    ):
        super().__init__()
        self.class_tower, self.box_tower = (tower(channels, convs, norm) for _ in range(2))
        self.class_out = nn.Conv2d(channels, classes, 3, padding=1)
        self.box_out = nn.Conv2d(channels, 4 * BINS, 3, padding=1)
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in range(levels))
        self.register_buffer("bins", torch.arange(float(BINS)))
        start_small(self)

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor]]:
        return [
            (self.class_out(self.class_tower(features)), self.box_out(self.box_tower(features)) * scale)
            for features, scale in zip(maps, self.scales, strict=True)
        ]

    def distances(self, bins: Tensor) -> Tensor:
        """Bin logits (..., 68) -> left, top, right, bottom (..., 4) in strides: means of the distributions."""
        return (bins.unflatten(-1, (4, BINS)).softmax(dim=-1) * self.bins.to(bins)).sum(dim=-1)


class GFL(DenseDetector):
    """GFL on a pyramid P3..P7.

    Args:
        anchor_scale: side of the anchors in strides. Others: those of ``DenseDetector``.
    Differs: cells in the padding of a batch take part, as anchors do in torchvision; in MMDetection not.
    """

    def __init__(self, backbone: nn.Module, head: GFLHead, *, anchor_scale: float = 8.0, **options):
        super().__init__(backbone, head, **{"nms_thresh": 0.6, **options})
        self.anchor_scale = anchor_scale

    def losses(self, levels: list[list[Tensor]], targets: list[dict]) -> dict[str, Tensor]:
        """Quality focal loss of the classes over the positives of the batch; GIoU and distribution focal loss of the
        boxes, weighted by the best score of a cell, over the sum of these weights."""
        grids = [logits for logits, _ in levels]
        corners, strides = grid_points(grids, self.STRIDES)
        logits, bins = flat(levels)  # (N, A, C), (N, A, 68)
        owners = torch.stack([self.assign(grids, target["boxes"])[1] for target in targets])  # (N, A)
        image, cell = (owners >= 0).nonzero(as_tuple=True)  # (F,) each
        boxes, labels = (each[image, owners[image, cell]] for each in padded(targets))  # (F, 4), (F,)
        bins, unit, corner = bins[image, cell], strides[cell, None], corners[cell] / strides[cell, None]
        predicted, wanted = box_around(corner, self.head.distances(bins)), boxes / unit
        weight = logits.detach().sigmoid().amax(dim=2)[image, cell]  # (F,)
        quality = torch.zeros_like(logits)
        quality[image, cell, labels - 1] = paired_iou(predicted.detach(), wanted)
        total = weight.sum().clamp(min=1)
        sides = torch.cat([corner - wanted[:, :2], wanted[:, 2:] - corner], dim=1)
        giou = generalized_box_iou_loss(predicted, wanted)
        dfl = distribution_focal_loss(bins.unflatten(1, (4, BINS)), sides.clamp(0, BINS - 1.1)).sum(dim=1)
        return {
            "classification": quality_focal_loss(logits, quality).sum() / positives(owners),
            "boxes": 2 * (giou * weight).sum() / total,
            "bins": 0.25 * (dfl * weight).sum() / 4 / total,
        }

    def assign(self, maps: list[Tensor], boxes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Anchors (A, 4) of the cells of maps (N, ., H, W), and the results of ``match_by_atss`` for boxes (K, 4)."""
        corners, strides = grid_points(maps, self.STRIDES)
        half = self.anchor_scale / 2 * strides[:, None]
        anchors = torch.cat([corners - half, corners + half], dim=1)
        return anchors, *match_by_atss(anchors, strides, boxes)

    def cell_boxes(self, maps: list[Tensor], cells: Tensor, corners: Tensor, stride: int) -> Tensor:
        return box_around(corners, self.head.distances(maps[1].flatten(1).mT[cells]) * stride)


def match_by_atss(anchors: Tensor, strides: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """ATSS: (A,) index of the object, -1 for none, and (K,) thresholds of IoU.

    An object's candidates are the nine anchors of each level whose centres are nearest. It takes those whose centre
    lies in its box and whose IoU is at least the mean plus the standard deviation of all candidates'. An anchor of
    several objects belongs to the one that it overlaps most.
    """
    if not len(boxes):
        return torch.full((len(anchors),), -1, device=anchors.device), anchors.new_zeros(0)
    points, centres = ((each[:, :2] + each[:, 2:]) / 2 for each in (anchors, boxes))
    iou, distance = box_iou(boxes, anchors), (points - centres[:, None]).norm(dim=2)  # (K, A)
    candidate = torch.zeros_like(iou, dtype=torch.bool)
    for stride in strides.unique():
        level = (strides == stride).nonzero()[:, 0]
        nearest = distance[:, level].topk(min(CANDIDATES, len(level)), dim=1, largest=False).indices
        candidate.scatter_(1, level[nearest], True)
    threshold = torch.stack(torch.std_mean(iou[candidate].view(len(boxes), -1), dim=1)).sum(dim=0)  # (K,)
    inside = torch.cat([points - boxes[:, None, :2], boxes[:, None, 2:] - points], dim=2).amin(dim=2) > 0.01  # pixels
    best, owner = iou.masked_fill(~(candidate & inside & (iou >= threshold[:, None])), -1).max(dim=0)
    return torch.where(best >= 0, owner, -1), threshold


def quality_focal_loss(logits: Tensor, quality: Tensor) -> Tensor:
    """|y - s(x)|^2 BCE(s(x), y), element by element; y is the IoU of the predicted box, 0 for other classes."""
    entropy = binary_cross_entropy_with_logits(logits, quality, reduction="none")
    return (quality - logits.sigmoid()).square() * entropy


def distribution_focal_loss(bins: Tensor, distance: Tensor) -> Tensor:
    """Cross-entropy to the two bins next to a distance, in linear proportion. (..., 17), (...) -> (...)."""
    left = distance.long()
    near = bins.log_softmax(dim=-1).gather(-1, torch.stack([left, left + 1], dim=-1))
    return -torch.lerp(near[..., 0], near[..., 1], distance - left)


def box_around(points: Tensor, sides: Tensor) -> Tensor:
    """Boxes (..., 4) xyxy from points (..., 2) and distances left, top, right, bottom (..., 4)."""
    return torch.cat([points - sides[..., :2], points + sides[..., 2:]], dim=-1)

