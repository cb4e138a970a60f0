"""Exercises of notebook 02: the scale mask, what it gives to small objects, a box that reveals a transposed mask."""
import torch

from fgdlab.masks import box_weights, focal_masks

from .answers import Case, Verdict, check_answer

SQUARE = 64  # pixels: side of the image in transposition_test



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



def part_of_small(answer) -> Verdict:
    """answer(cells, small, grid_size, scale): part of the foreground's weight that lies on small boxes, in 0..1.

    cells: (K, 4) as in scale_mask; small: (K,) bool. A cell weighs S if ``scale``, else 1, and belongs to the smallest
    box that covers it.
    """
    apart = [[2, 1, 5, 4], [6, 2, 7, 4]], [False, True]
    inside = [[1, 1, 2, 3], [0, 0, 6, 3], [4, 2, 6, 6]], [True, False, False]
    over = [[5, 3, 9, 5], [0, 0, 2, 2]], [False, True]
    cases = [
        (*apart, True, 1 / 2, "a large and a small box under S", "each box sums to 1"),
        (*apart, False, 2 / 11, "the same, every cell weighs 1", "2 of 11 cells"),
        (*inside, True, 1 / (1 + 14 / 18 + 1), "a small box inside a large one",
         "a cell in two boxes belongs to the smaller one, in any order of the boxes"),
        (*inside, False, 2 / 24, "the same, every cell weighs 1", "count every foreground cell once"),
        (*over, True, 1 / (1 + 6 / 8), "a large box over the right edge",
         "S divides by the whole area, and only cells inside the grid have weight"),
    ]
    return check_answer(answer, [
        Case(name, (torch.tensor(cells), torch.tensor(small), (6, 8), scale), expected, hint=hint)
        for cells, small, scale, expected, name, hint in cases
    ])


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
