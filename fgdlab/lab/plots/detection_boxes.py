"""What a detector finds, beside what is there.

    detections.json, images --detections_figure--> images with truth and detections
"""
import math
from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from .colours import BOX, TEACHER
from .map_panels import FOOT, PHOTO, Picture, draw_boxes, draw_image, panels


def detections_figure(found: list[dict], scenes, indices: Sequence[int], threshold: float = 0.3) -> Picture:
    """Images with their objects (orange, dashed, class below) and what a detector found (blue, class and score above).

    Args:
        found: detections in COCO's result format, of these images or of the whole split: detections.json of a run.
        scenes: the data set that they were found in.
        indices: which of its images, at least one.
        threshold: least score drawn, 0..1.
    """
    ratio = max(height / width for height, width in (scenes.loaded_size(i) for i in indices))
    figure, axes = photo_panels(len(indices), ratio, left=FOOT)
    for ax, index in zip(axes, indices, strict=True):
        draw_detections(ax, found, scenes, index, threshold)
    explain_detections(figure, threshold)
    return figure


def photo_panels(count: int, ratio: float, left: float) -> tuple[Picture, list[Axes]]:
    """A figure with ``count`` panels for photographs, four in a line, with room for :func:`explain_detections` below; left-over panels are hidden.

    ratio: height over width of a panel. left: inches for what stands left of them.
    """
    columns = min(count, 4)
    figure, axes = panels(math.ceil(count / columns), columns, ratio, width=PHOTO, left=left, foot=0.4)
    axes = axes.flatten()
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, list(axes[:count])


def explain_detections(figure: Picture, threshold: float) -> None:
    """The legend of panels drawn by :func:`draw_detections`."""
    figure.legend(
        handles=[
            Line2D([], [], color=BOX, linestyle="--", linewidth=2, label="object, its class below"),
            Line2D([], [], color=TEACHER, linewidth=1.6, label=f"detection of score {threshold:g} or more, class and score above"),
        ],
        loc="lower center", ncols=2, fontsize=8.5, frameon=False,
    )


def draw_detections(ax: Axes, found: list[dict], scenes, index: int, threshold: float) -> None:
    image, target = scenes[index]
    image_id, names = int(target["image_id"]), dict(zip(scenes.category_ids, scenes.classes, strict=True))
    ours = sorted((each for each in found if each["image_id"] == image_id), key=lambda each: -each["score"])
    good = [each for each in ours if each["score"] >= threshold]
    best = f" (best score {ours[0]['score']:.3g})" if ours and not good else ""
    draw_image(ax, image, target["boxes"][:0], f"image {image_id}: {counted(len(target['boxes']), 'object')}\n{counted(len(good), 'detection')}{best}")
    draw_boxes(ax, target["boxes"], color=BOX, linewidth=2.2, linestyle="--", gid="truth")
    for box, label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
        write(ax, box, scenes.classes[label - 1], BOX, below=True)
    for each in good:                                                # the surest first: its words stand next to the box
        x, y, width, height = (value * scale for value, scale in zip(each["bbox"], target["scale"].tolist(), strict=True))
        draw_boxes(ax, torch.tensor([[x, y, x + width, y + height]]), color=TEACHER, gid="detection")
        write(ax, (x, y, x + width, y + height), f"{names[each['category_id']]} {each['score']:.2f}", TEACHER)


def counted(number: int, what: str) -> str:
    return f"{number} {what}" + ("" if number == 1 else "s")


def write(ax: Axes, box: Sequence[float], text: str, color: str, below: bool = False) -> None:
    """A word at a box, above it or below: inside the image, and off the other words as far as there is room."""
    right, bottom = ax.get_xlim()[1], ax.get_ylim()[0]
    line, letter = 0.055 * right, 0.026 * right                      # of this font on a panel of PHOTO inches, in pixels of the image
    end = (box[0] + box[2]) / 2 > right / 2                          # in the right half words end at the box, in the left half they begin there
    x = min(box[2], right) if end else max(box[0], 0.0)

    def span(x: float, text: str, end: bool) -> tuple[float, float]:
        return (x - letter * len(text), x) if end else (x, x + letter * len(text))

    start, stop = span(x, text, end)
    others = [(each.get_position(), each.get_text(), each.get_ha() == "right") for each in ax.texts]
    beside = [at[1] for at, word, ends in others if span(at[0], word, ends)[0] < stop and span(at[0], word, ends)[1] > start]
    wanted = min(max(box[3] if below else box[1] - line, 0.0), bottom - line)
    tops = sorted([wanted, *(top + step for top in beside for step in (-line, line))], key=lambda top: abs(top - wanted))
    free = [top for top in tops if 0 <= top <= bottom - line and all(abs(top - other) > 0.95 * line for other in beside)]
    ax.text(
        x, (free or tops)[0], text, color=color, fontsize=7.5, weight="bold", ha="right" if end else "left", va="top",
        path_effects=[withStroke(linewidth=2.2, foreground="white")],
    )
