"""Answers to the exercises of notebook 02."""
from itertools import product

import torch


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


def part(wins=min, weigh=None, clip=False):
    """Part of the weight on small boxes; ``wins`` chooses among the boxes that cover a cell."""
    def answer(cells, small, grid_size, scale):
        on_small = total = 0.0
        for row, column in product(*map(range, grid_size)):
            boxes = [k for k, (c0, r0, c1, r1) in enumerate(cells.tolist()) if c0 <= column < c1 and r0 <= row < r1]
            sizes = {k: area(cells[k].tolist(), grid_size if clip else None) for k in boxes}
            if sizes:
                k = wins(sizes, key=sizes.get)
                weight = 1 / sizes[k] if (scale if weigh is None else weigh) else 1
                on_small, total = on_small + weight * bool(small[k]), total + weight
        return on_small / total
    return answer


def area(ends, grid_size):
    col0, row0, col1, row1 = ends
    return (col1 - col0) * (row1 - row0) if grid_size is None else (
        (min(col1, grid_size[1]) - col0) * (min(row1, grid_size[0]) - row0))


def overlaps_counted_twice(cells, small, grid_size, scale):
    areas = torch.tensor([area(each, None) for each in cells.tolist()])
    weights = torch.ones(len(cells)) if scale else areas.float()
    return (weights * small).sum() / weights.sum()


RIGHT = {
    "scale_mask": scale_by(torch.maximum), "part_of_small": part(),
    "transposition_test": lambda: (40, 0, 64, 16),
}
NEAR_MISSES = {
    "scale_mask": {
        "weights added": scale_by(torch.add),
        "last box wins": scale_by(lambda old, new: new),
        "first box wins": scale_by(lambda old, new: torch.where(old == 0, new, old)),
        "no background": scale_by(torch.maximum, background=False),
        "area clipped to the grid": scale_by(torch.maximum, clip=True),
        "all cells as background": all_cells_as_background,
        "largest box wins": scale_by(lambda old, new: torch.where(old == 0, new, torch.minimum(old, new))),
    },
    "part_of_small": {
        "largest box wins": part(wins=max),
        "first box wins": part(wins=lambda sizes, key: next(iter(sizes))),
        "always S": part(weigh=True),
        "never S": part(weigh=False),
        "area clipped to the grid": part(clip=True),
        "overlaps counted twice": overlaps_counted_twice,
        "part of large boxes": lambda cells, small, grid, scale: part()(cells, ~small, grid, scale),
        "part of the boxes": lambda cells, small, grid, scale: small.float().mean(),
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
