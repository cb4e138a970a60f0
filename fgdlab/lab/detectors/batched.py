"""torchvision's RetinaNet and FCOS with a loss that is computed for the whole batch at once, in float32.

Value and gradient are torchvision's, by test. torchvision loops over the images, and on a GPU the host waits several
times for each of them; here it waits a few times per batch.
"""
import math
from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import box_iou, generalized_box_iou_loss, sigmoid_focal_loss

from fgdlab.scene import full_precision

from .anchors import CachedAnchors

MAX_PAIRS = 2**24  # pairs of box and anchor that are compared at once, some 0.5 GB


class BatchedTraining:
    """The training forward of a one-stage detector: torchvision's, with one check of all boxes, and losses in float32.

    Under autocast torchvision rounds boxes, regression targets and loss sums to half precision.
    """

    def __init__(self, *args, **settings):
        super().__init__(*args, **settings)
        made = self.anchor_generator
        if type(made) is AnchorGenerator:
            self.anchor_generator = CachedAnchors(made.sizes, made.aspect_ratios)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        if not self.training:
            return super().forward(images, targets)
        check_targets(targets)
        batch, targets = self.transform(images, targets)
        maps = list(self.backbone(batch.tensors).values())
        outputs, anchors = full_precision(self.head(maps)), self.anchor_generator(batch, maps)
        with torch.autocast(batch.tensors.device.type, enabled=False):
            return self.compute_loss(targets, outputs, anchors, [each.shape[-2:].numel() for each in maps])


class BatchedRetinaNet(BatchedTraining, RetinaNet):
    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor],
        num_anchors_per_level: list[int] | None = None,  # only FCOS needs it
    ) -> dict[str, Tensor]:
        anchors = anchors[0]  # (A, 4), the same for all images of a batch
        boxes, labels = padded(targets)
        best, matched, nearest = None, None, False
        for first, part, real in chunks(boxes, labels, len(anchors)):
            iou = box_iou(part.flatten(0, 1), anchors).view(*part.shape[:2], -1).masked_fill(~real, -1)  # (N, k, A)
            best, matched = best_of(best, matched, iou, first)
            nearest = nearest | ((iou == iou.amax(dim=2, keepdim=True)) & real).any(dim=1)  # (N, A): best for some box
        matcher = self.proposal_matcher
        foreground = (best >= matcher.high_threshold) | nearest  # (N, A)
        counted = foreground | (best < matcher.low_threshold)  # not between the thresholds
        per_image = foreground.sum(dim=1).clamp(min=1)  # (N,)

        logits = head_outputs["cls_logits"]  # (N, A, classes)
        image, anchor = foreground.nonzero(as_tuple=True)  # (F,) each
        box = matched[image, anchor]
        one_hot = torch.zeros_like(logits)
        one_hot[image, anchor, labels[image, box]] = 1.0
        focal = sigmoid_focal_loss(logits, one_hot).sum(dim=2) * counted  # (N, A)
        deltas = self.box_coder.encode_single(boxes[image, box], anchors[anchor])  # (F, 4)
        error = (head_outputs["bbox_regression"][image, anchor] - deltas).abs().sum(dim=1) / per_image[image]
        return {"classification": (focal.sum(dim=1) / per_image).mean(), "bbox_regression": error.sum() / len(targets)}


class BatchedFCOS(BatchedTraining, FCOS):
    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        anchors, coder = anchors[0], self.head.box_coder  # (A, 4): squares of one stride around the points
        boxes, labels = padded(targets)
        matched = self.matched(boxes, labels, anchors, num_anchors_per_level)  # (N, A)
        image, point = (matched >= 0).nonzero(as_tuple=True)  # (F,) each
        box, count = matched[image, point], max(len(image), 1)
        logits, wanted, here = head_outputs["cls_logits"], boxes[image, box], anchors[point]
        one_hot = torch.zeros_like(logits)
        one_hot[image, point, labels[image, box]] = 1.0
        predicted = coder.decode(head_outputs["bbox_regression"][image, point], here)
        sides = coder.encode(here, wanted).view(-1, 2, 2)  # left, top; right, bottom
        centred = (sides.amin(dim=1) / sides.amax(dim=1)).prod(dim=1).sqrt()
        ctrness = head_outputs["bbox_ctrness"][image, point, 0]
        return {
            "classification": sigmoid_focal_loss(logits, one_hot, reduction="sum") / count,
            "bbox_regression": generalized_box_iou_loss(predicted, wanted, reduction="sum") / count,
            "bbox_ctrness": binary_cross_entropy_with_logits(ctrness, centred, reduction="sum") / count,
        }

    def matched(self, boxes: Tensor, labels: Tensor, anchors: Tensor, per_level: list[int]) -> Tensor:
        """(N, A): index of the smallest box that has the point, near its centre and on its level; -1 for none."""
        (x, y), size = ((anchors[:, :2] + anchors[:, 2:]) / 2).T, anchors[:, 2] - anchors[:, 0]
        low, high = size * 4, size * 8
        low[:per_level[0]], high[-per_level[-1]:] = 0, math.inf
        best = matched = None
        for first, part, real in chunks(boxes, labels, len(anchors)):
            x0, y0, x1, y1 = part[..., None].unbind(2)  # (N, k, 1) each
            sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y])  # (4, N, k, A)
            far = sides.amax(dim=0)
            off_centre = torch.maximum((x - (x0 + x1) / 2).abs(), (y - (y0 + y1) / 2).abs())
            fits = (off_centre < self.center_sampling_radius * size) & (sides.amin(dim=0) > 0)
            fits = fits & (far > low) & (far < high) & real
            best, matched = best_of(best, matched, fits * (1e8 - (x1 - x0) * (y1 - y0)), first)
        return matched.masked_fill(best < 1e-5, -1)


def padded(targets: list[dict[str, Tensor]]) -> tuple[Tensor, Tensor]:
    """Boxes (N, K, 4) and labels (N, K) of a batch, K >= 1; the label of padding is -1."""
    none = targets[0]  # of their types; the first sequence makes K >= 1 and is dropped again
    boxes = pad_sequence([none["boxes"].new_zeros(1, 4), *(each["boxes"] for each in targets)], batch_first=True)
    labels = [none["labels"].new_zeros(1), *(each["labels"] for each in targets)]
    return boxes[1:], pad_sequence(labels, batch_first=True, padding_value=-1)[1:]


def chunks(boxes: Tensor, labels: Tensor, anchors: int) -> Iterator[tuple[int, Tensor, Tensor]]:
    """(index of the first box, boxes (N, k, 4), which are real (N, k, 1)): at most MAX_PAIRS pairs each."""
    size = max(MAX_PAIRS // (len(boxes) * anchors), 1)
    for first in range(0, boxes.shape[1], size):
        yield first, boxes[:, first:first + size], labels[:, first:first + size, None] >= 0


def best_of(best: Tensor | None, matched: Tensor | None, scores: Tensor, first: int) -> tuple[Tensor, Tensor]:
    """The best score and box of every anchor, (N, A), after one more chunk (N, k, A); of equals the first box."""
    value, index = scores.max(dim=1)
    if best is None:
        return value, index
    better = value > best
    return torch.where(better, value, best), torch.where(better, index + first, matched)


def check_targets(targets: list[dict] | None) -> None:
    if targets is None:
        raise ValueError("targets must be given in train mode; call .eval() for detections")
    for i, target in enumerate(targets):
        if target["boxes"].ndim != 2 or target["boxes"].shape[1] != 4:
            raise ValueError(f"boxes must have shape (K, 4), got {tuple(target['boxes'].shape)} for target {i}")
    boxes = torch.cat([target["boxes"] for target in targets])
    empty = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1)
    if empty.any():
        owner = [i for i, target in enumerate(targets) for _ in target["boxes"]]
        first = int(empty.nonzero()[0])
        box = boxes[first].tolist()
        problem = f"boxes must have positive width and height, got {box} for target {owner[first]}"
        raise ValueError(f"{problem}; drop such boxes")
