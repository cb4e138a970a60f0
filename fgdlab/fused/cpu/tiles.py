"""Cuts the maps of all levels into tiles that fit into the cache, and shares them among threads."""
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import torch
from torch import Tensor

from . import loops
from .memory import is_uniform

KINDS = {torch.float32: "float32", torch.float64: "float64"}  # precisions of sums, as numba names them
CACHE = 2**19  # bytes of both maps in a tile: half of a usual L2 cache
VALUES_PER_THREAD = 2**17  # below this, a second thread costs more than it saves
NO_MAP = [0, 0, 0, 0]


class Tiles:
    """The tiles of all levels, image by image.

    students, teachers: maps (N, C, H, W) of each level, in any memory format.
    dtype: of the maps and the sums.
    outs: gradients to write, from ``memory.empty_like``; None for a level that needs none.
    """

    def __init__(
        self, students: list[Tensor], teachers: list[Tensor], dtype: torch.dtype, outs: list[Tensor | None] = (),
    ):
        n, c, _, _ = students[0].shape
        largest = min(loops.WIDE, CACHE // (2 * c * dtype.itemsize))
        self.wide = max(largest // loops.LINE * loops.LINE, 1)  # cells of a tile
        self.maps, rows, column, tile, copies = [], [], 0, 0, False
        for level, (student, teacher) in enumerate(zip(students, teachers, strict=True)):
            cells, out = student.shape[2] * student.shape[3], outs[level] if outs else None
            maps = [*(each if is_uniform(each) else each.contiguous() for each in (student, teacher)), out]
            layout = [number for each in maps for number in (NO_MAP if each is None else layout_of(each))]
            self.maps.append(maps)  # the table has only their addresses
            rows.append([*layout, cells, column, tile])
            column, tile = column + cells, tile + n * -(-cells // self.wide)
            strides = zip(maps, layout[3::4], strict=True)
            copies = copies or any(each is not None and stride != 1 for each, stride in strides)
        rows.append([*NO_MAP * 3, 0, column, tile])
        self.table, self.dtype, self.cells, self.count = loops.array(rows, "int64"), dtype, column, tile
        self.threads = max(min(torch.get_num_threads(), n * c * column // VALUES_PER_THREAD), 1)
        self.scratch = loops.LINE + loops.ROWS + (3 * c * loops.WIDE if copies else 0)

    def run(self, work: Callable[..., None]) -> None:
        if self.threads == 1:
            return self.run_some(work, 0, self.count)
        ends = [self.count * part // self.threads for part in range(self.threads + 1)]
        pool = thread_pool(os.getpid(), self.threads)
        others = [pool.submit(self.run_some, work, *ends[part:part + 2]) for part in range(1, self.threads)]
        self.run_some(work, *ends[:2])
        for other in others:
            other.result()

    def run_some(self, work: Callable[..., None], first: int, last: int) -> None:
        work(first, last, *loops.empty(KINDS[self.dtype], (self.scratch,)), self.table)


def layout_of(maps: Tensor) -> tuple[int, int, int, int]:
    (_, _, h, w), (by_image, by_channel, by_row, by_cell) = maps.shape, maps.stride()
    return maps.data_ptr(), by_image, by_channel, 1 if h * w == 1 else by_row if w == 1 else by_cell


@cache
def thread_pool(process: int, threads: int) -> ThreadPoolExecutor:
    """Threads beside the calling one; a forked process needs its own. Compiled loops release the GIL."""
    return ThreadPoolExecutor(threads - 1)
