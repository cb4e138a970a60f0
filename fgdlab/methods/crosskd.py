"""CrossKD: the student's head feature goes through the rest of the teacher's head.

CrossKD: Cross-Head Knowledge Distillation for Object Detection (Wang et al., CVPR 2024),
https://arxiv.org/abs/2306.11369, for RetinaNet.

    F_s --student's first convolutions--> e_s --teacher's channel means and deviations--> ReLU
        --teacher's last layers--> p^, b^

With p (logits) and b (boxes) the teacher's own, s the sigmoid, a over anchors and N_f foreground anchors,

    class = 1/N_f  sum_a sum_c |s(p^) - s(p)| BCE(s(p^), s(p))
    box   = 1/N_f  sum_a max_c s(p) (1 - GIoU(b^, b))
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..scene import Scene
from ..terms import Term
from .base import nonzero_weights
from .detector_loss import RetinaNetLoss, generalized_iou, match_anchors, split_by_level


class CrossKD(RetinaNetLoss):
    """Terms ``class`` and ``box`` of every level. Gradient passes through the teacher's frozen head.

    Anchors count as in the detector's own loss: not those between its IoU thresholds, and N_f is at least 1 per image.

    Args:
        class_weight, box_weight: 1 and 1 in the authors' RetinaNet configs (jbwang1997/CrossKD, configs/crosskd).
        crossing: the feature enters the teacher's tower after this many of its convolutions, before the ReLU, and is
            the student's after as many, or after its last. 0 takes the pyramid map. 3 of 4 in those configs. None: the
            teacher's depth - 1, but at least 1, so that some of the student's head learns.
    Differs:
        - A 1x1 convolution on e_s where channels differ; the authors' never do.
        - Anchors in the padding of a batch count like others.
    """

    PARTS = ("class", "box")
    NEEDS: tuple[str, ...] = (*RetinaNetLoss.NEEDS, "head.classification_head.conv", "head.regression_head.conv")

    def __init__(
        self, levels: tuple[str, ...], student: Any, teacher: Any, *,
        class_weight: float = 1.0, box_weight: float = 1.0, crossing: int | None = None,
    ):
        super().__init__(levels, student, teacher, align=0)
        self.weights = nonzero_weights(self.PARTS, class_weight, box_weight)
        depth = min(len(tower) for tower, _ in towers(teacher).values())
        self.crossing = max(depth - 1, 1) if crossing is None else crossing
        if not 0 <= self.crossing <= depth:
            raise ValueError(f"crossing must be 0 to {depth}, the convolutions of the teacher's tower, got {crossing}")
        channels = student.backbone.out_channels, teacher.backbone.out_channels
        adapted = self.weights if channels[0] != channels[1] else ()
        self.adapt = nn.ModuleDict({part: nn.Conv2d(*channels, 1) for part in adapted})

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weights:
            return []
        anchors, terms = self.anchors(scene), []
        match = match_anchors(scene.boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher)
        counted = split_by_level(match.counted, anchors)
        for level in self.levels:
            maps = scene.features[level], teacher[level]
            with torch.no_grad():
                logits, deltas = self.predictions(self.teacher, teacher[level])
            scores, raw = logits.sigmoid(), {}
            if "class" in self.weights:
                raw["class"] = quality_focal(self.cross("class", *maps), scores).sum(dim=2)  # (N, A)
            if "box" in self.weights:
                crossed, target = (self.decode(each, anchors[level]) for each in (self.cross("box", *maps), deltas))
                raw["box"] = scores.amax(dim=2) * (1 - generalized_iou(crossed, target))
            for part, weight in self.weights.items():
                terms.append(Term(part, level, (raw[part] * counted[level]).sum() / match.num_foreground, weight))
        return terms

    def cross(self, part: str, student: Tensor, teacher: Tensor) -> Tensor:
        """p^ (N, A, C), or b^ as deltas (N, A, 4), of one level."""
        tower_s, (tower_t, output) = towers(self.student)[part][0], towers(self.teacher)[part]
        feature = before_relu(tower_s, student, min(self.crossing, len(tower_s)))
        feature = self.adapt[part](feature) if self.adapt else feature
        with torch.no_grad():
            target = before_relu(tower_t, teacher, self.crossing)
        feature = match_statistics(feature, target)
        feature = torch.relu(feature) if self.crossing else feature
        return per_anchor(output(tower_t[self.crossing:](feature)), self.student.head.classification_head.num_anchors)


def towers(detector: Any) -> dict[str, tuple[Any, nn.Module]]:
    classes, boxes = detector.head.classification_head, detector.head.regression_head
    return {"class": (classes.conv, classes.cls_logits), "box": (boxes.conv, boxes.bbox_reg)}


def before_relu(tower: Any, features: Tensor, convs: int) -> Tensor:
    """After ``convs`` of the tower's blocks, the last without its ReLU; the map itself for 0."""
    if convs:
        features = tower[:convs - 1](features)
        for layer in list(tower[convs - 1])[:-1]:
            features = layer(features)
    return features


def match_statistics(features: Tensor, target: Tensor) -> Tensor:
    """With the mean and standard deviation of ``target`` in every channel, over N, H, W."""
    (std_s, mean_s), (std_t, mean_t) = (
        torch.std_mean(maps, dim=(0, 2, 3), correction=0, keepdim=True) for maps in (features, target)
    )
    return (features - mean_s) / (std_s + 1e-6) * std_t + mean_t


def per_anchor(output: Tensor, anchors: int) -> Tensor:
    """(N, anchors * D, H, W) -> (N, H * W * anchors, D), in the order of the anchors."""
    n, _, h, w = output.shape
    return output.view(n, anchors, -1, h, w).permute(0, 3, 4, 1, 2).flatten(1, 3)


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """|s(x) - y| BCE(s(x), y), element by element; y in [0, 1]."""
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    return (logits.sigmoid() - target).abs() * entropy
