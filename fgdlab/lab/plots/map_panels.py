"""Panels of figures: images and maps beside each other, on shared scales, laid out in inches.

    maps, image, boxes --show_maps--> any weights or attention beside the image

Panels that are to be compared share their colour limits and one colour bar; a title says shape (in cells) and range of what is drawn. No map
is smoothed or laid over the image. Colours are Okabe-Ito's by role, cividis for amounts, PuOr centred at 0 for differences.
"""
import io
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from .colours import BOX

SKY, PINK, GREY, NOTHING = "#56B4E9", "#CC79A7", "#555555", "#d9d9d9"
DPI = 90
PANEL, PHOTO = 1.55, 2.6                                             # inches: width of a map, and of an image with detections
GAP, HEAD, BAR, EDGE, FOOT = 0.16, 0.42, 0.95, 0.32, 0.1             # inches: between panels, a title, a colour bar, left and lower margin
FLATTEST, TALLEST = 0.8, 1.7                                         # a panel's room is so many times as tall as wide, whatever the image


class Picture(Figure):
    """A figure that pyplot does not know of and that Jupyter shows all the same, in JupyterLab and under papermill."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    """The figure as a PNG file, at its own dots an inch."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return file.getvalue()


def show(figure: Figure):
    """Any figure, one of table_figure.py too, as a picture that a cell shows: ``show(fig)`` as its last line, or ``display(show(fig))``."""
    from IPython.display import Image

    return Image(data=png(figure), format="png")


def panels(
    rows: int, columns: int, ratio: float, bars_after: Iterable[int] = (), *, width: float = PANEL, left: float = EDGE, foot: float = FOOT,
) -> tuple[Picture, np.ndarray]:
    """A figure of rows x columns panels laid out in inches, with room for a title above each and a colour bar right of the columns ``bars_after``.

    ratio: height over width of a panel. width, left, foot: inches of a panel and of two margins. Returns the figure and its (rows, columns) axes.
    """
    tall = width * min(max(ratio, FLATTEST), TALLEST)
    lefts, right = [], left
    for column in range(columns):
        lefts.append(right)
        right += width + (BAR if column in bars_after else GAP)
    height = rows * (HEAD + tall) + foot
    figure = Picture(figsize=(right, height), dpi=DPI, facecolor="white")
    axes = np.empty((rows, columns), dtype=object)
    for row in range(rows):
        bottom = height - (row + 1) * (HEAD + tall)
        for column, left in enumerate(lefts):
            axes[row, column] = figure.add_axes((left / right, bottom / height, width / right, tall / height))
    return figure, axes


def draw_image(ax: Axes, image: Tensor, boxes: Tensor, title: str) -> None:
    """An image (3, H, W) in 0..1 with boxes (K, 4), xyxy pixels of that image."""
    height, width = image.shape[-2:]
    ax.imshow(image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy(), extent=(0, width, height, 0))
    draw_boxes(ax, boxes)
    finish(ax, title)


def draw_map(ax: Axes, values: Tensor, frame: tuple[int, int], boxes: Tensor, norm: Normalize, cmap: str, name: str) -> AxesImage:
    """A map (H, W) with boxes (K, 4) in pixels of ``frame`` (height, width). The axes count cells: cell j spans j to j + 1."""
    (height, width), values = values.shape, values.detach().float().cpu().numpy()
    shown = np.ma.masked_less_equal(values, 0) if isinstance(norm, LogNorm) else values
    drawn = ax.imshow(
        shown, extent=(0, width, height, 0), norm=norm, cmap=mpl.colormaps[cmap].with_extremes(bad=NOTHING), interpolation="nearest",
        aspect=(width / height) * (frame[0] / frame[1]),             # as wide and tall as the image, whatever the grid
    )
    draw_boxes(ax, boxes, (width / frame[1], height / frame[0]))
    finish(ax, f"{name}\n{height} x {width}: {values.min():.3g} to {values.max():.3g}")
    return drawn


def draw_boxes(ax: Axes, boxes: Tensor, scale: tuple[float, float] = (1.0, 1.0), color: str = BOX, **style) -> None:
    """Outlines of boxes (K, 4) xyxy, x and y multiplied by ``scale``; a white rim keeps them visible on any colour."""
    style = {"linewidth": 1.2, "gid": "box"} | style
    for x1, y1, x2, y2 in boxes.detach().cpu().reshape(-1, 4).tolist():
        outline = Rectangle((x1 * scale[0], y1 * scale[1]), (x2 - x1) * scale[0], (y2 - y1) * scale[1], fill=False, edgecolor=color, **style)
        outline.set_path_effects([withStroke(linewidth=style["linewidth"] + 1.2, foreground="white", alpha=0.8)])
        ax.add_patch(outline)


def finish(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=7.5, pad=3, linespacing=1.15)
    ax.set_xticks([])
    ax.set_yticks([])


def plain(ax: Axes, grid: str) -> None:
    ax.tick_params(labelsize=8)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


def colour_bar(ax: Axes, drawn: AxesImage, label: str) -> None:
    """One colour bar right of ``ax``, for every panel that shares its limits; the ends and the middle are written."""
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.05, 0, 0.06, 1)))
    ticks = drawn.norm.inverse(np.array([0.0, 0.5, 1.0]))
    bar.set_ticks(ticks, labels=[f"{0.0 if abs(tick) < 1e-12 else tick:.2g}" for tick in ticks])
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7, length=2, pad=1.5)
    bar.set_label(label, fontsize=7, labelpad=2)


def shared(norm: Normalize | None, maps: Iterable[Tensor]) -> Normalize:
    """``norm`` with the limits that its caller left open set from all of the maps together; None = linear from least to largest."""
    norm = norm or Normalize()
    values = torch.cat([each.detach().float().cpu().flatten() for each in maps]).numpy()
    if isinstance(norm, LogNorm):
        values = values[values > 0]                                  # zero has no logarithm: it is drawn grey
    norm.autoscale_None(values if len(values) else np.array([0.1, 1.0]))
    if norm.vmin == norm.vmax:                                       # one value everywhere: the middle of the scale
        if isinstance(norm, CenteredNorm):
            norm.halfrange = 1.0
        elif isinstance(norm, LogNorm):
            norm.vmin, norm.vmax = norm.vmin / 2, norm.vmax * 2
        else:
            norm.vmin, norm.vmax = norm.vmin - 0.5, norm.vmax + 0.5
    return norm


def show_maps(maps: dict[str, Tensor], image: Tensor, boxes: Tensor, *, label: str, norm: Normalize | None = None, cmap: str | None = None) -> Picture:
    """Maps side by side on one colour scale, the image beside them.

        show_maps({"teacher": a_t, "student": a_s}, image, boxes, label="attention (1 = average pixel)")
        show_maps({"teacher - student": a_t - a_s}, image, boxes, norm=CenteredNorm(), label="difference")

    Args:
        maps: {title: (H, W)}; grids may differ, each spans the whole image. About six fit on a screen.
        image: (3, h, w) in 0..1.
        boxes: (K, 4) xyxy in pixels of ``image``, K may be 0; drawn on each map at the scale of its grid.
        label: what the colours mean, with its unit.
        norm: of matplotlib.colors; limits that it leaves open are set from all maps. None = linear. LogNorm() leaves zeros grey.
        cmap: None = cividis, or PuOr with a CenteredNorm.
    """
    frame, norm = tuple(image.shape[-2:]), shared(norm, maps.values())
    cmap = cmap or ("PuOr" if isinstance(norm, CenteredNorm) else "cividis")
    figure, axes = panels(1, 1 + len(maps), frame[0] / frame[1], [len(maps)], left=FOOT)
    draw_image(axes[0, 0], image, boxes, f"image\n{frame[0]} x {frame[1]} pixels")
    for ax, (name, values) in zip(axes[0, 1:], maps.items(), strict=True):
        drawn = draw_map(ax, values, frame, boxes, norm, cmap, name)
    colour_bar(ax, drawn, label)
    return figure
