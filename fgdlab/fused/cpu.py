"""The sums and the gradient of a level on the CPU: block after block of both maps, each in the cache while all is taken from it."""
import torch
from torch import Tensor

from .blocks import Workspace, block_sizes
from .gradient import Context, Factors
from .read import read_images
from .sums import Plan, sum_dtype
from .write import write_images


def read_maps(
    student: Tensor, teacher: Tensor, masks: list[Tensor], key_s: Tensor | None, key_t: Tensor | None, plan: Plan,
) -> dict[str, Tensor | None]:
    """Fields of :class:`Sums` and what the gradient needs, by name; "focal" is eq. 9 with each of ``masks``, (len(masks),).

    Args:
        student, teacher: (N, C, HW).
        masks: none, or some of fg and bg, each (N, HW), in the precision of the sums.
        key_s, key_t: W_k of both networks, or None.
    """
    images, cells = blocks = block_sizes(*student.shape)
    work, groups = Workspace(3, student, blocks, sum_dtype(student, teacher)), []
    for few in range(0, len(student), images):
        few = slice(few, few + images)
        stacked = torch.stack([mask[few] for mask in masks], dim=1) if masks else None
        groups.append(read_images(student[few], teacher[few], stacked, key_s, key_t, plan, work, cells))
    found = {name: None if one is None else torch.cat([group[name] for group in groups]) for name, one in groups[0].items()}
    return {**found, "focal": found["focal"].sum(dim=0) if masks else None}


def write_gradient(out: Tensor, student: Tensor, teacher: Tensor, factors: Factors, contexts: list[Context | None]) -> list[Tensor | None]:
    """Fill ``out`` (N, C, HW) with the gradient of the student's map; returns those of W_k (C,) of the student and of the teacher."""
    images, cells = blocks = block_sizes(*student.shape)
    work, of_keys = Workspace(3, student, blocks, sum_dtype(student, teacher)), [[], []]
    for few in range(0, len(student), images):
        few = slice(few, few + images)
        given = [None if context is None else context.of(few) for context in contexts]
        for kept, found in zip(of_keys, write_images(out[few], student[few], teacher[few], factors.of(few), *given, work, cells), strict=True):
            kept += [] if found is None else [found]
    return [torch.cat(kept).sum(dim=0) if kept else None for kept in of_keys]
