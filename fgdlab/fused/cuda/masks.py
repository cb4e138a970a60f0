"""The masks of eqs. 2-4 on a CUDA card: every cell asks the boxes of its own image, which stand in one list for all images."""
import torch
import triton
from torch import Tensor

from ...masks import FocalMasks
from . import kernels

BOXES, CELLS = 16, 128


def painted_on_card(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str, axes: str, dtype: torch.dtype,
) -> FocalMasks:
    """``masks.focal_masks``; the arguments are the same, and are right."""
    (grid_h, grid_w), every = grid_size, torch.cat(boxes).contiguous()
    fg = torch.empty(len(boxes), grid_h, grid_w, dtype=dtype, device=every.device)
    grid = (triton.cdiv(grid_h * grid_w, CELLS), len(boxes))
    with torch.cuda.device_of(every):
        kernels.paint[grid](
            every, table_of(boxes, frame_sizes).to(every.device, non_blocking=True), fg, grid_h, grid_w, BOXES=BOXES, CELLS=CELLS,
            EXTRA=1 if rounding == "authors" else 0, SWAP=axes == "yx",
        )
    background = (fg == 0).to(dtype)                                 # 1 - M
    num_bg = background.sum(dim=(1, 2), keepdim=True)                # N_bg of eq. 4, (N, 1, 1)
    return FocalMasks(fg=fg, bg=background / num_bg.clamp(min=1))


def table_of(boxes: list[Tensor], frame_sizes: list[tuple[int, int]]) -> Tensor:
    """(N, 4): an image's first box in the list, the next image's first, height and width of the frame. In memory that a card reads by itself."""
    lines, first = [], 0
    for of_image, (height, width) in zip(boxes, frame_sizes, strict=True):
        lines.append([first, first + len(of_image), height, width])
        first += len(of_image)
    return torch.tensor(lines, dtype=torch.int32, pin_memory=boxes[0].is_cuda)
