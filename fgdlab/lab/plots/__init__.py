"""Figures, which display themselves as the last expression of a cell, and their parts."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "attention_maps": "eval_mode masks_and_attention padded_image scene_and_teacher_maps unused_suffixes",
    "detection_boxes": "detections_figure detections_legend draw_detections image_panels write_label",
    "loss_curves": (
        "TERM_STYLES by_step draw_loss_percentages draw_term_curves loss_terms read_metrics term_styles terms_legend"
    ),
    "map_panels": (
        "ATTENTION_COLOUR BACKGROUND_COLOUR BAR_WIDTH BOTTOM_MARGIN BOX_COLOUR DISTILLED_COLOUR DPI NEUTRAL_COLOUR "
        "NotebookFigure STUDENT_COLOUR TEACHER_COLOUR ZERO_COLOUR colour_bar draw_boxes draw_image draw_map draw_maps "
        "panel_grid png set_title shared_norm show show_maps style_axes"
    ),
})
