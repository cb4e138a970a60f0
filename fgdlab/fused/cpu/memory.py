"""Memory for a gradient as large as a map, on large pages that are kept for the next step.

From 32 MB on, the C library returns freed memory to the system, which hands it out anew in pages of 4 KB, with a fault
and zeros for each: that takes longer than the sums that fill it. Linux gives pages of 2 MB on request.
"""
import mmap
import sys
from threading import Lock

import torch
from torch import Tensor

LARGE = 2**25  # bytes; glibc keeps smaller blocks for the next request
ROOMY = 1.5  # kept memory may exceed the request by this factor
FREE = 2  # references to unused memory: the list's and getrefcount's own
held: list[mmap.mmap] = []  # memory in use or free
lock = Lock()


def is_uniform(maps: Tensor) -> bool:
    """Is the stride from each cell of (N, C, H, W) to the next the same, also at the end of a row?"""
    (_, _, h, w), (_, _, by_row, by_cell) = maps.shape, maps.stride()
    return h == 1 or w == 1 or by_row == w * by_cell


def empty_like(maps: Tensor) -> Tensor:
    """``torch.empty_like`` with uniform strides between cells; large maps (N, C, H, W) on large pages."""
    if not is_uniform(maps):
        return torch.empty_like(maps, memory_format=torch.contiguous_format)
    if maps.nbytes < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(maps)
    plain = torch.empty_like(maps, device="meta")
    pages = large_pages(plain.nbytes)
    if pages is None:
        return torch.empty_like(maps)
    return torch.frombuffer(pages, dtype=maps.dtype, count=plain.numel()).as_strided(plain.shape, plain.stride())


def large_pages(size: int) -> mmap.mmap | None:
    """Kept memory that fits and that no tensor uses, else new, and then all free memory goes back to the system."""
    with lock:
        free = [i for i in range(len(held)) if sys.getrefcount(held[i]) == FREE]
        for i in free:
            if size <= len(held[i]) <= ROOMY * size:
                return held[i]
        for i in reversed(free):
            del held[i]
        pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)  # its tensor holds it, too
        try:
            pages.madvise(mmap.MADV_HUGEPAGE)
        except OSError:  # a kernel without large pages
            return None
        held.append(pages)
        return pages
