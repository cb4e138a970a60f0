"""The compiled loop that rasterises masks on the CPU. Importing this file needs numba."""
from functools import cache

import numpy as np
import torch
from torch import Tensor

from .loops import compile_cached
from .tiles import KINDS


def rasterise(boxes, table, extra, swap, fg):
    """S of eq. 3 on the foreground (N, H, W), box by box. Rounded after each step, as torch does.

    boxes (K, 4) of all images; table (N, 4): first box, end of the boxes, height and width of the frame per image;
    ``extra`` cells past the far edge; ``swap``: axes "yx".
    """
    pixel, weight_type = boxes.dtype.type, fg.dtype.type
    grid_h, grid_w = fg.shape[1:]
    fg[:] = 0
    for image in range(len(table)):
        scale_h, scale_w = pixel(grid_h), pixel(grid_w)
        frame_h, frame_w = pixel(table[image, 2]), pixel(table[image, 3])
        for box in range(table[image, 0], table[image, 1]):
            col0 = np.int64(np.floor(boxes[box, 0] / frame_w * scale_w))
            row0 = np.int64(np.floor(boxes[box, 1] / frame_h * scale_h))
            col1 = np.int64(np.ceil(boxes[box, 2] / frame_w * scale_w)) + extra
            row1 = np.int64(np.ceil(boxes[box, 3] / frame_h * scale_h)) + extra
            if swap:
                col0, row0, col1, row1 = row0, col0, row1, col1
            weight = weight_type(1) / weight_type(max((row1 - row0) * (col1 - col0), 1))  # also of a box that overhangs
            for row in range(max(row0, 0), min(row1, grid_h)):
                for col in range(max(col0, 0), min(col1, grid_w)):
                    if weight > fg[image, row, col]:  # the smallest box wins
                        fg[image, row, col] = weight


@cache
def compiled(boxes: torch.dtype, masks: torch.dtype):
    """For boxes and masks of float32 or float64; each step is rounded, nothing contracted."""
    return compile_cached(rasterise, f"{KINDS[boxes]}_{KINDS[masks]}", nogil=True, error_model="numpy")


def foreground(boxes: Tensor, table: list[list[int]], extra: int, swap: bool, fg: Tensor) -> None:
    rows = np.array(table, np.int64).reshape(-1, 4)
    compiled(boxes.dtype, fg.dtype)(boxes.detach().numpy(), rows, extra, swap, fg.numpy())
