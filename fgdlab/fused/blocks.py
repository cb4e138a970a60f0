"""Maps cut into blocks that stay in the processor's cache.

A block is (n, C, B): all channels of B cells of n images. Where a map is large, n is 1 and B a part of its cells; where maps are small,
B is all cells and n as many images as fit. Maps may lie in memory row after row, or pixel after pixel (channels_last).
"""
import torch
from torch import Tensor

BLOCK = 2**18                                                        # values a thread: smaller blocks cost calls, larger ones leave the cache


def block_sizes(n: int, c: int, hw: int) -> tuple[int, int]:
    """(images, cells) of a block."""
    values = BLOCK * torch.get_num_threads()
    if c * hw <= values:
        return min(n, values // (c * hw)), hw
    parts = -(-c * hw // values)
    return 1, -(-hw // parts)


def pixel_after_pixel(maps: Tensor) -> bool:
    """Do the channels of a pixel (N, C, HW) lie side by side?"""
    return maps.stride(1) == 1 and maps.shape[1] > 1


class Workspace:
    """A few blocks of memory that every step of the loop uses again, in the order in which the maps lie and at the precision of the sums.

    Args:
        count: how many.
        like: the maps (N, C, HW) that will be read.
        blocks: (images, cells) of a block.
    """

    def __init__(self, count: int, like: Tensor, blocks: tuple[int, int], dtype: torch.dtype):
        images, cells = blocks
        self.by_pixel, self.dtype = pixel_after_pixel(like), dtype
        self.memory = torch.empty(count, images * like.shape[1] * cells, dtype=dtype, device=like.device)

    def __call__(self, which: int, shape: tuple[int, int, int]) -> Tensor:
        """One of them as a block (n, C, B) without gaps."""
        n, c, b = shape
        flat = self.memory[which, :n * c * b]
        return flat.view(n, b, c).transpose(1, 2) if self.by_pixel else flat.view(n, c, b)

    def load(self, which: int, block: Tensor) -> Tensor:
        """A block of a map: itself where its precision is that of the sums and it lies in the same order, else a copy."""
        in_order = block.stride(1 if self.by_pixel else 2) == 1
        return block if block.dtype == self.dtype and in_order else self(which, tuple(block.shape)).copy_(block)
