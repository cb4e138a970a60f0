"""Chen: a hint, class scores with a heavier background, and boxes bounded by the teacher's (Chen et al., NeurIPS 2017).

Learning Efficient Object Detection Models with Knowledge Distillation. With P (class probabilities) and R (box deltas) of the two heads,
y the deltas of the box that an anchor belongs to, a over anchors and N_f those in the foreground,

    hint  = mean (F_t - f(F_s))^2
    class = -1/N_f  sum_a sum_c [P_t log P_s + w_bg (1 - P_t) log(1 - P_s)]
    box   =  1/N_f  sum_a |R_s - y|^2 where |R_s - y|^2 + m > |R_t - y|^2, else 0          a in the foreground

The teacher's boxes are no target, only a bound: a student that beats the teacher by the margin m is left alone.
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import check_weights
from ..pyramid import check_same_shape
from ..scene import Scene
from ..terms import Term
from .dense import DenseLoss, DetectorLoss, Match, check_same_heads, match


class Chen(DetectorLoss):
    """Terms ``hint``, ``class`` and ``box`` of every level; f is a 1x1 convolution on every level.

    The hint works with every detector; class and box need two RetinaNets. Anchors count as in the detector's own loss, N_f at least 1 an image.

    Args:
        hint_weight, class_weight, box_weight: the paper's gamma, 1 - mu and nu; 0.5 each. [gamma and mu unconfirmed]
        background: w_bg, 1.5 in the paper. Above 1 it pulls P_s below P_t, to P_t / (P_t + w_bg (1 - P_t)).
        margin: m, in squared deltas. [the paper's value is unknown here; 0.2 is that of one public implementation]
    Differs:
        - The paper distils Faster R-CNN: a softmax over classes and background, on sampled boxes. A RetinaNet has a sigmoid a class, so each
          class has its own background here, and all anchors count, most of them easy background: class is far the largest of the three.
        - The paper weighs the detector's own class loss by mu; here it keeps weight 1.
        - How the paper normalises its hint is unknown here; the mean does not grow with the map.
    """

    PARTS = ("hint", "class", "box")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        hint_weight: float = 0.5, class_weight: float = 0.5, box_weight: float = 0.5, background: float = 1.5, margin: float = 0.2,
    ):
        check_weights(hint_weight=hint_weight, class_weight=class_weight, box_weight=box_weight, background=background, margin=margin)
        if class_weight or box_weight:
            self.require(student, teacher, DenseLoss.NEEDS, f"{DenseLoss.KIND} (or set class_weight=0 and box_weight=0)")
            check_same_heads(student, teacher)
        super().__init__(levels, student, teacher, align=1 if hint_weight else 0, always=True)
        weights = {"hint": hint_weight, "class": class_weight, "box": box_weight}
        self.weights = {part: weight for part, weight in weights.items() if weight}
        self.background, self.margin = background, margin

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        raw = {}                                                     # {(part, level): sum}
        if "hint" in self.weights:
            for level in self.levels:
                student = self.aligned(scene, level)
                check_same_shape(student, teacher[level])
                raw["hint", level] = (teacher[level] - student).square().mean()
        if self.weights.keys() & {"class", "box"}:
            anchors = self.anchors(scene)
            matched = match(scene.boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher)
            parts = [each.split([len(of) for of in anchors.values()], dim=1) for each in matched]
            for level, *of_level in zip(anchors, *parts, strict=True):
                if level in self.levels:
                    scores, boxes = self.heads(scene.features[level], teacher[level], anchors[level], Match(*of_level))
                    raw["class", level], raw["box", level] = scores / matched.num_foreground, boxes / matched.num_foreground
        return [Term(part, level, raw[part, level], self.weights[part]) for level in self.levels for part in self.weights]

    def heads(self, student: Tensor, teacher: Tensor, anchors: Tensor, matched: Match) -> tuple[Tensor, Tensor]:
        """The sums of class and box over one level's anchors, before N_f."""
        logits, deltas = DenseLoss.predictions(self.student, student)                    # (N, A, C), (N, A, 4)
        with torch.no_grad():
            logits_t, deltas_t = DenseLoss.predictions(self.teacher, teacher)
        soft = weighted_cross_entropy(logits, logits_t.sigmoid(), self.background).sum(dim=2)                     # (N, A)
        wanted = self.student.box_coder.encode_single(matched.boxes.flatten(0, 1), anchors.repeat(len(deltas), 1)).view_as(deltas)
        bounded = bounded_error(deltas, deltas_t, wanted, self.margin)                   # (N, A)
        return (soft * matched.counted).sum(), (bounded * matched.foreground).sum()


def weighted_cross_entropy(logits: Tensor, target: Tensor, background: float) -> Tensor:
    """-[P_t log P_s + w_bg (1 - P_t) log(1 - P_s)], element by element; P_s = sigmoid(logits)."""
    return -(target * F.logsigmoid(logits) + background * (1 - target) * F.logsigmoid(-logits))


def bounded_error(student: Tensor, teacher: Tensor, wanted: Tensor, margin: float) -> Tensor:
    """||R_s - y||^2 where ||R_s - y||^2 + m > ||R_t - y||^2, else 0. (..., 4) -> (...)."""
    error, bound = (student - wanted).square().sum(dim=-1), (teacher - wanted).square().sum(dim=-1)
    return error * (error + margin > bound)
