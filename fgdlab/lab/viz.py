"""Everything that draws a run. Each function returns a figure that shows itself as the last expression of a cell.

    maps, image, boxes                     --show_maps-->            any weights or attention beside the image
    student, teacher, one image            --masks_and_attention-->  a row a level: masks, attentions, their difference
    metrics.jsonl --read_metrics-->        --loss_terms-->           terms over steps, shares by level
    detections.json, images                --detections_figure-->    truth and detections

Panels that are to be compared share their colour limits and one colour bar; a title says shape (in cells) and range of what is drawn. No map
is smoothed or laid over the image. Colours are Okabe-Ito's by role, cividis for amounts, PuOr centred at 0 for differences.
"""
import io
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import CenteredNorm, LogNorm, Normalize
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from matplotlib.ticker import LogLocator, MaxNLocator
from torch import Tensor, nn

from fgdlab.attention import attention
from fgdlab.fgd import FGDLoss
from fgdlab.scene import Scene, level_names, look

from .colours import BOX, DISTILLED, STUDENT, TEACHER
from .config import RunConfig
from .errors import UserError

SKY, PINK, GREY, NOTHING = "#56B4E9", "#CC79A7", "#555555", "#d9d9d9"
TERM_STYLES = {                                                      # the detector's own in the student's orange, foreground like a box
    "classification": (STUDENT, "-"), "bbox_regression": (STUDENT, "--"),
    "fg": (BOX, "-"), "bg": (SKY, "-"), "both": (BOX, "--"), "attention": (PINK, "-"), "global": (DISTILLED, "-"),
}
MORE_STYLES = [(color, line) for line in ("-.", ":") for color in (BOX, SKY, PINK, DISTILLED, STUDENT)]      # for terms that have no style of their own
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


# --- panels -------------------------------------------------------------------------------------------------------------------------

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


# --- masks and attention ------------------------------------------------------------------------------------------------------------

def masks_and_attention(student: nn.Module, teacher: nn.Module | None, scenes, index: int, config: RunConfig) -> Picture:
    """What FGD weighs on one image, a row a level: image, M S, (1 - M) S, A^S of teacher and student, and their difference.

    Within a row the two masks share one logarithmic scale (zeros grey), the two attentions one linear scale from their least to their
    largest value; the difference is centred at 0.

    Args:
        student, teacher: detectors (see fgdlab/scene.py) on one device; their modes stay as they are. None as teacher leaves its panel and
            the difference out.
        scenes: a data set of data.py.
        index: which of its images.
        config: decides masks and temperature. What the run's loss does not use is drawn too, and said to be outside of it.
    """
    scene, maps = seen(student, teacher, *scenes[index])
    image, boxes, frame = canvas(student, scene), scene.boxes[0], scene.padded_size
    used = in_the_loss(config)
    draw_masks = FGDLoss((), 1, 1, config.fgd()).masks
    levels = [level for level in scene.features if maps is None or level in maps]
    figure, axes = panels(len(levels), 4 if maps is None else 6, frame[0] / frame[1], (2, 3) if maps is None else (2, 4, 5))
    for level, row in zip(levels, axes, strict=True):
        features = scene.features[level]
        grid = tuple(features.shape[-2:])
        draw_image(row[0], image, boxes, f"image {scenes.image_ids[index]}\n{frame[0]} x {frame[1]} pixels")
        row[0].set_ylabel(f"{level}, stride {round(frame[0] / grid[0])}", fontsize=9, labelpad=4)

        masks = draw_masks(scene, features)
        norm = shared(LogNorm(), (masks.fg, masks.bg))
        for ax, (name, values) in zip(row[1:3], {"fg": masks.fg, "bg": masks.bg}.items(), strict=True):
            title = {"fg": "foreground M S", "bg": "background (1 - M) S"}[name]
            drawn = draw_map(ax, values[0], frame, boxes, norm, "cividis", title + used[name])
        colour_bar(ax, drawn, "weight of a cell (log)")

        spatial = {"student": attention(features, config.temperature).spatial[0]}
        if maps is not None:
            spatial = {"teacher": attention(maps[level], config.temperature).spatial[0], **spatial}
        norm = shared(None, spatial.values())
        for ax, (who, values) in zip(row[3:], spatial.items(), strict=False):
            drawn = draw_map(ax, values, frame, boxes, norm, "cividis", f"$A^S$ {who}{used[who]}")
        colour_bar(ax, drawn, "attention (1 = average)")
        if maps is not None:
            difference = spatial["teacher"] - spatial["student"]
            drawn = draw_map(row[5], difference, frame, boxes, shared(CenteredNorm(), [difference]), "PuOr", "$A^S$ teacher - student")
            colour_bar(row[5], drawn, "purple: teacher has more")
    return figure


@torch.no_grad()
def seen(student: nn.Module, teacher: nn.Module | None, image: Tensor, target: dict) -> tuple[Scene, dict[str, Tensor] | None]:
    """The student's scene of one image in eval mode, and the teacher's maps of the same pixels."""
    device = next(student.parameters()).device
    modes = [(each, each.training) for detector in (student, teacher) if detector is not None for each in detector.modules()]
    try:
        target = {name: value.to(device) for name, value in target.items()}
        scene = look(student.eval(), [image.to(device)], [target])
        maps = None if teacher is None else level_names(teacher.eval().backbone(scene.pixels), scene.padded_size[0])
    finally:
        for module, training in modes:
            module.training = training
    return scene, maps


def canvas(detector: nn.Module, scene: Scene) -> Tensor:
    """The padded image that a detector's maps span, (3, H_pad, W_pad) in 0..1, made from its normalised pixels; padding is white."""
    mean, std = (scene.pixels.new_tensor(each)[:, None, None] for each in (detector.transform.image_mean, detector.transform.image_std))
    image = scene.pixels[0] * std + mean
    height, width = scene.image_sizes[0]
    image[:, height:], image[:, :, width:] = 1.0, 1.0
    return image


def in_the_loss(config: RunConfig) -> dict[str, str]:
    """What a panel's title adds about masks and attentions: nothing, or that the run's loss does not use it."""
    weights = config.fgd().weights() if config.method == "fgd" else {}
    spatial = config.spatial_attention
    uses = {
        "fg": weights.keys() & {"fg", "both"}, "bg": weights.keys() & {"bg"},
        "teacher": spatial and weights.keys() & {"fg", "bg", "both", "attention"}, "student": spatial and "attention" in weights,
    }
    return {name: "" if use else ", unused" for name, use in uses.items()}


# --- losses -------------------------------------------------------------------------------------------------------------------------

def read_metrics(path: Path | str) -> pd.DataFrame:
    """metrics.jsonl as a table, one row a term, level and logged step: step, name, level, raw, weighted, ...; a half last line is left out.

    Raises:
        UserError: no such file, or nothing is logged in it.
    """
    path, rows = Path(path), []
    if not path.is_file():
        raise UserError(f"{path} must be the metrics.jsonl of a run, got no such file; run it first")
    for line in path.read_text().splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:                                           # the half line of a run that is being written, or was killed
            continue
    if not rows:
        raise UserError(f"{path} must have a line for each term of a step, got none; let the run log a step first")
    return pd.DataFrame(rows)


def loss_terms(metrics: pd.DataFrame) -> Picture:
    """How large each term is: weighted values over the steps, summed over levels (left), and shares of the total by level at the end (right).

    Left on a logarithmic scale where values differ by more than a factor of 10. A value of 0 has no place there and leaves a gap.

    Args:
        metrics: of :func:`read_metrics`; its rows named "total" are left out, as the total here is the sum of the others.
    """
    terms = metrics[metrics["name"] != "total"]
    names, last = list(dict.fromkeys(terms["name"])), terms["step"].max()
    styles, spare = {}, iter(MORE_STYLES * len(names))
    for name in names:
        styles[name] = TERM_STYLES.get(name) or next(spare)
    figure = Picture(figsize=(11, 3.5), dpi=DPI, facecolor="white", layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    draw_curves(left, terms, styles)
    draw_shares(right, terms[terms["step"] == last], styles)
    right.set_title(f"Share of each term by level at step {last}, the last one logged", fontsize=9)
    handles = [Line2D([], [], color=color, linestyle=line, linewidth=2, label=name) for name, (color, line) in styles.items()]
    handles.append(Line2D([], [], color="black", linewidth=1, label="total"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=8.5, frameon=False)
    return figure


def draw_curves(ax: Axes, terms: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> None:
    by_step = terms.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum").reindex(columns=list(styles))
    marker = "o" if len(by_step) < 12 else None
    for name, (color, line) in styles.items():
        ax.plot(by_step.index, by_step[name], color=color, linestyle=line, linewidth=1.6, marker=marker, markersize=3.5, gid=f"term-{name}")
    ax.plot(by_step.index, by_step.sum(axis=1), color="black", linewidth=1, marker=marker, markersize=2.5, gid="total")
    positive = by_step.where(by_step > 0).stack()
    logarithmic = len(positive) > 0 and positive.max() > 10 * positive.min()
    if logarithmic:
        ax.set_yscale("log", nonpositive="mask")
        if positive.max() < 1000 * positive.min():                   # within three decades the powers of ten alone are too few
            ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.yaxis.set_major_formatter("{x:g}")
            ax.minorticks_off()
    else:
        ax.set_ylim(bottom=0)
    ax.set_title("Weighted terms, summed over levels", fontsize=9)
    ax.set_ylabel("weight x sum" + (" (log scale)" if logarithmic else ""), fontsize=8.5)
    ax.set_xlabel("step", fontsize=8.5)
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    plain(ax, "both")


def draw_shares(ax: Axes, terms: pd.DataFrame, styles: dict[str, tuple[str, str]]) -> None:
    """A bar a level, finest first, stacked by term; all bars together are 100 %."""
    shares = terms.pivot_table(index="level", columns="name", values="weighted", aggfunc="sum").fillna(0.0)
    shares = 100 * shares / (shares.to_numpy().sum() or 1.0)
    levels = sorted(shares.index, key=lambda level: (level != "all", len(level), level))
    for i, level in enumerate(levels):
        start = 0.0
        for name in (each for each in styles if each in shares and shares.loc[level, each]):
            color, line = styles[name]
            width = float(shares.loc[level, name])
            ax.barh(i, width, left=start, height=0.62, color=color, edgecolor="white", linewidth=0.5, hatch=None if line == "-" else "////", gid=f"share-{name}-{level}")
            start += width
        ax.text(start, i, f"  {start:.3g} %", va="center", fontsize=8)
    ax.set_yticks(range(len(levels)), ["detector's own" if level == "all" else level for level in levels])
    ax.set_ylim(max(len(levels), 3) - 0.4, -0.6)
    ax.set_xlim(0, 1.18 * max(shares.sum(axis=1).max(), 1.0))
    ax.set_xlabel("percent of the total loss", fontsize=8.5)
    plain(ax, "x")


def plain(ax: Axes, grid: str) -> None:
    ax.tick_params(labelsize=8)
    ax.grid(axis=grid, color="#dddddd", linewidth=0.6)
    ax.set_axisbelow(True)
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)


# --- detections ---------------------------------------------------------------------------------------------------------------------

def detections_figure(found: list[dict], scenes, indices: Sequence[int], threshold: float = 0.3) -> Picture:
    """Images with their objects (orange, dashed, class below) and what a detector found (blue, class and score above).

    Args:
        found: detections in COCO's result format, of these images or of the whole split: detections.json of a run.
        scenes: the data set that they were found in.
        indices: which of its images, at least one.
        threshold: least score drawn, 0..1.
    """
    columns = min(len(indices), 4)
    ratio = max(height / width for height, width in (scenes.loaded_size(i) for i in indices))
    figure, axes = panels(math.ceil(len(indices) / columns), columns, ratio, width=PHOTO, left=FOOT, foot=0.4)
    axes = axes.flatten()
    for ax in axes[len(indices):]:
        ax.set_axis_off()
    for ax, index in zip(axes, indices, strict=False):
        draw_detections(ax, found, scenes, index, threshold)
    figure.legend(
        handles=[
            Line2D([], [], color=BOX, linestyle="--", linewidth=2, label="object, its class below"),
            Line2D([], [], color=TEACHER, linewidth=1.6, label=f"detection of score {threshold:g} or more, class and score above"),
        ],
        loc="lower center", ncols=2, fontsize=8.5, frameon=False,
    )
    return figure


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
