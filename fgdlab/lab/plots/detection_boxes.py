"""Images with ground truth and detections."""
import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from ..errors import plural
from .map_panels import BOTTOM_MARGIN, BOX_COLOUR, TEACHER_COLOUR, NotebookFigure, draw_boxes, draw_image, panel_grid


def detections_figure(
    detections: list[dict], dataset, indices: Sequence[int], threshold: float = 0.3,
) -> NotebookFigure:
    """Images with ground truth (orange, dashed, class below) and detections (blue, class and score above).

    Args:
        detections: in COCO's result format, e.g. detections.json of a run.
        indices: of images in ``dataset``, at least one.
        threshold: lowest score drawn.
    """
    ratio = max(height / width for height, width in map(dataset.loaded_size, indices))
    figure, axes = image_panels(len(indices), ratio)
    for ax, index in zip(axes, indices, strict=True):
        draw_detections(ax, detections, dataset, index, threshold)
    detections_legend(figure, threshold)
    return figure


def image_panels(count: int, ratio: float) -> tuple[NotebookFigure, list[Axes]]:
    """A figure with ``count`` panels of this height / width, with room for :func:`detections_legend` below."""
    columns = min(count, 4)
    figure, axes = panel_grid(math.ceil(count / columns), columns, ratio, width=2.6, left=BOTTOM_MARGIN, bottom=0.4)
    axes = list(axes.flatten())
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes[:count]


def detections_legend(figure: NotebookFigure, threshold: float) -> None:
    label = f"detection of score {threshold:g} or more, class and score above"
    figure.legend(
        handles=[
            Line2D([], [], color=BOX_COLOUR, linestyle="--", linewidth=2, label="ground truth, its class below"),
            Line2D([], [], color=TEACHER_COLOUR, linewidth=1.6, label=label),
        ],
        loc="lower center", ncols=2, fontsize=8.5, frameon=False,
    )


def draw_detections(
    ax: Axes, detections: list[dict], dataset, index: int, threshold: float, name: str = "",
) -> None:
    """One image with its objects, and its detections of score ``threshold`` or more. name: of the detector."""
    image, target = dataset[index]
    image_id, names = int(target["image_id"]), dict(zip(dataset.category_ids, dataset.classes, strict=True))
    by_score = sorted((each for each in detections if each["image_id"] == image_id), key=lambda each: -each["score"])
    shown = [each for each in by_score if each["score"] >= threshold]
    best = f" (best score {by_score[0]['score']:.3g})" if by_score and not shown else ""
    name = name or f"image {image_id}: {plural(len(target['boxes']), 'object')}"
    truth = {"linewidth": 2.2, "linestyle": "--", "gid": "truth"}
    draw_image(ax, image, target["boxes"], f"{name}\n{plural(len(shown), 'detection')}{best}", **truth)
    for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
        write_label(ax, box, dataset.classes[label - 1], BOX_COLOUR, below=True)
    for each in shown:  # highest scores get the labels next to their boxes
        x, y, width, height = (torch.tensor(each["bbox"]) * target["scale"]).tolist()
        box = (x, y, x + width, y + height)
        draw_boxes(ax, torch.tensor([box]), color=TEACHER_COLOUR, gid="detection")
        write_label(ax, box, f"{names[each['category_id']]} {each['score']:.2f}", TEACHER_COLOUR)


def write_label(ax: Axes, box: Sequence[float], text: str, color: str, below: bool = False) -> None:
    """A label above or below a box: inside the image, and clear of other labels where there is room."""
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    line, letter = 0.055 * right, 0.026 * right  # label size in image pixels on a panel of image_panels
    x = max(min(box[0], right - letter * len(text)), 0.0)
    places = [(*other.get_position(), len(other.get_text())) for other in ax.texts]
    overlapping = [  # tops of labels in the same columns
        top for left, top, letters in places if left < x + letter * len(text) and x < left + letter * letters]
    preferred = min(max(box[3] if below else box[1] - line, 0.0), bottom - line)
    tops = [preferred, *(y + step for y in overlapping for step in (-line, line))]
    tops.sort(key=lambda top: abs(top - preferred))
    free = [top for top in tops if 0 <= top <= bottom - line and all(abs(top - y) > 0.95 * line for y in overlapping)]
    rim = withStroke(linewidth=2.2, foreground="white")
    ax.text(x, (free or tops)[0], text, color=color, fontsize=7.5, weight="bold", va="top", path_effects=[rim])
