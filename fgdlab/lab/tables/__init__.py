"""Tables: results beside the paper's numbers, as text, Markdown, LaTeX, CSV, HTML and figures."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "cells": "DASH difference_text signed",
    "figure": "draw_values save_figure seed_heights style_rows table_figure",
    "html": "page styled_frame",
    "numbers": "METRICS Table ablation_table contrast_table render",
    "runs": "baseline_of compared_rows done_runs runs_of",
    "text": "WIDTH aligned wrapped",
})
