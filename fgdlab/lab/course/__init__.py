"""Shared by the notebooks: pretrained detectors, figures, and exercises that check a reader's answers."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "boxes": "movable_boxes",
    "maps": "chart_figure finish_chart map_table matrices number_grid photograph",
    "pretrained": "distilled_config pretrained_detector pretrained_facts pretrained_file pretrained_snapshots",
    "results": "Answer",
    "scale": "MemoryTraffic activation_bytes",
    "schematics": "schematic",
})
