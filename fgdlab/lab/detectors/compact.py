"""Compact RetinaNets that two CPU cores train in a minute, built of torchvision's own parts.

    pixels (N, 3, H, W) --CompactPyramid--> P3, P4, P5 of 48 channels --RetinaNetHead--> class logits, box deltas
"""
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork, box_iou, sigmoid_focal_loss

from .anchors import CachedAnchors


@dataclass(frozen=True)
class Compact:
    """Size of a compact or small detector."""

    widths: tuple[int, int, int, int, int]  # channels of the stem and at strides 4, 8, 16, 32
    blocks: tuple[int, int, int, int]  # residual blocks at strides 4, 8, 16, 32
    head_convs: int  # 3x3 convolutions per head tower


COMPACT = {
    "compact_s": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=1),  # student
    "compact_h": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=2),  # student that can inherit a head
    "compact_t": Compact((24, 32, 64, 128, 160), (0, 1, 2, 1), head_convs=2),  # teacher
}

PYRAMID_CHANNELS = 48
ANCHOR_SIZES = ((14, 20), (28, 40), (56, 79))  # pixels at strides 8, 16, 32
ANCHOR_RATIO = 1.35  # height over width: digits are taller than wide


def compact_retinanet(backbone: str, classes: int, **options) -> RetinaNet:
    """RetinaNet on three levels, P3-P5, of 48 channels, with one or two convolutions per head tower instead of four.

    Without batch norm in the pyramid and group norm in the heads, the short laptop schedule does not converge.
    """
    settings = COMPACT[backbone]
    pyramid, anchors = CompactPyramid(settings), options.get("anchor_generator") or digit_anchors(ANCHOR_SIZES)
    parts = retinanet_parts(PYRAMID_CHANNELS, classes, settings.head_convs, anchors)
    return BatchedRetinaNet(pyramid, classes + 1, **{**parts, "detections_per_img": 100, **options})


def digit_anchors(sizes: tuple) -> CachedAnchors:
    """Anchors of these sides in pixels per level, in the ratio of digits."""
    return CachedAnchors(sizes, ((ANCHOR_RATIO,),) * len(sizes))


def retinanet_parts(channels: int, classes: int, head_convs: int, anchors: AnchorGenerator) -> dict:
    """Arguments of BatchedRetinaNet: its anchors, and a head with group norm."""
    count = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(channels, count, classes + 1, norm_layer=partial(nn.GroupNorm, 8))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:head_convs]
    return {"anchor_generator": anchors, "head": head, "topk_candidates": 300}


class CompactPyramid(nn.Module):
    """A small convolutional backbone with torchvision's FeaturePyramidNetwork.

    pixels (N, 3, H, W) -> {"0": (N, C, H/8, W/8), "1": (N, C, H/16, W/16), "2": (N, C, H/32, W/32)}
    """

    out_channels = PYRAMID_CHANNELS

    def __init__(self, settings: Compact):
        super().__init__()
        widths, conv = settings.widths, partial(Conv2dNormActivation, stride=2)
        self.stem = conv(3, widths[0])
        self.stages = nn.ModuleList(
            nn.Sequential(conv(before, after), *(ResidualBlock(after) for _ in range(count)))
            for before, after, count in zip(widths, widths[1:], settings.blocks, strict=False)
        )
        self.fpn = FeaturePyramidNetwork(list(widths[2:]), self.out_channels, norm_layer=nn.BatchNorm2d)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps, features = OrderedDict(), self.stem(pixels)
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index > 0:  # strides 8, 16, 32; stride 4 feeds no level
                maps[str(index - 1)] = features
        return self.fpn(maps)


class ResidualBlock(nn.Module):
    """relu(F + norm(conv(relu(norm(conv(F)))))). (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = Conv2dNormActivation(channels, channels)
        self.second = Conv2dNormActivation(channels, channels, activation_layer=None)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.second(self.first(features)))


class BatchedRetinaNet(RetinaNet):
    """torchvision's RetinaNet with its loss computed for the whole batch at once.

    Value and gradient are torchvision's, by test, in about a quarter of the time on a CPU: torchvision loops over the
    images.
    """

    def compute_loss(
        self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        anchors = anchors[0]  # (A, 4), the same for all images of a batch
        # The first sequence is dropped again. It makes K >= 1.
        boxes = pad_sequence([anchors.new_zeros(1, 4), *(t["boxes"] for t in targets)], batch_first=True)[1:]
        no_label = targets[0]["labels"].new_zeros(1)
        labels = pad_sequence([no_label, *(t["labels"] for t in targets)], batch_first=True)[1:]  # (N, K)
        counts = torch.tensor([len(t["boxes"]) for t in targets], device=anchors.device)
        real = torch.arange(boxes.shape[1], device=anchors.device) < counts[:, None]  # (N, K): not padding

        iou = box_iou(boxes.flatten(0, 1), anchors).view(*boxes.shape[:2], -1)  # (N, K, A)
        iou = iou.masked_fill(~real[..., None], -1)
        best, matched = iou.max(dim=1)  # (N, A): best box per anchor
        nearest = ((iou == iou.amax(dim=2, keepdim=True)) & real[..., None]).any(dim=1)  # (N, A): best for some box
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
        return {
            "classification": (focal.sum(dim=1) / per_image).mean(), "bbox_regression": error.sum() / len(targets),
        }
