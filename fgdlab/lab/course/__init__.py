"""What the notebooks share: pretrained detectors, figures for teaching, exercises with their checks."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "maps": "bare map_table matrices number_grid photograph picture",
    "pretrained": "FILES FOLDER distilled_settings pretrained_detector pretrained_facts",
    "reading": "average_precision match",
    "scale": "Traffic activation_bytes write_coco_split",
})
