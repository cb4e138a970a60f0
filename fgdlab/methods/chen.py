"""Chen: a hint, class scores with a heavier background, and boxes bounded by the teacher's.

Learning Efficient Object Detection Models with Knowledge Distillation (Chen et al., NeurIPS 2017). With P (class
probabilities) and R (box deltas) of the heads, y the deltas of an anchor's ground-truth box, N_f foreground anchors a,

    hint  = mean (F_t - f(F_s))^2
    class = -1/N_f  sum_a sum_c [P_t log P_s + w_bg (1 - P_t) log(1 - P_s)]
    box   =  1/N_f  sum_a |R_s - y|^2 where |R_s - y|^2 + m > |R_t - y|^2, else 0          a in the foreground
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import check_weights
from ..scene import Scene
from ..terms import Term
from .base import nonzero_weights
from .detector_loss import AnchorMatch, DetectorLoss, RetinaNetLoss, check_same_heads, match_anchors, split_by_level


class Chen(DetectorLoss):
    """Terms ``hint``, ``class`` and ``box`` of every level; f is a 1x1 convolution on every level.

    The hint works with every detector; class and box need two RetinaNets. N_f is at least 1 per image.

    Args:
        hint_weight, class_weight, box_weight: the paper's gamma, 1 - mu and nu; 0.5 each. [gamma and mu unconfirmed]
        background: w_bg, 1.5 in the paper. Above 1 the best P_s is below P_t: P_t / (P_t + w_bg (1 - P_t)).
        margin: m, in squared deltas. [the paper's value is unknown here; 0.2 is that of one public implementation]
    Differs:
        - The paper distils Faster R-CNN: a softmax over classes and background, on sampled boxes. A RetinaNet has one
          sigmoid per class, so each class has its own background here, and all anchors count. Most are easy background.
        - The paper weighs the detector's own class loss by mu; here it keeps weight 1.
        - How the paper normalises its hint is unknown here.
    """

    PARTS = ("hint", "class", "box")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        hint_weight: float = 0.5, class_weight: float = 0.5, box_weight: float = 0.5,
        background: float = 1.5, margin: float = 0.2,
    ):
        weights = nonzero_weights(self.PARTS, hint_weight, class_weight, box_weight)
        check_weights(background=background, margin=margin)
        if class_weight or box_weight:
            kind = f"{RetinaNetLoss.KIND} (or set class_weight=0 and box_weight=0)"
            self.require(student, teacher, RetinaNetLoss.NEEDS, kind)
            check_same_heads(student, teacher)
        super().__init__(levels, student, teacher, align=1 if hint_weight else 0, always=True)
        self.weights, self.background, self.margin = weights, background, margin

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        raw = {}  # {(part, level): sum}
        if "hint" in self.weights:
            for level in self.levels:
                student = self.aligned(scene, level)
                raw["hint", level] = (teacher[level] - student).square().mean()
        if self.weights.keys() & {"class", "box"}:
            anchors = self.anchors(scene)
            match = match_anchors(scene.boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher)
            columns = [split_by_level(column, anchors) for column in match]
            for level in self.levels:
                of_level = AnchorMatch(*(column[level] for column in columns))
                sums = self.head_sums(scene.features[level], teacher[level], anchors[level], of_level)
                raw["class", level], raw["box", level] = (each / match.num_foreground for each in sums)
        weights = self.weights
        return [Term(part, level, raw[part, level], weights[part]) for level in self.levels for part in weights]

    def head_sums(self, student: Tensor, teacher: Tensor, anchors: Tensor, match: AnchorMatch) -> tuple[Tensor, Tensor]:
        logits, deltas = RetinaNetLoss.predictions(self.student, student)  # (N, A, C), (N, A, 4)
        with torch.no_grad():
            logits_t, deltas_t = RetinaNetLoss.predictions(self.teacher, teacher)
        entropy = weighted_cross_entropy(logits, logits_t.sigmoid(), self.background).sum(dim=2)  # (N, A)
        repeated = anchors.repeat(len(deltas), 1)
        target = self.student.box_coder.encode_single(match.boxes.flatten(0, 1), repeated).view_as(deltas)  # y
        error = bounded_error(deltas, deltas_t, target, self.margin)  # (N, A)
        return (entropy * match.counted).sum(), (error * match.foreground).sum()


def weighted_cross_entropy(logits: Tensor, target: Tensor, background: float) -> Tensor:
    """Element by element; P_s = sigmoid(logits)."""
    return -(target * F.logsigmoid(logits) + background * (1 - target) * F.logsigmoid(-logits))


def bounded_error(student: Tensor, teacher: Tensor, target: Tensor, margin: float) -> Tensor:
    """Of each box: (..., 4) -> (...)."""
    error, bound = ((deltas - target).square().sum(dim=-1) for deltas in (student, teacher))
    return error * (error + margin > bound)
