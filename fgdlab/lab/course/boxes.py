"""Boxes on a grid that a reader moves by mouse or keys, while M and S follow; runs in the browser, without a kernel."""
import json
from html import escape
from pathlib import Path

from IPython.display import HTML

SCRIPT = Path(__file__).parent / "static" / "boxes.js"


def movable_boxes(
    examples: dict[str, list[list[int]]], image_size: tuple[int, int], grid_size: tuple[int, int],
) -> HTML:
    """M and S with the numbers in the cells, under movable boxes and either rounding.

    Args:
        examples: {name: K boxes x1, y1, x2, y2 in whole pixels}; the first is shown, K <= 4.
        image_size, grid_size: (height, width) in pixels, (H, W) in cells.
    """
    given = json.dumps({"examples": examples, "image_size": image_size, "grid_size": grid_size})
    script = SCRIPT.read_text(encoding="utf-8")
    return HTML(f'<div class="fgdlab-boxes" data-given="{escape(given)}"></div>\n<script>\n{script}</script>')
