"""Compares the vectorised masks with the naive loop of eqs. 2-4 on many random sets of boxes.

    python -m tests.robustness.mask_boxes --sets 100000

The sets cover both roundings, one frame for all images or one per image, plain and transposed axes, float32 and float64
boxes, and both implementations, focal_masks and rasterised_masks. Every weight must be equal to the last bit. Prints
counts; the exit status is 1 if a weight differs.
"""
import argparse
import sys
import time
from collections import Counter

import numpy as np
import torch

from fgdlab.config import AXES, ROUNDINGS
from fgdlab.fused.dispatch import rasterised_masks
from fgdlab.masks import focal_masks
from tests.helpers import naive

IMPLEMENTATIONS = {"focal_masks": focal_masks, "rasterised_masks": rasterised_masks}
BATCH = 8                                                            # sets that share a grid


def naive_masks(boxes, frame, grid, rounding: str, axes: str) -> tuple[list, list]:
    """fg and bg of one image by loops; ``yx`` takes a box's columns for rows.

    Numbers keep the precision that the boxes have.
    """
    ranges = [naive.cell_range(box, frame, grid, rounding) for box in boxes]
    ranges = [(cols, rows) for rows, cols in ranges] if axes == "yx" else ranges
    binary, scale = naive.binary_mask(ranges, grid), naive.scale_mask(ranges, grid)
    fg = [[m * s for m, s in zip(*rows, strict=True)] for rows in zip(binary, scale, strict=True)]
    bg = [[(1 - m) * s for m, s in zip(*rows, strict=True)] for rows in zip(binary, scale, strict=True)]
    return fg, bg


def random_boxes(rng: np.random.Generator, frame: tuple[int, int], grid: tuple[int, int], dtype) -> np.ndarray:
    """(K, 4) xyxy pixels, K from 0 to 5: anywhere and over the border, on whole pixels, on edges of cells, without
    area, or over everything."""
    height, width = frame
    count = int(rng.choice([0, 1, 2, 3, 5], p=[0.1, 0.3, 0.3, 0.2, 0.1]))
    size = np.array([width, height])
    near = (rng.random((count, 2)) * 1.4 - 0.3) * size
    far = near + rng.random((count, 2)) ** 2 * 1.2 * size
    boxes = np.concatenate([near, far], axis=1)
    kind = rng.choice(["any", "pixels", "edges", "thin", "all"], p=[0.35, 0.25, 0.25, 0.1, 0.05])
    cell = np.array([width / grid[1], height / grid[0]] * 2)
    if kind == "pixels":
        boxes = boxes.round()
    elif kind == "edges":
        boxes = (boxes / cell).round() * cell
    elif kind == "thin":
        boxes[:, 2 + int(rng.integers(2))] = boxes[:, 0] if rng.random() < 0.5 else boxes[:, 1]
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2])
    elif kind == "all" and count:
        boxes[0] = [-width, -height, 2 * width, 2 * height]
    return boxes.astype(dtype)


def differing(rng: np.random.Generator, sets: int, counts: Counter) -> list[str]:
    """Check ``sets`` sets that share a grid; what differs, in words. ``counts`` notes what was met."""
    dtype = rng.choice([np.float32, np.float64])
    rounding, axes = str(rng.choice(ROUNDINGS)), str(rng.choice(AXES))
    grid = tuple(int(each) for each in rng.integers(1, 9, size=2))
    canvas = tuple(int(each * rng.choice([4, 8, 16])) for each in grid)
    own = bool(rng.integers(2))  # one frame per image, as the authors divide, or one canvas for all
    frames = [
        tuple(int(rng.integers(max(side * 2 // 3, 1), side + 1)) for side in canvas) if own else canvas
        for _ in range(sets)
    ]
    boxes = [random_boxes(rng, frame, grid, dtype) for frame in frames]
    slow = [
        naive_masks([list(box) for box in of_image], frame, grid, rounding, axes)
        for of_image, frame in zip(boxes, frames, strict=True)
    ]
    fg, bg = (torch.tensor([each[which] for each in slow], dtype=torch.float64) for which in (0, 1))
    wrong = []
    for name, implementation in IMPLEMENTATIONS.items():
        fast = implementation(
            [torch.from_numpy(each) for each in boxes], frames, grid, rounding=rounding, axes=axes, dtype=torch.float64,
        )
        for part, expected in (("fg", fg), ("bg", bg)):
            for i in torch.nonzero((getattr(fast, part) != expected).flatten(1).any(dim=1)).flatten().tolist():
                wrong.append(
                    f"{name}, {part}, {rounding}, {axes}, frame {frames[i]}, grid {grid}, boxes {boxes[i].tolist()}"
                )
    counts.update({"sets": sets, "boxes": sum(
        map(len, boxes)
    ), rounding: sets, axes: sets, "one frame per image" if own else "one canvas": sets,
                   np.dtype(dtype).name: sets, "without a box": sum(not len(each) for each in boxes),
                   "without background": int((bg.sum(dim=(1, 2)) == 0).sum())})
    return wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sets", type=int, default=100_000, help="sets of boxes, one an image")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    torch.set_num_threads(1)
    rng, counts, wrong, started = np.random.default_rng(given.seed), Counter(), [], time.perf_counter()
    while counts["sets"] < given.sets:
        wrong += differing(rng, min(BATCH, given.sets - counts["sets"]), counts)
    print("\n".join(f"{number:9d}  {what}" for what, number in counts.items()))
    print(f"{len(wrong):9d}  differ from the loop   ({time.perf_counter() - started:.0f} s)")
    print("\n".join(wrong[:10]))
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
