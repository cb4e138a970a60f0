"""The compiled loop that paints masks on the CPU. Importing this file needs numba; only paint.py does, when first used."""
from functools import cache

import numpy as np

from .loops import kept


def paint(boxes, table, extra, swap, fg, bg):
    """``masks.focal_masks`` into ``fg`` and ``bg`` (N, H, W): box after box where all cells ask all boxes. Rounded step by step as torch does.

    boxes (K, 4) of all images; table (N, 3): an image's boxes, height and width of its frame; ``extra`` cells past the far edge; ``swap``: axes "yx".
    """
    images, grid_h, grid_w = fg.shape
    pixel, weigh, box = boxes.dtype.type, fg.dtype.type, 0
    for image in range(images):
        frame_h, frame_w = pixel(table[image, 1]), pixel(table[image, 2])
        fg[image] = 0
        for _ in range(table[image, 0]):
            col0, row0 = np.int64(np.floor(boxes[box, 0] / frame_w * pixel(grid_w))), np.int64(np.floor(boxes[box, 1] / frame_h * pixel(grid_h)))
            col1, row1 = np.int64(np.ceil(boxes[box, 2] / frame_w * pixel(grid_w))), np.int64(np.ceil(boxes[box, 3] / frame_h * pixel(grid_h)))
            col1, row1, box = col1 + extra, row1 + extra, box + 1
            if swap:
                col0, row0, col1, row1 = row0, col0, row1, col1
            weight = weigh(1) / weigh(max((row1 - row0) * (col1 - col0), 1))     # S of eq. 3, also of a box that overhangs
            col0, col1 = max(col0, 0), max(min(col1, grid_w), 0)
            for row in range(max(row0, 0), min(row1, grid_h)):
                line = fg[image, row, col0:col1]
                for i in range(len(line)):
                    line[i] = weight if weight > line[i] else line[i]            # the smallest box wins
        outside = 0
        for row in range(grid_h):
            for col in range(grid_w):
                outside += fg[image, row, col] == 0
        share = weigh(1) / weigh(max(outside, 1))                    # 1 / N_bg of eq. 4
        for row in range(grid_h):
            for col in range(grid_w):
                bg[image, row, col] = share if fg[image, row, col] == 0 else weigh(0)


def painted(boxes: np.ndarray, table: list[tuple[int, int, int]], grids: list[tuple[int, int]], extra: int, swap: bool, kind: str, kind_of_masks: str) -> list:
    """(fg, bg) of every grid; the kinds are those of the boxes and of the masks."""
    loop, images = compiled(kind, kind_of_masks), np.array(table, np.int64).reshape(-1, 3)
    found = [(np.empty((len(table), *grid), kind_of_masks), np.empty((len(table), *grid), kind_of_masks)) for grid in grids]
    for fg, bg in found:
        loop(boxes, images, extra, swap, fg, bg)
    return found


@cache
def compiled(boxes: str, masks: str):
    """``paint`` for boxes and masks of "float32" or "float64": each step rounded, nothing contracted."""
    return kept(paint, f"{boxes}_{masks}", nogil=True, error_model="numpy")
