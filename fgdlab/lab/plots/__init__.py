"""Figures: feature maps, attention, masks, loss curves, detections."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "attention_maps": "canvas in_the_loss masks_and_attention seen",
    "colours": "BOX DISTILLED STUDENT TEACHER",
    "detection_boxes": "counted detections_figure draw_detections explain_detections photo_panels write",
    "loss_curves": "MORE_STYLES TERM_STYLES draw_curves draw_shares loss_terms read_metrics",
    "map_panels": (
        "BAR DPI EDGE FOOT GREY NOTHING PANEL PHOTO PINK Picture SKY colour_bar draw_boxes draw_image draw_map finish "
        "panels plain png shared show show_maps"
    ),
})
