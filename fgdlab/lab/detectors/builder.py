"""Detectors by name, under torchvision's contract.

    build("retinanet", "resnet18", classes=80)                    torchvision's RetinaNet and ResNet, P3-P7
    build("fcos", "resnet50_caffe", classes=80, flavour="mmdet")  as MMDetection builds it, for its checkpoints
    build("mask_rcnn", "small_s", classes=10)                     small versions, see small.py and compact.py

A detector has ``transform`` and ``backbone`` (see fgdlab/scene.py), ``levels`` (names of the pyramid levels) and
``backbone.out_channels``. Labels run from 1 to ``classes``; 0 is background.
"""
import difflib
import math
from functools import partial

import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from ..errors import UserError, check_name, unknown_name
from . import mmdet_modules as mm
from .anchors import FittedAnchors
from .backbones import CAFFE, MOBILE, PYRAMID_CHANNELS, RESNETS, RESNEXTS, backbone_with_fpn
from .batched import BatchedFCOS, BatchedRetinaNet
from .compact import COMPACT, compact_retinanet
from .gfl import GFL, GFLHead
from .reppoints import RepPoints
from .small import SMALL, small_detector
from .yolox import DEPTH_AND_WIDTH, YOLOX, YOLOXHead, yolox_pyramid

DETECTORS = ("retinanet", "fcos", "faster_rcnn", "mask_rcnn", "reppoints", "gfl", "yolox")
BACKBONES = (*COMPACT, *SMALL, *RESNETS, *CAFFE, *RESNEXTS, *MOBILE, *DEPTH_AND_WIDTH)  # and others of torchvision
ANCHORED = dict.fromkeys(("faster_rcnn", "mask_rcnn"), "rpn_anchor_generator") | {"retinanet": "anchor_generator"}
FLAVOURS = ("torchvision", "mmdet")


def build(
    name: str, backbone: str, classes: int, *, flavour: str = "torchvision", pretrained: bool = False,
    frozen_norms: bool | None = None, min_size: int = 0, max_size: int = 0, anchors: str = "", **options,
) -> nn.Module:
    """A detector by name. Arguments that RunConfig has, too, mean the same (lab/config/run_config.py).

    Args:
        backbone: one of ``BACKBONES``, or another classifier of torchvision. Compact ones are for RetinaNet only, sizes
            of YOLOX for it only.
        flavour: "torchvision", or "mmdet" for MMDetection's parts (see mmdet_modules.py).
        pretrained: of ImageNet weights, stem and first stage are not trained.
        frozen_norms: batch norms with fixed statistics, not for compact and small backbones. None: if ``pretrained``,
            and always in the mmdet flavour.
        options: of the detector's class, such as ``score_thresh=0.05``; of ``ScaledFCOSHead`` for an FCOS of mmdet.
    """
    check_name("detector", name, DETECTORS)
    check_name("flavour", flavour, FLAVOURS)
    if anchors:
        if name not in ANCHORED or flavour != "torchvision":
            problem = f"anchors must be empty for {name} in the flavour {flavour}"
            raise UserError(f"{problem}, got {anchors!r}; it has none, or those of its checkpoints")
        options[ANCHORED[name]] = FittedAnchors(anchors)
    if backbone in COMPACT or backbone in SMALL:
        check_small(name, backbone, flavour, pretrained)
        make = compact_retinanet if backbone in COMPACT else partial(small_detector, name)
        detector = make(backbone, classes, pretrained, **options)
    elif name == "yolox" or backbone in DEPTH_AND_WIDTH:
        check_yolox(name, backbone, pretrained or bool(frozen_norms))
        detector = yolox(backbone, classes, options)
    else:
        check_backbone(backbone, pretrained)
        frozen = (pretrained or flavour == "mmdet") if frozen_norms is None else frozen_norms
        norms = "learned" if not frozen else "frozen_stats" if flavour == "mmdet" else "frozen"
        make_backbone = partial(backbone_with_fpn, backbone, pretrained=pretrained, norms=norms)
        detector = MAKERS[name](make_backbone, classes, flavour == "mmdet", options)
    detector = adapt_detector(detector, flavour, min_size, max_size)
    levels = len(detector.levels)
    if anchors and levels != anchors.count("/") + 1:
        got = f"got {anchors.count('/') + 1}; fit them with `--scale photos`"
        raise UserError(f"anchors must have {levels} levels for {name} on {backbone}, {got}")
    return detector


def build_settings(config, role: str, classes: int) -> dict:
    """The arguments of :func:`build` for a RunConfig's "student" or "teacher" (``role``), whose weights are loaded."""
    settings = {"name": config.detector, "backbone": getattr(config, role), "classes": classes}
    if config.flavour == "torchvision":
        settings["frozen_norms"] = is_pretrained(config, role)
    else:
        settings["flavour"] = config.flavour
    optional = ("min_size", "max_size", "anchors")
    return settings | {name: getattr(config, name) for name in optional if getattr(config, name)}


def is_pretrained(config, role: str) -> bool:
    return (config.init if role == "student" else config.teacher_init) == "pretrained"


def check_small(name: str, backbone: str, flavour: str, pretrained: bool) -> None:
    if backbone in COMPACT and (name != "retinanet" or flavour != "torchvision"):
        defect = f"detector must be 'retinanet' in torchvision's flavour on {backbone!r}, got {name!r} in {flavour!r}"
    elif flavour != "torchvision":
        defect = f"flavour must be 'torchvision' on {backbone!r}, got {flavour!r}"
    elif pretrained and name == "yolox":
        raise UserError(f"init must be 'random' for yolox on {backbone!r}, got 'pretrained'; it starts from scratch")
    else:
        return
    raise UserError(f"{defect}; choose one of {', '.join(RESNETS)}")


def check_yolox(name: str, backbone: str, pretrained: bool) -> None:
    sizes = ", ".join(DEPTH_AND_WIDTH)
    if name != "yolox" or backbone not in DEPTH_AND_WIDTH:
        raise UserError(f"detector must be 'yolox' on one of {sizes}, got {name!r} on {backbone!r}; choose both alike")
    if pretrained:
        raise UserError(f"pretrained and frozen_norms must be off for {backbone!r}, got one on; it starts from scratch")


def check_backbone(name: str, pretrained: bool) -> None:
    torchvisions = torchvision.models.list_models(module=torchvision.models)
    if name not in torchvisions and name not in BACKBONES:
        known = dict.fromkeys((*BACKBONES, *difflib.get_close_matches(name, torchvisions, n=2)))
        raise unknown_name("backbone", name, known, hint="other classifiers of torchvision will do as well")
    if pretrained and name not in torchvisions:
        remedy = "load an MMDetection checkpoint, or choose another"
        raise UserError(f"init must be 'random' for {name!r}: torchvision has no ImageNet weights for it; {remedy}")


def adapt_detector(detector: nn.Module, flavour: str, min_size: int = 0, max_size: int = 0) -> nn.Module:
    if max_size and not 0 < min_size <= max_size:
        raise UserError(
            f"max_size must go with a min_size that is not above it, got {max_size} and {min_size}; "
            "the paper's are 1333 and 800")
    if min_size:
        detector.transform.min_size = (min_size,)
        detector.transform.max_size = max_size or round(min_size * 1333 / 800)
    else:
        detector.transform = NoResize(detector.transform)
    detector.levels = pyramid_levels(detector)
    detector.flavour = flavour
    return detector


class NoResize(GeneralizedRCNNTransform):
    def __init__(self, like: GeneralizedRCNNTransform):
        super().__init__(
            like.min_size[-1], like.max_size, like.image_mean, like.image_std, size_divisible=like.size_divisible,
        )

    def resize(self, image: Tensor, target: dict | None = None):
        return image, target

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        """Images of one size that need no padding are normalised as one batch: the same numbers, fewer operations."""
        first = images[0]
        same = all(image.shape == first.shape and image.dtype == first.dtype for image in images)
        padded = any(side % self.size_divisible for side in first.shape[1:])
        if not same or padded or first.ndim != 3 or not first.is_floating_point():
            return super().forward(images, targets)
        pixels = torch.stack(images)
        for channel, mean, std in zip(pixels.unbind(1), self.image_mean, self.image_std, strict=True):
            channel.sub_(mean).div_(std)
        batch = ImageList(pixels, [tuple(first.shape[1:])] * len(images))
        return batch, None if targets is None else [dict(target) for target in targets]


@torch.no_grad()
def pyramid_levels(detector: nn.Module) -> tuple[str, ...]:
    from fgdlab.scene import level_names

    training = detector.training
    maps = detector.eval().backbone(torch.zeros(1, 3, 128, 128))
    detector.train(training)
    return tuple(level_names(maps, 128))


# One function per detector. make_backbone(first, extra, fpn_norm=None) is backbone_with_fpn for the chosen backbone.

def retinanet(make_backbone, classes: int, mmdet: bool, options: dict) -> BatchedRetinaNet:
    """P6 from P5 as in ``retinanet_resnet50_fpn``. MMDetection: P6 from C5, no background channel."""
    if not mmdet:
        backbone = make_backbone(3, LastLevelP6P7(PYRAMID_CHANNELS, PYRAMID_CHANNELS))
        return BatchedRetinaNet(backbone, classes + 1, **options)
    backbone = make_backbone(3, lambda channels: mm.ExtraConvs("input", channels, PYRAMID_CHANNELS))
    anchors = mm.retinanet_anchors()
    head = RetinaNetHead(PYRAMID_CHANNELS, anchors.num_anchors_per_location()[0], classes)
    options = {"detections_per_img": 100, **options}
    return mm.MMRetinaNet(backbone, classes, anchor_generator=anchors, head=head, **options)


def fcos(make_backbone, classes: int, mmdet: bool, options: dict) -> BatchedFCOS:
    """P6 from P5. MMDetection: distances in strides, centre sampling, centreness from the class tower.

    ``norm_on_bbox=False, conv_bias=False`` is plain FCOS, the authors' teacher; ``centerness_on_reg=True`` is
    torchvision's.
    """
    if not mmdet:
        return BatchedFCOS(make_backbone(3, LastLevelP6P7(PYRAMID_CHANNELS, PYRAMID_CHANNELS)), classes + 1, **options)
    head_names = ("norm_on_bbox", "centerness_on_reg", "conv_bias")
    head_options = {name: options.pop(name) for name in head_names if name in options}
    backbone = make_backbone(3, lambda _: mm.ExtraConvs("output", PYRAMID_CHANNELS, PYRAMID_CHANNELS, relu=True))
    head = mm.ScaledFCOSHead(PYRAMID_CHANNELS, classes, **head_options)
    defaults = {"nms_thresh": 0.5, "center_sampling_radius": math.inf}
    if head.norm_on_bbox:
        defaults = {"nms_thresh": 0.6, "center_sampling_radius": 1.5}
    return mm.MMFCOS(backbone, classes, anchor_generator=mm.fcos_points(), head=head, **{**defaults, **options})


def two_stage(kind: type[FasterRCNN], make_backbone, classes: int, mmdet: bool, options: dict) -> FasterRCNN:
    """P2-P5, and P6 by subsampling P5."""
    backbone = make_backbone(2, LastLevelMaxPool())
    if not mmdet:
        return kind(backbone, classes + 1, **options)
    parts = {
        "rpn_anchor_generator": mm.rpn_anchors(), "box_roi_pool": mm.AlignedRoIAlign(7),
        "box_predictor": mm.BackgroundLast(1024, classes), "rpn_post_nms_top_n_train": 1000,
    }
    if kind is MaskRCNN:
        parts |= {"mask_roi_pool": mm.AlignedRoIAlign(14), "mask_predictor": mm.NoBackgroundMask(256, 256, classes)}
    return kind(backbone, None, **{**parts, **options})


def reppoints(make_backbone, classes: int, mmdet: bool, options: dict) -> RepPoints:
    """P6 from C5, group norm in neck and head. The flavours differ only in the norms of the backbone."""
    norm = partial(nn.GroupNorm, 32)
    extra = partial(mm.ExtraConvs, "input", outputs=PYRAMID_CHANNELS, norm=norm)
    return RepPoints(make_backbone(3, extra, fpn_norm=norm), classes, **options)


def gfl(make_backbone, classes: int, mmdet: bool, options: dict) -> GFL:
    """P6 from P5. The flavours differ in the norms of the backbone."""
    backbone = make_backbone(3, lambda _: mm.ExtraConvs("output", PYRAMID_CHANNELS, PYRAMID_CHANNELS))
    return GFL(backbone, GFLHead(PYRAMID_CHANNELS, classes), **options)


def yolox(size: str, classes: int, options: dict) -> YOLOX:
    pyramid = yolox_pyramid(size)
    return YOLOX(pyramid, YOLOXHead(pyramid.out_channels, classes, depthwise=size == "yolox_nano"), **options)


MAKERS = {
    "retinanet": retinanet, "fcos": fcos, "faster_rcnn": partial(two_stage, FasterRCNN),
    "mask_rcnn": partial(two_stage, MaskRCNN), "reppoints": reppoints, "gfl": gfl,
}
