"""Detectors under torchvision's own contract, by name.

    build("retinanet", "resnet18", classes=80)                       torchvision's RetinaNet on torchvision's ResNet, P3-P7
    build("faster_rcnn", "resnet50", classes=80)                     P2-P6
    build("fcos", "resnet50_caffe", classes=80, flavour="mmdet")     as MMDetection builds it, for its checkpoints
    build("reppoints", "resnet50", classes=80)                       ours, see reppoints.py
    build("retinanet", "compact_s", classes=10)                      the laptop family: the same class, cut down to P3-P5
    build("mask_rcnn", "small_s", classes=10)                        the small family: all five, cut down, with the levels of the large ones

Every detector has ``transform`` and ``backbone`` (see fgdlab/scene.py); ``detector.levels`` names the pyramid levels,
``detector.backbone.out_channels`` is their C. Labels run from 1 to ``classes``; 0 is nobody, as everywhere in torchvision.
"""
import math
from functools import partial

import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead, _default_anchorgen
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from ..errors import UserError, unknown_name
from . import mmdet_modules as mm
from .backbones import CAFFE, MOBILE, PYRAMID_CHANNELS, RESNETS, RESNEXTS, backbone_with_fpn, check_backbone
from .compact import COMPACT, compact_retinanet
from .reppoints import RepPoints
from .small import SMALL, small_detector

DETECTORS = ("retinanet", "fcos", "faster_rcnn", "mask_rcnn", "reppoints")
BACKBONES = (*COMPACT, *SMALL, *RESNETS, *CAFFE, *RESNEXTS, *MOBILE)         # and any other of torchvision whose children run in order
FLAVOURS = ("torchvision", "mmdet")


def build(
    name: str, backbone: str, classes: int, *, flavour: str = "torchvision", pretrained: bool = False, frozen_norms: bool | None = None,
    min_size: int = 0, max_size: int = 0, **options,
) -> nn.Module:
    """A detector by name.

    Args:
        name: one of ``DETECTORS``.
        backbone: one of ``BACKBONES``, or another classifier of torchvision; the compact ones are for RetinaNet, the small ones for all five.
        classes: C >= 1; labels run from 1 to C.
        flavour: "torchvision", or "mmdet" for MMDetection's P6, anchors, heads, norms and order of classes (see mmdet_flavour.py).
        pretrained: start the backbone from ImageNet weights (torchvision downloads them on first use); stem and first stage stay as they are.
        frozen_norms: batch norms with fixed statistics; None = where ``pretrained``, and always in the mmdet flavour. Say it to load weights
            that were trained so.
        min_size, max_size: resize images so that the short side is ``min_size`` and the long side at most ``max_size`` pixels;
            0 leaves every image at the size it comes in.
        options: handed to the detector's class, e.g. ``score_thresh=0.05``; FCOS in the mmdet flavour also takes those of ``ScaledFCOSHead``.
    Raises:
        UserError: an unknown name or flavour, or ImageNet weights where there are none.
    """
    if name not in DETECTORS:
        raise unknown_name("detector", name, DETECTORS)
    if flavour not in FLAVOURS:
        raise unknown_name("flavour", flavour, FLAVOURS)
    if backbone in COMPACT:
        detector = compact(name, backbone, classes, flavour, pretrained, options)
    elif backbone in SMALL:
        detector = small(name, backbone, classes, flavour, pretrained, options)
    else:
        check_backbone(backbone, pretrained, others=(*COMPACT, *SMALL))
        fixed = (pretrained or flavour == "mmdet") if frozen_norms is None else frozen_norms
        norms = "learned" if not fixed else "still" if flavour == "mmdet" else "frozen"
        under = partial(backbone_with_fpn, backbone, pretrained=pretrained, norms=norms)
        detector = MAKERS[name](under, classes, flavour == "mmdet", options)
    return adapt_detector(detector, flavour, min_size, max_size)


def build_settings(config, backbone: str, classes: int) -> dict:
    """The arguments of :func:`build` that a run's settings (a RunConfig) mean for its student or teacher, whose weights are loaded afterwards."""
    settings = {"name": config.detector, "backbone": backbone, "classes": classes}
    settings |= {"frozen_norms": config.pretrained} if config.flavour == "torchvision" else {"flavour": config.flavour}
    return settings | {name: getattr(config, name) for name in ("min_size", "max_size") if getattr(config, name)}


def adapt_detector(detector: nn.Module, flavour: str, min_size: int = 0, max_size: int = 0) -> nn.Module:
    """A detector of torchvision's classes with what the bench adds: the size that it reads images at, ``levels`` and ``flavour``."""
    if max_size and not 0 < min_size <= max_size:
        raise UserError(f"max_size must go with a min_size that is not above it, got {max_size} and {min_size}; the paper's are 1333 and 800")
    if min_size:
        detector.transform.min_size, detector.transform.max_size = (min_size,), max_size or round(min_size * 1333 / 800)
    else:
        detector.transform = NoResize(detector.transform)
    detector.levels = pyramid_levels(detector)
    detector.flavour = flavour
    return detector


class NoResize(GeneralizedRCNNTransform):
    """torchvision's transform without its resize: normalise, batch, pad to a multiple of 32, and map detections back."""

    def __init__(self, like: GeneralizedRCNNTransform):
        super().__init__(like.min_size[-1], like.max_size, like.image_mean, like.image_std, size_divisible=like.size_divisible)

    def resize(self, image: Tensor, target: dict | None = None):
        return image, target

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Images of one size that need no padding are normalised as one batch instead of one by one: the same numbers in a tenth of the operations."""
        first = images[0]
        alike = first.ndim == 3 and first.is_floating_point() and all(image.shape == first.shape and image.dtype == first.dtype for image in images)
        if not alike or any(side % self.size_divisible for side in first.shape[1:]):
            return super().forward(images, targets)
        mean, std = (torch.as_tensor(each, dtype=first.dtype, device=first.device)[:, None, None] for each in (self.image_mean, self.image_std))
        pixels = torch.stack(images).sub_(mean).div_(std)
        return ImageList(pixels, [tuple(first.shape[1:])] * len(images)), None if targets is None else [dict(target) for target in targets]


@torch.no_grad()
def pyramid_levels(detector: nn.Module) -> tuple[str, ...]:
    """Names of the maps that the backbone returns, finest first, found by running it once on an empty image."""
    from fgdlab.scene import level_names

    training = detector.training
    maps = detector.eval().backbone(torch.zeros(1, 3, 128, 128))
    detector.train(training)
    return tuple(level_names(maps, 128))


# --- one maker a detector -----------------------------------------------------------------------------------------------------------
# under(first, extra, fpn_norm=None) makes the pyramid. In torchvision's flavour each is what torchvision's own builder for ResNet-50 makes.

def compact(name: str, backbone: str, classes: int, flavour: str, pretrained: bool, options: dict) -> RetinaNet:
    if name != "retinanet" or flavour != "torchvision":
        raise UserError(f"detector must be 'retinanet' in torchvision's flavour on {backbone!r}, got {name!r} in {flavour!r}; choose one of {', '.join(RESNETS)}")
    if pretrained:
        raise UserError(f"pretrained must be off for {backbone!r}: there are no ImageNet weights for it; choose one of {', '.join(RESNETS)}")
    return compact_retinanet(backbone, classes, **options)


def small(name: str, backbone: str, classes: int, flavour: str, pretrained: bool, options: dict) -> nn.Module:
    if flavour != "torchvision":
        raise UserError(f"flavour must be 'torchvision' on {backbone!r}, got {flavour!r}; choose one of {', '.join(RESNETS)}")
    if pretrained:
        raise UserError(f"pretrained must be off for {backbone!r}: there are no ImageNet weights for it; choose one of {', '.join(RESNETS)}")
    return small_detector(name, backbone, classes, **options)


def retinanet(under, classes: int, mmdet: bool, options: dict) -> RetinaNet:
    """P6 from P5 as ``retinanet_resnet50_fpn``; in MMDetection from C5, and one class channel less."""
    if not mmdet:
        return RetinaNet(under(3, LastLevelP6P7(PYRAMID_CHANNELS, PYRAMID_CHANNELS)), classes + 1, anchor_generator=_default_anchorgen(), **options)
    maps, anchors = under(3, lambda channels: mm.ExtraConvs("input", channels, PYRAMID_CHANNELS)), mm.retinanet_anchors()
    head = RetinaNetHead(PYRAMID_CHANNELS, anchors.num_anchors_per_location()[0], classes)
    return mm.MMRetinaNet(maps, classes, anchor_generator=anchors, head=head, **{"detections_per_img": 100, **options})


def fcos(under, classes: int, mmdet: bool, options: dict) -> FCOS:
    """P6 from P5 in both. In the mmdet flavour with the authors' settings: distances in strides, centre sampling, centreness beside the classes.

    ``norm_on_bbox=False, conv_bias=False`` is plain FCOS, their teacher; ``centerness_on_reg=True`` is what torchvision's own FCOS does.
    """
    if not mmdet:
        return FCOS(under(3, LastLevelP6P7(PYRAMID_CHANNELS, PYRAMID_CHANNELS)), classes + 1, **options)
    of_head = {each: options.pop(each) for each in ("norm_on_bbox", "centerness_on_reg", "conv_bias") if each in options}
    maps = under(3, lambda _: mm.ExtraConvs("output", PYRAMID_CHANNELS, PYRAMID_CHANNELS, relu=True))
    head = mm.ScaledFCOSHead(PYRAMID_CHANNELS, classes, **of_head)
    usual = {"nms_thresh": 0.6, "center_sampling_radius": 1.5} if head.norm_on_bbox else {"nms_thresh": 0.5, "center_sampling_radius": math.inf}
    return mm.MMFCOS(maps, classes, anchor_generator=mm.fcos_points(), head=head, **{**usual, **options})


def two_stage(kind: type[FasterRCNN], under, classes: int, mmdet: bool, options: dict) -> FasterRCNN:
    """P2-P5, and P6 by subsampling P5, in both."""
    maps = under(2, LastLevelMaxPool())
    if not mmdet:
        return kind(maps, classes + 1, **options)
    parts = {
        "rpn_anchor_generator": mm.rpn_anchors(), "box_roi_pool": mm.AlignedRoIAlign(7), "box_predictor": mm.BackgroundLast(1024, classes),
        "rpn_post_nms_top_n_train": 1000,
    }
    if kind is MaskRCNN:
        parts |= {"mask_roi_pool": mm.AlignedRoIAlign(14), "mask_predictor": mm.NoBackgroundMask(256, 256, classes)}
    return kind(maps, None, **{**parts, **options})


def reppoints(under, classes: int, mmdet: bool, options: dict) -> RepPoints:
    """P6 from C5, group norm in neck and head, in both; the flavours differ in the body's norms alone."""
    norm = partial(nn.GroupNorm, 32)
    extra = partial(mm.ExtraConvs, "input", outputs=PYRAMID_CHANNELS, norm=norm)
    return RepPoints(under(3, extra, fpn_norm=norm), classes, **options)


MAKERS = {
    "retinanet": retinanet, "fcos": fcos, "faster_rcnn": partial(two_stage, FasterRCNN), "mask_rcnn": partial(two_stage, MaskRCNN), "reppoints": reppoints,
}
