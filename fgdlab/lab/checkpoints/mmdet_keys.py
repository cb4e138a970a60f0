"""A detector's weights under MMDetection's names. Tensors are renamed, not reshaped.

    ours (torchvision's modules)                         theirs
    backbone.body.layer1.0.conv1.weight              ->  backbone.layer1.0.conv1.weight
    backbone.fpn.inner_blocks.0.0.weight             ->  neck.lateral_convs.0.conv.weight
    backbone.fpn.layer_blocks.0.0.weight             ->  neck.fpn_convs.0.conv.weight
    backbone.fpn.extra_blocks.p6.weight              ->  neck.fpn_convs.3.conv.weight
    head.classification_head.cls_logits.weight       ->  bbox_head.retina_cls.weight

A detector of ``build(..., flavour="mmdet")`` has exactly MMDetection's tensors, so the table holds in both directions.
"""
import re

from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet

from ..detectors import RepPoints
from ..errors import UserError

# (pattern of our names, MMDetection's name). {0}, {1}: groups of the pattern. Other fields: see their_name().
PYRAMID = (
    (r"backbone\.body\.(.+)", "backbone.{0}"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.0\.(\w+)", "neck.lateral_convs.{0}.conv.{1}"),
    (r"backbone\.fpn\.inner_blocks\.(\d+)\.1\.(\w+)", "neck.lateral_convs.{0}.gn.{1}"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.0\.(\w+)", "neck.fpn_convs.{0}.conv.{1}"),
    (r"backbone\.fpn\.layer_blocks\.(\d+)\.1\.(\w+)", "neck.fpn_convs.{0}.gn.{1}"),
    (r"backbone\.fpn\.extra_blocks\.p([67])(?:\.0)?\.(weight|bias)", "neck.fpn_convs.{level}.conv.{1}"),
    (r"backbone\.fpn\.extra_blocks\.p([67])\.1\.(\w+)", "neck.fpn_convs.{level}.gn.{1}"),
)
RETINANET = (
    (r"head\.classification_head\.conv\.(\d+)\.0\.(\w+)", "bbox_head.cls_convs.{0}.conv.{1}"),
    (r"head\.regression_head\.conv\.(\d+)\.0\.(\w+)", "bbox_head.reg_convs.{0}.conv.{1}"),
    (r"head\.classification_head\.cls_logits\.(\w+)", "bbox_head.retina_cls.{0}"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", "bbox_head.retina_reg.{0}"),
)
FCOS_HEAD = (                                                        # towers: conv, norm, relu, conv, norm, relu, ...
    (r"head\.classification_head\.conv\.(\d+)\.(\w+)", "bbox_head.cls_convs.{third}.{part}.{1}"),
    (r"head\.regression_head\.conv\.(\d+)\.(\w+)", "bbox_head.reg_convs.{third}.{part}.{1}"),
    (r"head\.classification_head\.cls_logits\.(\w+)", "bbox_head.conv_cls.{0}"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", "bbox_head.conv_reg.{0}"),
    (r"head\.regression_head\.bbox_ctrness\.(\w+)", "bbox_head.conv_centerness.{0}"),
    (r"head\.scales\.(\d+)", "bbox_head.scales.{0}.scale"),
)
FASTER_RCNN = (
    (r"rpn\.head\.conv\.0\.0\.(\w+)", "rpn_head.rpn_conv.{0}"),
    (r"rpn\.head\.cls_logits\.(\w+)", "rpn_head.rpn_cls.{0}"),
    (r"rpn\.head\.bbox_pred\.(\w+)", "rpn_head.rpn_reg.{0}"),
    (r"roi_heads\.box_head\.fc6\.(\w+)", "roi_head.bbox_head.shared_fcs.0.{0}"),
    (r"roi_heads\.box_head\.fc7\.(\w+)", "roi_head.bbox_head.shared_fcs.1.{0}"),
    (r"roi_heads\.box_predictor\.cls_score\.(\w+)", "roi_head.bbox_head.fc_cls.{0}"),
    (r"roi_heads\.box_predictor\.bbox_pred\.(\w+)", "roi_head.bbox_head.fc_reg.{0}"),
)
MASK_RCNN = (
    *FASTER_RCNN,
    (r"roi_heads\.mask_head\.(\d+)\.0\.(\w+)", "roi_head.mask_head.convs.{0}.conv.{1}"),
    (r"roi_heads\.mask_predictor\.conv5_mask\.(\w+)", "roi_head.mask_head.upsample.{0}"),
    (r"roi_heads\.mask_predictor\.mask_fcn_logits\.(\w+)", "roi_head.mask_head.conv_logits.{0}"),
)
REPPOINTS = (
    (r"head\.moment", "bbox_head.moment_transfer"),
    (r"head\.class_tower\.(\d+)\.0\.(\w+)", "bbox_head.cls_convs.{0}.conv.{1}"),
    (r"head\.class_tower\.(\d+)\.1\.(\w+)", "bbox_head.cls_convs.{0}.gn.{1}"),
    (r"head\.box_tower\.(\d+)\.0\.(\w+)", "bbox_head.reg_convs.{0}.conv.{1}"),
    (r"head\.box_tower\.(\d+)\.1\.(\w+)", "bbox_head.reg_convs.{0}.gn.{1}"),
    (r"head\.class_(conv|out)\.(\w+)", "bbox_head.reppoints_cls_{0}.{1}"),
    (r"head\.(init|refine)_(conv|out)\.(\w+)", "bbox_head.reppoints_pts_{0}_{1}.{2}"),
)
FAMILIES = (
    (MaskRCNN, MASK_RCNN), (FasterRCNN, FASTER_RCNN), (RetinaNet, RETINANET), (FCOS, FCOS_HEAD), (RepPoints, REPPOINTS),
)

NECK = re.compile(r"(backbone|neck)\.")


def mmdet_names(detector: nn.Module) -> dict[str, str]:
    """{our name: MMDetection's name} of every tensor in the detector's state dict.

    Raises:
        UserError: a detector of another flavour or class, or a backbone with other names in MMDetection.
    """
    flavour = getattr(detector, "flavour", None)
    if flavour != "mmdet":
        raise UserError(
            f"the detector must be of the mmdet flavour, got {flavour!r}: torchvision's own has other anchors, another "
            'P6 and one class more; make it with build(..., flavour="mmdet")'
        )
    rows = PYRAMID + next(rows for kind, rows in FAMILIES if isinstance(detector, kind))
    if not hasattr(detector.backbone.body, "layer4"):
        problem = "the backbone must be a ResNet or ResNeXt, got another, which MMDetection names otherwise"
        raise UserError(f"{problem}; export under torchvision's names")
    laterals = len(detector.backbone.fpn.inner_blocks)
    return {name: their_name(name, rows, laterals) for name in detector.state_dict()}


def their_name(name: str, rows: tuple[tuple[str, str], ...], laterals: int) -> str:
    for pattern, theirs in rows:
        if match := re.fullmatch(pattern, name):
            groups, numbers = match.groups(), {}
            if "{level}" in theirs:                                  # P6 and P7 come after the convolutions of P3..P5
                numbers["level"] = laterals + int(groups[0]) - 6
            if "{third}" in theirs:
                numbers = {"third": int(groups[0]) // 3, "part": ("conv", "gn")[int(groups[0]) % 3]}
            return theirs.format(*groups, **numbers)
    raise AssertionError(f"no row of the table names {name}")


CLASSIFIERS = {                                                      # bias of a classifier -> classes from its length
    "bbox_head.retina_cls.bias": lambda length: length // 9, "bbox_head.conv_cls.bias": lambda length: length,
    "bbox_head.reppoints_cls_out.bias": lambda length: length,
    "roi_head.bbox_head.fc_cls.bias": lambda length: length - 1,
    "roi_head.bbox_head.0.fc_cls.bias": lambda length: length - 1,
}


def classes_of(state: dict) -> int | None:
    """The number of classes of a checkpoint in MMDetection's names; None without a known classifier."""
    return next((classes(len(state[name])) for name, classes in CLASSIFIERS.items() if name in state), None)
