"""GID: imitate where teacher and student disagree most.

General Instance Distillation for Object Detection (Dai et al., CVPR 2021), https://arxiv.org/abs/2103.02340, for
RetinaNet. Every anchor scores max_c |P_t - P_s| and takes the box of the head with the higher class score. After NMS
the best ten boxes of an image are its general instances. Ground truth is not used. With t_r, s_r (C, S, S) the RoIAlign
features of F_t and f(F_s) for the R instances of the batch, and logits p and deltas b of the A anchors that match an
instance,

    feature  = 1/(R S S)     sum_r |t_r - s_r|^2
    relation = 1/(R^2 - R)   sum_{r != q} smooth_l1(d_rq(t), d_rq(s))          d_rq = |t_r - t_q|, over its mean
    class    = 1/A  sum_a sum_c BCE(p_s, sigmoid(p_t))
    box      = 1/A  sum_a |b_s - b_t|, all four coordinates
"""
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import check_positive
from ..scene import Scene
from ..terms import Term
from .base import nonzero_weights
from .boxes import assigned_levels, level_index
from .detector_loss import RetinaNetLoss, box_iou, match_anchors, split_by_level

Sums = dict[tuple[str, str], Tensor]  # {(part, level): sum}
Heads = dict[str, tuple[Tensor, Tensor]]  # {level: (logits, deltas)}


class GID(RetinaNetLoss):
    """Terms ``feature``, ``class`` and ``box`` of every level, ``relation`` of all.

    f is a 3x3 convolution where channels differ. Class 0, torchvision's background, takes no part in the score.

    Args:
        feature_weight, relation_weight, class_weight, box_weight: the authors' (daixinghome/Distill_GID_detectron2).
        instances: most per image. nms: IoU above which the box with the lower score is removed.
        min_side: pixels; a box whose shorter side is not longer is no instance.
        pool: S; every bin is the mean of 2 x 2 points.
        finest_size: pixels; see :func:`fgdlab.methods.boxes.assigned_levels`. 112 is FPN's rule where P3 is the finest.
    Differs:
        - The authors' code scores |max_c P_t - max_c P_s|; this is the paper's score.
        - The code preselects 3000 anchors; its f is configured but never applied.
    """

    PARTS = ("feature", "relation", "class", "box")
    PIXELS = ("min_side", "finest_size")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        feature_weight: float = 5e-4, relation_weight: float = 40.0, class_weight: float = 0.1, box_weight: float = 1.0,
        instances: int = 10, nms: float = 0.3, min_side: float = 10.0, pool: int = 10, finest_size: float = 112.0,
    ):
        weights = nonzero_weights(self.PARTS, feature_weight, relation_weight, class_weight, box_weight)
        if not 0 <= nms < 1:
            raise ValueError(f"nms must be an IoU in [0, 1), got {nms}")
        check_positive(instances=instances, pool=pool, finest_size=finest_size)
        super().__init__(levels, student, teacher, align=3 if feature_weight or relation_weight else 0)
        self.weights, self.instances, self.nms = weights, instances, nms
        self.min_side, self.pool, self.finest_size = min_side, pool, finest_size

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weights:
            return []
        anchors = self.anchors(scene, self.levels)
        heads_s = {level: self.predictions(self.student, scene.features[level]) for level in anchors}
        with torch.no_grad():
            heads_t = {level: self.predictions(self.teacher, teacher[level]) for level in anchors}
        boxes, real = self.general_instances(scene, heads_s, heads_t, torch.cat([*anchors.values()]))
        raw: Sums = {}
        if self.weights.keys() & {"feature", "relation"}:
            raw |= self.feature_sums(scene, teacher, boxes, real)
        if self.weights.keys() & {"class", "box"}:
            instances = [of_image[kept] for of_image, kept in zip(boxes, real, strict=True)]
            raw |= self.head_sums(heads_s, heads_t, anchors, instances)
        weights = self.weights
        return [Term(part, level, each, weights[part]) for (part, level), each in raw.items() if part in weights]

    @torch.no_grad()
    def general_instances(self, scene: Scene, heads_s: Heads, heads_t: Heads, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, R, 4) in pixels, within the image, and which are real (N, R)."""
        (logits_s, deltas_s), (logits_t, deltas_t) = (
            map(torch.cat, zip(*heads.values(), strict=True), (1, 1)) for heads in (heads_s, heads_t)
        )
        student, teacher = logits_s[..., 1:].sigmoid(), logits_t[..., 1:].sigmoid()  # (N, A, C)
        teacher_is_higher = (teacher.amax(dim=2) > student.amax(dim=2))[..., None]
        boxes = torch.where(teacher_is_higher, self.decode(deltas_t, anchors), self.decode(deltas_s, anchors))
        largest = boxes.new_tensor([[width, height, width, height] for height, width in scene.image_sizes])
        boxes = boxes.clamp(min=0).minimum(largest[:, None])
        small = (boxes[..., 2:] - boxes[..., :2]).amin(dim=2) <= self.min_side
        scores = (teacher - student).abs().amax(dim=2).masked_fill(small, -torch.inf)
        return nms_top_k(boxes, scores, self.nms, self.instances)

    def feature_sums(self, scene: Scene, teacher: dict[str, Tensor], boxes: Tensor, real: Tensor) -> Sums:
        index = assigned_levels(boxes.flatten(0, 1), len(self.levels), self.finest_size).view(real.shape)  # (N, R)
        count, sums = real.sum().clamp(min=1), {}
        student: Any = 0
        target: Any = 0
        for level in self.levels:
            aligned = self.aligned(scene, level)
            here = ((index == level_index(level, self.levels)) & real)[:, :, None, None, None]
            s, t = (  # each (N, R, C, S, S)
                roi_align(maps, boxes, scene.padded_size, self.pool) * here for maps in (aligned, teacher[level])
            )
            sums["feature", level] = (t - s).square().sum() / (count * self.pool**2)
            student, target = student + s, target + t
        rows = [each.flatten(0, 1).flatten(1) for each in (student, target)]
        return sums | {("relation", "all"): relation(rows[0], rows[1], real.flatten())}

    def head_sums(self, heads_s: Heads, heads_t: Heads, anchors: dict[str, Tensor], boxes: list[Tensor]) -> Sums:
        match = match_anchors(boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher)
        sums, count = {}, match.foreground.sum().clamp(min=1)
        for level, mask in split_by_level(match.foreground, anchors).items():  # (N, A)
            (logits, deltas), (logits_t, deltas_t) = heads_s[level], heads_t[level]
            entropy = F.binary_cross_entropy_with_logits(logits, logits_t.sigmoid(), reduction="none").sum(dim=2)
            sums["class", level] = (entropy * mask).sum() / count
            sums["box", level] = ((deltas - deltas_t).abs().sum(dim=2) * mask).sum() / count
        return sums


def nms_top_k(boxes: Tensor, scores: Tensor, nms: float, count: int) -> tuple[Tensor, Tensor]:
    """Greedy NMS that stops at ``count`` boxes: drops all with IoU > ``nms`` to a better box, or of score -inf.

    boxes (N, A, 4), scores (N, A) -> boxes (N, R, 4), which are real (N, R); R = min(count, A).
    """
    image, kept, real = torch.arange(len(boxes), device=boxes.device), [], []
    for _ in range(min(count, boxes.shape[1])):
        best = scores.argmax(dim=1)
        kept.append(boxes[image, best])
        real.append(scores[image, best] > -torch.inf)
        near = box_iou(kept[-1][:, None], boxes)[:, 0] > nms  # (N, A)
        scores = scores.masked_fill(near, -torch.inf).scatter(1, best[:, None], -torch.inf)
    return torch.stack(kept, dim=1), torch.stack(real, dim=1)


def roi_align(features: Tensor, boxes: Tensor, span: tuple[int, int], size: int) -> Tensor:
    """Each box cut into size x size bins, each bin the mean of 2 x 2 bilinear samples: (N, R, C, size, size).

    Equal to torchvision's with ``aligned=True``. features (N, C, H, W) span ``span`` pixels; boxes (N, R, 4) in pixels.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=2)  # each (N, R)
    rows = bin_weights(y1, y2, span[0], features.shape[2], size)  # (N, R, S, H)
    columns = bin_weights(x1, x2, span[1], features.shape[3], size)  # (N, R, S, W)
    return torch.einsum("nrsh,nchrt->nrcst", rows, torch.einsum("nchw,nrtw->nchrt", features, columns))


def bin_weights(low: Tensor, high: Tensor, span: int, cells: int, size: int) -> Tensor:
    """Bilinear weights of an axis's cells in the bins of ``low`` to ``high`` pixels: (N, R) -> (N, R, size, cells)."""
    steps = (torch.arange(size * 2, device=low.device, dtype=low.dtype) + 0.5) / (size * 2)  # (P,) in (0, 1)
    at = (low[..., None] + (high - low)[..., None] * steps) * cells / span - 0.5  # (N, R, P); 0 = centre of cell 0
    distance = (at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=low.device)).abs()  # (N, R, P, cells)
    return (1 - distance).clamp(min=0).unflatten(2, (size, 2)).mean(dim=3)


def relation(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Mean smooth L1 between pairwise distances, each over its mean. (M, D), (M, D), (M,) -> a scalar; 0 for M < 2."""
    pairs = real[:, None] & real & ~torch.eye(len(real), dtype=torch.bool, device=real.device)
    count = pairs.sum().clamp(min=1)

    def distances(rows: Tensor) -> Tensor:
        rows = rows - rows.mean(dim=0)  # keeps the products in cdist small
        distance = torch.cdist(rows, rows) * pairs
        return distance / (distance.sum() / count).clamp(min=1e-12)

    return F.smooth_l1_loss(distances(student), distances(teacher), reduction="sum") / count
