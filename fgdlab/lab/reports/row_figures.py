"""Rows of a sweep side by side: what their losses are made of, where they look, what they find. The same images and the same scales in every row.

    {label: [metrics of a seed, ...]}   --losses_by_row-->     terms over steps, a panel a row
    OpenRows, one image                 --masks_by_row-->      the weights of cells, a pair of panels for each way that rows weigh them
                                        --attention_by_row-->  A^S of the teacher and of each row's student
                                        --found_by_row-->      detections of the teacher and of each row's student

Built of the panels of viz.py. Titles carry the row's label and, where it differs, what else tells the panel apart.
"""
import math
import textwrap

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from fgdlab.attention import attention
from fgdlab.fgd import masks_of

from .. import plots
from ..plots import NotebookFigure
from .row_runs import LoadedRows

COLUMNS = 6                                                          # maps in a line
LABEL = 27                                                           # letters of a row's label that fit in a line above a panel


# --- losses -------------------------------------------------------------------------------------------------------------------------

def losses_by_row(metrics: dict[str, list[pd.DataFrame]]) -> NotebookFigure:
    """Weighted terms over the steps, summed over levels; a panel a row of the sweep, all on one logarithmic scale.

    Args:
        metrics: {label: the frames of plots.read_metrics, one a seed}. Thin lines are seeds, the thick one their mean; black is the total.
    """
    curves = {label: [by_step(frame) for frame in frames] for label, frames in metrics.items()}
    names = list(dict.fromkeys(name for frames in curves.values() for frame in frames for name in frame.columns if name != "total"))
    spare = iter(plots.EXTRA_TERM_STYLES * len(names))
    styles = {name: plots.TERM_STYLES.get(name) or next(spare) for name in names}
    columns = min(len(curves), 3)
    lines = math.ceil(len(curves) / columns)
    figure = NotebookFigure(figsize=(11 if columns == 3 else 4.2 * columns, 2.35 * lines + 0.5), dpi=plots.DPI, facecolor="white", layout="constrained")
    axes = figure.subplots(lines, columns, sharex=True, sharey=True, squeeze=False).flatten()
    for ax in axes[len(curves):]:
        ax.set_axis_off()
    for ax, (label, frames) in zip(axes, curves.items(), strict=False):
        draw_terms(ax, frames, styles)
        own = mean_loss_ratio(metrics[label])
        words = f"distillation ends at {own:.2g} x the detector's own" if own else "the detector's own terms alone"
        seeds = f"{len(frames)} seed" + ("s" if len(frames) > 1 else "")
        ax.set_title(f"{shortened(label)} ({seeds})\n{words}", fontsize=8.5)
    axes[0].set_yscale("log", nonpositive="mask")
    for i in range(lines):
        axes[i * columns].set_ylabel("weight x sum (log scale)", fontsize=8)
    for ax in axes[max(len(curves) - columns, 0):len(curves)]:
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelbottom=True)
    handles = [Line2D([], [], color=color, linestyle=line, linewidth=2, label=name) for name, (color, line) in styles.items()]
    handles.append(Line2D([], [], color="black", linewidth=1.2, label="total"))
    figure.legend(handles=handles, loc="outside lower center", ncols=min(len(handles), 8), fontsize=8.5, frameon=False)
    return figure


def by_step(frame: pd.DataFrame) -> pd.DataFrame:
    """Weighted values, summed over levels: a line a step, a column a term, and their total."""
    terms = frame[frame["name"] != "total"]
    wide = terms.pivot_table(index="step", columns="name", values="weighted", aggfunc="sum").reindex(columns=list(dict.fromkeys(terms["name"])))
    return wide.assign(total=wide.sum(axis=1))


def draw_terms(ax: Axes, seeds: list[pd.DataFrame], styles: dict[str, tuple[str, str]]) -> None:
    mean = pd.concat(seeds).groupby(level=0).mean()
    for name in mean.columns:
        color, line = styles.get(name, ("black", "-"))
        for each in seeds if len(seeds) > 1 else []:
            if name in each:
                ax.plot(each.index, each[name], color=color, linestyle=line, linewidth=0.5, alpha=0.35)
        ax.plot(mean.index, mean[name], color=color, linestyle=line, linewidth=1.0 if name == "total" else 1.6, gid=f"term-{name}")
    ax.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    plots.style_axes(ax, "both")


def mean_loss_ratio(frames: list[pd.DataFrame]) -> float:
    """Distillation's weighted sum over the detector's own, averaged over the last quarter of the logged steps and over seeds; 0 where there is none."""
    shares = []
    for frame in frames:
        late = frame[(frame["name"] != "total") & (frame["step"] >= 0.75 * frame["step"].max())]
        own = late.loc[late["level"] == "all", "weighted"].sum()
        shares.append(late.loc[late["level"] != "all", "weighted"].sum() / own if own else float("nan"))
    return sum(shares) / len(shares)


# --- maps ---------------------------------------------------------------------------------------------------------------------------

def masks_by_row(opened: LoadedRows, index: int, level: str | None = None) -> NotebookFigure | None:
    """Image, and the weights M S and (1 - M) S that rows give to the cells of one level; rows that weigh alike share a panel.

    Returns:
        None where no row's loss weighs cells by FGD's masks.
    """
    scene, _ = plots.scene_and_teacher_maps(opened.rows[0].student, None, *opened.scenes[index])
    level = level or next(iter(scene.features))
    kinds: dict[tuple, tuple[str, torch.Tensor, list[str]]] = {}
    for row in opened.rows:
        masks, used = masks_of(row.config.fgd(), scene, scene.features[level]), plots.unused_suffixes(row.config)
        for part, title, values in (("fg", "foreground M S" if row.config.area != "both" else "every cell alike", masks.fg[0]), ("bg", "background (1 - M) S", masks.bg[0])):
            if not used[part]:
                same = kinds.setdefault((title, values.numpy().tobytes()), (title, values, []))
                same[2].append(row.label)
    if not kinds:
        return None
    image, boxes, frame = plots.padded_image(opened.rows[0].student, scene), scene.boxes[0], scene.padded_size
    shown = list(kinds.values())
    columns = min(len(shown) + 1, COLUMNS)
    figure, axes = plots.panel_grid(math.ceil((len(shown) + 1) / columns), columns, frame[0] / frame[1], [columns - 1], width=1.75)
    axes = axes.flatten()
    plots.draw_image(axes[0], image, boxes, f"image {opened.scenes.image_ids[index]}\n{frame[0]} x {frame[1]} pixels")
    norm = plots.shared_norm(LogNorm(), [values for _, values, _ in shown])
    for ax, (title, values, labels) in zip(axes[1:], shown, strict=False):
        drawn = plots.draw_map(ax, values, frame, boxes, norm, "cividis", "")
        ax.set_title(f"{title}, {level}\n{shortened('; '.join(labels), 36)}", fontsize=7.5, pad=3, linespacing=1.15)
    close(axes, len(shown) + 1, columns, drawn, "weight of a cell (log)")
    return figure


def attention_by_row(opened: LoadedRows, index: int, level: str | None = None) -> NotebookFigure:
    """Spatial attention A^S of one level: the teacher's at each temperature that rows use, then each row's student's, on one logarithmic scale."""
    student, teacher = opened.rows[0].student, opened.teacher()
    scene, maps = plots.scene_and_teacher_maps(student, teacher, *opened.scenes[index])
    level = level or next(each for each in scene.features if maps is None or each in maps)
    distilled = [row for row in opened.rows if row.teacher is not None]
    shown = {}
    for temperature in dict.fromkeys(row.config.temperature for row in distilled):
        shown[f"teacher, T = {temperature:g}"] = attention(maps[level], temperature).spatial[0]
    for row in opened.rows:
        features = plots.scene_and_teacher_maps(row.student, None, *opened.scenes[index])[0].features[level]
        shown[row.label] = attention(features, row.config.temperature).spatial[0]
    frame, boxes = scene.padded_size, scene.boxes[0]
    columns = min(len(shown), COLUMNS)
    figure, axes = plots.panel_grid(math.ceil(len(shown) / columns), columns, frame[0] / frame[1], [columns - 1])
    axes, norm = axes.flatten(), plots.shared_norm(LogNorm(), shown.values())
    for ax, (title, values) in zip(axes, shown.items(), strict=False):
        drawn = plots.draw_map(ax, values, frame, boxes, norm, "cividis", "")
        ax.set_title(f"{shortened(title)}\n{values.min():.2g} to {values.max():.2g}", fontsize=7.5, pad=3, linespacing=1.15)
    close(axes, len(shown), columns, drawn, f"attention on {level} (1 = average, log)")
    return figure


def close(axes, used: int, columns: int, drawn, label: str) -> None:
    """Hide the panels that are left over and put the one colour bar at the end of the first line."""
    for ax in axes[used:]:
        ax.set_axis_off()
    plots.colour_bar(axes[columns - 1], drawn, label)


def detections_by_row(opened: LoadedRows, index: int, threshold: float = 0.2) -> NotebookFigure:
    """One image with its objects and what the teacher and each row's student found on it."""
    found = {"teacher": opened.teacher_found(index)} if opened.teacher() is not None else {}
    found |= {f"{row.label}": row.found for row in opened.rows}
    height, width = opened.scenes.loaded_size(index)
    figure, axes = plots.image_panels(len(found), height / width, left=0.1)
    for ax, (label, each) in zip(axes, found.items(), strict=True):
        plots.draw_detections(ax, each, opened.scenes, index, threshold)
        counts = ax.get_title().split("\n")[1]
        ax.set_title(f"{shortened(label, 44)}\n{counts}", fontsize=8, pad=3, linespacing=1.15)
    plots.detections_legend(figure, threshold)
    return figure


def shortened(label: str, letters: int = LABEL) -> str:
    return textwrap.shorten(label, letters, placeholder=" ...")
