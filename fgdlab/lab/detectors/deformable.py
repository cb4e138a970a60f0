"""Deformable convolutions: the taps of a 3x3 kernel are shifted by learned offsets.

    offset (N, 18, H, W) = conv_offset(F);  out = deform_conv2d(F, offset)

The paper's X101 teachers have them in stages 3 to 5.
"""
from torch import Tensor, nn
from torchvision.ops import DeformConv2d


class DeformableConv(DeformConv2d):
    """A grouped 3x3 convolution without bias that predicts the shifts of its taps. (N, C, H, W) -> (N, C', H', W').

    Offsets are (y, x) per tap, in cells of the input, and start at 0. Parameters have MMDetection's names.
    """

    def __init__(self, inputs: int, outputs: int, stride: int = 1, groups: int = 1):
        super().__init__(inputs, outputs, 3, stride, padding=1, groups=groups, bias=False)
        self.conv_offset = nn.Conv2d(inputs, 18, 3, stride, padding=1)
        nn.init.zeros_(self.conv_offset.weight)
        nn.init.zeros_(self.conv_offset.bias)

    def forward(self, features: Tensor) -> Tensor:
        return super().forward(features, self.conv_offset(features))


def deform(resnet: nn.Module) -> nn.Module:
    """Replace the 3x3 convolutions of stages 3 to 5 (layer2 to layer4) of a bottleneck ResNet, in place."""
    for stage in (resnet.layer2, resnet.layer3, resnet.layer4):
        for block in stage:
            old = block.conv2
            block.conv2 = DeformableConv(old.in_channels, old.out_channels, old.stride[0], old.groups)
    return resnet
