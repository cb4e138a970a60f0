"""Where to look: foreground, background and scale masks (eqs. 2-4).

Geometry on a feature grid. Nothing is learned, nothing needs a gradient.

    boxes (K, 4) pixels --cell_ranges--> (K, 4) cells --box_weights--> (H, W) weights --focal_masks--> fg, bg (N, H, W)

The numbers of equations follow FGD (Yang et al., CVPR 2022) in the paper's order; fgd.py lists them all.
"""
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from .config import AXES, ROUNDINGS, check_choice


@dataclass(frozen=True)
class FocalMasks:
    """Weights of the two focal sums. ``fg`` and ``bg`` are both (N, H, W), floating point, never negative.

    ``fg`` is M * S and ``bg`` is (1 - M) * S in the notation of eqs. 2-4. For every image ``bg`` sums to 1,
    or to 0 where boxes cover the whole map; ``fg`` is 0 where an image has no box.

    >>> masks = focal_masks(boxes, [(128, 160)] * 2, (16, 20))
    >>> masks.binary.sum(dim=(1, 2))
    tensor([56.,  0.])
    """

    fg: Tensor
    bg: Tensor

    @property
    def binary(self) -> Tensor:
        """M of eq. 2: 1 on cells inside any box, else 0. (N, H, W)."""
        return (self.fg > 0).to(self.fg.dtype)


def cell_ranges(
    boxes: Tensor, frame_size: tuple[int, int], grid_size: tuple[int, int], *, rounding: str = "authors",
) -> Tensor:
    """Project pixel boxes to half-open ranges of feature cells.

    Args:
        boxes: (K, 4) x1, y1, x2, y2 in pixels, x1 <= x2 and y1 <= y2.
        frame_size: (height, width) in pixels that the grid spans.
        grid_size: (H, W) in cells.
        rounding: ``authors`` keeps one cell past the far edge, ``exact`` only cells that the box touches.
    Returns:
        (K, 4) int64 col0, row0, col1, row1; cells with ``col0 <= col < col1`` belong to the box.
        Not clipped to the grid: eq. 3 divides by the box's own size, also where it overhangs.
    Raises:
        ValueError: boxes of another shape, or an unknown rounding.
    Differs: the paper says "pixel inside the box" only. The authors' code floors the near edge, ceils the far edge and
        then *includes* that last cell: a box of exactly one cell becomes 2 x 2. ``exact`` leaves the extra cell out.
    """
    check_box_lists([boxes], [frame_size])
    check_choice("rounding", rounding, ROUNDINGS)
    # Divide first, as the authors do, and by a tensor that is filled on the device: on a GPU torch multiplies by the
    # reciprocal of a number, which rounds differently, and the host would wait for a copy of a list.
    return projected(boxes, [boxes.new_full((), length) for length in frame_size], grid_size, rounding)


def projected(boxes: Tensor, frame_size: list[Tensor], grid_size: tuple[int, int], rounding: str) -> Tensor:
    """:func:`cell_ranges` of boxes (..., 4); ``frame_size`` has heights and widths that broadcast to (...)."""
    x1, y1, x2, y2 = (
        side / length * cells
        for side, length, cells in zip(boxes.unbind(-1), frame_size[::-1] * 2, grid_size[::-1] * 2, strict=True))
    extra = 1 if rounding == "authors" else 0
    return torch.stack([x1.floor(), y1.floor(), x2.ceil() + extra, y2.ceil() + extra], dim=-1).long()


def box_weights(cells: Tensor, grid_size: tuple[int, int], dtype: torch.dtype = torch.float32) -> Tensor:
    """S of eq. 3 on the foreground: 1 / (H_r W_r) inside box r; where boxes overlap, the smallest box wins.

    Args:
        cells: (K, 4) from :func:`cell_ranges`, or (N, K, 4) of a batch; the empty range 0, 0, 0, 0 is no box.
        grid_size: (H, W) in cells.
    Returns:
        (H, W) or (N, H, W) weights in (0, 1] inside boxes, 0 outside every box. A box within the grid that no other box
        overlaps sums to 1, whatever its size: so a small object weighs as much as a big one.
    Differs: eq. 3 divides by the box's height and width on the map; the authors' code, and this, by its count of cells.
    """
    grid_h, grid_w = grid_size
    if cells.shape[-2] == 0:
        return torch.zeros(*cells.shape[:-2], grid_h, grid_w, dtype=dtype, device=cells.device)
    rows = torch.arange(grid_h, device=cells.device)
    cols = torch.arange(grid_w, device=cells.device)
    col0, row0, col1, row1 = cells[..., None].unbind(-2)       # each (..., K, 1)
    in_rows = (rows >= row0) & (rows < row1)                   # (..., K, H)
    in_cols = (cols >= col0) & (cols < col1)                   # (..., K, W)
    inside = in_rows[..., :, None] & in_cols[..., None, :]     # (..., K, H, W)
    count = ((row1 - row0) * (col1 - col0)).clamp(min=1)       # (..., K, 1); a box without area touches no cell
    return (inside / count[..., None].to(dtype)).amax(dim=-3)  # smallest count = largest weight


def focal_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *,
    rounding: str = "authors", axes: str = "xy", dtype: torch.dtype = torch.float32,
    weights_of: Callable[..., Tensor] = box_weights,
) -> FocalMasks:
    """M and S for a batch (eqs. 2-4): S is 1/(H_r W_r) in box r and 1/N_bg on the N_bg cells outside every box.

    Args:
        boxes: N tensors (K_i, 4), pixels.
        frame_sizes: N pairs (height, width) in pixels that the grid spans; ``Scene.frame_sizes`` gives them.
        grid_size: (H, W) of the feature map.
        axes: ``xy``, or ``yx`` to exchange the rows and columns of each box.
        weights_of: box_weights, or another implementation of it.
    Differs: ``yx`` is what the authors' code did until January 2022 (commit c22b81d), after its weights were released.
    """
    check_choice("axes", axes, AXES)
    check_box_lists(boxes, frame_sizes)
    if len(set(frame_sizes)) == 1:  # one frame for all: one projection for all
        cells = list(
            cell_ranges(torch.cat(boxes), frame_sizes[0], grid_size, rounding=rounding).split([*map(len, boxes)]))
    else:
        cells = [
            cell_ranges(of_image, size, grid_size, rounding=rounding)
            for of_image, size in zip(boxes, frame_sizes, strict=True)
        ]
    batch = pad_sequence(cells, batch_first=True)  # (N, K, 4), padded with the empty range
    return with_background(weights_of(swapped(batch, axes), grid_size, dtype))


def swapped(cells: Tensor, axes: str) -> Tensor:
    return cells if axes == "xy" else cells.unflatten(-1, (2, 2)).flip(-1).flatten(-2)


def with_background(fg: Tensor) -> FocalMasks:
    """Both masks from M * S (N, H, W): S is 1/N_bg on the N_bg cells outside every box (eqs. 3-4)."""
    background = (fg == 0).to(fg.dtype)  # 1 - M
    num_bg = background.sum(dim=(1, 2), keepdim=True)  # N_bg of eq. 4, (N, 1, 1)
    return FocalMasks(fg=fg, bg=background / num_bg.clamp(min=1))  # boxes on the whole map: 0, not 0/0


def unsplit_masks(
    batch: int, grid_size: tuple[int, int], dtype: torch.dtype = torch.float32,
    device: torch.device | None = None,
) -> FocalMasks:
    """The paper's unsplit row of Table 1: M = 1 and S = 1 / (H W) on every cell. ``fg`` sums to 1 per image."""
    grid_h, grid_w = grid_size
    everywhere = torch.full((batch, grid_h, grid_w), 1 / (grid_h * grid_w), dtype=dtype, device=device)
    return FocalMasks(fg=everywhere, bg=torch.zeros_like(everywhere))


def check_box_lists(boxes: list[Tensor], frame_sizes: list[tuple[int, int]]) -> None:
    """Raises:
        ValueError: another number of boxes than of frames, or boxes that are not (K, 4).
    """
    if len(boxes) != len(frame_sizes):
        raise ValueError(
            f"boxes and frame_sizes must have one entry per image, got {len(boxes)} and {len(frame_sizes)}")
    for of_image in boxes:
        if of_image.ndim != 2 or of_image.shape[1] != 4:
            raise ValueError(
                f"boxes must have shape (K, 4), got {tuple(of_image.shape)}; an image without boxes has shape (0, 4)")
