"""Anchors that fit a data set's boxes, as text in the settings.

Width x height in pixels; commas within a pyramid level, a slash between levels.
"""
import re

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from ..errors import UserError

FIT, MOST, SHARE = 0.5, 9, 0.95  # IoU at which an anchor meets a box; anchors per cell; share of boxes met
BOXES = 20_000  # are enough for k-means


class CachedAnchors(AnchorGenerator):
    """torchvision's generator that keeps its last anchors: batches of one size have the same at every step.

    Differs: the anchors have the precision of the pixels, torchvision's that of the maps, which autocast rounds:
        bfloat16 holds positions above 256 pixels only to 2 pixels.
    """

    key = anchors = None

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """The anchors (A, 4) of each image, xyxy pixels: one tensor for all images, not to be changed."""
        pixels, grids = image_list.tensors, [tuple(maps.shape[-2:]) for maps in feature_maps]
        key = (pixels.shape[-2:], *grids, pixels.dtype, pixels.device)
        if key != self.key:
            self.set_cell_anchors(pixels.dtype, pixels.device)
            self.key, self.anchors = key, torch.cat(self.on_grids(grids, pixels.shape[-2:]))
        return [self.anchors] * len(image_list.image_sizes)

    def on_grids(self, grids: list[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
        return self.grid_anchors(grids, [(size[0] // height, size[1] // width) for height, width in grids])


class FittedAnchors(CachedAnchors):

    def __init__(self, text: str):
        levels = parse_anchors(text)
        super().__init__([tuple(level.prod(1).sqrt().tolist()) for level in levels], ((1.0,),) * len(levels))
        self.cell_anchors = [torch.cat([-level, level], dim=1) / 2 for level in levels]


def parse_anchors(text: str) -> list[Tensor]:
    """One (A, 2) tensor of widths and heights in pixels per level; UserError for another text."""
    level = r"\d{1,5}x\d{1,5}(,\d{1,5}x\d{1,5}){0,63}"
    if not re.fullmatch(rf"{level}(/{level})*", text):
        raise UserError(f"anchors must look like 11x14,16x20/30x28,41x40, got {text!r}; / separates pyramid levels")
    pairs = [[pair.split("x") for pair in part.split(",")] for part in text.split("/")]
    levels = [torch.tensor([[float(side) for side in pair] for pair in level]) for level in pairs]
    if len({len(level) for level in levels}) > 1 or min(level.min() for level in levels) < 1:
        raise UserError(f"anchors must be as many on every level, of at least 1 pixel, got {text!r}; correct them")
    return levels


def fit_anchors(sizes: np.ndarray, levels: int) -> tuple[str, float]:
    """(anchors, share of the boxes that one of them meets) by k-means on IoU, with the fewest anchors per cell.

    Args:
        sizes: (K, 2) widths and heights of the boxes in pixels, K >= 1.
        levels: of the pyramid; small anchors go to the fine ones.
    """
    sample = sizes[np.linspace(0, len(sizes) - 1, min(len(sizes), BOXES)).astype(int)]
    for count in range(2, MOST + 1):
        anchors = np.maximum(k_means(sample, count * levels).round(), 1)
        met = share_met(sizes, anchors)
        if met >= SHARE:
            break
    rows = anchors[anchors.prod(1).argsort(kind="stable")].astype(int).reshape(levels, count, 2)
    return "/".join(",".join(f"{width}x{height}" for width, height in level) for level in rows), met


def k_means(sizes: np.ndarray, count: int) -> np.ndarray:
    """(count, 2) sizes, each the geometric mean of the boxes that have their largest IoU with it."""
    order = sizes[sizes.prod(1).argsort(kind="stable")]
    means = order[np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]]  # sizes of all areas
    for _ in range(100):
        nearest = iou(sizes, means).argmax(1)
        groups = [np.log(sizes[nearest == k]) for k in range(count)]
        moved = np.array([np.exp(each.mean(0)) if len(each) else means[k] for k, each in enumerate(groups)])
        if np.allclose(moved, means):
            break
        means = moved
    return means


def share_met(sizes: np.ndarray, anchors: np.ndarray) -> float:
    return float((iou(sizes, anchors).max(1) >= FIT).mean())


def iou(sizes: np.ndarray, others: np.ndarray) -> np.ndarray:
    """(K, A) IoU of boxes (K, 2) and (A, 2) that share their centre."""
    common = np.minimum(sizes[:, None], others).prod(2)
    return common / (sizes.prod(1)[:, None] + others.prod(1) - common)
