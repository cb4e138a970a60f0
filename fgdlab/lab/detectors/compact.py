"""The laptop family: torchvision's RetinaNet cut down until two CPU cores can train it in a minute.

    pixels (N, 3, H, W) --CompactPyramid--> P3, P4, P5 of 48 channels --RetinaNetHead--> class logits, box deltas

Built of torchvision's own parts: RetinaNet, FeaturePyramidNetwork, RetinaNetHead, AnchorGenerator.
"""
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import FeaturePyramidNetwork, box_iou, sigmoid_focal_loss


@dataclass(frozen=True)
class Compact:
    """Settings of one compact RetinaNet. widths: channels of the stem and at strides 4, 8, 16, 32; blocks: residual blocks at each of those
    four strides; head_convs: 3x3 convolutions a head tower, before its output layer."""

    widths: tuple[int, int, int, int, int]
    blocks: tuple[int, int, int, int]
    head_convs: int


COMPACT = {
    "compact_s": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=1),            # student
    "compact_h": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=2),            # student with its teacher's head, which it may inherit
    "compact_t": Compact((24, 32, 64, 128, 160), (0, 1, 2, 1), head_convs=2),         # teacher
}

PYRAMID_CHANNELS = 48
ANCHOR_SIZES = ((14, 20), (28, 40), (56, 79))                        # pixels at strides 8, 16, 32
ANCHOR_RATIO = 1.35                                                  # height over width: digits are taller than wide


def compact_retinanet(backbone: str, classes: int, **options) -> RetinaNet:
    """RetinaNet on three levels, P3-P5, of 48 channels, with one or two convolutions a head tower instead of four.

    Batch norm in the pyramid and group norm in the heads: without them the short laptop schedule does not converge.
    """
    settings = COMPACT[backbone]
    pyramid = CompactPyramid(settings.widths, settings.blocks, PYRAMID_CHANNELS)
    anchors = CachedAnchors(ANCHOR_SIZES, ((ANCHOR_RATIO,),) * len(ANCHOR_SIZES))
    head = RetinaNetHead(PYRAMID_CHANNELS, anchors.num_anchors_per_location()[0], classes + 1, norm_layer=partial(nn.GroupNorm, 8))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:settings.head_convs]
    return BatchedRetinaNet(pyramid, classes + 1, anchor_generator=anchors, head=head, **{"topk_candidates": 300, "detections_per_img": 100, **options})


class CompactPyramid(nn.Module):
    """A small backbone and torchvision's FeaturePyramidNetwork over its strides 8, 16 and 32.

    pixels (N, 3, H, W) -> {"0": (N, C, H/8, W/8), "1": (N, C, H/16, W/16), "2": (N, C, H/32, W/32)}
    """

    def __init__(self, widths: tuple[int, ...], blocks: tuple[int, ...], out_channels: int):
        super().__init__()
        self.out_channels = out_channels
        self.stem = conv_norm(3, widths[0], stride=2)
        self.stages = nn.ModuleList(
            nn.Sequential(conv_norm(before, after, stride=2), *(ResidualBlock(after) for _ in range(count)))
            for before, after, count in zip(widths, widths[1:], blocks, strict=False)
        )
        self.fpn = FeaturePyramidNetwork(list(widths[2:]), out_channels, norm_layer=nn.BatchNorm2d)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps, features = OrderedDict(), self.stem(pixels)
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index > 0:                                            # strides 8, 16, 32; stride 4 feeds no level
                maps[str(index - 1)] = features
        return self.fpn(maps)


def conv_norm(before: int, after: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(before, after, 3, stride, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU(inplace=True))


class ResidualBlock(nn.Module):
    """F + norm(conv(relu(norm(conv(F))))), then ReLU. (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = conv_norm(channels, channels)
        self.second = nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels))

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.second(self.first(features)))


class CachedAnchors(AnchorGenerator):
    """torchvision's generator that remembers its last anchors: batches of one size have the same ones at every step."""

    def __init__(self, sizes: tuple, ratios: tuple):
        super().__init__(sizes, ratios)
        self.last, self.kept = None, None

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) of each image, xyxy pixels; one tensor for all of them, not to be written into."""
        pixels = image_list.tensors
        asked = (pixels.shape[-2:], *(each.shape[-2:] for each in feature_maps), feature_maps[0].dtype, feature_maps[0].device)
        if asked != self.last:
            self.last, self.kept = asked, super().forward(image_list, feature_maps)[0]
        return [self.kept] * len(image_list.image_sizes)


class BatchedRetinaNet(RetinaNet):
    """torchvision's RetinaNet with its loss computed for the whole batch at once: the same number, about a quarter of the time on a CPU.

    torchvision's own loss loops over the images, some forty small operations each, which is about a fifth of a compact student's step.
    Equal to it by test, value and gradient.
    """

    def compute_loss(self, targets: list[dict[str, Tensor]], head_outputs: dict[str, Tensor], anchors: list[Tensor]) -> dict[str, Tensor]:
        anchors = anchors[0]                                                            # (A, 4); one batch, one size, the same anchors
        boxes = pad_sequence([anchors.new_zeros(1, 4), *(t["boxes"] for t in targets)], batch_first=True)[1:]        # (N, K, 4), K >= 1
        labels = pad_sequence([t["labels"].new_zeros(1) for t in targets[:1]] + [t["labels"] for t in targets], batch_first=True)[1:]
        counts = torch.tensor([len(t["boxes"]) for t in targets], device=anchors.device)
        real = torch.arange(boxes.shape[1], device=anchors.device) < counts[:, None]    # (N, K): not padding

        iou = box_iou(boxes.flatten(0, 1), anchors).view(*boxes.shape[:2], -1)          # (N, K, A)
        iou = iou.masked_fill(~real[..., None], -1)
        best, matched = iou.max(dim=1)                                                  # (N, A): the box that an anchor fits best
        nearest = ((iou == iou.amax(dim=2, keepdim=True)) & real[..., None]).any(dim=1)                 # best anchor of some box
        matcher = self.proposal_matcher
        foreground = (best >= matcher.high_threshold) | nearest                         # (N, A)
        counted = foreground | (best < matcher.low_threshold)                           # neither: between the thresholds
        per_image = foreground.sum(dim=1).clamp(min=1)                                  # (N,)

        logits = head_outputs["cls_logits"]                                             # (N, A, classes)
        image, anchor = foreground.nonzero(as_tuple=True)                               # (F,) each
        box = matched[image, anchor]
        wanted = torch.zeros_like(logits)
        wanted[image, anchor, labels[image, box]] = 1.0
        focal = sigmoid_focal_loss(logits, wanted).sum(dim=2) * counted                 # (N, A)
        deltas = self.box_coder.encode_single(boxes[image, box], anchors[anchor])       # (F, 4)
        error = (head_outputs["bbox_regression"][image, anchor] - deltas).abs().sum(dim=1) / per_image[image]
        return {"classification": (focal.sum(dim=1) / per_image).mean(), "bbox_regression": error.sum() / len(targets)}
