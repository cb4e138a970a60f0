"""The masks of eqs. 2-4 painted in a time that hardly depends on the number of boxes.

masks.py asks every cell of every box. Here a box marks four cells of a pile of tables, and the marks are spread with halving steps:

    a box of h x w cells, 2^a <= h, 2^b <= w  =  the union of four blocks of 2^a x 2^b cells, one in each of its corners
    table (a, b) at (i, j)                    =  largest weight of such a block that starts at cell (i, j)
    table (a - 1, b)                          =  max of itself, of table (a, b), and of table (a, b) moved by 2^(a-1) rows

so table (0, 0) ends as the largest weight over each cell, that is the smallest box's. A maximum does not mind that blocks overlap.
Tables of one height are filled, spread to one, and that one is handed down to the next height: few lie in memory at a time.
Boxes of all images stand in one list: an image with 1,000 boxes costs the others nothing.
"""
import torch
from torch import Tensor

from ..masks import AXES, FocalMasks, cell_ranges, focal_masks

FEW = 2**19                                                          # boxes x cells up to which asking every cell is quicker
TABLE = 2**18                                                        # values in the tables of one group of images: 1 MB in float32


def painted_masks(
    boxes: list[Tensor], frame_sizes: list[tuple[int, int]], grid_size: tuple[int, int], *, rounding: str = "authors", axes: str = "xy",
    dtype: torch.dtype = torch.float32,
) -> FocalMasks:
    """``masks.focal_masks``, to the last bit; the arguments are the same."""
    check_masks(boxes, frame_sizes, axes)
    if boxes and boxes[0].is_cuda:
        from .paint_card import painted_on_card

        return painted_on_card(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype)
    if len(boxes) * max(map(len, boxes), default=0) * grid_size[0] * grid_size[1] <= FEW:
        return focal_masks(boxes, frame_sizes, grid_size, rounding=rounding, axes=axes, dtype=dtype)
    if len(set(frame_sizes)) == 1:                                   # one frame for all: one projection for all
        cells = cell_ranges(torch.cat(boxes), frame_sizes[0], grid_size, rounding=rounding)
    else:
        cells = torch.cat([cell_ranges(of_image, size, grid_size, rounding=rounding) for of_image, size in zip(boxes, frame_sizes, strict=True)])
    cells = cells[:, [1, 0, 3, 2]] if axes == "yx" else cells
    counts = [len(of_image) for of_image in boxes]
    group = max(1, TABLE // (grid_size[1].bit_length() * grid_size[0] * grid_size[1]))               # images at a time
    ends = [sum(counts[:first]) for first in range(0, len(counts), group)] + [len(cells)]
    fg = torch.cat([
        box_weights(cells[start:end], counts[i * group:(i + 1) * group], grid_size, dtype)
        for i, (start, end) in enumerate(zip(ends[:-1], ends[1:], strict=True))
    ])                                                               # (N, H, W)
    background = (fg == 0).to(dtype)                                 # 1 - M
    num_bg = background.sum(dim=(1, 2), keepdim=True)                # N_bg of eq. 4, (N, 1, 1)
    return FocalMasks(fg=fg, bg=background / num_bg.clamp(min=1))


def check_masks(boxes: list[Tensor], frame_sizes: list[tuple[int, int]], axes: str) -> None:
    if axes not in AXES:
        raise ValueError(f"axes must be one of {', '.join(AXES)}, got {axes!r}")
    if len(boxes) != len(frame_sizes):
        raise ValueError(f"boxes and frame_sizes must have one entry an image, got {len(boxes)} and {len(frame_sizes)}")


def box_weights(cells: Tensor, counts: list[int], grid_size: tuple[int, int], dtype: torch.dtype) -> Tensor:
    """S of eq. 3 on the foreground, for a few images: 1 / (H_r W_r) inside box r, the smallest box wins.

    Args:
        cells: (K, 4) col0, row0, col1, row1 of all boxes, image after image.
        counts: how many of them belong to each image.
    Returns:
        (N, H, W), 0 outside every box.
    """
    (grid_h, grid_w), n = grid_size, len(counts)
    if not len(cells):
        return torch.zeros(n, grid_h, grid_w, dtype=dtype, device=cells.device)
    limits = cells.new_tensor([grid_w, grid_h] * 2)
    col0, row0, col1, row1 = cells.clamp(min=0).minimum(limits).unbind(-1)          # the part that lies on the grid
    sizes = (cells[:, 2:] - cells[:, :2]).prod(dim=1).clamp(min=1)           # of the whole box, also of what overhangs
    weight = torch.where((col1 > col0) & (row1 > row0), 1 / sizes.to(dtype), 0)     # (K,)
    a, b = floor_log2(row1 - row0), floor_log2(col1 - col0)
    image = torch.repeat_interleave(torch.tensor(counts, device=cells.device), output_size=len(cells))
    rows = torch.stack([row0, row1 - (1 << a)]).clamp(0, grid_h - 1)                # (2, K) first cells: at the near edge, or to end at the far one
    cols = torch.stack([col0, col1 - (1 << b)]).clamp(0, grid_w - 1)
    place = ((b * n + image) * grid_h + rows[:, None]) * grid_w + cols              # (2, 2, K)
    table = torch.empty(grid_w.bit_length(), n, grid_h, grid_w, dtype=dtype, device=cells.device)
    found = torch.zeros(n, grid_h, grid_w, dtype=dtype, device=cells.device)        # of the heights above
    for height in range(grid_h.bit_length() - 1, -1, -1):
        of_height, spread = a == height, torch.zeros_like(found)
        if of_height.any():
            table.zero_().view(-1).scatter_reduce_(0, place[..., of_height].flatten(), weight[of_height].expand_as(place[..., of_height]).flatten(), "amax")
            for width in range(len(table) - 1, 0, -1):
                hand_down(table[width], table[width - 1], 1 << (width - 1), dim=-1)
            spread = table[0].clone()
        hand_down(found, spread, 1 << height, dim=-2)
        found = spread
    return found


def floor_log2(whole: Tensor) -> Tensor:
    """The largest a with 2^a <= a whole number; 0 for what is below 2. Exact, where a logarithm in floating point is not."""
    return (whole[..., None] >= 1 << torch.arange(1, 31, device=whole.device)).sum(dim=-1)


def hand_down(wide: Tensor, narrow: Tensor, half: int, dim: int) -> None:
    """Blocks of ``wide``, twice as long as those of ``narrow``, go into ``narrow`` as two: at the same cell and ``half`` a block further."""
    length = narrow.shape[dim] - half
    torch.maximum(narrow, wide, out=narrow)
    if length > 0:
        moved = narrow.narrow(dim, half, length)
        torch.maximum(moved, wide.narrow(dim, 0, length), out=moved)
