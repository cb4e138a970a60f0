"""GID: imitate where teacher and student disagree most (Dai et al., CVPR 2021).

General Instance Distillation for Object Detection, the form for RetinaNet. Every anchor scores max_c |P_t - P_s| and takes the box of whichever
head is surer; after NMS the best ten of an image are its general instances. No ground truth takes part. With t_r, s_r (C, S, S) cut by
RoIAlign out of F_t and f(F_s) for the R instances of the batch, and logits p and deltas b on the A anchors that match an instance,

    feature  = 1/(R S S)     sum_r |t_r - s_r|^2
    relation = 1/(R^2 - R)   sum_{r != q} smooth_l1(d_rq(t), d_rq(s))          d_rq = |t_r - t_q|, over its mean
    class    = 1/A  sum_a sum_c BCE(p_s, sigmoid(p_t))
    box      = 1/A  sum_a |b_s - b_t|                                          all four coordinates
"""
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..config import check_positive, check_weights
from ..pyramid import check_same_shape
from ..scene import Scene
from ..terms import Term
from .boxes import home_levels, level_index
from .dense import DenseLoss, box_iou, match


class GID(DenseLoss):
    """Terms ``feature``, ``class`` and ``box`` of every level, ``relation`` of all. f is a 3x3 convolution where channels differ.

    Needs two RetinaNets. Class 0 is nobody in torchvision and takes no part in the score.

    Args:
        feature_weight, relation_weight, class_weight, box_weight: of the authors' RetinaNet config (daixinghome/Distill_GID_detectron2).
        instances: of an image, at most.
        nms: IoU above which the lesser box goes.
        min_side: pixels; a box whose shorter side is no longer is no instance.
        pool: S; every bin is the mean of 2 x 2 points.
        finest_size: pixels. Level i (0 = finest) is cut for boxes with sqrt(w h) from finest_size 2^i to twice that, the finest also for smaller
            ones. 112 is FPN's rule where P3 is the finest.
    Differs:
        - The authors' code scores |max_c P_t - max_c P_s|; this is the paper's score.
        - The code preselects 3000 anchors, which changes nothing unless fewer than ten survive NMS. Its f is configured but never applied.
    """

    PARTS = ("feature", "relation", "class", "box")
    PIXELS = ("min_side", "finest_size")

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        feature_weight: float = 5e-4, relation_weight: float = 40.0, class_weight: float = 0.1, box_weight: float = 1.0,
        instances: int = 10, nms: float = 0.3, min_side: float = 10.0, pool: int = 10, finest_size: float = 112.0,
    ):
        check_weights(feature_weight=feature_weight, relation_weight=relation_weight, class_weight=class_weight, box_weight=box_weight)
        if not 0 <= nms < 1:
            raise ValueError(f"nms must be an IoU in [0, 1), got {nms}")
        check_positive(instances=instances, pool=pool, finest_size=finest_size)
        super().__init__(levels, student, teacher, align=3 if feature_weight or relation_weight else 0)
        weights = zip(self.PARTS, (feature_weight, relation_weight, class_weight, box_weight), strict=True)
        self.weights = {part: weight for part, weight in weights if weight}
        self.instances, self.nms, self.min_side, self.pool, self.finest_size = instances, nms, min_side, pool, finest_size

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        if not self.weights:
            return []
        anchors = {level: each for level, each in self.anchors(scene).items() if level in self.levels}
        with torch.set_grad_enabled(torch.is_grad_enabled() and bool(self.weights.keys() & {"class", "box"})):
            ours = {level: self.predictions(self.student, scene.features[level]) for level in anchors}
        with torch.no_grad():
            theirs = {level: self.predictions(self.teacher, teacher[level]) for level in anchors}
        boxes, real = self.general_instances(scene, ours, theirs, torch.cat([*anchors.values()]))
        raw = {}
        if self.weights.keys() & {"feature", "relation"}:
            raw |= self.imitation(scene, teacher, boxes, real)
        if self.weights.keys() & {"class", "box"}:
            raw |= self.response(ours, theirs, anchors, [each[alive] for each, alive in zip(boxes, real, strict=True)])
        return [Term(part, level, each, self.weights[part]) for (part, level), each in raw.items() if part in self.weights]

    @torch.no_grad()
    def general_instances(self, scene: Scene, ours: dict, theirs: dict, anchors: Tensor) -> tuple[Tensor, Tensor]:
        """Boxes (N, R, 4) in pixels, within the image, and which of them are real (N, R): an image may have fewer than R."""
        (logits, deltas), (logits_t, deltas_t) = (map(torch.cat, zip(*of.values(), strict=True), (1, 1)) for of in (ours, theirs))
        student, teacher = logits[..., 1:].sigmoid(), logits_t[..., 1:].sigmoid()                                 # (N, A, C)
        sure = (teacher.amax(dim=2) > student.amax(dim=2))[..., None]
        boxes = torch.where(sure, self.decode(deltas_t, anchors), self.decode(deltas, anchors))
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([[w, h, w, h] for h, w in scene.image_sizes])[:, None])
        small = (boxes[..., 2:] - boxes[..., :2]).amin(dim=2) <= self.min_side
        return strongest(boxes, (teacher - student).abs().amax(dim=2).masked_fill(small, -torch.inf), self.nms, self.instances)

    def imitation(self, scene: Scene, teacher: dict[str, Tensor], boxes: Tensor, real: Tensor) -> dict[tuple[str, str], Tensor]:
        """feature of every level, relation of all: {(part, level): sum}."""
        home = home_levels(boxes.flatten(0, 1), len(self.levels), self.finest_size).view(real.shape)              # (N, R)
        count, sums, student, target = real.sum().clamp(min=1), {}, 0, 0
        for level in self.levels:
            aligned = self.aligned(scene, level)
            check_same_shape(aligned, teacher[level])
            here = ((home == level_index(level, self.levels)) & real)[:, :, None, None, None]
            of_s, of_t = (roi_align(each, boxes, scene.padded_size, self.pool) * here for each in (aligned, teacher[level]))  # (N, R, C, S, S)
            sums["feature", level] = (of_t - of_s).square().sum() / (count * self.pool**2)
            student, target = student + of_s, target + of_t
        sums["relation", "all"] = relation(student.flatten(0, 1).flatten(1), target.flatten(0, 1).flatten(1), real.flatten())
        return sums

    def response(self, ours: dict, theirs: dict, anchors: dict[str, Tensor], boxes: list[Tensor]) -> dict[tuple[str, str], Tensor]:
        """class and box of every level, over the anchors that the detector's own matcher gives to an instance."""
        mask = match(boxes, torch.cat([*anchors.values()]), self.student.proposal_matcher).foreground             # (N, A)
        sums, count = {}, mask.sum().clamp(min=1)
        for level, of_level in zip(anchors, mask.split([len(each) for each in anchors.values()], dim=1), strict=True):
            (logits, deltas), (logits_t, deltas_t) = ours[level], theirs[level]
            entropy = F.binary_cross_entropy_with_logits(logits, logits_t.sigmoid(), reduction="none").sum(dim=2)
            sums["class", level] = (entropy * of_level).sum() / count
            sums["box", level] = ((deltas - deltas_t).abs().sum(dim=2) * of_level).sum() / count
        return sums


def strongest(boxes: Tensor, scores: Tensor, nms: float, count: int) -> tuple[Tensor, Tensor]:
    """Greedy NMS, stopped at ``count``: take the best box, drop all that overlap it by IoU > ``nms``, repeat. A score of -inf is out.

    boxes (N, A, 4), scores (N, A) -> boxes (N, R, 4), which are real (N, R); R = min(count, A).
    """
    image, kept, real = torch.arange(len(boxes), device=boxes.device), [], []
    for _ in range(min(count, boxes.shape[1])):
        best = scores.argmax(dim=1)
        kept.append(boxes[image, best])
        real.append(scores[image, best] > -torch.inf)
        near = box_iou(kept[-1][:, None], boxes)[:, 0] > nms                             # (N, A)
        scores = scores.masked_fill(near, -torch.inf).scatter(1, best[:, None], -torch.inf)
    return torch.stack(kept, dim=1), torch.stack(real, dim=1)


def roi_align(features: Tensor, boxes: Tensor, span: tuple[int, int], size: int, points: int = 2) -> Tensor:
    """Each box cut into size x size bins, each bin the mean of points x points bilinear samples: (N, R, C, size, size).

    A bilinear sample is a weighted sum over rows of weighted sums over columns, so a crop is two small matrix products.

    features (N, C, H, W); boxes (N, R, 4) in pixels; span: (height, width) in pixels that the map spans. Equal to torchvision's, aligned.
    """
    x1, y1, x2, y2 = boxes.unbind(dim=2)                                                 # (N, R) each
    rows = bin_weights(y1, y2, span[0], features.shape[2], size, points)                 # (N, R, S, H)
    columns = bin_weights(x1, x2, span[1], features.shape[3], size, points)              # (N, R, S, W)
    return torch.einsum("nrsh,nchrt->nrcst", rows, torch.einsum("nchw,nrtw->nchrt", features, columns))


def bin_weights(low: Tensor, high: Tensor, span: int, cells: int, size: int, points: int) -> Tensor:
    """How much each cell of one axis counts in each bin between ``low`` and ``high`` pixels: (N, R) -> (N, R, size, cells), rows sum to 1."""
    steps = (torch.arange(size * points, device=low.device, dtype=low.dtype) + 0.5) / (size * points)             # (P,) in (0, 1)
    at = (low[..., None] + (high - low)[..., None] * steps) * cells / span - 0.5         # (N, R, P), in cells, 0 = centre of the first
    hats = 1 - (at.clamp(0, cells - 1)[..., None] - torch.arange(cells, device=low.device)).abs()                 # (N, R, P, cells)
    return hats.clamp(min=0).unflatten(2, (size, points)).mean(dim=3)


def relation(student: Tensor, teacher: Tensor, real: Tensor) -> Tensor:
    """Mean smooth L1 between pairwise distances, each over its own mean. (M, D), (M, D), real (M,) -> a scalar; 0 for fewer than two."""
    pairs = real[:, None] & real & ~torch.eye(len(real), dtype=torch.bool, device=real.device)
    count = pairs.sum().clamp(min=1)

    def distances(each: Tensor) -> Tensor:
        each = each - each.mean(dim=0)                                                   # leaves distances, and keeps their products small
        d = torch.cdist(each, each) * pairs
        return d / (d.sum() / count).clamp(min=1e-12)

    return F.smooth_l1_loss(distances(student), distances(teacher), reduction="sum") / count
