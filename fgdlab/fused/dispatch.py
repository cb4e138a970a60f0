"""Chooses the fused implementation of a device, or says why there is none."""
from functools import cache
from typing import Any

import torch
from torch import Tensor

from ..config import AXES, ROUNDINGS, FGDConfig, check_choice
from ..masks import FocalMasks, check_box_lists, focal_masks, with_background

DEVICES = ("cpu", "cuda")


def why_readable(config: FGDConfig, device: str, dtype: torch.dtype = torch.float32) -> str | None:
    """Why FusedFGDLoss runs the readable implementation on a device; None where it runs fused.

    Args:
        device: "cpu", "cuda", or the type of another device.
        dtype: of the maps; on CUDA each is checked by itself.
    """
    if device not in DEVICES:
        return f"the fused implementation exists for {' and '.join(DEVICES)} only, the maps are on {device}"
    if config.relation == "nonlocal" and config.lambda_:
        return "relation nonlocal compares every pixel with every other; it has no fused implementation"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the readable implementation by itself"
    if device == "cuda":
        from .cuda.self_check import failure

        return failure(device, dtype, config)
    return numba_missing()


@cache
def numba_missing() -> str | None:
    """Why the loops cannot be imported; None where they can. Takes half a second the first time, compiling some ten."""
    try:
        from .cpu import loops  # noqa: F401
    except ImportError as error:
        return f"the fused implementation needs numba on the CPU ({error}): pip install numba"
    return None


def maps_agree(maps: list[Tensor]) -> bool:
    """Do all maps agree in images, channels and device, and is none empty? Loops read by address."""
    return len({(*each.shape[:2], each.device, each.numel() > 0) for each in maps}) == 1 and maps[0].numel() > 0


def sums_of_levels(
    students: list[Tensor], teachers: list[Tensor], masks: list[FocalMasks] | None,
    relations: list[Any], config: FGDConfig,
) -> list[dict[str, Tensor]]:
    """:func:`fgdlab.fgd.term_sums` of all levels.

    Args:
        students, teachers: maps (N, C, H, W) per level that :func:`maps_agree` accepts.
        masks: one per level; None where no term needs them.
        relations: R per level; None without the global term.
    """
    if students[0].is_cuda:
        from .cuda.algebra import compiled_level_sums

        of_levels: list[Any] = [None] * len(students)
        levels = zip(students, teachers, masks or of_levels, relations, strict=True)
        return [compiled_level_sums(*level, config) for level in levels]
    from .cpu import autograd

    return autograd.sums_of_levels(students, teachers, masks, relations, config)


def rasterised_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str = "authors",
    axes: str = "xy", dtype: torch.dtype = torch.float32,
) -> FocalMasks:
    """``masks.focal_masks`` to the last bit, on the CPU drawn box by box; the arguments are the same."""
    check_choice("rounding", rounding, ROUNDINGS)
    check_choice("axes", axes, AXES)
    check_box_lists(boxes, frame_sizes)
    all_boxes = torch.cat(boxes).contiguous() if boxes else torch.zeros(0, 4)
    # torch rounds other types differently
    if all_boxes.device.type != "cpu" or not {all_boxes.dtype, dtype} <= {torch.float32, torch.float64}:
        return focal_masks(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype)
    from .cpu.masks import foreground

    table, first = [], 0  # per image: its first box, the end of its boxes, its frame
    for of_image, (height, width) in zip(boxes, frame_sizes, strict=True):
        table.append([first, first + len(of_image), height, width])
        first += len(of_image)
    fg = torch.empty(len(boxes), *grid_size, dtype=dtype)
    foreground(all_boxes, table, 1 if rounding == "authors" else 0, axes == "yx", fg)
    return with_background(fg)
