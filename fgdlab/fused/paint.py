"""The masks of eqs. 2-4 painted box after box, where masks.py asks every cell of every box."""
import torch
from torch import Tensor

from ..masks import AXES, ROUNDINGS, FocalMasks, focal_masks

PAINTED = (torch.float32, torch.float64)


def painted_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str = "authors", axes: str = "xy",
    dtype: torch.dtype = torch.float32,
) -> FocalMasks:
    """``masks.focal_masks``, to the last bit; the arguments are the same."""
    check_masks(boxes, frame_sizes, rounding, axes)
    if boxes and boxes[0].is_cuda:
        from .paint_card import painted_on_card

        return painted_on_card(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype)
    every = torch.cat(boxes).contiguous() if boxes else torch.zeros(0, 4)
    if every.dtype not in PAINTED or dtype not in PAINTED:           # torch rounds other numbers in ways of its own
        return focal_masks(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype)
    from .paint_loop import compiled

    fg, bg = torch.empty(2, len(boxes), *grid_size, dtype=dtype)
    paint = compiled(*(str(each).removeprefix("torch.") for each in (every.dtype, dtype)))
    table = torch.tensor([(len(of_image), *size) for of_image, size in zip(boxes, frame_sizes, strict=True)], dtype=torch.int64).view(-1, 3)
    paint(every.detach().numpy(), table.numpy(), 1 if rounding == "authors" else 0, axes == "yx", fg.numpy(), bg.numpy())
    return FocalMasks(fg=fg, bg=bg)


def check_masks(boxes: list[Tensor], frame_sizes: list[tuple[int, int]], rounding: str, axes: str) -> None:
    for name, value, allowed in (("axes", axes, AXES), ("rounding", rounding, ROUNDINGS)):
        if value not in allowed:
            raise ValueError(f"{name} must be one of {', '.join(allowed)}, got {value!r}")
    if len(boxes) != len(frame_sizes):
        raise ValueError(f"boxes and frame_sizes must have one entry an image, got {len(boxes)} and {len(frame_sizes)}")
    for of_image in boxes:
        if of_image.ndim != 2 or of_image.shape[-1] != 4:
            raise ValueError(f"boxes must have shape (K, 4), got {tuple(of_image.shape)}; an image without boxes has shape (0, 4)")
