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
from .map_panels import NotebookFigure, colour_bar, draw_image, draw_map, panel_grid, shared_norm


def masks_and_attention(
    student: nn.Module, teacher: nn.Module | None, dataset, index: int, config: RunConfig,
) -> NotebookFigure:
    """One row per level: the image, M S, (1 - M) S, A^S of teacher and student, and their difference.

    Within a row the masks share a logarithmic scale (zeros grey), the attention maps a linear one.

    Args:
        student, teacher: detectors (see fgdlab/scene.py) on one device. Without a teacher its panels are left out.
        dataset: as fgdlab/lab/datasets/dataset.py opens it.
        index: of the image in ``dataset``.
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
        norm = shared_norm(LogNorm(), (masks.fg, masks.bg))
        draw_map(row[1], masks.fg[0], frame, boxes, norm, "cividis", "foreground M S" + suffixes["fg"])
        drawn = draw_map(row[2], masks.bg[0], frame, boxes, norm, "cividis", "background (1 - M) S" + suffixes["bg"])
        colour_bar(row[2], drawn, "weight of a cell (log)")

        maps = {"student": features} if teacher_maps is None else {"teacher": teacher_maps[level], "student": features}
        spatial = {network: attention(each, config.temperature).spatial[0] for network, each in maps.items()}
        norm = shared_norm(None, spatial.values())
        for ax, (network, values) in zip(row[3:], spatial.items(), strict=False):
            drawn = draw_map(ax, values, frame, boxes, norm, "cividis", f"$A^S$ {network}{suffixes[network]}")
        colour_bar(ax, drawn, "attention (1 = average)")
        if teacher_maps is not None:
            difference, name = spatial["teacher"] - spatial["student"], "$A^S$ teacher - student"
            drawn = draw_map(row[5], difference, frame, boxes, CenteredNorm(), "PuOr", name)
            colour_bar(row[5], drawn, "purple: teacher has more")
    return figure


@contextmanager
def eval_mode(*detectors: nn.Module) -> Iterator[None]:
    """Detectors in eval mode; the mode of every module is restored."""
    modes = [(module, module.training) for detector in detectors for module in detector.modules()]
    try:
        for detector in detectors:
            detector.eval()
        yield
    finally:
        for module, training in modes:
            module.training = training


@torch.no_grad()
def scene_and_teacher_maps(
    student: nn.Module, teacher: nn.Module | None, image: Tensor, target: dict,
) -> tuple[Scene, dict[str, Tensor] | None]:
    """The student's scene of one image, and the teacher's maps of the same pixels, in eval mode."""
    device = next(student.parameters()).device
    target = {name: value.to(device) for name, value in target.items()}
    with eval_mode(*([student] if teacher is None else [student, teacher])):
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
