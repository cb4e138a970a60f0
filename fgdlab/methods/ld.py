"""LD: the student's distributions of box sides follow the teacher's, on and around the objects.

Localization Distillation for Dense Object Detection (Zheng et al., CVPR 2022), https://arxiv.org/abs/2102.12252,
for GFL.

The *main region* holds the cells that the detector assigns to an object (ATSS, with the object's threshold t of IoU).
The *valuable region* holds the cells whose anchor has 0.25 t <= DIoU < t with an object, where
DIoU = IoU - (distance of the centres / diagonal of the hull)^2. With bin logits x of a side, s the student's best class
score of a cell, u the largest IoU of a cell's anchor with such an object, e over the four sides, N images, and

    KL(T, D)  = T^2 / D  sum_d p_d(x^T / T) (log p_d(x^T / T) - log p_d(x^S / T)),  p the softmax over D logits,

    main      = 1/N  sum_main      s  1/4   sum_e KL(10, 17)
    valuable  = 1/N  sum_valuable  u  1/16  sum_e KL(10, 17)
    class     = mean over the main region of KL(2, C) of the class logits
"""
import torch
from torch import Tensor, nn
from torch.nn.functional import kl_div

from ..scene import Scene
from ..terms import Term
from .base import nonzero_weights
from .detector_loss import DetectorLoss, box_iou

SIDES, LOW = 4, 0.25  # sides of a box; the valuable region begins at this part of the threshold


class LD(DetectorLoss):
    """Terms ``main``, ``valuable`` and ``class`` of every level, from the heads on the given maps.

    Args:
        main_weight, valuable_weight, class_weight: the authors' config has 0.25, 0.25 and 10
            (HikariTJU/LD, ld_r50_gflv1_r101_fpn_coco_1x).
    Differs:
        - The authors sum main and valuable over the images of a GPU, two in their config, and this is the mean over
          images. So 0.5 is their 0.25.
        - Their config also imitates maps (``loss_im``). Here that is another method, such as FGFI.
    """

    PARTS: tuple[str, ...] = ("main", "valuable", "class")
    KIND = "a GFL"
    NEEDS = ("assign", "head.bins", "head.class_out.out_channels")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        main_weight: float = 0.5, valuable_weight: float = 0.5, class_weight: float = 10.0,
    ):
        super().__init__(levels, student, teacher, align=0)
        counts = [
            detector.head.class_out.out_channels for detector in (student, teacher)]  # type: ignore[union-attr]
        if counts[0] != counts[1]:
            got = f"got {counts[0]} and {counts[1]}; build both alike"
            raise ValueError(f"student and teacher must have the same number of classes, {got}")
        self.weights = nonzero_weights(LD.PARTS, main_weight, valuable_weight, class_weight)

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weights:
            return []
        maps = self.student.head(list(scene.features.values()))
        with torch.no_grad():
            targets = self.teacher.head([teacher[level] for level in scene.features])
            grids = [logits for logits, _ in maps]
            both = [
                regions(*self.student.assign(grids, boxes), boxes)  # type: ignore[call-arg]
                for boxes in scene.boxes]
        main, valuable = (torch.stack(region) for region in zip(*both, strict=True))  # (N, A) each
        logits, target_logits = (per_cell(levels, 0) for levels in (maps, targets))  # (N, A, C)
        bins, target_bins = (per_cell(levels, 1).unflatten(2, (SIDES, -1)) for levels in (maps, targets))
        sides = divergence(bins, target_bins, 10.0).sum(dim=2) / SIDES / len(main)  # (N, A)
        by_cell = {
            "main": sides * logits.detach().sigmoid().amax(dim=2) * main, "valuable": sides / SIDES * valuable,
            "class": divergence(logits, target_logits, 2.0) * main, "count": main.float(),
        }
        counts = [each[0, 0].numel() for each in grids]
        sums = {part: [each.sum() for each in cells.split(counts, dim=1)] for part, cells in by_cell.items()}
        sums["class"] = [sums["class"][i] / count.clamp(min=1) for i, count in enumerate(sums["count"])]
        return [
            Term(part, level, sums[part][i], weight)
            for i, level in enumerate(scene.features) if level in self.levels for part, weight in self.weights.items()
        ]


def per_cell(levels: list[tuple[Tensor, Tensor]], kind: int) -> Tensor:
    """The class (kind 0) or bin logits (1) of all levels: (N, A, .)."""
    return torch.cat([maps[kind].flatten(2).mT for maps in levels], dim=1)


def regions(anchors: Tensor, owner: Tensor, threshold: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """(A,) whether a cell is assigned to one of the boxes (K, 4), and (A,) u of the valuable region, 0 outside."""
    main, threshold = owner >= 0, threshold[:, None]
    if not len(boxes):
        return main, anchors.new_zeros(len(main))
    iou, each = box_iou(boxes, anchors), boxes[:, None]  # (K, A), (K, 1, 4)
    hull = torch.maximum(each[..., 2:], anchors[:, 2:]) - torch.minimum(each[..., :2], anchors[:, :2])
    apart = (each[..., :2] + each[..., 2:] - anchors[:, :2] - anchors[:, 2:]) / 2  # (K, A, 2)
    diou = iou - apart.square().sum(dim=2) / hull.square().sum(dim=2)
    return main, (iou * ((diou >= LOW * threshold) & (diou < threshold))).amax(dim=0)


def divergence(logits: Tensor, target: Tensor, temperature: float) -> Tensor:
    """KL(T, D) of logits (..., D) and the teacher's: (...)."""
    ours, theirs = ((each / temperature).log_softmax(dim=-1) for each in (logits, target))
    return temperature**2 * kl_div(ours, theirs, reduction="none", log_target=True).mean(dim=-1)
