"""Figures: feature maps, attention, masks, loss curves, detections."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "attention_maps": "canvas seen",
    "colours": "BOX DISTILLED STUDENT TEACHER",
    "detection_boxes": "detections_figure",
    "loss_curves": "TERM_STYLES draw_shares loss_terms read_metrics",
    "map_panels": (
        "BAR DPI FOOT GREY NOTHING PINK Picture SKY colour_bar draw_boxes draw_image draw_map finish "
        "panels plain png shared show"
    ),
})
