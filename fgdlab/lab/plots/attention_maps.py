"""Masks and attention maps of one image, one row per pyramid level."""
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from matplotlib.colors import CenteredNorm, LogNorm
from torch import Tensor, nn

from fgdlab.attention import attention
from fgdlab.fgd import masks_of
from fgdlab.scene import Scene, level_names, look

from ..config import RunConfig
from .map_panels import NotebookFigure, draw_image, draw_maps, panel_grid


def masks_and_attention(
    student: nn.Module, teacher: nn.Module | None, dataset, index: int, config: RunConfig,
) -> NotebookFigure:
    """One row per level: the image, M S, (1 - M) S, A^S of teacher and student, and their difference.

    Within a row the masks share a logarithmic scale (zeros grey), the attention maps a linear one.

    Args:
        student, teacher: detectors (fgdlab/scene.py) on one device; without a teacher its panels are left out.
        config: sets masks and temperature. Titles of maps that the run's loss does not use end in ", unused".
    """
    scene, teacher_maps = scene_and_teacher_maps(student, teacher, *dataset[index])
    image, boxes, frame = padded_image(student, scene), scene.boxes[0], scene.padded_size
    suffixes = unused_suffixes(config)
    levels = [level for level in scene.features if teacher_maps is None or level in teacher_maps]
    columns, bars_after = (4, (2, 3)) if teacher_maps is None else (6, (2, 4, 5))
    figure, axes = panel_grid(len(levels), columns, frame[0] / frame[1], bars_after)

    for level, row in zip(levels, axes, strict=True):
        features = scene.features[level]
        draw_image(row[0], image, boxes, f"image {dataset.image_ids[index]}\n{frame[0]} x {frame[1]} pixels")
        row[0].set_ylabel(f"{level}, stride {round(frame[0] / features.shape[-2])}", fontsize=9, labelpad=4)
        masks = masks_of(config.fgd(), scene, features)
        names = [f"foreground M S{suffixes['fg']}", f"background (1 - M) S{suffixes['bg']}"]
        shown = dict(zip(names, (masks.fg[0], masks.bg[0]), strict=True))
        draw_maps(row[1:3], shown, frame, boxes, "weight of a cell (log)", LogNorm())
        maps = {"student": features} if teacher_maps is None else {"teacher": teacher_maps[level], "student": features}
        spatial = {name: attention(each, config.temperature).spatial[0] for name, each in maps.items()}
        titled = {f"$A^S$ {name}{suffixes[name]}": values for name, values in spatial.items()}
        draw_maps(row[3:3 + len(maps)], titled, frame, boxes, "attention (1 = average)")
        if teacher_maps is not None:
            difference = {"$A^S$ teacher - student": spatial["teacher"] - spatial["student"]}
            draw_maps(row[5:], difference, frame, boxes, "purple: teacher has more", CenteredNorm(), "PuOr")
    return figure


@contextmanager
def eval_mode(*detectors: nn.Module) -> Iterator[None]:
    """Detectors in eval mode; the mode of every module is restored."""
    modules = [module for detector in detectors for module in detector.modules() if module.training]
    try:
        for module in modules:
            module.eval()
        yield
    finally:
        for module in modules:
            module.training = True


@torch.no_grad()
def scene_and_teacher_maps(
    student: nn.Module, teacher: nn.Module | None, image: Tensor, target: dict,
) -> tuple[Scene, dict[str, Tensor] | None]:
    """The student's scene of one image, and the teacher's maps of the same pixels, in eval mode."""
    device = next(student.parameters()).device
    target = {name: value.to(device) for name, value in target.items()}
    with eval_mode(*(each for each in (student, teacher) if each is not None)):
        scene = look(student, [image.to(device)], [target])
        maps = None if teacher is None else level_names(teacher.backbone(scene.pixels), scene.padded_size[0])
    return scene, maps


def padded_image(detector: nn.Module, scene: Scene) -> Tensor:
    """The padded image that a detector's maps span, (3, H_pad, W_pad) in 0..1; padding is white."""
    transform = detector.transform
    mean, std = (scene.pixels.new_tensor(each)[:, None, None] for each in (transform.image_mean, transform.image_std))
    image = scene.pixels[0] * std + mean
    height, width = scene.image_sizes[0]
    image[:, height:], image[:, :, width:] = 1.0, 1.0
    return image


def unused_suffixes(config: RunConfig) -> dict[str, str]:
    """Endings of panel titles: ", unused" for what the run's loss does not use, else ""."""
    terms = (config.fgd().weights() if config.method == "fgd" else {}).keys()
    used = {
        "fg": terms & {"fg", "both"}, "bg": "bg" in terms,
        "teacher": config.spatial_attention and terms & {"fg", "bg", "both", "attention"},
        "student": config.spatial_attention and "attention" in terms,
    }
    return {name: "" if in_loss else ", unused" for name, in_loss in used.items()}
