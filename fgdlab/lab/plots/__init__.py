"""Figures. Each function returns a figure that displays itself as the last expression of a cell.

    map_panels.py       images and maps side by side on shared scales; colours
    attention_maps.py   masks and attention of one image, one row per pyramid level
    loss_curves.py      metrics.jsonl --> loss terms over steps, percentages by level
    detection_boxes.py  detections.json, images --> ground truth and detections
"""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "attention_maps": "eval_mode masks_and_attention padded_image scene_and_teacher_maps unused_suffixes",
    "detection_boxes": "detections_figure detections_legend draw_detections image_panels",
    "loss_curves": "TERM_STYLES draw_loss_percentages loss_terms read_metrics term_styles terms_legend",
    "map_panels": (
        "ATTENTION_COLOUR BACKGROUND_COLOUR BAR_WIDTH BOTTOM_MARGIN BOX_COLOUR DISTILLED_COLOUR DPI NEUTRAL_COLOUR "
        "NotebookFigure STUDENT_COLOUR TEACHER_COLOUR ZERO_COLOUR colour_bar draw_boxes draw_image draw_map panel_grid "
        "png set_title shared_norm show show_maps style_axes"
    ),
})
