"""What methods that need more of a detector than maps share: its anchors, its head's outputs, and which anchors belong to a box.

    DetectorLoss     keeps student and teacher as guests; gives anchors level by level
    DenseLoss        of two RetinaNets: runs both heads on maps; logits (N, A, C) and deltas (N, A, 4) of each level
    box_iou, match   boxes against anchors
"""
from operator import attrgetter
from types import SimpleNamespace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..pyramid import PyramidLoss, check_boxes
from ..scene import Scene


class DetectorLoss(PyramidLoss):
    """A loss built from two detectors. Both are guests: absent from ``parameters()`` and ``state_dict()``; the teacher is frozen here.

    Args:
        levels: pyramid levels to imitate, of both detectors, e.g. ("P3", "P4", "P5").
        student, teacher: detectors with ``backbone.out_channels`` and whatever the subclass names in ``NEEDS``.
        align, always: as in PyramidLoss.
    Raises:
        ValueError: a detector without what the method needs.
    """

    built_from = "detectors"
    KIND = "a detector of torchvision"
    NEEDS: tuple[str, ...] = ()

    def __init__(self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *, align: int = 1, always: bool = False):
        self.require(student, teacher, ("backbone.out_channels", *self.NEEDS), self.KIND)
        super().__init__(levels, student.backbone.out_channels, teacher.backbone.out_channels, align=align, always=always)
        self._guests = (student, teacher.eval().requires_grad_(False))       # a tuple hides them from nn.Module

    @property
    def student(self) -> nn.Module:
        return self._guests[0]

    @property
    def teacher(self) -> nn.Module:
        return self._guests[1]

    @classmethod
    def require(cls, student: nn.Module, teacher: nn.Module, names: tuple[str, ...], kind: str) -> None:
        """Both detectors must have every dotted name ("a.b", or "a or b.c" where either will do), or a ValueError says which one lacks what."""
        for who, detector in {"student": student, "teacher": teacher}.items():
            missing = [name for name in names if not has(detector, name)]
            if missing:
                raise ValueError(
                    f"the {who} of {cls.__name__} must be {kind}, got {type(detector).__name__} without {', '.join(missing)}; "
                    "build another detector or choose another method"
                )

    def anchors(self, scene: Scene) -> dict[str, Tensor]:
        """{level: (A, 4)} x1, y1, x2, y2 in pixels, the same for every image; rows go over H, then W, then a cell's anchors."""
        generator = self.student.anchor_generator if has(self.student, "anchor_generator") else self.student.rpn.anchor_generator
        check_boxes(scene, len(scene.pixels))
        each = generator(as_images(scene), list(scene.features.values()))[0]
        counts = [a * m.shape[-2] * m.shape[-1] for a, m in zip(generator.num_anchors_per_location(), scene.features.values(), strict=True)]
        return dict(zip(scene.features, each.split(counts), strict=True))


class DenseLoss(DetectorLoss):
    """A loss of two RetinaNets with the same classes and anchors. Only heads run again here, on maps that are there already.

    Raises:
        ValueError: another detector, or heads that differ in classes or anchors.
    Differs: a head with batch norm (torchvision's has none) would count the batch twice in its running statistics.
    """

    KIND = "a RetinaNet as torchvision builds it"
    NEEDS = (
        "anchor_generator.sizes", "proposal_matcher", "box_coder.decode_single",
        "head.classification_head.cls_logits", "head.regression_head.bbox_reg",
    )

    def __init__(self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *, align: int = 1, always: bool = False):
        super().__init__(levels, student, teacher, align=align, always=always)
        check_same_heads(student, teacher)

    @staticmethod
    def predictions(detector: nn.Module, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (N, A, C) and box deltas (N, A, 4) of one level's map (N, channels, H, W)."""
        return detector.head.classification_head([features]), detector.head.regression_head([features])

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        """Boxes (N, A, 4) in pixels from deltas (N, A, 4) and anchors (A, 4)."""
        return self.student.box_coder.decode_single(deltas.flatten(0, 1), anchors.repeat(len(deltas), 1)).view_as(deltas)


def as_images(scene: Scene) -> SimpleNamespace:
    """What torchvision's anchor generator and RPN read of an ImageList."""
    return SimpleNamespace(tensors=scene.pixels, image_sizes=scene.image_sizes)


def has(thing, dotted: str) -> bool:
    """Whether ``thing.a.b`` exists for "a.b"; for "a or b.c", whether either does."""
    first, _, rest = dotted.partition(" or ")
    try:
        attrgetter(first)(thing)
    except AttributeError:
        return bool(rest) and has(thing, rest)
    return True


def check_same_heads(student: nn.Module, teacher: nn.Module) -> None:
    """Output by output, both heads must mean the same class and the same anchor."""
    for what, of in {
        "classes": lambda detector: detector.head.classification_head.num_classes,
        "anchor sizes": lambda detector: detector.anchor_generator.sizes,
        "anchor ratios": lambda detector: detector.anchor_generator.aspect_ratios,
    }.items():
        if of(student) != of(teacher):
            raise ValueError(f"student and teacher must have the same {what}, got {of(student)} and {of(teacher)}; build both alike")


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """Intersection over union of every box (..., K, 4) with every other one (..., A, 4): (..., K, A) in [0, 1], 0 where both have no area."""
    boxes, others = boxes[..., :, None, :], others[..., None, :, :]
    near, far = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    inter = (far - near).clamp(min=0).prod(dim=-1)
    union = (boxes[..., 2:] - boxes[..., :2]).prod(dim=-1) + (others[..., 2:] - others[..., :2]).prod(dim=-1) - inter
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny)


class Match(NamedTuple):
    """Which anchors belong to a box, as the detector's own loss decides."""

    foreground: Tensor      # (N, A) bool
    counted: Tensor         # (N, A) bool: foreground or clearly background; not in between
    boxes: Tensor           # (N, A, 4): the box of a foreground anchor; elsewhere the anchor itself

    @property
    def num_foreground(self) -> Tensor:
        """Foreground anchors of the batch, every image at least 1; a scalar."""
        return self.foreground.sum(dim=1).clamp(min=1).sum()


def match(boxes: list[Tensor], anchors: Tensor, matcher) -> Match:
    """Assign anchors (A, 4) to N ragged lists of boxes (K, 4) by the detector's ``proposal_matcher`` (IoU thresholds)."""
    foreground, counted, own = [], [], []
    for of_image in boxes:
        if len(of_image):
            index = matcher(box_iou(of_image.to(anchors), anchors))                      # (A,): box, -1 background, -2 in between
        else:
            index = anchors.new_full((len(anchors),), -1, dtype=torch.int64)
        foreground.append(index >= 0)
        counted.append(index >= -1)
        own.append(torch.where(foreground[-1][:, None], of_image.to(anchors)[index.clamp(min=0)], anchors) if len(of_image) else anchors)
    return Match(torch.stack(foreground), torch.stack(counted), torch.stack(own))
