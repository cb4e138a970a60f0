"""One picture of FGD for all notebooks, with the part in question highlighted."""
from itertools import pairwise

from ..errors import check_name
from ..plots import BOX_COLOUR, NotebookFigure
from .maps import NOTEBOOK_DPI, WIDTH

BLOCKS = {  # name: x and y of its centre, text
    "image^T": (0.6, 4, "image"), "backbone^T": (1.9, 4, "backbone\n(fixed)"), "FPN^T": (3.2, 4, "FPN:\nP3, P4, P5"),
    "F^T": (4.6, 4, "maps $F^T$\nof the teacher"),
    "head^T": (6.1, 4, "head"), "NMS": (7.5, 4, "NMS: boxes\nwith scores"),
    "image^S": (0.6, 0, "image"), "backbone^S": (1.9, 0, "backbone\n(trained)"), "FPN^S": (3.2, 0, "FPN:\nP3, P4, P5"),
    "F^S": (4.6, 0, "maps $F^S$\nof the student"),
    "head^S": (6.1, 0, "head"), "task": (7.5, 0, "task loss\non the labels"),
    "boxes": (0.6, 2, "ground-truth\nboxes"), "masks": (2.1, 2, "masks M, S\neqs. 2-4"),
    "attention": (2.9, 3, "attention $A^S$, $A^C$\neqs. 5-8"), "focal": (3.9, 2, "focal term\neqs. 9-11"),
    "global": (5.7, 1.3, "global term\neqs. 12-13"), "total": (7.5, 2, "total loss\neq. 14"),
}
CHAINS = (
    "image^T backbone^T FPN^T F^T head^T NMS", "image^S backbone^S FPN^S F^S head^S task total",
    "boxes masks focal total", "F^T attention focal", "F^T focal", "F^S focal", "F^T global", "F^S global",
    "global total",
)
PARTS = {
    "all": "", "detector": CHAINS[0], "maps": "F^T F^S", "masks": "boxes masks", "attention": "F^T attention",
    "focal": "masks attention focal", "global": "global", "imitation": "F^T F^S focal global",
    "training": "task focal global total", "scores": "NMS",
}


def schematic(part: str) -> NotebookFigure:
    """Teacher above, student below, FGD's terms between them.

    Args:
        part: what is highlighted, a key of PARTS.
    Raises:
        UserError: no such part.
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
