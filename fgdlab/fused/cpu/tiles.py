"""Maps of all levels on the CPU cut into tiles that fit the cache and shared out among threads; where each map lies in memory."""
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from ..cuda.reductions import KINDS
from . import loops
from .memory import evenly

CACHE = 2**19                                                        # bytes of both maps in a tile: half of a usual second cache
ALONE = 2**17                                                        # values a thread, below which a second one costs more than it takes over
STRIP = 8                                                            # tiles of half precision that are converted together
NOWHERE = [0, 0, 0, 0]


class Tiles:
    """The tiles of all levels, image after image.

    Args:
        students, teachers: maps (N, C, H, W) of each level, in any order of memory. A map of half precision is converted strip by strip.
        dtype: of the sums.
        outs: gradients that are written, as ``pages.empty_like`` makes them; None for a level that needs none.
    """

    def __init__(self, students: list[Tensor], teachers: list[Tensor], dtype: torch.dtype, outs: list[Tensor | None] = ()):
        n, c, _, _ = students[0].shape
        self.wide = max(min(loops.WIDE, CACHE // (2 * c * dtype.itemsize)) // loops.LINE * loops.LINE, 1)        # cells of a tile
        self.maps, rows, column, tile, turned, self.converted = [], [], 0, 0, False, False
        for level, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
            cells, out = student.shape[2] * student.shape[3], outs[level] if outs else None
            maps = [*(each if evenly(each) else each.contiguous() for each in (student, teacher)), out]
            lay = [step for each in maps for step in (NOWHERE if each is None else memory(each))]
            self.maps.append(maps)
            rows.append([*lay, cells, column, tile])
            column, tile = column + cells, tile + n * -(-cells // self.wide)
            turned = turned or any(each is not None and step != 1 for each, step in zip(maps, lay[3::4], strict=True))
            self.converted = self.converted or student.dtype != dtype or teacher.dtype != dtype
        rows.append([*NOWHERE * 3, 0, column, tile])
        self.table, self.dtype, self.cells, self.count = loops.array(rows, "int64"), dtype, column, tile
        parts = n * c * column // ALONE
        self.threads = min(torch.get_num_threads(), parts) if parts > 1 else 1
        self.scratch = loops.LINE + loops.ROWS + (3 * c * loops.WIDE if turned and not self.converted else 0)

    def each(self, work: Callable[..., None]) -> None:
        """``work(first, last, scratch, table)`` over all tiles."""
        if self.threads == 1:
            return self.some(work, 0, self.count)
        ends = [self.count * part // self.threads for part in range(self.threads + 1)]
        others = [helpers(os.getpid(), self.threads).submit(self.some, work, *ends[part:part + 2]) for part in range(1, self.threads)]
        self.some(work, *ends[:2])
        for other in others:
            other.result()

    def some(self, work: Callable[..., None], first: int, last: int) -> None:
        scratch, = loops.empty(KINDS[self.dtype], (self.scratch,))
        if not self.converted:
            work(first, last, scratch, self.table)
            return
        for level, maps in enumerate(self.maps):
            (begin, cells), end = (int(self.table[level, each]) for each in (loops.TILE, loops.CELLS)), int(self.table[level + 1, loops.TILE])
            of_image = -(-cells // self.wide)
            tile, stop = max(first, begin), min(last, end)
            while tile < stop:
                image, inside = divmod(tile - begin, of_image)
                upto = min(stop, tile + STRIP, begin + (image + 1) * of_image)
                self.strip(work, scratch, level, maps, image, slice(inside * self.wide, (inside + upto - tile) * self.wide), tile, upto)
                tile = upto

    def strip(self, work: Callable[..., None], scratch, level: int, maps: list[Tensor | None], image: int, cells: slice, first: int, last: int) -> None:
        """Some tiles of an image, in the precision of the sums."""
        table, strips = self.table.copy(), [None if each is None else each.flatten(2)[image, :, cells].to(self.dtype).contiguous() for each in maps]
        lay = [NOWHERE if each is None else [each.data_ptr() - cells.start * each.itemsize, 0, each.shape[1], 1] for each in strips]
        table[level, :loops.CELLS] = [step for each in lay for step in each]
        work(first, last, scratch, table)
        if maps[2] is not None:
            maps[2].flatten(2)[image, :, cells] = strips[2]


def memory(maps: Tensor) -> tuple[int, int, int, int]:
    """Where maps (N, C, H, W) lie, as the loops' table has it."""
    (_, _, h, w), (by_image, by_channel, by_row, by_cell) = maps.shape, maps.stride()
    return maps.data_ptr(), by_image, by_channel, 1 if h * w == 1 else by_row if w == 1 else by_cell


@cache
def helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that help the calling one; a process that was forked needs its own. Compiled loops let go of the interpreter while they run."""
    return ThreadPoolExecutor(count - 1)
