"""Deformable convolutions: the taps of a 3x3 kernel are shifted by learned offsets.

    deformable (v1, dconv):  offset (N, 18, H, W) = conv_offset(F);        out = deform_conv2d(F, offset)
    modulated (v2, mdconv):  offset, mask (N, 27, H, W) = conv_offset(F);  out = deform_conv2d(F, offset, sigmoid(mask))

The paper's X101 teachers have them in stages 3 to 5, not modulated: 18 offset channels per layer.
"""
from torch import Tensor, nn
from torchvision.ops import DeformConv2d


class DeformableConv(DeformConv2d):
    """A grouped 3x3 convolution without bias that predicts the shifts of its taps. (N, C, H, W) -> (N, C', H', W').

    Offsets are (y, x) per tap, in cells of the input, and start at 0. Parameters have MMDetection's names.
    modulated: also multiply every tap by a learned factor in 0..1, which starts at 1/2.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1, modulated: bool = False):
        super().__init__(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)
        self.modulated = modulated
        self.conv_offset = nn.Conv2d(inputs, 27 if modulated else 18, 3, stride, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, features: Tensor) -> Tensor:
        predicted = self.conv_offset(features)
        mask = predicted[:, 18:].sigmoid() if self.modulated else None
        return super().forward(features, predicted[:, :18], mask)


def deform(resnet: nn.Module, modulated: bool = False) -> nn.Module:
    """Replace the 3x3 convolutions of stages 3 to 5 (layer2 to layer4) of a bottleneck ResNet, in place."""
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            old = block.conv2
            block.conv2 = DeformableConv(old.in_channels, old.out_channels, old.stride[0], old.groups, modulated)
    return resnet
