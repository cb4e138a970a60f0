"""CrossKD: the student's head feature goes through the rest of the teacher's head (Wang et al., CVPR 2024).

Cross-Head Knowledge Distillation for Object Detection, the form for RetinaNet.

    F_s --student's first convolutions--> e_s --teacher's channel means and deviations--> ReLU --teacher's last layers--> p^, b^

With p (logits) and b (boxes) the teacher's own, s the sigmoid, a over anchors and N_f the anchors in the foreground,

    class = 1/N_f  sum_a sum_c |s(p^) - s(p)| BCE(s(p^), s(p))
    box   = 1/N_f  sum_a max_c s(p) (1 - GIoU(b^, b))

The student's own predictions meet the ground truth alone, p^ and b^ the teacher alone: no head is pulled two ways.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import check_weights
from ..scene import Scene
from ..terms import Term
from .dense import DenseLoss, match


class CrossKD(DenseLoss):
    """Terms ``class`` and ``box`` of every level. Needs two RetinaNets; the teacher's head is frozen, and gradient passes through it.

    Anchors count as in the detector's own loss: not those between its IoU thresholds, and N_f is at least 1 an image.

    Where to cross: after ``crossing`` convolutions of the teacher's tower, before the ReLU. The authors replace 3 of 4, so one convolution and
    the output layer remain. At another depth the default is the teacher's depth - 1, but at least 1, so that some of the student's head
    learns. The student hands over its feature after as many convolutions, or after its last if it has fewer: a compact_s student has one,
    and crosses into the second of a compact_t teacher. 0 hands over the pyramid map itself.

    Args:
        class_weight, box_weight: 1 and 1 in the authors' RetinaNet configs (jbwang1997/CrossKD, configs/crosskd).
        crossing: 0 to the depth of the teacher's tower; None: as above. 3 in those configs.
    Differs:
        - A 1x1 convolution on e_s where channels differ; the authors' never do.
        - Anchors in the padding of a batch count like others.
    """

    PARTS = ("class", "box")
    NEEDS = (*DenseLoss.NEEDS, "head.classification_head.conv", "head.regression_head.conv")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        class_weight: float = 1.0, box_weight: float = 1.0, crossing: int | None = None,
    ):
        check_weights(class_weight=class_weight, box_weight=box_weight)
        super().__init__(levels, student, teacher, align=0)
        self.weights = {part: weight for part, weight in {"class": class_weight, "box": box_weight}.items() if weight}
        depth = min(len(conv) for conv in (teacher.head.classification_head.conv, teacher.head.regression_head.conv))
        self.crossing = max(depth - 1, 1) if crossing is None else crossing
        if not 0 <= self.crossing <= depth:
            raise ValueError(f"crossing must be 0 to {depth}, the convolutions of the teacher's tower, got {crossing}")
        channels = student.backbone.out_channels, teacher.backbone.out_channels
        self.adapt = nn.ModuleDict({part: nn.Conv2d(*channels, 1) for part in self.weights} if channels[0] != channels[1] else {})

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weights:
            return []
        anchors, terms = self.anchors(scene), []
        matched = match(scene.boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher)
        counted = dict(zip(anchors, matched.counted.split([len(each) for each in anchors.values()], dim=1), strict=True))
        for level in self.levels:
            with torch.no_grad():
                logits, deltas = self.predictions(self.teacher, teacher[level])
            raw = {}
            if "class" in self.weights:
                crossed = self.cross("class", scene.features[level], teacher[level])
                raw["class"] = quality_focal(crossed, logits.sigmoid()).sum(dim=2)                                # (N, A)
            if "box" in self.weights:
                crossed = self.decode(self.cross("box", scene.features[level], teacher[level]), anchors[level])
                raw["box"] = logits.sigmoid().amax(dim=2) * (1 - giou(crossed, self.decode(deltas, anchors[level])))
            terms += [Term(part, level, (raw[part] * counted[level]).sum() / matched.num_foreground, weight) for part, weight in self.weights.items()]
        return terms

    def cross(self, part: str, student: Tensor, teacher: Tensor) -> Tensor:
        """p^ (N, A, C), or b^ as deltas (N, A, 4), of one level's maps (N, C, H, W)."""
        ours, (theirs, output) = towers(self.student)[part][0], towers(self.teacher)[part]
        feature = before_relu(ours, student, min(self.crossing, len(ours)))
        feature = self.adapt[part](feature) if self.adapt else feature
        with torch.no_grad():
            target = before_relu(theirs, teacher, self.crossing)
        feature = like(target, feature)
        feature = torch.relu(feature) if self.crossing else feature
        for block in list(theirs)[self.crossing:]:
            feature = block(feature)
        return per_anchor(output(feature), self.student.head.classification_head.num_anchors)


def towers(detector: nn.Module) -> dict[str, tuple[nn.Sequential, nn.Module]]:
    """{part: (tower of blocks convolution-[norm]-ReLU, output layer)} of a RetinaNet's head."""
    classes, boxes = detector.head.classification_head, detector.head.regression_head
    return {"class": (classes.conv, classes.cls_logits), "box": (boxes.conv, boxes.bbox_reg)}


def before_relu(tower: nn.Sequential, features: Tensor, convs: int) -> Tensor:
    """The tower's feature after ``convs`` of its blocks, the last without its ReLU; the map itself for 0. (N, C, H, W) -> the same shape."""
    for block in list(tower)[:convs - 1] if convs else []:
        features = block(features)
    for layer in list(tower[convs - 1])[:-1] if convs else []:
        features = layer(features)
    return features


def like(target: Tensor, features: Tensor) -> Tensor:
    """``features`` shifted and scaled so that every channel has the mean and standard deviation of ``target`` over N, H, W."""
    (std_t, mean_t), (std_s, mean_s) = (torch.std_mean(each, dim=(0, 2, 3), correction=0, keepdim=True) for each in (target, features))
    return (features - mean_s) / (std_s + 1e-6) * std_t + mean_t


def per_anchor(output: Tensor, anchors: int) -> Tensor:
    """(N, anchors * D, H, W) -> (N, H * W * anchors, D), in the order of the anchors."""
    n, _, h, w = output.shape
    return output.view(n, anchors, -1, h, w).permute(0, 3, 4, 1, 2).flatten(1, 3)


def quality_focal(logits: Tensor, target: Tensor) -> Tensor:
    """|s(x) - y| BCE(s(x), y), element by element; y in [0, 1]."""
    return (logits.sigmoid() - target).abs() * F.binary_cross_entropy_with_logits(logits, target, reduction="none")


def giou(boxes: Tensor, others: Tensor) -> Tensor:
    """Generalised IoU of boxes (..., 4) and others (..., 4), pair by pair, in [-1, 1]: IoU - (hull - union) / hull."""
    near, far = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    inter = (far - near).clamp(min=0).prod(dim=-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1) - inter
    outer = (torch.maximum(boxes[..., 2:], others[..., 2:]) - torch.minimum(boxes[..., :2], others[..., :2])).prod(dim=-1)
    return inter / (union + 1e-7) - (outer - union) / (outer + 1e-7)
