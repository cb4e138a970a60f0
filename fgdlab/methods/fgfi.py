"""FGFI: imitate the cells that have an anchor near an object.

Distilling Object Detectors with Fine-grained Feature Imitation (Wang et al., CVPR 2019),
https://arxiv.org/abs/1906.03609. With M_ij = 1 where an anchor a of cell ij has IoU(a, g) > psi max_a' IoU(a', g) for
some box g, else 0,

    L = sum M (F_t - f(F_s))^2 / (2 N_p)          sums over the batch;  N_p = sum M, so channels add up
"""
import torch
from torch import Tensor, nn

from ..config import check_weights
from ..scene import Scene
from ..terms import Term
from .detector_loss import DetectorLoss, box_iou, split_by_level


class FGFI(DetectorLoss):
    """One term ``fgfi`` per level, 0 where no image has a box. f is a 3x3 convolution with ReLU on every level.

    Needs an anchor generator: a RetinaNet's, or that of a Faster R-CNN's RPN.

    Args:
        weight: 0.01 in the authors' code (twangnh/Distilling-Object-Detectors, trainval_net_sup.py).
        psi: 0.5 in the paper, in [0, 1); 0 takes every anchor that touches a box.
    Differs:
        - The paper has one map. Here the maximum is over the anchors of all imitated levels, and N_p counts their cells
          together, so that an object is imitated on the levels whose anchors suit it.
        - Not here: the authors' first 400 steps without imitation, and their boxes that are one pixel longer.
        - f starts from N(0, 1e-4) cut at two deviations; the authors fold draws beyond them back (fmod).
    """

    KIND = "a detector with an anchor generator"
    NEEDS = ("anchor_generator or rpn.anchor_generator",)

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        weight: float = 0.01, psi: float = 0.5,
    ):
        check_weights(weight=weight)
        if not 0 <= psi < 1:
            raise ValueError(f"psi must be in [0, 1), got {psi}; at 1 no anchor is above the best")
        super().__init__(levels, student, teacher, align=3 if weight else 0, always=True)
        self.weight, self.psi = weight, psi
        for name, each in self.align.named_parameters():
            if name.endswith("weight"):
                nn.init.trunc_normal_(each, std=1e-4, a=-2e-4, b=2e-4)

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weight:
            return []
        sums, masks = {}, self.masks(scene)
        for level, mask in masks.items():
            student = torch.relu(self.aligned(scene, level))  # f: (N, C_s, H, W) -> (N, C_t, H, W)
            sums[level] = (mask * (teacher[level] - student).square().sum(dim=1)).sum()
        cells = torch.stack([mask.sum() for mask in masks.values()]).sum().clamp(min=1)  # N_p
        return [Term("fgfi", level, raw / (2 * cells), self.weight) for level, raw in sums.items()]

    def masks(self, scene: Scene) -> dict[str, Tensor]:
        anchors = self.anchors(scene, self.levels)
        near = split_by_level(near_anchors(scene.boxes, torch.cat([*anchors.values()]), self.psi), anchors)
        masks = {}
        for level, of_level in near.items():
            maps = scene.features[level]
            per_cell = of_level.view(len(maps), *maps.shape[-2:], -1)  # (N, H, W, anchors per cell)
            masks[level] = per_cell.any(dim=-1).to(maps.dtype)
        return masks


def near_anchors(boxes: list[Tensor], anchors: Tensor, psi: float) -> Tensor:
    """Which anchors (A, 4) have IoU(a, g) > psi max_a' IoU(a', g) for some box g of an image: (N, A)."""
    near = []
    for of_image in boxes:
        iou = box_iou(of_image.to(anchors), anchors)  # (K, A)
        near.append((iou > psi * iou.amax(dim=1, keepdim=True)).any(dim=0))  # K = 0: any() of nothing is False
    return torch.stack(near)
