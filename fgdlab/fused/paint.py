"""The masks of eqs. 2-4 painted box after box, where masks.py asks every cell of every box."""
import torch
from torch import Tensor

from ..masks import AXES, ROUNDINGS, FocalMasks, focal_masks

PAINTED = {torch.float32: "float32", torch.float64: "float64"}


def painted_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str = "authors", axes: str = "xy",
    dtype: torch.dtype = torch.float32,
) -> FocalMasks:
    """``masks.focal_masks``, to the last bit; the arguments are the same."""
    return painted_levels(boxes, frame_sizes, [grid_size], rounding=rounding, axes=axes, dtype=dtype)[0]


def painted_levels(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_sizes: list[tuple[int, int]], *, rounding: str, axes: str, dtype: torch.dtype,
) -> list[FocalMasks]:
    """:func:`painted_masks` of the same boxes on the grids of several levels."""
    check_masks(boxes, frame_sizes, rounding, axes)
    if boxes and boxes[0].is_cuda:
        from .paint_card import painted_on_card

        return [painted_on_card(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype) for grid_size in grid_sizes]
    every = torch.cat(boxes).contiguous() if boxes else torch.zeros(0, 4)
    if every.dtype not in PAINTED or dtype not in PAINTED:           # torch rounds other numbers in ways of its own
        return [focal_masks(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype) for grid_size in grid_sizes]
    from .paint_loop import painted

    kinds, table = (PAINTED[every.dtype], PAINTED[dtype]), [(len(of_image), *size) for of_image, size in zip(boxes, frame_sizes, strict=True)]
    found = painted(every.detach().numpy(), table, grid_sizes, 1 if rounding == "authors" else 0, axes == "yx", *kinds)
    return [FocalMasks(fg=torch.from_numpy(fg), bg=torch.from_numpy(bg)) for fg, bg in found]


def check_masks(boxes: list[Tensor], frame_sizes: list[tuple[int, int]], rounding: str, axes: str) -> None:
    for name, value, allowed in (("axes", axes, AXES), ("rounding", rounding, ROUNDINGS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if len(boxes) != len(frame_sizes):
        raise ValueError(f"boxes and frame_sizes must have one entry an image, got {len(boxes)} and {len(frame_sizes)}")
    for of_image in boxes:
        if of_image.shape[1:] != (4,):
            raise ValueError(f"boxes must have shape (K, 4), got {tuple(of_image.shape)}; an image without boxes has shape (0, 4)")
