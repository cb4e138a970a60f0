"""Compact RetinaNets that two CPU cores train in a minute, built of torchvision's own parts."""
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import Conv2dNormActivation, FeaturePyramidNetwork

from fgdlab.scene import HALF

from .anchors import CachedAnchors
from .batched import BatchedRetinaNet


@dataclass(frozen=True)
class Compact:
    widths: tuple[int, int, int, int, int]  # channels of the stem and at strides 4, 8, 16, 32
    blocks: tuple[int, int, int, int]  # residual blocks at strides 4, 8, 16, 32
    head_convs: int  # 3x3 convolutions per head tower


COMPACT = {
    "compact_s": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=1),  # student
    "compact_h": Compact((8, 16, 32, 48, 64), (0, 0, 0, 0), head_convs=2),  # student that can inherit a head
    "compact_t": Compact((24, 32, 64, 128, 160), (0, 1, 2, 1), head_convs=2),  # teacher
}

# Weights that classified glyphs, made by ablations/pretrain_backbone.py. A name ends in the hash of its bytes, so other
# weights are other code, and runs of the old ones are stale.
WEIGHTS = Path(__file__).parents[1] / "weights"
GLYPHS = {
    "compact_s": "glyphs-compact_s-43fb3493.safetensors", "compact_h": "glyphs-compact_s-43fb3493.safetensors",
    "compact_t": "glyphs-compact_t-b8682cc6.safetensors",
}
PYRAMID_CHANNELS = 48
ANCHOR_SIZES = ((14, 20), (28, 40), (56, 79))  # pixels at strides 8, 16, 32
ANCHOR_RATIO = 1.35  # height over width: digits are taller than wide


def compact_retinanet(backbone: str, classes: int, pretrained: bool = False, **options) -> BatchedRetinaNet:
    """RetinaNet on P3-P5 of 48 channels, with one or two convolutions per head tower instead of four. All is trained.

    Without batch norm in the pyramid and group norm in the heads, the laptop's schedule does not converge.
    """
    settings = COMPACT[backbone]
    pyramid = CompactPyramid(settings)
    if pretrained:
        pyramid.load_trunk(load_file(WEIGHTS / GLYPHS[backbone]))
    options = {"detections_per_img": 100, **options}
    parts = retinanet_parts(PYRAMID_CHANNELS, classes, settings.head_convs, ANCHOR_SIZES, options)
    return BatchedRetinaNet(pyramid, classes + 1, **parts)


def retinanet_parts(channels: int, classes: int, head_convs: int, sizes: tuple, options: dict) -> dict:
    anchors = options.get("anchor_generator") or CachedAnchors(sizes, ((ANCHOR_RATIO,),) * len(sizes))
    count = anchors.num_anchors_per_location()[0]
    head = RetinaNetHead(channels, count, classes + 1, norm_layer=partial(PlanarGroupNorm, 8))
    for tower in (head.classification_head, head.regression_head):
        tower.conv = tower.conv[:head_convs]
    return {"anchor_generator": anchors, "head": head, "topk_candidates": 300, **options}


class CompactPyramid(nn.Module):
    """pixels (N, 3, H, W) -> {"0": (N, C, H/8, W/8), "1": (N, C, H/16, W/16), "2": (N, C, H/32, W/32)}, of
    torchvision's FeaturePyramidNetwork."""

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
        return self.fpn(self.stage_maps(pixels))

    def stage_maps(self, pixels: Tensor) -> dict[str, Tensor]:
        maps, features = OrderedDict(), self.stem(pixels)
        for index, stage in enumerate(self.stages):
            features = stage(features)
            if index > 0:  # stride 4 feeds no level
                maps[str(index - 1)] = features
        return maps

    def trunk(self) -> dict[str, Tensor]:
        return {name: tensor for name, tensor in self.state_dict().items() if not name.startswith("fpn.")}

    def load_trunk(self, weights: dict[str, Tensor]) -> None:
        self.load_state_dict({**self.state_dict(), **weights})


class ResidualBlock(nn.Module):
    """relu(F + norm(conv(relu(norm(conv(F)))))). (N, C, H, W) -> the same shape."""

    def __init__(self, channels: int):
        super().__init__()
        self.first = Conv2dNormActivation(channels, channels)
        self.second = Conv2dNormActivation(channels, channels, activation_layer=None)

    def forward(self, features: Tensor) -> Tensor:
        return torch.relu(features + self.second(self.first(features)))


class PlanarGroupNorm(nn.GroupNorm):
    """Group norm that a CPU computes on planes in half precision: on channels_last torch needs 2.5 times as long."""

    def forward(self, features: Tensor) -> Tensor:
        interleaved = features.is_contiguous(memory_format=torch.channels_last)
        if not (interleaved and features.is_cpu and features.dtype in HALF):
            return super().forward(features)
        return super().forward(features.contiguous()).contiguous(memory_format=torch.channels_last)
