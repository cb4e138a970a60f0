"""Panels of images and maps side by side on shared colour scales, laid out in inches.

Colours: Okabe-Ito by role, cividis for amounts, PuOr centred at 0 for differences. Maps are not smoothed.
"""
import io
from collections.abc import Iterable

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

TEACHER_COLOUR, STUDENT_COLOUR, DISTILLED_COLOUR, BOX_COLOUR = "#0072B2", "#E69F00", "#009E73", "#D55E00"
BACKGROUND_COLOUR, ATTENTION_COLOUR = "#56B4E9", "#CC79A7"  # terms of the loss
NEUTRAL_COLOUR, ZERO_COLOUR = "#555555", "#d9d9d9"  # text; cells of value 0
DPI = 90
PANEL_WIDTH, GAP, TITLE_HEIGHT, BAR_WIDTH, LEFT_MARGIN, BOTTOM_MARGIN = 1.55, 0.16, 0.42, 0.95, 0.32, 0.1  # inches
MIN_RATIO, MAX_RATIO = 0.8, 1.7  # limits of a panel's height / width


class NotebookFigure(Figure):
    """A figure without pyplot that Jupyter displays, also under papermill."""

    def _repr_png_(self) -> bytes:
        return png(self)


def png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=figure.dpi)
    return file.getvalue()


def show(figure: Figure, alt: str | None = None):
    """Any matplotlib figure as an image that a cell displays, with its alternative text."""
    from IPython.display import Image

    return Image(data=png(figure), format="png", alt=alt)


def panel_grid(
    rows: int, columns: int, ratio: float, bars_after: Iterable[int] = (), *, width: float = PANEL_WIDTH,
    left: float = LEFT_MARGIN, bottom: float = BOTTOM_MARGIN, dpi: int = DPI,
) -> tuple[NotebookFigure, np.ndarray]:
    """A figure of rows x columns panels, and its (rows, columns) axes.

    Args:
        ratio: height / width of a panel.
        bars_after: columns with room for a colour bar on their right.
        width, left, bottom: inches of a panel and of two margins.
    """
    panel_height = width * min(max(ratio, MIN_RATIO), MAX_RATIO)
    gaps = [BAR_WIDTH if column in bars_after else GAP for column in range(columns)]
    lefts = left + np.cumsum([0, *(width + gap for gap in gaps)])
    right, height = lefts[-1], rows * (TITLE_HEIGHT + panel_height) + bottom
    figure, axes = NotebookFigure(figsize=(right, height), dpi=dpi), np.empty((rows, columns), dtype=object)
    for row, column in np.ndindex(axes.shape):
        y = height - (row + 1) * (TITLE_HEIGHT + panel_height)
        place = lefts[column] / right, y / height, width / right, panel_height / height
        axes[row, column] = figure.add_axes(place)
    return figure, axes


def draw_image(ax: Axes, image: Tensor, boxes: Tensor, title: str, **style) -> None:
    """An image (3, H, W) in 0..1 with boxes (K, 4), xyxy in its pixels, in a ``style`` of :func:`draw_boxes`."""
    height, width = image.shape[-2:]
    ax.imshow(image.detach().cpu().permute(1, 2, 0).clamp(0, 1).numpy(), extent=(0, width, height, 0))
    draw_boxes(ax, boxes, **style)
    set_title(ax, title)


def draw_map(
    ax: Axes, values: Tensor, frame: tuple[int, int], boxes: Tensor, norm: Normalize, cmap: str, name: str,
) -> AxesImage:
    """A map (H, W) with boxes (K, 4) in pixels of ``frame`` (height, width). The axes count cells."""
    (height, width), values = values.shape, values.detach().float().cpu().numpy()
    drawn = ax.imshow(
        np.ma.masked_less_equal(values, 0) if isinstance(norm, LogNorm) else values, extent=(0, width, height, 0),
        norm=norm, cmap=mpl.colormaps[cmap].with_extremes(bad=ZERO_COLOUR), interpolation="nearest",
        aspect=(width / height) * (frame[0] / frame[1]),  # the panel has the image's shape
    )
    draw_boxes(ax, boxes, (width / frame[1], height / frame[0]))
    set_title(ax, f"{name}\n{height} x {width}: {values.min():.3g} to {values.max():.3g}")
    return drawn


def draw_boxes(
    ax: Axes, boxes: Tensor, scale: tuple[float, float] = (1.0, 1.0), color: str = BOX_COLOUR, **style,
) -> None:
    """Edges of boxes (K, 4) xyxy, x and y multiplied by ``scale``; a white rim keeps them visible."""
    style = {"linewidth": 1.2, "gid": "box"} | style
    rim = withStroke(linewidth=style["linewidth"] + 1.2, foreground="white", alpha=0.8)
    for x1, y1, x2, y2 in (boxes.detach().cpu().reshape(-1, 4) * torch.tensor([*scale, *scale])).tolist():
        ax.add_patch(Rectangle((x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=color, path_effects=[rim], **style))


def set_title(ax: Axes, title: str) -> None:
    ax.set_title(title, fontsize=7.5, pad=3, linespacing=1.15)
    ax.set_xticks([])
    ax.set_yticks([])


def style_axes(ax: Axes, grid: str) -> None:
    ax.tick_params(labelsize=8)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)


def colour_bar(ax: Axes, drawn: AxesImage, label: str) -> None:
    """A colour bar on the right of ``ax``, with ticks at both ends and in the middle."""
    bar = ax.figure.colorbar(drawn, cax=ax.inset_axes((1.05, 0, 0.06, 1)), format="{x:.2g}")
    bar.set_ticks(drawn.norm.inverse(np.array([0.0, 0.5, 1.0])))
    bar.minorticks_off()
    bar.ax.tick_params(labelsize=7, length=2, pad=1.5)
    bar.set_label(label, fontsize=7, labelpad=2)


def shared_norm(norm: Normalize | None, maps: Iterable[Tensor]) -> Normalize:
    """``norm`` with open limits set from all maps together; None = linear from the smallest to the largest value."""
    norm = norm or Normalize()
    values = torch.cat([each.detach().float().cpu().flatten() for each in maps]).numpy()
    if isinstance(norm, LogNorm):
        values = values[values > 0]  # zero has no logarithm and is drawn grey
    norm.autoscale_None(values if len(values) else np.array([0.1, 1.0]))
    return norm


def draw_maps(
    panels: Iterable[Axes], maps: dict[str, Tensor], frame: tuple[int, int], boxes: Tensor, label: str,
    norm: Normalize | None = None, cmap: str = "cividis",
) -> AxesImage:
    """Maps {title: (H, W)} on one colour scale, with one colour bar at the last panel; see :func:`draw_map`.

    norm: None = linear; LogNorm() draws zeros grey.
    """
    norm = shared_norm(norm, maps.values())
    for ax, (title, values) in zip(panels, maps.items(), strict=True):
        drawn = draw_map(ax, values, frame, boxes, norm, cmap, title)
    colour_bar(ax, drawn, label)
    return drawn


def show_maps(maps: dict[str, Tensor], image: Tensor, boxes: Tensor, *, label: str) -> NotebookFigure:
    """The image and maps side by side, the maps on one linear colour scale.

    Args:
        maps: {title: (H, W)}; grids may differ, each spans the whole image.
        image: (3, h, w) in 0..1.
        boxes: (K, 4) xyxy in pixels of ``image``, K may be 0.
        label: what the colours mean, with its unit.
    """
    frame = tuple(image.shape[-2:])
    figure, axes = panel_grid(1, 1 + len(maps), frame[0] / frame[1], [len(maps)], left=BOTTOM_MARGIN)
    draw_image(axes[0, 0], image, boxes, f"image\n{frame[0]} x {frame[1]} pixels")
    draw_maps(axes[0, 1:], maps, frame, boxes, label)
    return figure
