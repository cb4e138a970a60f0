"""Figures of the notebooks: maps with numbers in their cells, tables of maps, charts, and loading of a photograph."""
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from ..datasets import as_rgb, read_exif_rotated, shrink
from ..io import user_path
from ..plots import BAR_WIDTH, NotebookFigure, draw_boxes, draw_image, draw_maps, panel_grid, style_axes

NOTEBOOK_DPI = 110
WIDTH = 8.2  # inches that a notebook cell shows without scaling


def fitted_grid(rows: int, columns: int, ratio: float, widest: float, **margins):
    """A :func:`panel_grid` as wide as a notebook's cell, with room for a colour bar; ``widest``: inches of a panel."""
    width = min((WIDTH - BAR_WIDTH - 0.5) / columns - 0.22, widest)
    return panel_grid(rows, columns, ratio, [columns - 1], width=width, dpi=NOTEBOOK_DPI, **margins)


def number_grid(
    maps: dict[str, Tensor], boxes: Tensor | None = None, *, label: str, digits: int | None = 2,
    norm: Normalize | None = None, cmap: str = "cividis",
) -> NotebookFigure:
    """Small maps side by side with the number in each cell, numbered rows and columns, on one colour scale.

    Args:
        maps: {title: (H, W)}, all of one shape, at most 16 x 16.
        boxes: (K, 4) xyxy pixels, drawn at their exact place.
        digits: decimals, 0 in a map of whole numbers; None writes fractions, 1/9 for 0.1111.
        label, norm, cmap: as in plots.draw_maps.
    """
    shapes = {tuple(values.shape) for values in maps.values()}
    if len(shapes) != 1 or max(max(shape) for shape in shapes) > 16:
        raise ValueError(f"maps must share one shape of at most 16 x 16 cells, got {sorted(shapes)}; use map_table")
    (height, width), = shapes
    figure, axes = fitted_grid(1, len(maps), height / width, min(3.4, 0.7 * width), left=0.25, bottom=0.25)
    panel = axes[0, 0].get_position().width * figure.get_figwidth()  # inches
    texts = {name: cell_texts(values, digits) for name, values in maps.items()}
    longest = max(len(text) for lines in texts.values() for line in lines for text in line)
    fontsize = min(9.0, 0.9 * 72 * panel / width / (0.62 * longest))
    drawn = draw_maps(axes[0], maps, (height, width), torch.zeros(0, 4), label, norm, cmap)
    for ax, (name, values) in zip(axes[0], maps.items(), strict=True):
        if boxes is not None:
            draw_boxes(ax, boxes, (1 / 8, 1 / 8), linewidth=1.3)  # 8 pixels per cell
        write_numbers(ax, values, drawn, texts[name], fontsize)
        ax.set_xticks(np.arange(width) + 0.5, range(width))
        ax.set_yticks(np.arange(height) + 0.5, range(height))
        ax.tick_params(length=0, pad=1.5, labelsize=6.5, labelcolor="#555555")
    return figure


def cell_texts(values: Tensor, digits: int | None) -> list[list[str]]:
    if digits is not None and (values == values.round()).all():
        digits = 0

    def text(value: float) -> str:
        if digits is None:
            return str(Fraction(value).limit_denominator(999))
        return "0" if value == 0 else f"{value:.{digits}f}"

    return [[text(value) for value in line] for line in values.tolist()]


def write_numbers(ax: Axes, values: Tensor, drawn: AxesImage, texts: list[list[str]], fontsize: float) -> None:
    """Write each text in the middle of its cell, white on dark and black on light, with thin lines between cells."""
    height, width = values.shape
    ax.vlines(range(1, width), 0, height, color="white", linewidth=0.3, alpha=0.5)
    ax.hlines(range(1, height), 0, width, color="white", linewidth=0.3, alpha=0.5)
    style = {"ha": "center", "va": "center", "fontsize": fontsize, "zorder": 3}
    for (row, column), value in np.ndenumerate(values.detach().numpy()):
        red, green, blue, _ = drawn.cmap(drawn.norm(value))
        colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"
        ax.text(column + 0.5, row + 0.5, texts[row][column], color=colour, **style)


def map_table(
    rows: dict[str, dict[str, Tensor]], image: Tensor, boxes: Tensor, *, label: str,
    norms: dict[str, Normalize] | None = None, cmap: str = "cividis",
) -> NotebookFigure:
    """Rows of maps, each row with its own colour scale and colour bar; the image is at the left of the first row.

    Args:
        rows: {row name: {title: (H, W)}}, the same number of maps in every row; grids may differ.
        image, boxes, label: as in plots.show_maps.
        norms: {row name: norm}, for rows whose limits are not the least and the largest value.
    """
    frame, columns = tuple(image.shape[-2:]), len(next(iter(rows.values())))
    figure, axes = fitted_grid(len(rows), columns + 1, frame[0] / frame[1], 2.2)
    draw_image(axes[0, 0], image, boxes, f"image\n{frame[0]} x {frame[1]} pixels")
    axes[0, 0].set_ylabel(next(iter(rows)), fontsize=8.5, labelpad=4)
    for ax, name in zip(axes[1:, 0], list(rows)[1:], strict=True):  # no image: the name at the left of the first map
        ax.set_axis_off()
        ax.text(0.94, 0.5, name, fontsize=8.5, rotation=90, ha="center", va="center")
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        draw_maps(line[1:], maps, frame, boxes, label, (norms or {}).get(name), cmap)
    return figure


def matrices(maps: dict[str, Tensor], *, rows: str, columns: str, label: str, norm: Normalize) -> NotebookFigure:
    """Matrices side by side on one colour scale, e.g. correlations; ``rows`` and ``columns`` are axis labels."""
    size = next(iter(maps.values())).shape
    figure, axes = fitted_grid(1, len(maps), size[0] / size[1], 3.2, left=0.45, bottom=0.4)
    draw_maps(axes[0], maps, size, torch.zeros(0, 4), label, norm, "PuOr")
    for ax in axes[0]:
        ax.set_xlabel(columns, fontsize=8)
    axes[0, 0].set_ylabel(rows, fontsize=8)
    return figure


def chart_figure(height: float = 2.6) -> NotebookFigure:
    return NotebookFigure(figsize=(WIDTH, height), dpi=NOTEBOOK_DPI, facecolor="white", layout="constrained")


def finish_chart(ax: Axes) -> None:
    """The style of a chart, with uniform font sizes. Call it last."""
    style_axes(ax, "both")
    for text, size in ((ax.title, 9), (ax.xaxis.label, 8.5), (ax.yaxis.label, 8.5)):
        text.set_fontsize(size)


def photograph(path: str | Path = "", long_side: int = 640) -> Tensor:
    """A photograph (3, H, W) in 0..1, upright, longer side at most ``long_side`` pixels.

    Args:
        path: an image file; "" = china.jpg of scikit-learn.
    """
    if path == "":
        from sklearn.datasets import load_sample_image

        image = Image.fromarray(load_sample_image("china.jpg"))
    else:
        image = read_exif_rotated(user_path(path), f"PHOTO={str(path)!r}")
    return torch.from_numpy(as_rgb(shrink(image, long_side))).permute(2, 0, 1).float() / 255
