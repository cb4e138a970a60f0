"""Detectors under torchvision's own contract, by name.

    build("retinanet", "resnet18", classes=80)       torchvision's RetinaNet on torchvision's ResNet, P3-P7
    build("retinanet", "compact_s", classes=10)      the laptop family: the same class, cut down to P3-P5

Every detector has ``transform`` and ``backbone`` (see fgdlab/scene.py); ``detector.levels`` names the pyramid levels,
``detector.backbone.out_channels`` is their C. Labels run from 1 to ``classes``; 0 is nobody, as everywhere in torchvision.
"""
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import _validate_trainable_layers, resnet_fpn_backbone
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from .compact import COMPACT, compact_retinanet
from .errors import UserError, unknown_name

DETECTORS = ("retinanet",)
RESNETS = ("resnet18", "resnet34", "resnet50", "resnet101")
BACKBONES = (*COMPACT, *RESNETS)


def build(name: str, backbone: str, classes: int, *, pretrained: bool = False, frozen_norms: bool | None = None, min_size: int = 0, max_size: int = 0, **options) -> nn.Module:
    """A detector by name.

    Args:
        name: one of ``DETECTORS``.
        backbone: one of ``BACKBONES``.
        classes: C >= 1; labels run from 1 to C.
        pretrained: start the backbone from ImageNet weights (torchvision downloads them on first use); ResNets only.
        frozen_norms: batch norms with fixed statistics; None = where ``pretrained``. Say it to load weights that were trained so.
        min_size, max_size: resize images so that the short side is ``min_size`` and the long side at most ``max_size`` pixels;
            0 leaves every image at the size it comes in.
        options: handed to torchvision's RetinaNet, e.g. ``score_thresh=0.05``.
    Raises:
        UserError: an unknown detector or backbone, or ImageNet weights for a compact one.
    """
    if name not in DETECTORS:
        raise unknown_name("detector", name, DETECTORS)
    if backbone not in BACKBONES:
        raise unknown_name("backbone", backbone, BACKBONES)
    if backbone in COMPACT:
        if pretrained:
            raise UserError(f"pretrained must be off for {backbone!r}: there are no ImageNet weights for it; choose one of {', '.join(RESNETS)}")
        detector = compact_retinanet(backbone, classes, **options)
    else:
        detector = resnet_retinanet(backbone, classes, pretrained, pretrained if frozen_norms is None else frozen_norms, **options)
    if min_size:
        detector.transform.min_size, detector.transform.max_size = (min_size,), max_size or round(min_size * 1333 / 800)
    else:
        detector.transform = AsItComes(detector.transform)
    detector.levels = pyramid_levels(detector)
    return detector


class AsItComes(GeneralizedRCNNTransform):
    """torchvision's transform without its resize: normalise, batch, pad to a multiple of 32, and map detections back."""

    def __init__(self, like: GeneralizedRCNNTransform):
        super().__init__(like.min_size[-1], like.max_size, like.image_mean, like.image_std, size_divisible=like.size_divisible)

    def resize(self, image: Tensor, target: dict | None = None):
        return image, target


@torch.no_grad()
def pyramid_levels(detector: nn.Module) -> tuple[str, ...]:
    """Names of the maps that the backbone returns, finest first, found by running it once on an empty image."""
    from fgdlab.scene import level_names

    training = detector.training
    maps = detector.eval().backbone(torch.zeros(1, 3, 128, 128))
    detector.train(training)
    return tuple(level_names(maps, 128))


# --- torchvision's RetinaNet on a ResNet ------------------------------------------------------------------------------------------

def resnet_retinanet(backbone: str, classes: int, pretrained: bool, frozen_norms: bool, **options) -> RetinaNet:
    """RetinaNet as torchvision's ``retinanet_resnet50_fpn`` builds it (P6 from P5), for any ResNet depth."""
    trainable = _validate_trainable_layers(pretrained, None, 5, 3)
    norm = {} if frozen_norms else {"norm_layer": partial(nn.BatchNorm2d)}           # torchvision freezes them; from scratch they must learn
    pyramid = resnet_fpn_backbone(
        backbone_name=backbone, weights="DEFAULT" if pretrained else None, trainable_layers=trainable, returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256), **norm,
    )
    return RetinaNet(pyramid, classes + 1, anchor_generator=_default_anchorgen(), **options)
