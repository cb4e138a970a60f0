"""Maps on the CPU cut into tiles that fit the cache, shared out among threads: which loop reads what, and where it lies in memory."""
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from . import loops

CACHE = 2**19                                                        # bytes of both maps in a tile: half of a usual second cache
ALONE = 2**17                                                        # values a thread, below which a second one costs more than it takes over
STRIP = 8                                                            # tiles of half precision that are converted together


class Tiles:
    """The tiles of maps of one size, image after image.

    Args:
        maps: of shape (N, C, H, W), in any order of memory.
        dtype: of the sums. A map of another precision is converted strip by strip.
        written: is the first of the maps written, not read?
    """

    def __init__(self, maps: list[Tensor], dtype: torch.dtype, written: bool = False):
        n, c, h, w = maps[0].shape
        self.maps, self.dtype, self.written = [each if evenly(each) else each.contiguous() for each in maps], dtype, written
        self.wide = max(min(loops.WIDE, CACHE // (2 * c * dtype.itemsize)) // loops.LINE * loops.LINE, 1)        # cells of a tile
        self.of_image = -(-h * w // self.wide)
        self.count, self.threads = n * self.of_image, min(torch.get_num_threads(), max(1, n * c * h * w // ALONE))
        self.memory = [memory(each) for each in self.maps]
        self.converted = any(each.dtype != dtype for each in maps)
        turned = not self.converted and any(lay[3] != 1 for _, lay in self.memory)
        self.scratch = loops.ROWS + (3 * c * loops.WIDE if turned else 0)

    def each(self, work: Callable[..., None]) -> None:
        """``work(first, last, scratch, *memory of the maps)`` over all tiles."""
        if self.threads == 1:
            return self.some(work, 0, self.count)
        ends = [self.count * part // self.threads for part in range(self.threads + 1)]
        others = [helpers(os.getpid(), self.threads).submit(self.some, work, *ends[part:part + 2]) for part in range(1, self.threads)]
        self.some(work, *ends[:2])
        for other in others:
            other.result()

    def some(self, work: Callable[..., None], first: int, last: int) -> None:
        scratch = torch.empty(self.scratch, dtype=self.dtype).numpy()
        if not self.converted:
            work(first, last, scratch, *self.memory)
            return
        maps = [each.flatten(2) for each in self.maps]
        while first < last:
            image = first // self.of_image
            end = min(last, first + STRIP, (image + 1) * self.of_image)
            start, stop = (tile - image * self.of_image for tile in (first, end))
            cells = slice(start * self.wide, stop * self.wide)
            strips = [each[image, :, cells].to(self.dtype).contiguous() for each in maps]
            work(first, end, scratch, *((each.data_ptr(), (-cells.start, 0, each.shape[1], 1)) for each in strips))
            if self.written:
                maps[0][image, :, cells] = strips[0]
            first = end


def evenly(maps: Tensor) -> bool:
    """Is it the same step from each cell of (N, C, H, W) to the next, at the end of a row too?"""
    (_, _, h, w), (_, _, by_row, by_cell) = maps.shape, maps.stride()
    return h == 1 or w == 1 or by_row == w * by_cell


def memory(maps: Tensor) -> tuple[int, tuple[int, int, int, int]]:
    """Where maps (N, C, H, W) lie, as the loops take it."""
    (_, _, h, w), (by_image, by_channel, by_row, by_cell) = maps.shape, maps.stride()
    return maps.data_ptr(), (0, by_image, by_channel, 1 if h * w == 1 else by_row if w == 1 else by_cell)


@cache
def helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that help the calling one; a process that was forked needs its own. Compiled loops let go of the interpreter while they run."""
    return ThreadPoolExecutor(count - 1)
