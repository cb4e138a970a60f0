"""Everything that draws a run, by one name. Each function returns a figure that shows itself as the last expression of a cell.

    maps, image, boxes                     --show_maps-->            any weights or attention beside the image      panels.py
    student, teacher, one image            --masks_and_attention-->  a row a level: masks, attentions, their difference    this file
    metrics.jsonl --read_metrics-->        --loss_terms-->           terms over steps, shares by level              loss_figure.py
    detections.json, images                --detections_figure-->    truth and detections                           found_figure.py
"""
import torch
from matplotlib.colors import CenteredNorm, LogNorm
from torch import Tensor, nn

from fgdlab.attention import attention
from fgdlab.fgd import FGDLoss
from fgdlab.scene import Scene, level_names, look

from ..config import RunConfig
from .map_panels import (
    Picture,
    colour_bar,
    draw_image,
    draw_map,
    panels,
    shared,
)


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
