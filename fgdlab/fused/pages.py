"""Memory for a gradient as large as a map, without one page fault for every 4 KB of it.

From 32 MB on, the C library fetches fresh memory from the system at each request, and the system hands it out in pages of 4 KB, each at the
cost of a fault: more time than the sums of the loss take to fill it. Linux hands out pages of 2 MB where it is asked to.
"""
import mmap

import torch
from torch import Tensor

LARGE = 2**25                                                        # bytes; glibc keeps smaller blocks for the next request


def empty_like(maps: Tensor) -> Tensor:
    """``torch.empty_like`` for maps (N, C, H, W), on large pages where the system has them and the tensor is large."""
    plain = torch.empty_like(maps, device="meta")
    size = plain.nbytes
    if maps.device.type != "cpu" or size < LARGE or not hasattr(mmap, "MADV_HUGEPAGE"):
        return torch.empty_like(maps)
    pages = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)         # freed with the tensor that holds it
    try:
        pages.madvise(mmap.MADV_HUGEPAGE)
    except OSError:                                                  # a kernel without them
        return torch.empty_like(maps)
    return torch.frombuffer(pages, dtype=maps.dtype).as_strided(plain.shape, plain.stride())
