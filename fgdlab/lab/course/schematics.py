"""One picture of FGD for all notebooks, with the part in question highlighted."""
from itertools import pairwise
from pathlib import Path

from ..errors import check_name
from ..io import load_yaml
from ..plots import BOX_COLOUR, NotebookFigure
from .maps import NOTEBOOK_DPI, WIDTH

BLOCKS, CHAINS, PARTS = load_yaml(
    (Path(__file__).parent / "static/schematic.yaml").read_text(encoding="utf-8")).values()


def schematic(part: str) -> NotebookFigure:
    """Teacher above, student below, FGD's terms between them.

    Args:
        part: what is highlighted, a key of PARTS.
    """
    check_name("part", part, PARTS)
    figure = NotebookFigure(figsize=(WIDTH, 2.9), dpi=NOTEBOOK_DPI, facecolor="white")
    ax = figure.add_axes((0, 0, 1, 1), xlim=(-0.1, 8.2), ylim=(-0.55, 4.55))
    ax.set_axis_off()
    drawn = {}
    for name, (x, y, text) in BLOCKS.items():
        chosen = name in PARTS[part].split()
        box = {"boxstyle": "round,pad=0.45", "facecolor": "#fbe3d2" if chosen else "#f2f2f2",
               "edgecolor": BOX_COLOUR if chosen else "#999999", "linewidth": 2 if chosen else 0.8}
        drawn[name] = ax.text(x, y, text, fontsize=8, ha="center", va="center", bbox=box, zorder=2)
    figure.draw_without_rendering()  # sets the sizes of the boxes, where arrows end
    for start, end in (pair for chain in CHAINS for pair in pairwise(chain.split())):
        ax.annotate("", BLOCKS[end][:2], BLOCKS[start][:2], zorder=1, arrowprops={
            "arrowstyle": "-|>", "color": "#777777", "linewidth": 0.9,
            "patchA": drawn[start].get_bbox_patch(), "patchB": drawn[end].get_bbox_patch()})
    return figure
