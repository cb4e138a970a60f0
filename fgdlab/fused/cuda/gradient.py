"""The gradient of a level's sums on a card, from one read of both maps; the CPU's loops write the same (loops.py).

With g for the gradients that come from above, w = softmax(W_k F) of eq. 13 and D = T - S:

    of S      -2 (A^C A^S (g_fg fg + g_bg bg) + g_squares) D       eqs. 9 and 12
              + sign(S) (g_cell / C + g_channel / HW)               eqs. 5-6
              + g_context w + W_k dl - g_shift                      eqs. 13 and 12
    of W_k    sum_hw dl F,   dl = w (g_context . F - g_context . context)

All but D, sign(S) and F are numbers of a cell times numbers of a channel: no other map is read. This file holds those numbers.
"""
from typing import NamedTuple

from torch import Tensor

from .reductions import Sums


class Factors(NamedTuple):
    """The small factors of a batch; None where a line, or a part of it, is off."""

    focal: Tensor | None             # (N, 1, HW)  A^S (g_fg fg + g_bg bg)
    a_channel: Tensor                # (N, C, 1)
    squares: Tensor | None           # (N, 1, 1)   g_squares
    by_cell: Tensor | None           # (N, 1, HW)  g_cell / C; both or none
    by_channel: Tensor | None        # (N, C, 1)   g_channel / HW
    shift: Tensor | None             # (N, C, 1)   -g_shift


class Context(NamedTuple):
    """What the gradients of eq. 13 need of one network."""

    key: Tensor                      # (C,)     W_k
    upstream: Tensor                 # (N, C)   g_context
    context: Tensor                  # (N, C)
    softmax: Tensor                  # (N, HW)  w


def factors_of(g: Sums, shape: tuple[int, int, int], masks: tuple, a_spatial: Tensor | None, a_channel: Tensor | None, like: Tensor) -> Factors:
    """The factors of a batch (N, C, HW) from the gradients that come from above; new ones get the precision and device of ``like``."""
    n, c, hw = shape
    focal = [mask[:, None] * upstream for mask, upstream in zip(masks, (g.fg, g.bg), strict=True) if upstream is not None]
    signed = g.g_spatial_s is not None or g.g_channel_s is not None
    return Factors(
        focal=None if not focal else sum(focal) if a_spatial is None else sum(focal) * a_spatial[:, None],
        a_channel=like.new_ones(n, c, 1) if a_channel is None else a_channel[:, :, None],
        squares=None if g.squares is None else g.squares[:, None, None],
        by_cell=None if not signed else like.new_zeros(n, 1, hw) if g.g_spatial_s is None else g.g_spatial_s[:, None] / c,
        by_channel=None if not signed else like.new_zeros(n, c, 1) if g.g_channel_s is None else g.g_channel_s[:, :, None] / hw,
        shift=None if g.shift is None else -g.shift[:, :, None],
    )
