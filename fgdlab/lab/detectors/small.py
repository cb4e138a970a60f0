"""Small versions of all detectors that one CPU core trains in a minute, built of torchvision's own parts.

Levels and losses are those of the large detectors. There are fewer channels, convolutions per tower and regions of a
two-stage detector, and the anchors are smaller, as digits are. YOLOX keeps its own backbone and neck.
"""
from functools import partial

from safetensors.torch import load_file
from torch import nn
from torchvision.models.detection import FasterRCNN, MaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.fcos import FCOSHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.models.resnet import BasicBlock
from torchvision.ops import Conv2dNormActivation
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from .batched import BatchedFCOS, BatchedRetinaNet
from .compact import ANCHOR_SIZES, COMPACT, GLYPHS, WEIGHTS, Compact, CompactPyramid, retinanet_parts
from .darknet import DarknetPyramid
from .gfl import GFL, GFLHead
from .reppoints import RepPoints, RepPointsHead
from .yolox import YOLOX, YOLOXHead

SMALL = {"small_s": COMPACT["compact_s"], "small_t": COMPACT["compact_t"]}  # student, teacher
PYRAMID_CHANNELS = 64  # FCOS, RepPoints and GFL norm them in 32 groups
RETINANET_SIZES = (*ANCHOR_SIZES, (112, 158), (224, 316))  # pixels at P3..P7
REGION_SIZES = ((16,), (32,), (64,), (128,), (256,))  # pixels at P2..P6, half of torchvision's
REGION_RATIOS = (0.5, 1.0, 2.0)
BOX_CHANNELS, MASK_CHANNELS = 128, 32
REGIONS = {
    "rpn_pre_nms_top_n_train": 128, "rpn_pre_nms_top_n_test": 128, "rpn_post_nms_top_n_train": 64,
    "rpn_post_nms_top_n_test": 64, "rpn_batch_size_per_image": 64, "box_batch_size_per_image": 16,
    "box_detections_per_img": 50,
}


def small_detector(name: str, backbone: str, classes: int, pretrained: bool = False, **options) -> nn.Module:
    detector = MAKERS[name](SMALL[backbone], classes, options)
    if pretrained:
        load_glyphs(detector.backbone.body, backbone.replace("small", "compact"))
    return detector


def load_glyphs(body: nn.Module, backbone: str) -> None:
    """Load the compact backbone's weights that classified glyphs: its layers are these, in this order."""
    weights = load_file(WEIGHTS / GLYPHS[backbone])
    in_order = (weights[name] for name in CompactPyramid(COMPACT[backbone]).trunk())
    body.load_state_dict(dict(zip(body.state_dict(), in_order, strict=True)))


def small_pyramid(settings: Compact, first: int, extra: nn.Module) -> BackboneWithFPN:
    """Convolutions with torchvision's FPN from level ``first`` to P5; ``extra`` makes the levels after it.

    Both have batch norm: without it no detector converges from scratch.
    """
    conv = partial(Conv2dNormActivation, stride=2)
    stages = [
        nn.Sequential(conv(before, after), *(BasicBlock(after, after) for _ in range(count)))
        for before, after, count in zip(settings.widths, settings.widths[1:], settings.blocks, strict=False)
    ]
    trunk = nn.Sequential(conv(3, settings.widths[0]), *stages)  # child k has stride 2 ** (k + 1)
    return_layers = {str(level - 1): str(i) for i, level in enumerate(range(first, 6))}
    channels = list(settings.widths[first - 1:])
    return BackboneWithFPN(trunk, return_layers, channels, PYRAMID_CHANNELS, extra, nn.BatchNorm2d)


def one_stage_pyramid(settings: Compact) -> BackboneWithFPN:
    return small_pyramid(settings, 3, LastLevelP6P7(PYRAMID_CHANNELS, PYRAMID_CHANNELS))


def retinanet(settings: Compact, classes: int, options: dict) -> BatchedRetinaNet:
    parts = retinanet_parts(PYRAMID_CHANNELS, classes, settings.head_convs, RETINANET_SIZES, options)
    return BatchedRetinaNet(one_stage_pyramid(settings), classes + 1, **parts)


def fcos(settings: Compact, classes: int, options: dict) -> BatchedFCOS:
    """The score threshold is 0.05, as in torchvision's other detectors: 0.2 drops too much after short training."""
    head = FCOSHead(PYRAMID_CHANNELS, 1, classes + 1, num_convs=settings.head_convs)
    options = {"score_thresh": 0.05, "topk_candidates": 300, **options}
    return BatchedFCOS(one_stage_pyramid(settings), classes + 1, head=head, **options)


def two_stage(kind: type[FasterRCNN], settings: Compact, classes: int, options: dict) -> FasterRCNN:
    parts = {
        "rpn_anchor_generator": AnchorGenerator(REGION_SIZES, (REGION_RATIOS,) * len(REGION_SIZES)),
        "box_head": TwoMLPHead(PYRAMID_CHANNELS * 7 ** 2, BOX_CHANNELS),
        "box_predictor": FastRCNNPredictor(BOX_CHANNELS, classes + 1),
    }
    if kind is MaskRCNN:
        parts |= {
            "mask_head": MaskRCNNHeads(PYRAMID_CHANNELS, (MASK_CHANNELS,) * settings.head_convs, 1),
            "mask_predictor": MaskRCNNPredictor(MASK_CHANNELS, MASK_CHANNELS, classes + 1),
        }
    return kind(small_pyramid(settings, 2, LastLevelMaxPool()), **{**parts, **REGIONS, **options})


def reppoints(settings: Compact, classes: int, options: dict) -> RepPoints:
    """All convolutions have norms: without them two thirds of the last ones' channels end at 0."""
    norm = partial(nn.GroupNorm, 32)
    head = RepPointsHead(PYRAMID_CHANNELS, classes, settings.head_convs, norm, norm)
    return RepPoints(one_stage_pyramid(settings), classes, head=head, **{"topk_candidates": 300, **options})


def gfl(settings: Compact, classes: int, options: dict) -> GFL:
    head = GFLHead(PYRAMID_CHANNELS, classes, settings.head_convs)
    return GFL(one_stage_pyramid(settings), head, **{"anchor_scale": 3.0, "topk_candidates": 300, **options})


def yolox(settings: Compact, classes: int, options: dict) -> YOLOX:
    head = YOLOXHead(PYRAMID_CHANNELS, classes, settings.head_convs)
    pyramid = DarknetPyramid(settings.widths, settings.blocks, PYRAMID_CHANNELS)
    return YOLOX(pyramid, head, **{"topk_candidates": 300, **options})


MAKERS = {
    "retinanet": retinanet, "fcos": fcos, "faster_rcnn": partial(two_stage, FasterRCNN),
    "mask_rcnn": partial(two_stage, MaskRCNN), "reppoints": reppoints, "gfl": gfl, "yolox": yolox,
}
