"""FGFI: imitate cells that have an anchor near an object. Wang et al., Distilling Object Detectors with Fine-grained Feature Imitation, CVPR 2019.

    boxes, anchors --IoU--> near anchors --any of a cell--> M --> sum M (F^T - f(F^S))^2 / (2 N_p)
"""
import torch
from torch import Tensor, nn

from ..pyramid import check_same_shape
from ..scene import Scene
from ..terms import Term
from .dense import DetectorLoss, box_iou


class FGFI(DetectorLoss):
    """L = 1 / (2 N_p) sum_ij M_ij sum_c (F^T - f(F^S))^2,  N_p = sum M. Terms "fgfi", one a level; 0 where no image has a box.

    M_ij = 1 where an anchor a of cell ij has IoU(a, g) > psi * max_a' IoU(a', g) for some box g: the threshold follows how well an object is
    covered at all. f is a 3x3 convolution with ReLU, always there. Needs an anchor generator: RetinaNet's, or that of a Faster R-CNN's RPN.

    Args:
        weight: lambda; 0.01 in the authors' code (trainval_net_sup.py of twangnh/Distilling-Object-Detectors).
        psi: in [0, 1); 0.5 in the paper; 0 takes every anchor that touches a box.
    Differs: the paper has one map. Here the maximum goes over the anchors of all imitated levels and N_p counts their cells together, so that
        an object is imitated on the levels whose anchors suit it. Left out: the authors' first 400 steps without imitation, and the one pixel
        that their boxes are longer. f starts as theirs, N(0, 1e-4) cut at two sigma (theirs folds the tail back instead).
    """

    KIND = "a detector with an anchor generator"
    NEEDS = ("anchor_generator or rpn.anchor_generator",)

    def __init__(self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *, weight: float = 0.01, psi: float = 0.5):
        super().__init__(levels, student, teacher, align=3 if weight else 0, always=True)
        self.weight, self.psi = weight, psi
        for f in self.align.values():
            nn.init.trunc_normal_(f.weight, std=1e-4, a=-2e-4, b=2e-4)

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weight:
            return []
        sums, masks = {}, self.masks(scene)
        for level, mask in masks.items():
            student = torch.relu(self.aligned(scene, level))                             # f: (N, C_s, H, W) -> (N, C_t, H, W)
            check_same_shape(student, teacher[level])
            sums[level] = (mask * (teacher[level] - student).square().sum(dim=1)).sum()
        cells = sum(mask.sum() for mask in masks.values()).clamp(min=1)                  # N_p
        return [Term("fgfi", level, each / (2 * cells), self.weight) for level, each in sums.items()]

    def masks(self, scene: Scene) -> dict[str, Tensor]:
        """M of every level, (N, H, W) of 0 and 1."""
        anchors = {level: each for level, each in self.anchors(scene).items() if level in self.levels}
        near = near_anchors(scene.boxes, torch.cat([*anchors.values()]), self.psi).split([len(each) for each in anchors.values()], dim=1)
        maps = [scene.features[level] for level in anchors]
        return {level: of.view(len(of), *f.shape[-2:], -1).any(dim=-1).to(f.dtype) for level, f, of in zip(anchors, maps, near, strict=True)}


def near_anchors(boxes: list[Tensor], anchors: Tensor, psi: float) -> Tensor:
    """Which anchors (A, 4) have IoU(a, g) > psi * max_a' IoU(a', g) for some box g of an image: (N, A) bool; none where there is no box."""
    near = []
    for of_image in boxes:
        iou = box_iou(of_image.to(anchors), anchors)                                     # (K, A)
        near.append((iou > psi * iou.amax(dim=1, keepdim=True)).any(dim=0))              # K = 0: any() of nothing is False
    return torch.stack(near)
