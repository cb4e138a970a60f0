"""Chooses the fused implementation of a device, or says why there is none."""
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor

from ..config import FGDConfig
from ..fgd import MASKED, masks_of
from ..masks import focal_masks
from ..scene import Scene

DEVICES = ("cpu", "cuda")
TRIED = {"cuda"}  # where the first maps of a training decide


def why_readable(
    config: FGDConfig, device: str, dtype: torch.dtype = torch.float32,
    layout: torch.memory_format = torch.channels_last,
) -> str | None:
    """Why FusedFGDLoss runs the readable implementation on a device; None where it runs fused.

    Args:
        device: "cpu", "cuda", or the type of another device.
        dtype, layout: of the maps; on CUDA each is checked by itself.
    """
    if device not in DEVICES:
        return f"the fused implementation exists for {' and '.join(DEVICES)} only, the maps are on {device}"
    if config.relation == "nonlocal" and config.lambda_:
        return "relation nonlocal compares every pixel with every other; it has no fused implementation"
    if torch.compiler.is_compiling():
        return "torch.compile fuses the readable implementation by itself"
    if device == "cuda":
        from .cuda.self_check import failure

        return failure(device, dtype, layout, config)
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
    students: list[Tensor], teachers: list[Tensor], scene: Scene, relations: list[Any], config: FGDConfig,
) -> list[dict[str, Tensor]]:
    """:func:`fgdlab.fgd.term_sums` of all levels, from maps that :func:`maps_agree` accepts and R or None per level."""
    if students[0].is_cuda:
        from .cuda import algebra

        return algebra.sums_of_levels(students, teachers, scene, relations, config)
    from .cpu import autograd

    masks = None
    if config.weights().keys() & MASKED:
        masks = [masks_of(config, scene, each, rasterised_masks) for each in teachers]
    return autograd.sums_of_levels(students, teachers, masks, relations, config)


def painted_weights(cells: Tensor, grid_size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """``masks.box_weights`` of (N, K, 4) to the last bit, drawn box by box, the smallest last."""
    fg, sides = torch.zeros(len(cells), *grid_size, dtype=dtype), cells[..., 2:] - cells[..., :2]
    count, order = sides.prod(-1).clamp(min=1).sort(descending=True)
    ranges = cells.clamp(min=0).gather(1, order[..., None].expand(cells.shape)).tolist()
    for canvas, boxes, weights in zip(fg.numpy(), ranges, (1 / count.to(dtype)).tolist(), strict=True):
        for (col0, row0, col1, row1), weight in zip(boxes, weights, strict=True):
            canvas[row0:row1, col0:col1] = weight
    return fg


rasterised_masks = partial(focal_masks, weights_of=painted_weights)
