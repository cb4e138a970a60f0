"""Detectors under torchvision's contract: RetinaNet, FCOS, Faster and Mask R-CNN, RepPoints, and small ones for a CPU."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "builder": "NoResize build adapt_detector build_settings",
    "reppoints": "RepPoints",
})
