"""All that the FGD loss needs of a student's and a teacher's map on a card: names, and which of it a configuration asks for.

    D = T - S;  for each image

    by cell     G^S = mean_c |F|,  logits W_k F                         of each network
    by channel  G^C = mean_hw |F|,  context = sum_hw softmax(W_k F) F   of each network
                shift = sum_hw D
    in all      squares = sum D^2,  fg and bg = sum mask A^S A^C D^2    eq. 9

What follows from these (attentions, eq. 10, the rest of R, eq. 12) is small and left to autograd (level.py); on the CPU loops.py has all of it.
A^C of eq. 9 is known only at the end: until then its sums are kept by channel.
"""
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


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

    def looks_at(self, who: str) -> bool:
        """Is attention of the "student" or "teacher" needed?"""
        return self.compared or who in self.weighed_by


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


KINDS = {torch.float32: "float32", torch.float64: "float64"}        # the precisions that sums run in, as compiled loops name them
