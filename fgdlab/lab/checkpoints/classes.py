"""A head of COCO's 91 classes, narrowed to the classes of a data set.

torchvision's published detectors number their classes by COCO's sparse ids: 91 outputs for 80 classes, row 17 is "cat". A data set here has labels
1..C in the order of its own categories. Whoever names its classes as COCO does can keep the trained rows:

    names of the data's classes --coco_rows--> rows of the head --narrow--> the same detector with 1 + C outputs
"""
from collections.abc import Sequence

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, RetinaNet
from torchvision.models.detection.fcos import FCOSClassificationHead
from torchvision.models.detection.retinanet import RetinaNetClassificationHead

COCO_OUTPUTS = 91                                                    # background and the ids up to 90, of which ten are nobody's


def coco_rows(classes: Sequence[str]) -> list[int] | None:
    """Rows of a head of 91 classes for background and then these names; None where a name is not one of COCO's."""
    from torchvision.models.detection import RetinaNet_ResNet50_FPN_Weights as weights

    of_coco = list(weights.COCO_V1.meta["categories"])
    if not set(classes) <= set(of_coco):
        return None
    return [0, *(of_coco.index(name) for name in classes)]


def narrow(detector: nn.Module, rows: Sequence[int]) -> None:
    """Keep these outputs of the detector's classifier, in this order and in place; what a head has for each class (boxes, masks) goes along.

    Args:
        detector: torchvision's RetinaNet, FCOS, Faster or Mask R-CNN.
        rows: indices of outputs, that of background first.
    """
    index = torch.as_tensor(list(rows))
    if isinstance(detector, FasterRCNN):
        predictor = detector.roi_heads.box_predictor
        keep(predictor.cls_score, index)
        keep(predictor.bbox_pred, index, inside=4)
        if getattr(detector.roi_heads, "mask_predictor", None) is not None:
            keep(detector.roi_heads.mask_predictor.mask_fcn_logits, index)
    elif isinstance(detector, (RetinaNet, FCOS)):
        head: RetinaNetClassificationHead | FCOSClassificationHead = detector.head.classification_head
        keep(head.cls_logits, index, outside=head.num_anchors)
        head.num_classes = len(index)
    else:
        raise TypeError(f"detector must be one of torchvision's RetinaNet, FCOS, Faster or Mask R-CNN, got {type(detector).__name__}")


@torch.no_grad()
def keep(layer: nn.Module, rows: torch.Tensor, outside: int = 1, inside: int = 1) -> None:
    """Cut a linear layer or convolution to some classes; its outputs count ``outside`` (anchors), then class, then ``inside`` (sides of a box)."""
    for name in ("weight", "bias"):
        whole = getattr(layer, name)
        apart = whole.view(outside, -1, inside, *whole.shape[1:])
        setattr(layer, name, nn.Parameter(apart[:, rows].reshape(-1, *whole.shape[1:]).clone(), requires_grad=whole.requires_grad))
    outputs = "out_features" if isinstance(layer, nn.Linear) else "out_channels"
    setattr(layer, outputs, len(layer.weight))
