"""The masks of eqs. 2-4 painted box after box, where masks.py asks every cell of every box."""
from typing import NamedTuple

import torch
from torch import Tensor

from ..config import AXES, ROUNDINGS
from ..masks import FocalMasks, focal_masks
from .cuda.reductions import KINDS


class PyramidMasks(NamedTuple):
    """Masks of all levels side by side: ``fg`` and ``bg`` are (N, cells of all levels), ``grids`` the levels' (H, W)."""

    fg: Tensor
    bg: Tensor
    grids: list[tuple[int, int]]

    def levels(self) -> list[FocalMasks]:
        """The masks of each level, (N, H, W)."""
        cells = [grid_h * grid_w for grid_h, grid_w in self.grids]
        parts = zip(self.fg.split(cells, dim=1), self.bg.split(cells, dim=1), self.grids, strict=True)
        return [FocalMasks(fg=fg.unflatten(1, grid), bg=bg.unflatten(1, grid)) for fg, bg, grid in parts]


def side_by_side(masks: list[FocalMasks]) -> PyramidMasks:
    """Masks of several levels as one."""
    fg, bg = (torch.cat([each.flatten(1) for each in rows], dim=1) for rows in ([each.fg for each in masks], [each.bg for each in masks]))
    return PyramidMasks(fg, bg, [tuple(each.fg.shape[1:]) for each in masks])


def painted_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str = "authors", axes: str = "xy",
    dtype: torch.dtype = torch.float32,
) -> FocalMasks:
    """``masks.focal_masks``, to the last bit; the arguments are the same."""
    return painted_levels(boxes, frame_sizes, [grid_size], rounding=rounding, axes=axes, dtype=dtype).levels()[0]


def painted_levels(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grids: list[tuple[int, int]], *, rounding: str, axes: str, dtype: torch.dtype,
) -> PyramidMasks:
    """:func:`painted_masks` of the same boxes on the grids of several levels."""
    check_masks(boxes, frame_sizes, rounding, axes)
    if boxes and boxes[0].is_cuda:
        from .cuda.masks import painted_on_card

        return side_by_side([painted_on_card(boxes, frame_sizes, grid, rounding=rounding, axes=axes, dtype=dtype) for grid in grids])
    every = torch.cat(boxes).contiguous() if boxes else torch.zeros(0, 4)
    if every.dtype not in KINDS or dtype not in KINDS:               # torch rounds other numbers in ways of its own
        return side_by_side([focal_masks(boxes, frame_sizes, grid, rounding=rounding, axes=axes, dtype=dtype) for grid in grids])
    from .cpu.masks import painted

    table = [(len(of_image), *size) for of_image, size in zip(boxes, frame_sizes, strict=True)]
    fg, bg = painted(every.detach().numpy(), table, grids, 1 if rounding == "authors" else 0, axes == "yx", KINDS[every.dtype], KINDS[dtype])
    return PyramidMasks(torch.from_numpy(fg), torch.from_numpy(bg), grids)


def check_masks(boxes: list[Tensor], frame_sizes: list[tuple[int, int]], rounding: str, axes: str) -> None:
    for name, value, allowed in (("axes", axes, AXES), ("rounding", rounding, ROUNDINGS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if len(boxes) != len(frame_sizes):
        raise ValueError(f"boxes and frame_sizes must have one entry an image, got {len(boxes)} and {len(frame_sizes)}")
    for of_image in boxes:
        if of_image.shape[1:] != (4,):
            raise ValueError(f"boxes must have shape (K, 4), got {tuple(of_image.shape)}; an image without boxes has shape (0, 4)")
