"""A head of COCO's 91 classes, narrowed to the classes of a data set.

torchvision's published detectors number their classes by COCO's sparse ids: 91 outputs for 80 classes, row 17 is "cat".
Where a data set uses COCO's class names, the trained rows are kept.
"""
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.detection import FasterRCNN, RetinaNet_ResNet50_FPN_Weights

COCO_OUTPUTS = 91  # background and ids up to 90, ten of them unused


def coco_rows(classes: Sequence[str]) -> list[int] | None:
    """Rows of a head of 91 classes for background and these names; None where a name is not COCO's."""
    names = RetinaNet_ResNet50_FPN_Weights.COCO_V1.meta["categories"]
    return [0, *(names.index(name) for name in classes)] if set(classes) <= set(names) else None


def narrow(detector: nn.Module, rows: Sequence[int]) -> None:
    """Keep these outputs of torchvision's RetinaNet, FCOS, Faster or Mask R-CNN, background first, in this order and in
    place, with their boxes and masks."""
    index = torch.as_tensor(list(rows))
    if isinstance(detector, FasterRCNN):
        predictor = detector.roi_heads.box_predictor
        keep_classes(predictor.cls_score, index)
        keep_classes(predictor.bbox_pred, index, sides=4)
        if getattr(detector.roi_heads, "mask_predictor", None) is not None:
            keep_classes(detector.roi_heads.mask_predictor.mask_fcn_logits, index)
    else:
        head = detector.head.classification_head
        keep_classes(head.cls_logits, index, anchors=head.num_anchors)
        head.num_classes = len(index)


@torch.no_grad()
def keep_classes(layer: nn.Module, rows: torch.Tensor, anchors: int = 1, sides: int = 1) -> None:
    """Cut a layer to some classes. Its outputs are ordered (anchor, class, side of a box)."""
    for name in ("weight", "bias"):
        tensor = getattr(layer, name)
        by_class = tensor.view(anchors, -1, sides, *tensor.shape[1:])
        kept = by_class[:, rows].reshape(-1, *tensor.shape[1:]).clone()
        setattr(layer, name, nn.Parameter(kept, requires_grad=tensor.requires_grad))
    outputs = "out_features" if isinstance(layer, nn.Linear) else "out_channels"
    setattr(layer, outputs, len(layer.weight))
