"""Checkers of notebook 02: boxes to cells, the scale mask, padding, and a box that betrays a transposed mask."""
from collections.abc import Callable

import torch
from torch import Tensor

from fgdlab.masks import box_weights, cell_ranges, focal_masks

from .judge import Case, Verdict, judge

SQUARE = 64                                                          # pixels: the image of transposition_test, at stride 8


def box_cells(answer: Callable) -> Verdict:
    """``answer(box, image_size, grid_size) -> (col0, row0, col1, row1)``: half-open ranges of the cells that a box touches.

    box: four floats x1, y1, x2, y2. image_size: (height, width) in pixels. grid_size: (H, W) in cells.
    """
    cases = [
        ((16.0, 8.0, 40.0, 32.0), (48, 64), (6, 8), "edges on the lines of the grid", "a far edge that lies on a line belongs to no further cell"),
        ((50.0, 20.0, 54.0, 30.0), (48, 64), (6, 8), "a box narrower than a cell", "the near edge goes down to a whole cell, the far edge up"),
        ((12.5, 3.0, 33.0, 47.0), (48, 64), (6, 8), "edges between the lines", "x belongs to columns and to the width, y to rows and to the height"),
        ((10.0, 20.0, 90.0, 25.0), (60, 100), (3, 10), "cells that are not square", "a cell is width / W pixels wide and height / H pixels tall"),
    ]
    return judge(answer, [Case(name, (box, image, grid), expected_cells(box, image, grid), hint=hint) for box, image, grid, name, hint in cases])


def expected_cells(box: tuple, image_size: tuple[int, int], grid_size: tuple[int, int]) -> tuple:
    return tuple(cell_ranges(torch.tensor([box], dtype=torch.float64), image_size, grid_size, rounding="exact")[0].tolist())


def scale_mask(answer: Callable) -> Verdict:
    """``answer(cells, grid_size) -> (H, W)``: S of eq. 3, 1 / (H_r W_r) in box r, the smallest box where they overlap, 1 / N_bg elsewhere.

    cells: (K, 4) int64 col0, row0, col1, row1. There is always some background.
    """
    cases = [
        ([[2, 1, 5, 4], [6, 2, 7, 4]], (6, 8), "two boxes of 3 x 3 and 2 x 1 cells", "N_bg counts the cells outside every box"),
        ([[2, 1, 5, 4], [3, 2, 7, 5]], (6, 8), "two boxes that overlap, the smaller one first", "the smaller box wins, whatever the order"),
        ([[0, 0, 6, 3], [1, 1, 2, 3], [4, 2, 6, 6]], (7, 9), "a small box in a large one, after it", "the smaller box wins, whatever the order"),
        ([[5, 3, 9, 5]], (6, 8), "a box that overhangs the right edge", "H_r W_r is the whole box, also the part beyond the grid"),
    ]
    given = [(torch.tensor(cells), grid, name, hint) for cells, grid, name, hint in cases]
    return judge(answer, [Case(name, (cells, grid), expected_scale(cells, grid), hint=hint) for cells, grid, name, hint in given])


def expected_scale(cells: Tensor, grid_size: tuple[int, int]) -> Tensor:
    weights = box_weights(cells, grid_size)
    outside = weights == 0
    return torch.where(outside, 1 / outside.sum(), weights)


def stretched_box(answer: Callable) -> Verdict:
    """``answer(box, image_size, canvas_size) -> (x1, y1, x2, y2)``: where on the canvas a box lands that is divided by the unpadded size.

    Sizes are (height, width) in pixels; the map spans the canvas.
    """
    def landed(box: tuple, image: tuple[int, int], canvas: tuple[int, int]) -> tuple:
        return tuple(edge * canvas[1 - i % 2] / image[1 - i % 2] for i, edge in enumerate(box))

    cases = [
        ((24.0, 16.0, 40.0, 32.0), (48, 40), (48, 64), "padding on the right", "what share of the width is x1? take that share of the canvas"),
        ((10.0, 20.0, 30.0, 60.0), (96, 128), (160, 128), "padding below", "the two sides have factors of their own"),
        ((5.0, 6.0, 70.0, 80.0), (104, 136), (128, 160), "padding on both sides", "x goes with the width, y with the height"),
    ]
    return judge(answer, [Case(name, (box, image, canvas), landed(box, image, canvas), hint=hint) for box, image, canvas, name, hint in cases])


def transposition_test(answer: Callable) -> Verdict:
    """``answer() -> (x1, y1, x2, y2)``: a box in an image of 64 x 64 pixels whose mask at stride 8 shares no cell with its transposed mask."""
    facts = {"the box lies within 64 x 64 pixels": True, "x1 < x2 and y1 < y2": True, "cells that mask and transposed mask share": 0}
    hint = "a box on the diagonal stays where it is when x and y change places"
    return judge(lambda: transposition_facts(answer()), [Case("your box", (), facts, hint=hint)])


def transposition_facts(box) -> dict:
    if box is None:
        return None
    x1, y1, x2, y2 = (float(edge) for edge in box)
    grid = (SQUARE // 8, SQUARE // 8)
    right, wrong = (
        focal_masks([torch.tensor([edges])], [(SQUARE, SQUARE)], grid, rounding="exact").binary[0] for edges in ((x1, y1, x2, y2), (y1, x1, y2, x2))
    )
    return {
        "the box lies within 64 x 64 pixels": min(x1, y1) >= 0 and max(x2, y2) <= SQUARE, "x1 < x2 and y1 < y2": x1 < x2 and y1 < y2,
        "cells that mask and transposed mask share": int((right * wrong).sum()),
    }
