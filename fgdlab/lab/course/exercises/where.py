"""Exercises of notebook 02: boxes to cells, the scale mask, padding, and a box that reveals a transposed mask."""
import torch

from fgdlab.masks import box_weights, cell_ranges, focal_masks

from .answers import Case, Verdict, check_answer

SQUARE = 64  # pixels: side of the image in transposition_test


def box_cells(answer) -> Verdict:
    """answer(box, image_size, grid_size): half-open ranges (col0, row0, col1, row1) of the cells that a box touches."""
    cases = [
        ((16.0, 8.0, 40.0, 32.0), (48, 64), (6, 8), "edges on the lines of the grid",
         "a far edge on a line does not reach into the next cell"),
        ((50.0, 20.0, 54.0, 30.0), (48, 64), (6, 8), "a box narrower than a cell",
         "round the near edge down and the far edge up"),
        ((12.5, 3.0, 33.0, 47.0), (48, 64), (6, 8), "edges between the lines",
         "x belongs to columns and to the width, y to rows and to the height"),
        ((10.0, 20.0, 90.0, 25.0), (60, 100), (3, 10), "cells that are not square",
         "a cell is width / W pixels wide and height / H pixels tall"),
    ]

    def expected(box: tuple, image: tuple, grid: tuple) -> tuple:
        boxes = torch.tensor([box], dtype=torch.float64)
        return tuple(cell_ranges(boxes, image, grid, rounding="exact")[0].tolist())

    return check_answer(answer, [Case(name, args, expected(*args), hint=hint) for *args, name, hint in cases])


def scale_mask(answer) -> Verdict:
    """answer(cells, grid_size): S of eqs. 3 and 4, (H, W); the smallest box wins where boxes overlap.

    cells: (K, 4) int64 col0, row0, col1, row1. Every case has some background.
    """
    cases = [
        ([[2, 1, 5, 4], [6, 2, 7, 4]], (6, 8), "two boxes of 3 x 3 and 2 x 1 cells",
         "N_bg counts the cells outside every box"),
        ([[2, 1, 5, 4], [3, 2, 7, 5]], (6, 8), "two boxes that overlap, the smaller one first",
         "the smaller box wins, in any order"),
        ([[0, 0, 6, 3], [1, 1, 2, 3], [4, 2, 6, 6]], (7, 9), "a small box inside a large one, after it",
         "the smaller box wins, in any order"),
        ([[5, 3, 9, 5]], (6, 8), "a box that reaches over the right edge",
         "H_r W_r is the whole box, including the part outside the grid"),
    ]

    def expected(cells: torch.Tensor, grid: tuple) -> torch.Tensor:
        weights = box_weights(cells, grid)
        outside = weights == 0
        return torch.where(outside, 1 / outside.sum(), weights)

    return check_answer(answer, [
        Case(name, args, expected(*args), hint=hint)
        for cells, grid, name, hint in cases for args in [(torch.tensor(cells), grid)]
    ])


def stretched_box(answer) -> Verdict:
    """answer(box, image_size, padded_size): where a box lands in the padded image if divided by the unpadded size.

    Sizes are (height, width) in pixels; the map spans the padded size.
    """
    cases = [
        ((24.0, 16.0, 40.0, 32.0), (48, 40), (48, 64), "padding on the right",
         "what fraction of the image width is x1? take that fraction of the padded width"),
        ((10.0, 20.0, 30.0, 60.0), (96, 128), (160, 128), "padding below", "each side has its own factor"),
        ((5.0, 6.0, 70.0, 80.0), (104, 136), (128, 160), "padding on both sides",
         "x goes with the width, y with the height"),
    ]

    def expected(box: tuple, image: tuple, padded: tuple) -> tuple:
        return tuple(edge * padded[1 - i % 2] / image[1 - i % 2] for i, edge in enumerate(box))

    return check_answer(answer, [Case(name, args, expected(*args), hint=hint) for *args, name, hint in cases])


def transposition_test(answer) -> Verdict:
    """answer(): a box x1, y1, x2, y2 in a 64 x 64 image whose mask at stride 8 shares no cell with its transpose."""
    expected = {
        "the box lies within 64 x 64 pixels": True, "x1 < x2 and y1 < y2": True,
        "cells that mask and transposed mask share": 0,
    }
    hint = "a box on the diagonal stays where it is when x and y are exchanged"
    return check_answer(lambda: transposition_facts(answer()), [Case("your box", (), expected, hint=hint)])


def transposition_facts(box) -> dict | None:
    if box is None:
        return None
    x1, y1, x2, y2 = (float(edge) for edge in box)
    right, transposed = (
        focal_masks([torch.tensor([edges])], [(SQUARE, SQUARE)], (SQUARE // 8, SQUARE // 8), rounding="exact").binary[0]
        for edges in ((x1, y1, x2, y2), (y1, x1, y2, x2))
    )
    return {
        "the box lies within 64 x 64 pixels": min(x1, y1) >= 0 and max(x2, y2) <= SQUARE,
        "x1 < x2 and y1 < y2": x1 < x2 and y1 < y2,
        "cells that mask and transposed mask share": int((right * transposed).sum()),
    }
