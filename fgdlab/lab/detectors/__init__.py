"""Detectors under torchvision's contract: RetinaNet, FCOS, Faster and Mask R-CNN, RepPoints, GFL, YOLOX,
and small ones."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "anchors": "fit_anchors share_met",
    "backbones": "from_torchvision",
    "builder": "ANCHORED NoResize adapt_detector build build_settings is_pretrained",
    "gfl": "GFL",
    "reppoints": "RepPoints",
    "yolox": "YOLOX",
})
