"""Boxes on a pyramid: the level of each box, and the cells that it covers there, as in the DeFeat authors' code
(ggjy/DeFeat.pytorch, mmdet/models/dense_heads/anchor_head.py)."""
import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from ..config import ROUNDINGS, check_choice
from ..masks import cell_ranges
from ..pyramid import check_box_count
from ..scene import Scene, grid_of


def assigned_levels(boxes: Tensor, levels: int, finest_size: float = 56.0) -> Tensor:
    """floor(log2(sqrt(w h) / finest_size)), clipped to 0 (finest) .. levels - 1 (coarsest). (K, 4) -> (K,) int64.

    Differs: the authors measure a box one pixel longer on each side, as detectors did before 2019.
    """
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(-1)
    return ((width * height).sqrt() / finest_size).log2().floor().clamp(0, levels - 1).long()


def floored_cells(boxes: Tensor, frame_size: tuple[int, int], grid_size: tuple[int, int]) -> Tensor:
    """Both edges rounded down, as the authors do: the last, partly covered cell is left out.

    A box without a whole row or column of cells gets the cell of its upper left corner. Shapes as in
    :func:`fgdlab.masks.cell_ranges`.
    """
    (frame_h, frame_w), (grid_h, grid_w) = frame_size, grid_size
    corners = (boxes * boxes.new_tensor([grid_w / frame_w, grid_h / frame_h] * 2)).long()
    low, high = corners[:, :2].clamp(min=0), torch.minimum(corners[:, 2:], corners.new_tensor([grid_w, grid_h]))
    thin = (low == high).any(dim=1, keepdim=True)  # (K, 1)
    return torch.cat([low, torch.where(thin, low + 1, high)], dim=1)


def cells_of_level(
    scene: Scene, maps: Tensor, level: str, levels: tuple[str, ...], finest_size: float | None, rounding: str,
) -> Tensor:
    """Cells of the boxes of one level; every other box is the empty range 0, 0, 0, 0.

    Args:
        maps: (N, C, H, W); only their shape counts.
        finest_size: pixels; see :func:`assigned_levels`. None: every box is on every level.
        rounding: ``authors`` for :func:`floored_cells`, ``exact`` for all cells that a box touches.
    Returns:
        (N, K, 4) int64 col0, row0, col1, row1, half-open, K the largest number of boxes in an image.
    """
    check_box_count(scene, len(maps))
    boxes, grid_size = torch.cat(scene.boxes), grid_of(maps)
    boxes = boxes if boxes.dtype == torch.float64 else boxes.float()  # areas overflow in float16 and int16
    if rounding == "authors":
        cells = floored_cells(boxes, scene.padded_size, grid_size)
    else:
        cells = cell_ranges(boxes, scene.padded_size, grid_size, rounding=rounding)
    if finest_size is not None:
        cells = cells * (assigned_levels(boxes, len(levels), finest_size) == level_index(level, levels))[:, None]
    return pad_sequence(cells.split([len(of_image) for of_image in scene.boxes]), batch_first=True)


def level_index(level: str, levels: tuple[str, ...]) -> int:
    """Place of a level from the finest on: by the number in its name where all have one, else as they are given."""
    numbered = all(name[1:].isdecimal() for name in levels)
    return (sorted(levels, key=lambda name: int(name[1:])) if numbered else list(levels)).index(level)


def check_box_settings(finest_size: float | None, rounding: str = "exact") -> None:
    if finest_size is not None and not 0 < finest_size < float("inf"):
        raise ValueError(f"finest_size must be None or a finite number of pixels > 0, got {finest_size}")
    check_choice("rounding", rounding, ROUNDINGS)
