"""Base classes of methods that need more of a detector than its maps."""
from collections.abc import Callable
from operator import attrgetter
from types import SimpleNamespace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ..pyramid import PyramidLoss, check_box_count
from ..scene import Scene


class DetectorLoss(PyramidLoss):
    """A loss built from two detectors, absent from its ``parameters()`` and ``state_dict()``. It freezes the teacher.

    Both have ``backbone.out_channels`` and what the subclass names in ``NEEDS``.
    """

    built_from = "detectors"
    KIND = "a detector of torchvision"
    NEEDS: tuple[str, ...] = ()
    student: Any
    teacher: Any

    def __init__(self, levels: tuple[str, ...], student: Any, teacher: Any, **align: Any):
        self.require(student, teacher, ("backbone.out_channels", *self.NEEDS), self.KIND)
        super().__init__(levels, student.backbone.out_channels, teacher.backbone.out_channels, **align)
        teacher.eval().requires_grad_(False)
        self.__dict__.update(student=student, teacher=teacher)  # hidden from nn.Module

    @classmethod
    def require(cls, student: nn.Module, teacher: nn.Module, names: tuple[str, ...], kind: str) -> None:
        """ValueError where a detector lacks one of the names of :func:`has_attribute`."""
        for who, detector in {"student": student, "teacher": teacher}.items():
            missing = [name for name in names if not has_attribute(detector, name)]
            if missing:
                got = f"got {type(detector).__name__} without {', '.join(missing)}"
                remedy = "build another detector or choose another method"
                raise ValueError(f"the {who} of {cls.__name__} must be {kind}, {got}; {remedy}")

    def anchors(self, scene: Scene, levels: tuple[str, ...] | None = None) -> dict[str, Tensor]:
        """{level: (A, 4)} xyxy pixels, by row, column and anchor of a cell. levels: None: all of the scene."""
        check_box_count(scene, len(scene.pixels))
        owner = self.student if hasattr(self.student, "anchor_generator") else self.student.rpn
        generator, maps = owner.anchor_generator, scene.features
        whole = generator(as_images(scene), list(maps.values()))[0]
        per_cell = generator.num_anchors_per_location()
        counts = [count * each[0, 0].numel() for count, each in zip(per_cell, maps.values(), strict=True)]
        anchors = zip(maps, whole.split(counts), strict=True)
        return {level: each for level, each in anchors if levels is None or level in levels}


class RetinaNetLoss(DetectorLoss):
    """A loss of two RetinaNets with the same classes and anchors. Only their heads run again.

    Differs: a head with batch norm (torchvision's has none) would count the batch twice in its running statistics.
    """

    KIND = "a RetinaNet as torchvision builds it"
    NEEDS: tuple[str, ...] = (
        "anchor_generator.sizes", "proposal_matcher", "box_coder.decode_single",
        "head.classification_head.cls_logits", "head.regression_head.bbox_reg",
    )

    def __init__(self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, **align: Any):
        super().__init__(levels, student, teacher, **align)
        check_same_heads(student, teacher)

    @staticmethod
    def predictions(detector: Any, features: Tensor) -> tuple[Tensor, Tensor]:
        """Class logits (N, A, C) and box deltas (N, A, 4) of a map (N, channels, H, W)."""
        return detector.head.classification_head([features]), detector.head.regression_head([features])

    def decode(self, deltas: Tensor, anchors: Tensor) -> Tensor:
        decode = self.student.box_coder.decode_single
        return decode(deltas.flatten(0, 1), anchors.repeat(len(deltas), 1)).view_as(deltas)


def as_images(scene: Scene) -> SimpleNamespace:
    return SimpleNamespace(tensors=scene.pixels, image_sizes=scene.image_sizes)


def has_attribute(module: Any, dotted: str) -> bool:
    """Does ``module.a.b`` exist for "a.b", or either for "a or b.c"?"""
    first, _, rest = dotted.partition(" or ")
    try:
        attrgetter(first)(module)
    except AttributeError:
        return bool(rest) and has_attribute(module, rest)
    return True


def check_same_heads(student: nn.Module, teacher: nn.Module) -> None:
    for what, path in {
        "classes": "head.classification_head.num_classes",
        "anchor sizes": "anchor_generator.sizes",
        "anchor ratios": "anchor_generator.aspect_ratios",
    }.items():
        ours, theirs = map(attrgetter(path), (student, teacher))
        if ours != theirs:
            got = f"got {ours} and {theirs}; build both alike"
            raise ValueError(f"student and teacher must have the same {what}, {got}")


def box_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(..., K, 4), (..., A, 4) -> (..., K, A); 0 for two boxes without area."""
    inter, union = intersection_and_union(boxes[..., :, None, :], others[..., None, :, :])
    return inter / union.clamp(min=torch.finfo(union.dtype).tiny)


def generalized_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU - (hull - union) / hull, pair by pair: (..., 4), (..., 4) -> (...) in [-1, 1]."""
    inter, union = intersection_and_union(boxes, others)
    low, high = torch.minimum(boxes[..., :2], others[..., :2]), torch.maximum(boxes[..., 2:], others[..., 2:])
    hull = (high - low).prod(dim=-1)
    return inter / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def intersection_and_union(boxes: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Areas, pair by pair: (..., 4), (..., 4) -> (...)."""
    low, high = torch.maximum(boxes[..., :2], others[..., :2]), torch.minimum(boxes[..., 2:], others[..., 2:])
    inter = (high - low).clamp(min=0).prod(dim=-1)
    areas = [(each[..., 2:] - each[..., :2]).prod(dim=-1) for each in (boxes, others)]
    return inter, areas[0] + areas[1] - inter


class AnchorMatch(NamedTuple):
    foreground: Tensor  # (N, A) bool
    counted: Tensor     # (N, A) bool: foreground or clearly background; not in between
    boxes: Tensor       # (N, A, 4): the box of a foreground anchor; elsewhere the anchor itself

    @property
    def num_foreground(self) -> Tensor:
        """Of the batch, at least 1 per image; a scalar."""
        return self.foreground.sum(dim=1).clamp(min=1).sum()


def match_anchors(boxes: list[Tensor], anchors: Tensor, matcher: Callable[[Tensor], Tensor]) -> AnchorMatch:
    """Of anchors (A, 4) and N tensors of boxes (K, 4)."""
    foreground, counted, matched = [], [], []
    for of_image in boxes:
        if len(of_image):
            of_image = of_image.to(anchors)
            index = matcher(box_iou(of_image, anchors))  # (A,): box, -1 background, -2 in between
            own_box = torch.where((index >= 0)[:, None], of_image[index.clamp(min=0)], anchors)
        else:
            index, own_box = anchors.new_full((len(anchors),), -1, dtype=torch.int64), anchors
        foreground.append(index >= 0)
        counted.append(index >= -1)
        matched.append(own_box)
    return AnchorMatch(torch.stack(foreground), torch.stack(counted), torch.stack(matched))


def split_by_level(values: Tensor, anchors: dict[str, Tensor]) -> dict[str, Tensor]:
    """(N, A, ...) by level."""
    return dict(zip(anchors, values.split([len(each) for each in anchors.values()], dim=1), strict=True))
