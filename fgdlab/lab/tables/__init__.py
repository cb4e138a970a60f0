"""Tables: results beside the paper's numbers, as text, Markdown, LaTeX, CSV, HTML and figures."""
from fgdlab import lazy_package

__all__ = lazy_package(__name__, {
    "caption": "SMOKE missing_line setting",
    "cells": "Block DASH",
    "figure": "save_figure table_figure",
    "html": "caption_html table_html",
    "numbers": "METRICS Table ablation_table contrast_table render",
    "runs": "unavailable_rows baseline_of done_runs expected_seeds is_smoke not_done runnable_rows runs_of",
})
