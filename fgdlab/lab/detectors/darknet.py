"""CSPDarknet with YOLOX's neck (PAFPN): convolutions with batch norm and SiLU, in blocks of two branches.

Layers are named as in MMDetection.
"""
from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

POOLS = (5, 9, 13)  # cells, of the pooled maps at stride 32


def conv(inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    layer = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
    norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
    return nn.Sequential(OrderedDict(conv=layer, bn=norm, activate=nn.SiLU(inplace=True)))


def wide_conv(inputs: int, outputs: int, stride: int = 1, depthwise: bool = False) -> nn.Sequential:
    if not depthwise:
        return conv(inputs, outputs, 3, stride)
    parts = {"depthwise_conv": conv(inputs, inputs, 3, stride, groups=inputs), "pointwise_conv": conv(inputs, outputs)}
    return nn.Sequential(OrderedDict(parts))


class Bottleneck(nn.Module):
    def __init__(self, channels: int, add: bool, depthwise: bool):
        super().__init__()
        self.conv1, self.conv2 = conv(channels, channels), wide_conv(channels, channels, depthwise=depthwise)
        self.add = add

    def forward(self, features: Tensor) -> Tensor:
        changed = self.conv2(self.conv1(features))
        return features + changed if self.add else changed


class CSPLayer(nn.Module):
    """Two branches of half the channels, one through ``count`` bottlenecks, joined by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, count: int, add: bool = False, depthwise: bool = False):
        super().__init__()
        half = outputs // 2
        self.main_conv, self.short_conv = conv(inputs, half), conv(inputs, half)
        self.final_conv = conv(2 * half, outputs)
        self.blocks = nn.Sequential(*(Bottleneck(half, add, depthwise) for _ in range(count)))

    def forward(self, features: Tensor) -> Tensor:
        branches = self.blocks(self.main_conv(features)), self.short_conv(features)
        return self.final_conv(torch.cat(branches, dim=1))


class Focus(nn.Module):
    """2x2 pixels as one cell of twelve channels, then a 3x3 convolution."""

    def __init__(self, outputs: int):
        super().__init__()
        self.conv = conv(12, outputs, 3)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.conv(torch.cat([pixels[..., y::2, x::2] for x in (0, 1) for y in (0, 1)], dim=1))


class PooledLayer(nn.Module):
    def __init__(self, channels: int):
        super().__init__()
        half = channels // 2
        self.conv1, self.conv2 = conv(channels, half), conv(half * (1 + len(POOLS)), channels)
        self.poolings = nn.ModuleList(nn.MaxPool2d(side, 1, side // 2) for side in POOLS)

    def forward(self, features: Tensor) -> Tensor:
        features = self.conv1(features)
        return self.conv2(torch.cat([features, *(pool(features) for pool in self.poolings)], dim=1))


class DarknetPixels(nn.Module):
    """Convert torchvision's normalised pixels (RGB) to YOLOX's (BGR, 0..255), so that any detector can be its teacher.

    Differs: a batch is padded with torchvision's mean colour, (124, 116, 104), the authors' with grey, 114.
    """

    def __init__(self):
        super().__init__()
        for name, values in {"mean": (0.406, 0.456, 0.485), "std": (0.225, 0.224, 0.229)}.items():  # BGR
            self.register_buffer(name, 255 * torch.tensor(values)[:, None, None], persistent=False)

    def forward(self, pixels: Tensor) -> Tensor:
        return pixels.flip(1) * self.std + self.mean


class CSPDarknet(nn.Module):
    """pixels (N, 3, H, W) -> C3, C4, C5.

    widths, counts: channels of the stem and at strides 4, 8, 16, 32; bottlenecks at the latter.
    depthwise: 3x3 convolutions are depthwise, as in YOLOX-nano.
    """

    def __init__(self, widths: tuple[int, ...], counts: tuple[int, ...], depthwise: bool = False):
        super().__init__()
        self.pixels, self.stem = DarknetPixels(), Focus(widths[0])
        for i, (before, after, count) in enumerate(zip(widths, widths[1:], counts, strict=False), start=1):
            last = i == len(counts)
            pooled = [PooledLayer(after)] if last else []
            csp = CSPLayer(after, after, count, add=not last, depthwise=depthwise)
            self.add_module(f"stage{i}", nn.Sequential(wide_conv(before, after, 2, depthwise), *pooled, csp))

    def forward(self, pixels: Tensor) -> list[Tensor]:
        features, maps = self.stem(self.pixels(pixels)), []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            features = stage(features)
            maps.append(features)
        return maps[1:]


class PAFPN(nn.Module):
    """C3, C4, C5 -> P3, P4, P5 of ``channels``, joined top down and then bottom up."""

    def __init__(self, widths: tuple[int, int, int], channels: int, count: int, depthwise: bool = False):
        super().__init__()
        c3, c4, c5 = widths

        def csp(inputs: int, outputs: int) -> CSPLayer:
            return CSPLayer(2 * inputs, outputs, count, depthwise=depthwise)

        self.reduce_layers = nn.ModuleList([conv(c5, c4), conv(c4, c3)])
        self.top_down_blocks = nn.ModuleList([csp(c4, c4), csp(c3, c3)])
        self.downsamples = nn.ModuleList([wide_conv(each, each, 2, depthwise) for each in (c3, c4)])
        self.bottom_up_blocks = nn.ModuleList([csp(c3, c4), csp(c4, c5)])
        self.out_convs = nn.ModuleList([conv(each, channels) for each in widths])

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        features, reduced = maps[-1], []
        for reduce, block, finer in zip(self.reduce_layers, self.top_down_blocks, maps[-2::-1], strict=True):
            reduced.append(reduce(features))
            features = block(torch.cat([interpolate(reduced[-1], scale_factor=2.0), finer], dim=1))
        joined = [features]
        for down, block, coarser in zip(self.downsamples, self.bottom_up_blocks, reduced[::-1], strict=True):
            joined.append(block(torch.cat([down(joined[-1]), coarser], dim=1)))
        return [out(each) for out, each in zip(self.out_convs, joined, strict=True)]


class DarknetPyramid(nn.Module):
    """pixels (N, 3, H, W) -> {"0": P3, "1": P4, "2": P5}. The neck's blocks have the last of ``counts``."""

    def __init__(self, widths: tuple[int, ...], counts: tuple[int, ...], channels: int, depthwise: bool = False):
        super().__init__()
        self.body = CSPDarknet(widths, counts, depthwise)
        self.fpn = PAFPN(widths[2:], channels, counts[-1], depthwise)
        self.out_channels = channels

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        return OrderedDict((str(i), maps) for i, maps in enumerate(self.fpn(self.body(pixels))))
