"""Mimick: the features of the student's own proposals imitate the teacher's.

Mimicking Very Efficient Network for Object Detection (Li, Jin and Yan, CVPR 2017), its first stage. With u_i and v_i
the RoI features of F_t and F_s for proposal i of the student's RPN, and m_i the number of their elements,

    L = 1/(2N)  sum_i 1/m_i |u_i - r(v_i)|^2    over the N proposals of the batch
"""
from typing import Any

import torch
from torch import Tensor, nn

from ..config import check_positive, check_weights
from ..scene import Scene
from ..terms import Term
from .detector_loss import DetectorLoss, as_images


class Mimick(DetectorLoss):
    """One term ``mimick`` of level "all": the RoI pool chooses a proposal's level by its size. r is a 1x1 convolution.

    Proposals are constants.

    Args:
        levels: must hold all levels that the student's RoI pool cuts from.
        weight: the authors' is unknown here.
        proposals: number of best-scored proposals per image. [the authors' is unknown here; 256 is an RPN's batch size]
    Differs:
        - The paper's second stage, which also matches the logits of the proposals, is left out.
        - RoIAlign over a pyramid, as the detector pools, instead of RoI pooling of one map.
    """

    KIND = "a two-stage detector such as torchvision's Faster R-CNN"
    NEEDS = ("rpn.head", "roi_heads.box_roi_pool.featmap_names")

    def __init__(
        self, levels: tuple[str, ...], student: Any, teacher: Any, *,
        weight: float = 1.0, proposals: int = 256,
    ):
        check_weights(weight=weight)
        check_positive(proposals=proposals)
        super().__init__(levels, student, teacher, align=0)
        self.weight, self.proposals = weight, proposals
        self.r: Any = nn.Conv2d(student.backbone.out_channels, teacher.backbone.out_channels, 1) if weight else None

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weight:
            return []
        boxes = self.best_proposals(scene)
        v, u = (self.roi_features(scene, maps, boxes) for maps in (scene.features, teacher))  # each (N, C, S, S)
        error = (u - self.r(v)).square().mean(dim=(1, 2, 3))  # 1/m_i |u_i - r(v_i)|^2
        return [Term("mimick", "all", error.sum() / (2 * max(len(error), 1)), self.weight)]

    @torch.no_grad()
    def best_proposals(self, scene: Scene) -> list[Tensor]:
        """N tensors (K, 4) in pixels, K <= ``proposals``, of the student's RPN in evaluation mode, best score first."""
        rpn = self.student.rpn
        was_training, rpn.training = rpn.training, False  # this module alone: in training it would need targets
        try:
            return [boxes[:self.proposals] for boxes in rpn(as_images(scene), scene.features)[0]]
        finally:
            rpn.training = was_training

    def roi_features(self, scene: Scene, maps: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
        """(proposals of the batch, C, S, S)."""
        pool = self.student.roi_heads.box_roi_pool
        levels = tuple(scene.features)[:len(pool.featmap_names)]  # finest first, as the pool counts them
        if not set(levels) <= set(self.levels):
            needed, got = ", ".join(levels), ", ".join(self.levels)
            raise ValueError(f"levels must hold all that the student's RoI pool cuts from, {needed}, got {got}")
        pooled = {name: maps[level] for name, level in zip(pool.featmap_names, levels, strict=True)}
        return pool(pooled, boxes, scene.image_sizes)
