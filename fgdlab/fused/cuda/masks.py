"""Rasterises masks on CUDA: every cell compares itself with the boxes of its own image."""
import torch
import triton
from torch import Tensor

from . import kernels

BOXES, CELLS = 16, 128  # of a step; powers of 2


def foreground(boxes: Tensor, table: list[list[int]], extra: int, swap: bool, fg: Tensor) -> None:
    """Fill ``fg`` (N, H, W) with S of eq. 3 on the foreground; see ``kernels.rasterise``."""
    images, grid_h, grid_w = fg.shape
    pinned = torch.tensor(table, dtype=torch.int32, pin_memory=boxes.is_cuda)  # the host need not wait for the copy
    with torch.cuda.device_of(boxes):
        kernels.rasterise[(triton.cdiv(grid_h * grid_w, CELLS), images)](
            boxes, pinned.to(boxes.device, non_blocking=True), fg, grid_h, grid_w,
            BOXES=BOXES, CELLS=CELLS, EXTRA=extra, SWAP=swap)
