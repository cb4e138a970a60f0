"""Figures of the notebooks: maps with numbers in their cells, tables of maps, charts, and loading of a photograph.

Panels of one row share a colour scale and a colour bar.
"""
from fractions import Fraction
from pathlib import Path

import torch
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.image import AxesImage
from PIL import Image
from torch import Tensor

from ..datasets import as_rgb, read_exif_rotated, shrink
from ..errors import UserError
from ..plots import BAR_WIDTH, NotebookFigure, colour_bar, draw_boxes, draw_image, draw_map, panel_grid, shared_norm

NOTEBOOK_DPI = 110
WIDTH = 8.2  # inches that a notebook cell shows without scaling


def number_grid(
    maps: dict[str, Tensor], boxes: Tensor | None = None, *, label: str, stride: int = 8, digits: int | None = 2,
    norm: Normalize | None = None, cmap: str = "cividis",
) -> NotebookFigure:
    """Small maps side by side with the number in each cell, numbered rows and columns, on one colour scale.

        number_grid({"M": binary, "S": scale}, boxes, label="weight of a cell", digits=None)

    Args:
        maps: {title: (H, W)}, all of one shape, at most 16 x 16.
        boxes: (K, 4) xyxy pixels, drawn at their exact place.
        label: what the colours mean.
        stride: pixels per cell.
        digits: decimals, 0 in a map of whole numbers; None writes fractions, 1/9 for 0.1111.
        norm, cmap: as in plots.show_maps.
    Raises:
        ValueError: maps of different shapes, or too large for numbers.
    """
    shapes = {tuple(values.shape) for values in maps.values()}
    if len(shapes) != 1 or max(max(shape) for shape in shapes) > 16:
        raise ValueError(f"maps must share one shape of at most 16 x 16 cells, got {sorted(shapes)}; "
                         "draw larger ones with map_table")
    (height, width), = shapes
    norm, frame = shared_norm(norm, maps.values()), (height * stride, width * stride)
    panel = min((WIDTH - BAR_WIDTH - 0.25) / len(maps) - 0.25, 3.4, 0.7 * width)
    figure, axes = panel_grid(1, len(maps), height / width, [len(maps) - 1], width=panel, left=0.25, bottom=0.25)
    figure.set_dpi(NOTEBOOK_DPI)
    texts = {name: cell_texts(values, digits) for name, values in maps.items()}
    longest = max(len(text) for lines in texts.values() for line in lines for text in line)
    fontsize = min(9.0, 0.9 * 72 * panel / width / (0.62 * longest))
    for ax, (name, values) in zip(axes[0], maps.items(), strict=True):
        drawn = draw_map(ax, values, frame, torch.zeros(0, 4), norm, cmap, name)
        if boxes is not None:
            draw_boxes(ax, boxes, (1 / stride, 1 / stride), linewidth=1.3)
        write_numbers(ax, values, drawn, texts[name], fontsize)
        number_cells(ax, height, width)
    colour_bar(ax, drawn, label)
    return figure


def cell_texts(values: Tensor, digits: int | None) -> list[list[str]]:
    """The text of each cell: 0 as "0", other values with ``digits`` decimals, or as fractions."""
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
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            red, green, blue, _ = drawn.cmap(drawn.norm(value))
            colour = "white" if 0.299 * red + 0.587 * green + 0.114 * blue < 0.55 else "black"
            ax.text(column + 0.5, row + 0.5, texts[row][column], ha="center", va="center", fontsize=fontsize,
                    color=colour, zorder=3)


def number_cells(ax: Axes, height: int, width: int) -> None:
    """Column numbers below, row numbers on the left."""
    ax.set_xticks([column + 0.5 for column in range(width)], range(width))
    ax.set_yticks([row + 0.5 for row in range(height)], range(height))
    ax.tick_params(length=0, pad=1.5, labelsize=6.5, labelcolor="#555555")


def map_table(
    rows: dict[str, dict[str, Tensor]], image: Tensor, boxes: Tensor, *, label: str,
    norms: dict[str, Normalize] | None = None, cmap: str = "cividis",
) -> NotebookFigure:
    """Rows of maps, each row with its own colour scale and colour bar; the image is at the left of the first row.

    Args:
        rows: {row name: {title: (H, W)}}, the same number of maps in every row; grids may differ.
        image: (3, h, w) in 0..1, which every map spans.
        boxes: (K, 4) xyxy pixels of ``image``, K may be 0.
        label: what the colours mean.
        norms: {row name: norm}, for rows whose limits are not the least and the largest value.
    """
    frame, columns = tuple(image.shape[-2:]), len(next(iter(rows.values())))
    panel = min((WIDTH - BAR_WIDTH - 0.5) / (columns + 1) - 0.16, 2.2)
    figure, axes = panel_grid(len(rows), columns + 1, frame[0] / frame[1], [columns], width=panel)
    figure.set_dpi(NOTEBOOK_DPI)
    draw_image(axes[0, 0], image, boxes, f"image\n{frame[0]} x {frame[1]} pixels")
    for ax, name in zip(axes[:, 0], rows, strict=True):
        if ax is axes[0, 0]:
            ax.set_ylabel(name, fontsize=8.5, labelpad=4)
        else:  # no image in this row: write its name at the left of the first map
            ax.set_axis_off()
            ax.text(0.94, 0.5, name, fontsize=8.5, rotation=90, ha="center", va="center")
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        norm = shared_norm((norms or {}).get(name), maps.values())
        for ax, (title, values) in zip(line[1:], maps.items(), strict=True):
            drawn = draw_map(ax, values, frame, boxes, norm, cmap, title)
        colour_bar(ax, drawn, label)
    return figure


def matrices(
    maps: dict[str, Tensor], *, rows: str, columns: str, label: str, norm: Normalize, cmap: str = "PuOr",
) -> NotebookFigure:
    """Matrices side by side on one colour scale, e.g. correlations; ``rows`` and ``columns`` are axis labels."""
    norm, (height, width) = shared_norm(norm, maps.values()), next(iter(maps.values())).shape
    panel = min((WIDTH - BAR_WIDTH - 0.5) / len(maps) - 0.25, 3.2)
    figure, axes = panel_grid(1, len(maps), height / width, [len(maps) - 1], width=panel, left=0.45, bottom=0.4)
    figure.set_dpi(NOTEBOOK_DPI)
    for ax, (name, values) in zip(axes[0], maps.items(), strict=True):
        drawn = draw_map(ax, values, (height, width), torch.zeros(0, 4), norm, cmap, name)
        ax.set_xlabel(columns, fontsize=8)
    axes[0, 0].set_ylabel(rows, fontsize=8)
    colour_bar(ax, drawn, label)
    return figure


def chart_figure(width: float = WIDTH, height: float = 2.6) -> NotebookFigure:
    """An empty figure for a chart; sizes in inches."""
    return NotebookFigure(figsize=(width, height), dpi=NOTEBOOK_DPI, facecolor="white", layout="constrained")


def finish_chart(ax: Axes) -> None:
    """Style a chart: no spines above and to the right, a light grid behind, uniform font sizes. Call it last."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    for text, size in ((ax.title, 9), (ax.xaxis.label, 8.5), (ax.yaxis.label, 8.5)):
        text.set_fontsize(size)


def photograph(path: str | Path = "", long_side: int = 640) -> Tensor:
    """A photograph as input of a detector: (3, H, W) in 0..1, upright, longer side at most ``long_side`` pixels.

    Args:
        path: an image file; "" = the photograph china.jpg of scikit-learn.
    Raises:
        UserError: no such file, or not an image.
    """
    if path == "":
        from sklearn.datasets import load_sample_image

        image = Image.fromarray(load_sample_image("china.jpg"))
    elif not (file := Path(path).expanduser()).is_file():
        raise UserError(f"PHOTO must be an image file, got {str(path)!r}, which is not a file; "
                        'give a path relative to the notebook\'s folder, or ""')
    else:
        try:
            image = read_exif_rotated(file)
        except Exception as error:  # Pillow raises several types for broken files
            raise UserError(f"PHOTO must be an image that can be decoded, got {str(path)!r} "
                            f"({type(error).__name__}); save it as JPEG or PNG") from error
    return torch.from_numpy(as_rgb(shrink(image, long_side))).permute(2, 0, 1).float() / 255
