"""Deformable convolutions: a 3x3 kernel that looks where the features tell it to.

    offset (N, 18, H, W) = conv_offset(F);      out = deform_conv2d(F, offset)                             deformable (v1, "dconv")
    offset, mask (N, 27, H, W) = conv_offset(F);  out = deform_conv2d(F, offset, sigmoid(mask))            modulated  (v2, "mdconv")

The paper's X101 teachers have them in stages 3 to 5, without modulation: their checkpoints hold 18 offset channels a layer.
"""
import math

import torch
from torch import Tensor, nn
from torchvision.ops import deform_conv2d


class DeformableConv(nn.Module):
    """A grouped k x k convolution without bias that shifts each of its k * k taps by a learned offset. (N, C, H, W) -> (N, C', H', W').

    Offsets come as (y, x) pairs, tap by tap, in cells of the input. They start at 0: an ordinary convolution. Weights are named as in
    MMDetection: ``weight``, ``conv_offset.weight``, ``conv_offset.bias``.

    Args:
        modulated: weigh every tap by a learned factor in 0..1 as well (it starts at 1/2).
    """

    def __init__(self, inputs: int, outputs: int, kernel: int = 3, stride: int = 1, padding: int = 1, groups: int = 1, modulated: bool = False):
        super().__init__()
        self.stride, self.padding, self.taps, self.modulated = stride, padding, kernel * kernel, modulated
        self.weight = nn.Parameter(torch.empty(outputs, inputs // groups, kernel, kernel))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        self.conv_offset = nn.Conv2d(inputs, (3 if modulated else 2) * self.taps, kernel, stride, padding)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, features: Tensor) -> Tensor:
        predicted = self.conv_offset(features)
        offset = predicted[:, :2 * self.taps]
        mask = predicted[:, 2 * self.taps:].sigmoid() if self.modulated else None
        return deform_conv2d(features, offset, self.weight, stride=self.stride, padding=self.padding, mask=mask)


def deform(resnet: nn.Module, modulated: bool = False) -> nn.Module:
    """Make the 3x3 convolutions of a bottleneck ResNet's stages 3 to 5 (layer2 to layer4) deformable, in place."""
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            old = block.conv2
            block.conv2 = DeformableConv(old.in_channels, old.out_channels, 3, old.stride[0], old.padding[0], old.groups, modulated)
    return resnet
