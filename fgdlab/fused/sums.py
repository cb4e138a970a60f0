"""All that the FGD loss needs of a student's and a teacher's map, from one read of both; and its gradient, from a second one.

    D = T - S;  for each image

    by cell     G^S = mean_c |F|,  logits W_k F                         of each network
    by channel  G^C = mean_hw |F|,  context = sum_hw softmax(W_k F) F   of each network
                shift = sum_hw D
    in all      squares = sum D^2,  fg and bg = sum mask A^S A^C D^2    eq. 9

What follows from these (attentions, eq. 10, the rest of R, eq. 12) is small and is left to autograd; see level.py.
A^C of eq. 9 is known only at the end: until then its sums are kept by channel.
"""
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import Workspace
from .gather import OneMap, added, below_peak, to_scale, weighted


@dataclass(frozen=True)
class Plan:
    """Which sums a configuration asks for."""

    temperature: float
    spatial: bool                                                    # parts of attention that are on
    channel: bool
    weighed_by: tuple[str, ...]                                      # whose attention weighs eq. 9, in equal parts; empty without eq. 9
    compared: bool                                                   # are the attentions of both needed for eq. 10?
    squares: bool
    shift: bool

    def one_map(self, who: str, key: Tensor | None) -> OneMap:
        needed = self.compared or who in self.weighed_by
        return OneMap(self.spatial and needed, self.channel and needed, None if key is None else key.reshape(1, 1, -1))


class Sums(NamedTuple):
    """What came out, None where nobody asked. Averages over the batch are left to the caller."""

    fg: Tensor | None                # (), over the batch
    bg: Tensor | None
    squares: Tensor | None           # (N,)
    shift: Tensor | None             # (N, C)
    g_spatial_s: Tensor | None       # (N, HW)
    g_channel_s: Tensor | None       # (N, C)
    context_s: Tensor | None         # (N, C)
    context_t: Tensor | None
    g_spatial_t: Tensor | None       # of the teacher: constants to the gradient
    g_channel_t: Tensor | None


class Weighed:
    """sum_hw mask A^S D^2 by channel, with the A^S of one network.

    Args:
        network: the map whose blocks have been read just before.
        masks: those of fg and bg that are asked for, each (n, HW).
    """

    def __init__(self, network: OneMap, masks: int, temperature: float):
        self.network, self.temperature = network, temperature
        self.parts, self.peaks = [[] for _ in range(masks)], []

    def read(self, squares: Tensor, masks: list[Tensor]) -> None:
        """A block of D^2 (n, C, B) and the same cells of the masks (n, B)."""
        if self.network.spatial:
            powers, peak = below_peak(self.network.by_cell[-1] / (squares.shape[1] * self.temperature))
            self.peaks.append(peak)
            masks = [mask * powers for mask in masks]
        for parts, mask in zip(self.parts, masks, strict=True):
            parts.append(weighted(squares, mask))

    def close(self) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
        """The sums by channel (n, C) of each mask; A^S (n, HW), A^C (n, C), None where off. After the network's own ``close``."""
        a_spatial = scale = a_channel = None
        if self.network.spatial:
            softmax, scale = to_scale(self.network.g_spatial / self.temperature, self.peaks)
            cells = softmax.shape[1]
            a_spatial, scale = cells * softmax, cells * scale
        if self.network.channel:
            g_channel = self.network.g_channel
            a_channel = g_channel.shape[1] * torch.softmax(g_channel / self.temperature, dim=1)
        return [added(parts, scale) for parts in self.parts], a_spatial, a_channel


def mean_of(tensors: list[Tensor | None]) -> Tensor | None:
    return None if tensors[0] is None else tensors[0] if len(tensors) == 1 else sum(tensors) / len(tensors)


def read_images(student, teacher, masks, key_s, key_t, plan: Plan, work: Workspace, cells: int) -> dict[str, Tensor | None]:
    """The sums of a few images, read once. Maps (n, C, HW), masks (n, HW)."""
    of_student, of_teacher = plan.one_map("student", key_s), plan.one_map("teacher", key_t)
    weighers = [Weighed({"student": of_student, "teacher": of_teacher}[who], len(masks), plan.temperature) for who in plan.weighed_by]
    shift, squares = [], []
    for s, t, *of_cells in zip(student.split(cells, 2), teacher.split(cells, 2), *(mask.split(cells, 1) for mask in masks), strict=True):
        t, s, scratch = work.load(0, t), work.load(1, s), work(2, tuple(s.shape))
        of_teacher.read(t, scratch)
        of_student.read(s, scratch)
        difference = torch.sub(t, s, out=scratch)
        if plan.shift:
            shift.append(difference.sum(dim=2))
        square = difference.mul_(difference)
        if plan.squares:
            squares.append(square.sum(dim=(1, 2)))
        for weigher in weighers:
            weigher.read(square, of_cells)
    of_student.close(*student.shape[1:])
    of_teacher.close(*student.shape[1:])
    closed = [weigher.close() for weigher in weighers]
    a_spatial, a_channel = (mean_of([each[i] for each in closed]) if closed else None for i in (1, 2))
    focal = [mean_of([each[0][i] for each in closed]) for i in range(len(masks))]
    return {
        "focal": torch.stack([(each if a_channel is None else each * a_channel).sum() for each in focal])[None] if focal else None,
        "squares": torch.stack(squares).sum(dim=0) if plan.squares else None, "shift": added(shift) if plan.shift else None,
        "g_spatial_s": of_student.g_spatial, "g_channel_s": of_student.g_channel, "context_s": of_student.context, "softmax_s": of_student.softmax,
        "g_spatial_t": of_teacher.g_spatial, "g_channel_t": of_teacher.g_channel, "context_t": of_teacher.context, "softmax_t": of_teacher.softmax,
        "a_spatial": a_spatial, "a_channel": a_channel,
    }


def sum_dtype(*maps: Tensor) -> torch.dtype:
    """Sums run in float32; in float64 where a map is of float64."""
    return torch.float64 if torch.float64 in {each.dtype for each in maps} else torch.float32
