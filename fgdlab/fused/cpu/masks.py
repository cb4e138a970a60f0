"""The compiled loop that paints masks on the CPU. Importing this file needs numba; only paint.py does, when first used."""
from functools import cache

import numpy as np

from .loops import kept


def paint(boxes, table, grids, extra, swap, fg, bg):
    """``masks.focal_masks`` of several levels into ``fg`` and ``bg`` (N, cells of all levels side by side): box after box where all cells ask all boxes.
    Rounded step by step as torch does.

    boxes (K, 4) of all images; table (N, 3): an image's boxes, height and width of its frame; grids (L, 2): height and width of a level in cells;
    ``extra`` cells past the far edge; ``swap``: axes "yx".
    """
    pixel, weigh, first = boxes.dtype.type, fg.dtype.type, 0
    for image in range(len(table)):
        count, frame_h, frame_w = table[image, 0], pixel(table[image, 1]), pixel(table[image, 2])
        fg[image], column = 0, 0
        for level in range(len(grids)):
            grid_h, grid_w = grids[level]
            for box in range(first, first + count):
                col0, row0 = np.int64(np.floor(boxes[box, 0] / frame_w * pixel(grid_w))), np.int64(np.floor(boxes[box, 1] / frame_h * pixel(grid_h)))
                col1, row1 = np.int64(np.ceil(boxes[box, 2] / frame_w * pixel(grid_w))), np.int64(np.ceil(boxes[box, 3] / frame_h * pixel(grid_h)))
                col1, row1 = col1 + extra, row1 + extra
                if swap:
                    col0, row0, col1, row1 = row0, col0, row1, col1
                weight = weigh(1) / weigh(max((row1 - row0) * (col1 - col0), 1))         # S of eq. 3, also of a box that overhangs
                col0, col1 = max(col0, 0), max(min(col1, grid_w), 0)
                for row in range(max(row0, 0), min(row1, grid_h)):
                    line = fg[image, column + row * grid_w + col0:column + row * grid_w + col1]
                    for i in range(len(line)):
                        line[i] = weight if weight > line[i] else line[i]        # the smallest box wins
            cells = grid_h * grid_w
            inside, rest = fg[image, column:column + cells], bg[image, column:column + cells]
            outside = 0
            for i in range(cells):
                outside += inside[i] == 0
            share = weigh(1) / weigh(max(outside, 1))                # 1 / N_bg of eq. 4
            for i in range(cells):
                rest[i] = share if inside[i] == 0 else weigh(0)
            column += cells
        first += count


def painted(boxes: np.ndarray, table: list[tuple[int, int, int]], grids: list[tuple[int, int]], extra: int, swap: bool, kind: str, kind_of_masks: str) -> list:
    """(fg, bg) of all levels; the kinds are those of the boxes and of the masks."""
    size = len(table), sum(grid_h * grid_w for grid_h, grid_w in grids)
    fg, bg = np.empty(size, kind_of_masks), np.empty(size, kind_of_masks)
    compiled(kind, kind_of_masks)(boxes, np.array(table, np.int64).reshape(-1, 3), np.array(grids, np.int64), extra, swap, fg, bg)
    return fg, bg


@cache
def compiled(boxes: str, masks: str):
    """``paint`` for boxes and masks of "float32" or "float64": each step rounded, nothing contracted."""
    return kept(paint, f"{boxes}_{masks}", nogil=True, error_model="numpy")
