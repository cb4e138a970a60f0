"""Boxes on a pyramid: which level a box belongs to, and which cells it covers there.

    boxes (K, 4) pixels --home_levels--> (K,) index of the level     --cells_of_level--> (N, K, 4) cells, no box of another level among them

Methods that draw a mask on every level want each object on one of them, as an FPN trains it. The rule and its cells are those of
the DeFeat authors' code (ggjy/DeFeat.pytorch, mmdet/models/dense_heads/anchor_head.py).
"""
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config import ROUNDINGS, check_choice
from ..masks import cell_ranges
from ..scene import Scene


def home_levels(boxes: Tensor, levels: int, finest_size: float = 56.0) -> Tensor:
    """floor(log2(sqrt(w h) / finest_size)), between 0 for the finest and levels - 1 for the coarsest level. (K, 4) -> (K,) int64.

    Differs: the authors measure a box one pixel longer on each side, as detectors did before 2019.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    return ((width * height).sqrt() / finest_size).log2().floor().clamp(0, levels - 1).long()


def whole_cells(boxes: Tensor, frame_size: tuple[int, int], grid_size: tuple[int, int]) -> Tensor:
    """Cells as the authors count them: both edges rounded down, so that the last, partly covered cell is left out.

    A box that keeps no row or no column of cells is the one cell of its upper left corner. Shapes as in :func:`fgdlab.masks.cell_ranges`,
    but clipped to the grid.
    """
    (frame_h, frame_w), (grid_h, grid_w) = frame_size, grid_size
    corners = (boxes * boxes.new_tensor([grid_w / frame_w, grid_h / frame_h] * 2)).long()
    near, far = corners[:, :2].clamp(min=0), torch.minimum(corners[:, 2:], corners.new_tensor([grid_w, grid_h]))
    thin = (near == far).any(dim=1, keepdim=True)                    # (K, 1)
    return torch.cat([near, torch.where(thin, near + 1, far)], dim=1)


def cells_of_level(scene: Scene, grid_size: tuple[int, int], index: int, levels: int, finest_size: float | None, rounding: str) -> Tensor:
    """Cells of the boxes at home on level ``index`` (0 = finest) of ``levels``; every other box is the empty range 0, 0, 0, 0.

    Args:
        finest_size: pixels; see :func:`home_levels`. None: every box is at home on every level.
        rounding: ``authors`` for :func:`whole_cells`, ``exact`` for all cells that a box touches.
    Returns:
        (N, K, 4) int64 col0, row0, col1, row1, half-open, K the largest count of boxes in an image.
    """
    boxes = torch.cat(scene.boxes)
    if rounding == "authors":
        cells = whole_cells(boxes, scene.padded_size, grid_size)
    else:
        cells = cell_ranges(boxes, scene.padded_size, grid_size, rounding=rounding)
    if finest_size is not None:
        cells = cells * (home_levels(boxes, levels, finest_size) == index)[:, None]
    return pad_sequence(list(cells.split([len(of_image) for of_image in scene.boxes])), batch_first=True)


def level_index(level: str, levels: tuple[str, ...]) -> int:
    """Place of a level among ``levels``, 0 for the finest, in whatever order they are named."""
    return sorted(levels, key=lambda name: int(name[1:])).index(level)


def check_box_settings(finest_size: float | None, rounding: str = "exact") -> None:
    """Raises:
        ValueError: a size that is no size, or an unknown rounding.
    """
    if finest_size is not None and not 0 < finest_size < float("inf"):
        raise ValueError(f"finest_size must be a finite number of pixels > 0, or None for every box on every level, got {finest_size}")
    check_choice("rounding", rounding, ROUNDINGS)
