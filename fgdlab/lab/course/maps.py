"""Pictures of the notebooks on maps, masks and attention: numbers in cells, tables of maps, and a reader's own photograph.

Built of the panels of viz.py, at the notebooks' 110 dots an inch. Panels that are to be compared share one scale and one colour bar.
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

LESSON_DPI = 110
WIDTH = 8.2                                                          # inches: what a cell of a notebook shows without scaling


# --- numbers in cells ---------------------------------------------------------------------------------------------------------------

def number_grid(
    maps: dict[str, Tensor], boxes: Tensor | None = None, *, label: str, stride: int = 8, digits: int | None = 2, norm: Normalize | None = None,
    cmap: str = "cividis",
) -> NotebookFigure:
    """Small maps side by side with every number written in its cell, rows and columns counted at the edge, on one colour scale.

        number_grid({"M": binary, "S": scale}, boxes, label="weight of a cell", digits=None)

    Args:
        maps: {title: (H, W)}, all of one shape; at most 16 x 16, or the numbers do not fit.
        boxes: (K, 4) xyxy pixels, drawn where they lie, to the pixel; None = none.
        label: what the colours mean.
        stride: pixels a cell.
        digits: decimals, none in a map of whole numbers; None writes fractions, 1/9 for 0.1111.
        norm, cmap: as in plots.show_maps.
    Raises:
        ValueError: maps of different shapes, or too large for numbers.
    """
    shapes = {tuple(each.shape) for each in maps.values()}
    if len(shapes) != 1 or max(max(shape) for shape in shapes) > 16:
        raise ValueError(f"maps must share one shape of at most 16 x 16 cells, got {sorted(shapes)}; draw larger ones with map_table")
    (height, width), = shapes
    norm, frame = shared_norm(norm, maps.values()), (height * stride, width * stride)
    panel = min((WIDTH - BAR_WIDTH - 0.25) / len(maps) - 0.25, 3.4, 0.7 * width)
    figure, axes = panel_grid(1, len(maps), height / width, [len(maps) - 1], width=panel, left=0.25, bottom=0.25)
    figure.set_dpi(LESSON_DPI)
    written = {name: texts(values, digits) for name, values in maps.items()}
    longest = max(len(text) for lines in written.values() for line in lines for text in line)
    for ax, (name, values) in zip(axes[0], maps.items(), strict=True):
        drawn = draw_map(ax, values, frame, torch.zeros(0, 4), norm, cmap, name)
        if boxes is not None:
            draw_boxes(ax, boxes, (1 / stride, 1 / stride), linewidth=1.3)
        write_numbers(ax, values, drawn, written[name], size=min(9.0, 0.9 * 72 * panel / width / (0.62 * longest)))
        count_cells(ax, height, width)
    colour_bar(ax, drawn, label)
    return figure


def texts(values: Tensor, digits: int | None) -> list[list[str]]:
    """What is written into the cells of a map, row by row."""
    if digits is not None and (values == values.round()).all():
        digits = 0
    return [[number(value, digits) for value in line] for line in values.tolist()]


def write_numbers(ax: Axes, values: Tensor, drawn: AxesImage, written: list[list[str]], size: float) -> None:
    """Every value in the middle of its cell, dark on light and light on dark, thin lines between the cells."""
    height, width = values.shape
    ax.vlines(range(1, width), 0, height, color="white", linewidth=0.3, alpha=0.5)
    ax.hlines(range(1, height), 0, width, color="white", linewidth=0.3, alpha=0.5)
    for row, line in enumerate(values.tolist()):
        for column, value in enumerate(line):
            red, green, blue, _ = drawn.cmap(drawn.norm(value))
            dark = 0.299 * red + 0.587 * green + 0.114 * blue < 0.55
            colour = "white" if dark else "black"
            ax.text(column + 0.5, row + 0.5, written[row][column], ha="center", va="center", fontsize=size, color=colour, zorder=3)


def number(value: float, digits: int | None) -> str:
    """As it is written in a cell: 0 as "0", the rest with ``digits`` decimals, or as a fraction."""
    return str(Fraction(value).limit_denominator(999)) if digits is None else "0" if value == 0 else f"{value:.{digits}f}"


def count_cells(ax: Axes, height: int, width: int) -> None:
    """Column numbers below, row numbers on the left."""
    ax.set_xticks([column + 0.5 for column in range(width)], range(width))
    ax.set_yticks([row + 0.5 for row in range(height)], range(height))
    ax.tick_params(length=0, pad=1.5, labelsize=6.5, labelcolor="#555555")


# --- tables of maps -----------------------------------------------------------------------------------------------------------------

def map_table(
    rows: dict[str, dict[str, Tensor]], image: Tensor, boxes: Tensor, *, label: str, norms: dict[str, Normalize] | None = None, cmap: str = "cividis",
) -> NotebookFigure:
    """Rows of maps, each row with one colour scale of its own behind it; the image stands before the first row.

    Args:
        rows: {row name: {title: (H, W)}}; every row has the same number of maps, grids may differ.
        image: (3, h, w) in 0..1, which every map spans.
        boxes: (K, 4) xyxy pixels of ``image``, K may be 0.
        label: what the colours mean.
        norms: {row name: norm}, for rows whose limits are not simply least to largest.
    """
    frame, columns = tuple(image.shape[-2:]), len(next(iter(rows.values())))
    panel = min((WIDTH - BAR_WIDTH - 0.5) / (columns + 1) - 0.16, 2.2)
    figure, axes = panel_grid(len(rows), columns + 1, frame[0] / frame[1], [columns], width=panel)
    figure.set_dpi(LESSON_DPI)
    draw_image(axes[0, 0], image, boxes, f"image\n{frame[0]} x {frame[1]} pixels")
    for ax, name in zip(axes[:, 0], rows, strict=True):
        if ax is axes[0, 0]:
            ax.set_ylabel(name, fontsize=8.5, labelpad=4)
        else:                                                        # no image here: the name of the row stands before its first map
            ax.set_axis_off()
            ax.text(0.94, 0.5, name, fontsize=8.5, rotation=90, ha="center", va="center")
    for line, (name, maps) in zip(axes, rows.items(), strict=True):
        norm = shared_norm((norms or {}).get(name), maps.values())
        for ax, (title, values) in zip(line[1:], maps.items(), strict=True):
            drawn = draw_map(ax, values, frame, boxes, norm, cmap, title)
        colour_bar(ax, drawn, label)
    return figure


def matrices(maps: dict[str, Tensor], *, rows: str, columns: str, label: str, norm: Normalize, cmap: str = "PuOr") -> NotebookFigure:
    """Matrices side by side on one colour scale, e.g. correlations; ``rows`` and ``columns`` say what they count."""
    norm, (height, width) = shared_norm(norm, maps.values()), next(iter(maps.values())).shape
    figure, axes = panel_grid(1, len(maps), height / width, [len(maps) - 1], width=min((WIDTH - BAR_WIDTH - 0.5) / len(maps) - 0.25, 3.2), left=0.45, bottom=0.4)
    figure.set_dpi(LESSON_DPI)
    for ax, (name, values) in zip(axes[0], maps.items(), strict=True):
        drawn = draw_map(ax, values, (height, width), torch.zeros(0, 4), norm, cmap, name)
        ax.set_xlabel(columns, fontsize=8)
    axes[0, 0].set_ylabel(rows, fontsize=8)
    colour_bar(ax, drawn, label)
    return figure


def picture(width: float = WIDTH, height: float = 2.6) -> NotebookFigure:
    """An empty figure for curves and bars; sizes in inches."""
    return NotebookFigure(figsize=(width, height), dpi=LESSON_DPI, facecolor="white", layout="constrained")


def bare(ax: Axes) -> None:
    """Finish a chart: no frame above and to the right, a light grid behind, words of one size. Call it last."""
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.tick_params(labelsize=8)
    for text, size in ((ax.title, 9), (ax.xaxis.label, 8.5), (ax.yaxis.label, 8.5)):
        text.set_fontsize(size)


# --- a reader's photograph ----------------------------------------------------------------------------------------------------------

def photograph(path: str | Path = "", long_side: int = 640) -> Tensor:
    """A photograph as an image of a detector: (3, H, W) in 0..1, upright, its longer side at most ``long_side`` pixels.

    Args:
        path: a file that Pillow reads; "" = one of the two photographs that come with scikit-learn.
    Raises:
        UserError: no such file, or no image.
    """
    if path == "":
        from sklearn.datasets import load_sample_image

        opened = Image.fromarray(load_sample_image("china.jpg"))
    else:
        opened = open_upright(Path(path).expanduser())
    return torch.from_numpy(as_rgb(shrink(opened, long_side))).permute(2, 0, 1).float() / 255


def open_upright(path: Path) -> Image.Image:
    if not path.is_file():
        raise UserError(f"PHOTO must be an image file, got {str(path)!r}, which is none; give a path from the notebook's folder, or \"\"")
    try:
        return read_exif_rotated(path)
    except Exception as error:                                       # what Pillow raises for broken bytes is not one type
        raise UserError(f"PHOTO must be an image that can be decoded, got {str(path)!r} ({type(error).__name__}); save it as JPEG or PNG") from error
