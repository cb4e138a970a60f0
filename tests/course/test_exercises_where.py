"""The checkers of notebook 02 accept right answers and reject near misses."""
import math

import pytest
import torch

from fgdlab.lab.course.exercises import where as check

# ---- right answers, each written its own way -----------------------------------------------------------------------------------------


def cells_right(box, image_size, grid_size, far=math.ceil, near=math.floor):
    x1, y1, x2, y2 = box
    (height, width), (rows, columns) = image_size, grid_size
    return near(x1 / width * columns), near(y1 / height * rows), far(x2 / width * columns), far(y2 / height * rows)


def scale_by(merge, background=True, clip=False):
    def scale(cells, grid_size):
        mask = torch.zeros(grid_size)
        for col0, row0, col1, row1 in cells.tolist():
            area = (row1 - row0) * (col1 - col0)
            patch = mask[row0:row1, col0:col1]
            mask[row0:row1, col0:col1] = merge(patch, torch.full_like(patch, 1 / (patch.numel() if clip else area)))
        outside = mask == 0
        return torch.where(outside, 1 / outside.sum(), mask) if background else mask
    return scale


def stretched_right(box, image_size, canvas_size):
    down, across = canvas_size[0] / image_size[0], canvas_size[1] / image_size[1]
    return torch.tensor(box) * torch.tensor([across, down, across, down])


RIGHT = {
    "box_cells": cells_right, "scale_mask": scale_by(torch.maximum), "stretched_box": stretched_right, "transposition_test": lambda: (40, 0, 64, 16),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_right(name):
    verdict = getattr(check, name)(RIGHT[name])
    assert verdict.right, verdict.message


# ---- near misses ---------------------------------------------------------------------------------------------------------------------


def swapped(box, image_size, grid_size):
    col0, row0, col1, row1 = cells_right(box, image_size, grid_size)
    return row0, col0, row1, col1


def with_extra_cell(box, image_size, grid_size):
    return cells_right(box, image_size, grid_size, far=lambda edge: math.ceil(edge) + 1)


def floor_plus_one(box, image_size, grid_size):
    return cells_right(box, image_size, grid_size, far=lambda edge: math.floor(edge) + 1)


def rounded(box, image_size, grid_size):
    return cells_right(box, image_size, grid_size, far=round, near=round)


def sizes_swapped(box, image_size, grid_size):
    return cells_right(box, image_size[::-1], grid_size)


def fixed_stride(box, image_size, grid_size):
    return cells_right(box, (8 * grid_size[0], 8 * grid_size[1]), grid_size)


def all_cells_as_background(cells, grid_size):
    mask = scale_by(torch.maximum, background=False)(cells, grid_size)
    return torch.where(mask == 0, 1 / mask.numel(), mask)


def not_stretched(box, image_size, canvas_size):
    return box


def squeezed(box, image_size, canvas_size):
    return stretched_right(box, canvas_size, image_size)


def axes_swapped(box, image_size, canvas_size):
    return stretched_right(box, image_size[::-1], canvas_size[::-1])


def one_factor(box, image_size, canvas_size):
    return torch.tensor(box) * (canvas_size[1] / image_size[1])


NEAR_MISSES = {
    "box_cells": [swapped, with_extra_cell, floor_plus_one, rounded, sizes_swapped, fixed_stride],
    "scale_mask": [
        scale_by(torch.add), scale_by(lambda old, new: new), scale_by(lambda old, new: torch.where(old == 0, new, old)),
        scale_by(torch.maximum, background=False), scale_by(torch.maximum, clip=True), all_cells_as_background,
        scale_by(lambda old, new: torch.where(old == 0, new, torch.minimum(old, new))),
    ],
    "stretched_box": [not_stretched, squeezed, axes_swapped, one_factor],
    "transposition_test": [
        lambda: (8, 8, 24, 24), lambda: (0, 0, 64, 8), lambda: (80, 0, 96, 16),
        lambda: (-8, 24, 8, 40), lambda: (-8, 0, 16, -1), lambda: (64, 0, 40, 16), lambda: (30, 8, 48, 31),
    ],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name, answers in NEAR_MISSES.items() for answer in answers])
def test_a_near_miss_is_not_right(name, answer):
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written


@pytest.mark.parametrize("name", RIGHT)
def test_an_answer_without_return_is_told_so(name):
    verdict = getattr(check, name)(lambda *args: None)
    assert not verdict.right and "None" in verdict.message
