"""Any timm network under torchvision's RetinaNet. It needs no adapter: it has transform and backbone.

    student, teacher = retinanet("resnet10t", classes=3), retinanet("resnet18", classes=3)
    distiller = Distiller(student, teacher, FGDLoss(("P3", "P4", "P5"), 64, 64))
"""
import timm
from torch import nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FeaturePyramidNetwork


class TimmPyramid(nn.Module):
    """P3 to P5 of a timm network, with ``channels`` each."""

    def __init__(self, name, channels=64, **options):
        super().__init__()
        self.body = timm.create_model(name, features_only=True, pretrained=False, out_indices=(-3, -2, -1), **options)
        self.neck = FeaturePyramidNetwork(self.body.feature_info.channels(), channels)
        self.out_channels = channels

    def forward(self, pixels):
        maps = self.body(pixels)
        if getattr(self.body, "output_fmt", "NCHW") == "NHWC":  # Swin has its channels last
            maps = [each.permute(0, 3, 1, 2) for each in maps]
        return self.neck({str(index): each for index, each in enumerate(maps)})


def retinanet(name, classes, min_size=800, max_size=1333, **options):
    anchors = AnchorGenerator(sizes=((32,), (64,), (128,)), aspect_ratios=((0.5, 1.0, 2.0),) * 3)
    return RetinaNet(
        TimmPyramid(name, **options), classes, anchor_generator=anchors, min_size=min_size, max_size=max_size)
