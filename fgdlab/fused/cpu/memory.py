"""Memory for a gradient as large as a map, that is not fetched from the system page by page at every step.

From 32 MB on, the C library gives memory back when it is freed and fetches it anew at each request. The system hands it out in pages of 4 KB,
each at the cost of a fault and of writing zeros: more time than the sums of the loss take to fill it. Linux hands out pages of 2 MB where it is
asked to, and what a step has freed serves the next.
"""
import mmap
import sys
from threading import Lock

import torch
from torch import Tensor

LARGE = 2**25                                                        # bytes; glibc keeps smaller blocks for the next request
ROOMY = 1.5                                                          # kept memory may be so many times larger than what is asked for
FREE = 2                                                             # references to what no tensor uses: the list's, and the one that counts them
held: list[mmap.mmap] = []                                           # fetched before, in use or free
lock = Lock()


def evenly(maps: Tensor) -> bool:
    """Is it the same step from each cell of (N, C, H, W) to the next, at the end of a row too?"""
    (_, _, h, w), (_, _, by_row, by_cell) = maps.shape, maps.stride()
    return h == 1 or w == 1 or by_row == w * by_cell


def empty_like(maps: Tensor) -> Tensor:
    """``torch.empty_like`` for maps (N, C, H, W), on large pages where the system has them and the tensor is large; always with even steps between cells."""
    if not evenly(maps):
        return torch.empty_like(maps, memory_format=torch.contiguous_format)
    if maps.nbytes < LARGE or maps.device.type != "cpu" or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(maps)
    plain = torch.empty_like(maps, device="meta")
    pages = pages_of(plain.nbytes)
    if pages is None:
        return torch.empty_like(maps)
    return torch.frombuffer(pages, dtype=maps.dtype, count=plain.numel()).as_strided(plain.shape, plain.stride())


def pages_of(size: int) -> mmap.mmap | None:
    """Memory that no tensor uses: of an earlier step where it fits, else new, and then all that is free goes back to the system."""
    with lock:
        free = [i for i in range(len(held)) if sys.getrefcount(held[i]) == FREE]
        for i in free:
            if size <= len(held[i]) <= ROOMY * size:
                return held[i]
        for i in reversed(free):
            del held[i]
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)     # a tensor on it holds it, too
        try:
            pages.madvise(mmap.MADV_HUGEPAGE)
        except OSError:                                              # a kernel without them
            return None
        held.append(pages)
        return pages
