"""The rows of a sweep on the same images: one finished run of each, loaded, and figures that compare them."""
import math
import textwrap
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from torch import nn

from fgdlab.attention import attention
from fgdlab.fgd import masks_of

from .. import plots
from ..config import RunConfig
from ..datasets import DetectionDataset
from ..errors import UserError, plural
from ..io import user_path
from ..plots import NotebookFigure
from ..run import load_run
from ..teachers import trained_path
from ..training import detections
from .comparison_inputs import detections_of, finished
from .sweep_runs import SweepRuns

COLUMNS = 6  # maps per line
THRESHOLD = 0.2  # lowest score of a detection that is drawn
MIN_OBJECTS = 2  # in an image that is shown, if there are such images


class LoadedRun(NamedTuple):
    label: str
    seed: int
    config: RunConfig
    student: nn.Module
    teacher: nn.Module | None
    detections: list[dict]


@dataclass(frozen=True)
class LoadedRows:
    """The rows that can be shown, the data set they were evaluated on, and {label: why} of the other rows."""

    rows: list[LoadedRun]
    dataset: DetectionDataset
    left_out: dict[str, str]

    @classmethod
    def of(cls, runs: SweepRuns) -> "LoadedRows":
        """Load one finished run of each row; a UserError that says why if there is none."""
        rows, left_out, dataset = [], {}, None
        for key, row in runs.sweep.rows.items():
            finished = runs.finished(key)
            if not finished:
                left_out[row.label] = runs.sweep.absent.get(key) or "no folder of a finished run"
                continue
            seed, folder = next(iter(finished.items()))
            try:
                check_teacher(folder)
                config, _, student, eval_set, teacher = load_run(folder)
                dataset = dataset or eval_set
                if eval_set.content_hash() != dataset.content_hash():
                    raise UserError("evaluated on other images than the first row")
                teacher = teacher and teacher.detector
                rows.append(LoadedRun(row.label, seed, config, student, teacher, detections_of(folder)))
            except UserError as error:
                left_out[row.label] = str(error)
        if not rows:
            why = "; ".join(f"{row}: {why}" for row, why in left_out.items())
            raise UserError(why if any(map(runs.finished, runs.sweep.rows)) else runs.missing_folders())
        return cls(rows, dataset, left_out)

    def images(self, count: int) -> list[int]:
        """Indices of ``count`` images, spread over the split; images with several objects are preferred."""
        objects = [len(self.dataset.annotations.boxes[image_id]) for image_id in self.dataset.image_ids]
        several = [index for index, number in enumerate(objects) if number >= MIN_OBJECTS]
        if len(several) < count:
            several += sorted(set(range(len(objects))) - set(several))
        return several[::max(len(several) // count, 1)][:count]

    def teacher(self) -> nn.Module | None:
        return next((row.teacher for row in self.rows if row.teacher is not None), None)

    def teacher_detections(self, index: int) -> list[dict]:
        one = DetectionDataset(self.dataset.annotations, self.dataset.long_side)
        one.entries = [self.dataset.entries[index]]
        return detections(self.teacher(), one)


def check_teacher(folder: Path) -> None:
    """Refuse a finished run whose teacher is missing, and would be trained."""
    result = finished(folder)
    config = RunConfig.of(result["settings"])
    checkpoint = config.teacher_checkpoint
    weights = user_path(checkpoint) if checkpoint else trained_path(config)
    if result["teacher"] and not weights.is_file():
        raise UserError(
            f"the teacher's weights ({result['teacher']['weights']}) must be on this machine; "
            "copy them to the cache, or run the sweep here"
        )


def losses_by_row(metrics: dict[str, list[pd.DataFrame]]) -> NotebookFigure:
    """Weighted terms over the steps, summed over levels; one panel per row of the sweep, all on one logarithmic scale.

    Thin lines are seeds, thick ones their mean; black is the total. metrics: {label: one of read_metrics per seed}.
    """
    curves = {label: list(map(plots.by_step, frames)) for label, frames in metrics.items()}
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
        plots.draw_term_curves(ax, frames, styles)
        ratio = mean_loss_ratio(metrics[label])
        text = f"distillation ends at {ratio:.2g} x the task loss" if ratio else "task loss only"
        ax.set_title(f"{shortened(label)} ({plural(len(frames), 'seed')})\n{text}", fontsize=8.5)
    axes[0].set_yscale("log", nonpositive="mask")
    for ax in axes[::columns]:
        ax.set_ylabel("weight x sum (log scale)", fontsize=8)
    for ax in axes[max(len(curves) - columns, 0):len(curves)]:
        ax.set_xlabel("step", fontsize=8)
        ax.tick_params(labelbottom=True)
    plots.terms_legend(figure, styles)
    return figure


def mean_loss_ratio(frames: list[pd.DataFrame]) -> float:
    """Distillation loss over task loss, weighted, averaged over the last quarter of the logged steps and over seeds."""
    ratios = []
    for frame in frames:
        late = frame[(frame["name"] != "total") & (frame["step"] >= 0.75 * frame["step"].max())]
        task = late.loc[late["level"] == "all", "weighted"].sum()
        ratios.append(late.loc[late["level"] != "all", "weighted"].sum() / task if task else float("nan"))
    return sum(ratios) / len(ratios)


def masks_by_row(loaded: LoadedRows, index: int) -> NotebookFigure:
    """Image, and the weights M S and (1 - M) S on the finest level; rows with equal weights share a panel."""
    student = loaded.rows[0].student
    scene, _ = plots.scene_and_teacher_maps(student, None, *loaded.dataset[index])
    level, features = next(iter(scene.features.items()))
    panels: dict[tuple, tuple[str, torch.Tensor, list[str]]] = {}
    for row in loaded.rows:
        masks, suffixes = masks_of(row.config.fgd(), scene, features), plots.unused_suffixes(row.config)
        foreground = "foreground M S" if row.config.area != "both" else "all cells equal"
        for part, title, values in (("fg", foreground, masks.fg[0]), ("bg", "background (1 - M) S", masks.bg[0])):
            if not suffixes[part]:
                key = (title, values.numpy().tobytes())
                panels.setdefault(key, (title, values, []))[2].append(row.label)
    if not panels:
        raise UserError("no row that is shown uses FGD's masks")
    titles = [f"{title}, {level}\n{shortened('; '.join(labels), 36)}" for title, _, labels in panels.values()]
    maps = [values for _, values, _ in panels.values()]
    figure, axes = draw_maps(maps, titles, scene, "weight of a cell (log)", skip=1, width=1.75)
    height, width = scene.padded_size
    title = f"image {loaded.dataset.image_ids[index]}\n{height} x {width} pixels"
    plots.draw_image(axes[0], plots.padded_image(student, scene), scene.boxes[0], title)
    return figure


def attention_by_row(loaded: LoadedRows, index: int) -> NotebookFigure:
    """Spatial attention A^S of the finest level: the teacher's at each temperature in use, then each student's."""
    item = loaded.dataset[index]
    scene, maps = plots.scene_and_teacher_maps(loaded.rows[0].student, loaded.teacher(), *item)
    level = next(each for each in scene.features if maps is None or each in maps)
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
    figure, axes = plots.panel_grid(math.ceil(count / columns), columns, size[0] / size[1], [columns - 1], **options)
    axes, norm = axes.flatten(), plots.shared_norm(LogNorm(), maps)
    for ax, title, values in zip(axes[skip:], titles, maps, strict=False):
        drawn = plots.draw_map(ax, values, size, boxes, norm, "cividis", "")
        plots.set_title(ax, title)
    for ax in axes[count:]:
        ax.set_axis_off()
    plots.colour_bar(axes[columns - 1], drawn, label)
    return figure, axes


def detections_by_row(loaded: LoadedRows, index: int) -> NotebookFigure:
    found = {"teacher": loaded.teacher_detections(index)} if loaded.teacher() is not None else {}
    found |= {row.label: row.detections for row in loaded.rows}
    height, width = loaded.dataset.loaded_size(index)
    figure, axes = plots.image_panels(len(found), height / width)
    for ax, (label, boxes) in zip(axes, found.items(), strict=True):
        plots.draw_detections(ax, boxes, loaded.dataset, index, THRESHOLD, shortened(label, 44))
    plots.detections_legend(figure, THRESHOLD)
    return figure


def shortened(label: str, letters: int = 27) -> str:
    return textwrap.shorten(label, letters, placeholder=" ...")
