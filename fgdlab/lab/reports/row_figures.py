"""Figures that compare the rows of a sweep, on the same images and the same scales. Titles carry the rows' labels."""
import math
import textwrap
from collections.abc import Iterable

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator

from fgdlab.attention import attention
from fgdlab.fgd import masks_of

from .. import plots
from ..plots import NotebookFigure
from .row_runs import LoadedRows

COLUMNS = 6  # maps per line
LABEL = 27  # letters of a label per line above a panel
TITLE = {"fontsize": 7.5, "pad": 3, "linespacing": 1.15}


def losses_by_row(metrics: dict[str, list[pd.DataFrame]]) -> NotebookFigure:
    """Weighted terms over the steps, summed over levels; one panel per row of the sweep, all on one logarithmic scale.

    Thin lines are seeds, thick ones their mean; black is the total.

    Args:
        metrics: {label: frames of plots.read_metrics, one per seed}.
    """
    curves = {label: [by_step(frame) for frame in frames] for label, frames in metrics.items()}
    names = dict.fromkeys(name for frames in curves.values() for frame in frames for name in frame if name != "total")
    styles = plots.term_styles(names)
    columns = min(len(curves), 3)
    lines = math.ceil(len(curves) / columns)
    size = (11 if columns == 3 else 4.2 * columns, 2.35 * lines + 0.5)
    figure = NotebookFigure(figsize=size, dpi=plots.DPI, facecolor="white", layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for ax in axes[len(curves):]:
        ax.set_axis_off()
    for ax, (label, frames) in zip(axes, curves.items(), strict=False):
        draw_terms(ax, frames, styles)
        ratio = mean_loss_ratio(metrics[label])
        text = f"distillation ends at {ratio:.2g} x the task loss" if ratio else "task loss only"
        seeds = f"{len(frames)} seed" + ("s" if len(frames) > 1 else "")
        ax.set_title(f"{shortened(label)} ({seeds})\n{text}", fontsize=8.5)
    axes[0].set_yscale("log", nonpositive="mask")
    for ax in axes[::columns]:
        ax.set_ylabel("weight x sum (log scale)", fontsize=8)
    for ax in axes[max(len(curves) - columns, 0):len(curves)]:
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelbottom=True)
    plots.terms_legend(figure, styles)
    return figure


def by_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Weighted values summed over levels: one line per step, one column per term, and their total."""
    terms = frame[frame["name"] != "total"]
    wide = terms.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum", sort=False)
    return wide.assign(total=wide.sum(axis=1))


def draw_terms(ax: Axes, seeds: list[pd.DataFrame], styles: dict[str, tuple[str, str]]) -> None:
    mean = pd.concat(seeds).groupby(level=0).mean()
    for name in mean.columns:
        color, line = styles.get(name, ("black", "-"))
        for frame in seeds if len(seeds) > 1 else []:
            if name in frame:
                ax.plot(frame.index, frame[name], color=color, linestyle=line, linewidth=0.5, alpha=0.35)
        width = 1.0 if name == "total" else 1.6
        ax.plot(mean.index, mean[name], color=color, linestyle=line, linewidth=width, gid=f"term-{name}")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plots.style_axes(ax, "both")


def mean_loss_ratio(frames: list[pd.DataFrame]) -> float:
    """Distillation loss over task loss, weighted, averaged over the last quarter of the logged steps and over seeds."""
    ratios = []
    for frame in frames:
        late = frame[(frame["name"] != "total") & (frame["step"] >= 0.75 * frame["step"].max())]
        task = late.loc[late["level"] == "all", "weighted"].sum()
        ratios.append(late.loc[late["level"] != "all", "weighted"].sum() / task if task else float("nan"))
    return sum(ratios) / len(ratios)


def masks_by_row(loaded: LoadedRows, index: int, level: str | None = None) -> NotebookFigure | None:
    """Image, and the weights M S and (1 - M) S of the cells of one level; rows with equal weights share a panel.

    Returns:
        None if no row's loss uses FGD's masks.
    """
    student = loaded.rows[0].student
    scene, _ = plots.scene_and_teacher_maps(student, None, *loaded.dataset[index])
    level = level or next(iter(scene.features))
    panels: dict[tuple, tuple[str, torch.Tensor, list[str]]] = {}
    for row in loaded.rows:
        masks = masks_of(row.config.fgd(), scene, scene.features[level])
        foreground = "foreground M S" if row.config.area != "both" else "all cells equal"
        suffixes = plots.unused_suffixes(row.config)
        for part, title, values in (("fg", foreground, masks.fg[0]), ("bg", "background (1 - M) S", masks.bg[0])):
            if not suffixes[part]:
                key = (title, values.numpy().tobytes())
                panels.setdefault(key, (title, values, []))[2].append(row.label)
    if not panels:
        return None
    titles = [f"{title}, {level}\n{shortened('; '.join(labels), 36)}" for title, _, labels in panels.values()]
    maps = [values for _, values, _ in panels.values()]
    figure, axes = draw_maps(maps, titles, scene, "weight of a cell (log)", skip=1, width=1.75)
    height, width = scene.padded_size
    title = f"image {loaded.dataset.image_ids[index]}\n{height} x {width} pixels"
    plots.draw_image(axes[0], plots.padded_image(student, scene), scene.boxes[0], title)
    return figure


def attention_by_row(loaded: LoadedRows, index: int, level: str | None = None) -> NotebookFigure:
    """Spatial attention A^S of one level: the teacher's at each temperature in use, then each row's student's."""
    item = loaded.dataset[index]
    scene, maps = plots.scene_and_teacher_maps(loaded.rows[0].student, loaded.teacher(), *item)
    level = level or next(each for each in scene.features if maps is None or each in maps)
    shown = {}
    for temperature in dict.fromkeys(row.config.temperature for row in loaded.rows if row.teacher is not None):
        shown[f"teacher, T = {temperature:g}"] = attention(maps[level], temperature).spatial[0]
    for row in loaded.rows:
        features = plots.scene_and_teacher_maps(row.student, None, *item)[0].features[level]
        shown[row.label] = attention(features, row.config.temperature).spatial[0]
    titles = [f"{shortened(title)}\n{values.min():.2g} to {values.max():.2g}" for title, values in shown.items()]
    return draw_maps(list(shown.values()), titles, scene, f"attention on {level} (1 = average, log)")[0]


def draw_maps(
    maps: list[torch.Tensor], titles: list[str], scene, label: str, skip: int = 0, **options,
) -> tuple[NotebookFigure, Iterable[Axes]]:
    """Maps on one logarithmic scale with one colour bar, after ``skip`` empty panels. Returns figure and axes."""
    size, boxes, count = scene.padded_size, scene.boxes[0], skip + len(maps)
    columns = min(count, COLUMNS)
    lines = math.ceil(count / columns)
    figure, axes = plots.panel_grid(lines, columns, size[0] / size[1], [columns - 1], **options)
    axes, norm = axes.flatten(), plots.shared_norm(LogNorm(), maps)
    for ax, title, values in zip(axes[skip:], titles, maps, strict=False):
        drawn = plots.draw_map(ax, values, size, boxes, norm, "cividis", "")
        ax.set_title(title, **TITLE)
    for ax in axes[count:]:
        ax.set_axis_off()
    plots.colour_bar(axes[columns - 1], drawn, label)
    return figure, axes


def detections_by_row(loaded: LoadedRows, index: int, threshold: float = 0.2) -> NotebookFigure:
    """One image with its objects and the detections of the teacher and of each row's student."""
    found = {"teacher": loaded.teacher_detections(index)} if loaded.teacher() is not None else {}
    found |= {row.label: row.detections for row in loaded.rows}
    height, width = loaded.dataset.loaded_size(index)
    figure, axes = plots.image_panels(len(found), height / width)
    for ax, (label, detections) in zip(axes, found.items(), strict=True):
        plots.draw_detections(ax, detections, loaded.dataset, index, threshold)
        counts = ax.get_title().split("\n")[1]
        ax.set_title(f"{shortened(label, 44)}\n{counts}", **{**TITLE, "fontsize": 8})
    plots.detections_legend(figure, threshold)
    return figure


def shortened(label: str, letters: int = LABEL) -> str:
    return textwrap.shorten(label, letters, placeholder=" ...")
