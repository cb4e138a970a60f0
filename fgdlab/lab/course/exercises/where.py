"""Exercises of notebook 02: the scale mask, what it gives to small objects, a box that reveals a transposed mask."""
import torch

from fgdlab.masks import box_weights, focal_masks

from .answers import exercise

SMALLEST = "the smaller box wins, in any order"
APART = torch.tensor([[2, 1, 5, 4], [6, 2, 7, 4]]), torch.tensor([False, True])
INSIDE = torch.tensor([[1, 1, 2, 3], [0, 0, 6, 3], [4, 2, 6, 6]]), torch.tensor([True, False, False])


@exercise({
    "two boxes of 3 x 3 and 2 x 1 cells": (
        torch.tensor([[2, 1, 5, 4], [6, 2, 7, 4]]), (6, 8), "N_bg counts the cells outside every box"),
    "two boxes that overlap, the smaller one first": (torch.tensor([[2, 1, 5, 4], [3, 2, 7, 5]]), (6, 8), SMALLEST),
    "a small box inside a large one, after it": (
        torch.tensor([[0, 0, 6, 3], [1, 1, 2, 3], [4, 2, 6, 6]]), (7, 9), SMALLEST),
    "a box that reaches over the right edge": (
        torch.tensor([[5, 3, 9, 5]]), (6, 8), "H_r W_r is the whole box, including the part outside the grid"),
})
def scale_mask(cells, grid_size):
    """S of eqs. 3 and 4, (H, W); the smallest box wins where boxes overlap.

    cells: (K, 4) int64 col0, row0, col1, row1. Every case has some background.
    """
    weights = box_weights(cells, grid_size)
    outside = weights == 0
    return torch.where(outside, 1 / outside.sum(), weights)


@exercise({
    "a large and a small box under S": (*APART, (6, 8), True, "each box sums to 1"),
    "the same, every cell weighs 1": (*APART, (6, 8), False, "2 of 11 cells"),
    "a small box inside a large one": (
        *INSIDE, (6, 8), True, "a cell in two boxes belongs to the smaller one, in any order of the boxes"),
    "the same, where every cell weighs 1": (*INSIDE, (6, 8), False, "count every foreground cell once"),
    "a large box over the right edge": (
        torch.tensor([[5, 3, 9, 5], [0, 0, 2, 2]]), torch.tensor([False, True]), (6, 8), True,
        "S divides by the whole area, and only cells inside the grid have weight"),
})
def part_of_small(cells, small, grid_size, scale):
    """Part of the foreground's weight that lies on small boxes, in 0..1.

    cells: (K, 4) as in scale_mask; small: (K,) bool. A cell weighs S if ``scale``, else 1, and belongs to the smallest
    box that covers it.
    """
    weights, owner = box_weights(cells, grid_size), torch.zeros(grid_size, dtype=torch.bool)
    for k in ((cells[:, 2] - cells[:, 0]) * (cells[:, 3] - cells[:, 1])).argsort(descending=True):
        column, row, last_column, last_row = cells[k]
        owner[row:last_row, column:last_column] = small[k]
    weights = weights if scale else (weights > 0).float()
    return weights[owner].sum() / weights.sum()


def facts_of(answer):
    def facts() -> dict | None:
        box = answer()
        if box is None:
            return None
        x1, y1, x2, y2 = map(float, box)
        right, transposed = (
            focal_masks([torch.tensor([edges])], [(64, 64)], (8, 8), rounding="exact").binary[0]
            for edges in ((x1, y1, x2, y2), (y1, x1, y2, x2))
        )
        return {
            "the box lies within 64 x 64 pixels": min(x1, y1) >= 0 and max(x2, y2) <= 64,
            "x1 < x2 and y1 < y2": x1 < x2 and y1 < y2,
            "cells that mask and transposed mask share": int((right * transposed).sum()),
        }

    return facts


@exercise({"your box": ("a box on the diagonal stays where it is when x and y are exchanged",)}, facts_of)
def transposition_test():
    """answer(): a box x1, y1, x2, y2 in a 64 x 64 image whose mask at stride 8 shares no cell with its transpose."""
    return {
        "the box lies within 64 x 64 pixels": True, "x1 < x2 and y1 < y2": True,
        "cells that mask and transposed mask share": 0,
    }
