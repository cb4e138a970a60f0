"""A detector's weights under MMDetection's names, and YOLOX's under Megvii's. Tensors are renamed, not reshaped.

A detector of ``build(..., flavour="mmdet")`` has exactly MMDetection's tensors, so the tables hold in both directions.
"""
import re

from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet

from ..detectors import GFL, YOLOX, RepPoints
from ..errors import UserError

# Our name (of torchvision's modules) -> MMDetection's. * is one part between dots, ** any number; they fill the
# {} in order. {level} and {tower} are computed by their_name().
PYRAMID = {
    "backbone.body.**": "backbone.{}",
    "backbone.fpn.inner_blocks.*.0.*": "neck.lateral_convs.{}.conv.{}",
    "backbone.fpn.inner_blocks.*.1.*": "neck.lateral_convs.{}.gn.{}",
    "backbone.fpn.layer_blocks.*.0.*": "neck.fpn_convs.{}.conv.{}",
    "backbone.fpn.layer_blocks.*.1.*": "neck.fpn_convs.{}.gn.{}",
    "backbone.fpn.extra_blocks.p*.*": "neck.fpn_convs.{level}.conv.{}",
    "backbone.fpn.extra_blocks.p*.0.*": "neck.fpn_convs.{level}.conv.{}",
    "backbone.fpn.extra_blocks.p*.1.*": "neck.fpn_convs.{level}.gn.{}",
}
RETINANET = {
    "head.classification_head.conv.*.0.*": "bbox_head.cls_convs.{}.conv.{}",
    "head.regression_head.conv.*.0.*": "bbox_head.reg_convs.{}.conv.{}",
    "head.classification_head.cls_logits.*": "bbox_head.retina_cls.{}",
    "head.regression_head.bbox_reg.*": "bbox_head.retina_reg.{}",
}
FCOS_HEAD = {
    "head.classification_head.conv.*.*": "bbox_head.cls_convs.{tower}.{}",
    "head.regression_head.conv.*.*": "bbox_head.reg_convs.{tower}.{}",
    "head.classification_head.cls_logits.*": "bbox_head.conv_cls.{}",
    "head.regression_head.bbox_reg.*": "bbox_head.conv_reg.{}",
    "head.regression_head.bbox_ctrness.*": "bbox_head.conv_centerness.{}",
    "head.scales.*": "bbox_head.scales.{}.scale",
}
FASTER_RCNN = {
    "rpn.head.conv.0.0.*": "rpn_head.rpn_conv.{}",
    "rpn.head.cls_logits.*": "rpn_head.rpn_cls.{}",
    "rpn.head.bbox_pred.*": "rpn_head.rpn_reg.{}",
    "roi_heads.box_head.fc6.*": "roi_head.bbox_head.shared_fcs.0.{}",
    "roi_heads.box_head.fc7.*": "roi_head.bbox_head.shared_fcs.1.{}",
    "roi_heads.box_predictor.cls_score.*": "roi_head.bbox_head.fc_cls.{}",
    "roi_heads.box_predictor.bbox_pred.*": "roi_head.bbox_head.fc_reg.{}",
}
MASK_RCNN = FASTER_RCNN | {
    "roi_heads.mask_head.*.0.*": "roi_head.mask_head.convs.{}.conv.{}",
    "roi_heads.mask_predictor.conv5_mask.*": "roi_head.mask_head.upsample.{}",
    "roi_heads.mask_predictor.mask_fcn_logits.*": "roi_head.mask_head.conv_logits.{}",
}
REPPOINTS = {
    "head.moment": "bbox_head.moment_transfer",
    "head.class_tower.*.0.*": "bbox_head.cls_convs.{}.conv.{}",
    "head.class_tower.*.1.*": "bbox_head.cls_convs.{}.gn.{}",
    "head.box_tower.*.0.*": "bbox_head.reg_convs.{}.conv.{}",
    "head.box_tower.*.1.*": "bbox_head.reg_convs.{}.gn.{}",
    "head.class_*.*": "bbox_head.reppoints_cls_{}.{}",
    "head.*_*.*": "bbox_head.reppoints_pts_{}_{}.{}",
}
GFL_HEAD = {ours: theirs for ours, theirs in REPPOINTS.items() if "_tower." in ours} | {
    "head.bins": "bbox_head.integral.project", "head.scales.*": "bbox_head.scales.{}.scale",
    "head.class_out.*": "bbox_head.gfl_cls.{}", "head.box_out.*": "bbox_head.gfl_reg.{}",
}
YOLOX_NAMES = {"backbone.fpn.**": "neck.{}", "head.**": "bbox_head.multi_level_{}"}
FAMILIES = {
    MaskRCNN: MASK_RCNN, FasterRCNN: FASTER_RCNN, RetinaNet: RETINANET, FCOS: FCOS_HEAD, RepPoints: REPPOINTS,
    GFL: GFL_HEAD, YOLOX: YOLOX_NAMES,
}
CLASSIFIERS = {  # bias of a classifier -> anchors per cell, classes of background
    "bbox_head.retina_cls.bias": (9, 0),
    "bbox_head.conv_cls.bias": (1, 0),
    "bbox_head.reppoints_cls_out.bias": (1, 0),
    "bbox_head.gfl_cls.bias": (1, 0),
    "bbox_head.multi_level_conv_cls.0.bias": (1, 0),
    "head.cls_preds.0.bias": (1, 0),  # Megvii's
    "roi_head.bbox_head.fc_cls.bias": (1, 1),
    "roi_head.bbox_head.0.fc_cls.bias": (1, 1),
}
# Parts of YOLOX's names -> Megvii's, one after the other.
MEGVII = {
    "backbone.body.": "backbone.backbone.", "stage4.": "dark5.", "stage3.": "dark4.", "stage2.": "dark3.",
    "stage1.": "dark2.", "main_conv.": "conv1.", "short_conv.": "conv2.", "final_conv.": "conv3.", ".blocks.": ".m.",
    "depthwise_conv.": "dconv.", "pointwise_conv.": "pconv.",
    "backbone.fpn.reduce_layers.0.": "backbone.lateral_conv0.",
    "backbone.fpn.reduce_layers.1.": "backbone.reduce_conv1.", "backbone.fpn.top_down_blocks.0.": "backbone.C3_p4.",
    "backbone.fpn.top_down_blocks.1.": "backbone.C3_p3.", "backbone.fpn.downsamples.0.": "backbone.bu_conv2.",
    "backbone.fpn.downsamples.1.": "backbone.bu_conv1.", "backbone.fpn.bottom_up_blocks.0.": "backbone.C3_n3.",
    "backbone.fpn.bottom_up_blocks.1.": "backbone.C3_n4.", "backbone.fpn.out_convs.": "head.stems.",
    "conv_cls.": "cls_preds.", "conv_reg.": "reg_preds.", "conv_obj.": "obj_preds.",
}
OF_MEGVII = "backbone.backbone."  # every checkpoint of Megvii's has such names, and no other
NECK = re.compile(r"(backbone|neck)\.")


def mmdet_names(detector: nn.Module) -> dict[str, str]:
    """{our name: MMDetection's name} of every tensor. UserError for another flavour or class, or a backbone with other
    names in MMDetection."""
    flavour = getattr(detector, "flavour", None)
    if flavour != "mmdet" and not isinstance(detector, YOLOX):
        raise UserError(
            f"the detector must be of the mmdet flavour, got {flavour!r}: torchvision's own has other anchors, another "
            'P6 and one class more; make it with build(..., flavour="mmdet")')
    if not isinstance(detector, YOLOX) and not hasattr(detector.backbone.body, "layer4"):
        problem = "the backbone must be a ResNet or ResNeXt, got another, which MMDetection names otherwise"
        raise UserError(f"{problem}; export under torchvision's names")
    table = PYRAMID | next(table for kind, table in FAMILIES.items() if isinstance(detector, kind))
    laterals = 0 if isinstance(detector, YOLOX) else len(detector.backbone.fpn.inner_blocks)
    return {name: their_name(name, table, laterals) for name in detector.state_dict()}


def megvii_names(detector: nn.Module) -> dict[str, str]:
    if not isinstance(detector, YOLOX):
        raise UserError(f"a detector with Megvii's names must be a YOLOX, got {type(detector).__name__}; use mmdet")
    names = {name: name for name in detector.state_dict()}
    for ours, theirs in MEGVII.items():
        names = {name: renamed.replace(ours, theirs) for name, renamed in names.items()}
    return names


def their_name(name: str, table: dict[str, str], laterals: int) -> str:
    for pattern, theirs in table.items():
        regex = re.escape(pattern).replace(r"\*\*", "(.+)").replace(r"\*", r"([^.]+?)")
        if match := re.fullmatch(regex, name):
            parts, computed = list(match.groups()), {}
            if "{level}" in theirs:  # P6 and P7 come after the convolutions of P3..P5
                computed["level"] = laterals + int(parts.pop(0)) - 6
            if "{tower}" in theirs:  # a sequence of conv, norm, relu, conv, norm, relu, ...
                index = int(parts.pop(0))
                computed["tower"] = f"{index // 3}.{('conv', 'gn')[index % 3]}"
            return theirs.format(*parts, **computed)
    raise AssertionError(f"no row of the table names {name}")


def classes_of(state: dict) -> int | None:
    """By a checkpoint in MMDetection's names; None without a known classifier."""
    known = ((len(state[name]), *shape) for name, shape in CLASSIFIERS.items() if name in state)
    return next((length // anchors - background for length, anchors, background in known), None)
