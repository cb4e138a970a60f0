"""Small scenes, teachers, and plain loops for the tests of methods that compare maps."""
from math import floor, log2, sqrt

import torch

from fgdlab.scene import Scene

LEVELS = ("P3", "P4")


def two_images(channels: int = 4, dtype=torch.float64, scale: float = 1.0, seed: int = 5) -> Scene:
    """A padded batch of 2 on 48 x 64 pixels, maps of 6 x 8 and 3 x 4 cells.

    The first image has a large box over a small one, the second has no box.
    """
    draw = torch.Generator().manual_seed(seed)
    maps = {
        f"P{i}": (scale * torch.randn(2, channels, 48 >> i, 64 >> i, generator=draw, dtype=torch.float64)).to(dtype)
        for i in (3, 4)
    }
    boxes = torch.tensor([[5.0, 6.0, 50.0, 40.0], [10.0, 20.0, 33.0, 30.0]])
    return Scene(torch.zeros(2, 3, 48, 64), [boxes, boxes[:0]], [(48, 64), (40, 60)], maps)


def teacher_of(scene: Scene, channels: int = 4, seed: int = 1, scale: float = 1.0) -> dict:
    """Random maps on the grids of the student's, in its precision."""
    draw = torch.Generator().manual_seed(seed)
    return {
        level: (scale * torch.randn(len(each), channels, *each.shape[2:], generator=draw, dtype=torch.float64)).to(
            each.dtype
        )
        for level, each in scene.features.items()
    }


def raws(terms) -> dict:
    return {(term.name, term.level): term.raw.item() for term in terms}


def leaves(scene: Scene) -> dict:
    """The scene's maps, from now on with gradient."""
    return {level: each.requires_grad_() for level, each in scene.features.items()}


# ---- loops ----

def cells(F):
    """Every (n, c, y, x) of a batch of nested lists."""
    return [
        (n, c, y, x)
        for n in range(len(F))
        for c in range(len(F[0]))
        for y in range(len(F[0][0]))
        for x in range(len(F[0][0][0]))
    ]


def convolution(F, layer):
    """sum_k sum_dy sum_dx weight[o][k][dy][dx] F[k][y + dy - r][x + dx - r] + bias[o]; 0 outside; None = no layer."""
    if layer is None:
        return F
    weight, bias = layer.weight.tolist(), layer.bias.tolist()
    H, W, r = len(F[0][0]), len(F[0][0][0]), len(weight[0][0]) // 2

    def at(of_image, o, y, x):
        return bias[o] + sum(
            weight[o][k][dy][dx] * of_image[k][y + dy - r][x + dx - r]
            for k in range(len(of_image)) for dy in range(2 * r + 1) for dx in range(2 * r + 1)
            if 0 <= y + dy - r < H and 0 <= x + dx - r < W
        )

    return [
        [[[at(of_image, o, y, x) for x in range(W)] for y in range(H)] for o in range(len(weight))] for of_image in F
    ]


def assigned_level(box, levels, finest_size):
    """Index of the level that a box belongs to."""
    x1, y1, x2, y2 = box
    size = sqrt((x2 - x1) * (y2 - y1))
    return 0 if size == 0 else min(max(floor(log2(size / finest_size)), 0), levels - 1)


def aligned(loss, scene, level):
    """f(F_s) as nested lists."""
    return convolution(scene.features[level].tolist(), loss.align[level] if loss.align else None)
