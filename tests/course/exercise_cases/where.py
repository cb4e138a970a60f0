"""Answers to the exercises of notebook 02."""
import math

import torch


def cells(box, image_size, grid_size, far=math.ceil, near=math.floor):
    x1, y1, x2, y2 = box
    (height, width), (rows, columns) = image_size, grid_size
    return near(x1 / width * columns), near(y1 / height * rows), far(x2 / width * columns), far(y2 / height * rows)


def swapped(box, image_size, grid_size):
    col0, row0, col1, row1 = cells(box, image_size, grid_size)
    return row0, col0, row1, col1


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


def all_cells_as_background(cells, grid_size):
    mask = scale_by(torch.maximum, background=False)(cells, grid_size)
    return torch.where(mask == 0, 1 / mask.numel(), mask)


def stretched(box, image_size, padded_size):
    down, across = padded_size[0] / image_size[0], padded_size[1] / image_size[1]
    return torch.tensor(box) * torch.tensor([across, down, across, down])


RIGHT = {
    "box_cells": cells, "scale_mask": scale_by(torch.maximum), "stretched_box": stretched,
    "transposition_test": lambda: (40, 0, 64, 16),
}
NEAR_MISSES = {
    "box_cells": {
        "rows first": swapped,
        "extra cell": lambda *a: cells(*a, far=lambda edge: math.ceil(edge) + 1),
        "floor plus one": lambda *a: cells(*a, far=lambda edge: math.floor(edge) + 1),
        "rounded": lambda *a: cells(*a, far=round, near=round),
        "height and width exchanged": lambda box, image, grid: cells(box, image[::-1], grid),
        "stride 8": lambda box, image, grid: cells(box, (8 * grid[0], 8 * grid[1]), grid),
    },
    "scale_mask": {
        "weights added": scale_by(torch.add),
        "last box wins": scale_by(lambda old, new: new),
        "first box wins": scale_by(lambda old, new: torch.where(old == 0, new, old)),
        "no background": scale_by(torch.maximum, background=False),
        "area clipped to the grid": scale_by(torch.maximum, clip=True),
        "all cells as background": all_cells_as_background,
        "largest box wins": scale_by(lambda old, new: torch.where(old == 0, new, torch.minimum(old, new))),
    },
    "stretched_box": {
        "not stretched": lambda box, image, padded: box,
        "inverse factor": lambda box, image, padded: stretched(box, padded, image),
        "axes exchanged": lambda box, image, padded: stretched(box, image[::-1], padded[::-1]),
        "one factor": lambda box, image, padded: torch.tensor(box) * (padded[1] / image[1]),
    },
    "transposition_test": {
        "on the diagonal": lambda: (8, 8, 24, 24),
        "crosses the diagonal": lambda: (0, 0, 64, 8),
        "outside of the image": lambda: (80, 0, 96, 16),
        "reaches over the edge": lambda: (-8, 24, 8, 40),
        "negative height": lambda: (-8, 0, 16, -1),
        "negative width": lambda: (64, 0, 40, 16),
        "one shared cell": lambda: (30, 8, 48, 31),
    },
}
