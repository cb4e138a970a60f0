"""The gradient of a level's sums, from one read of both maps.

With g for the gradients that come from above, w = softmax(W_k F) of eq. 13 and D = T - S:

    of S      -2 (A^C A^S (g_fg fg + g_bg bg) + g_squares) D       eq. 9 and squares
              + sign(S) (g_cell / C + g_channel / HW)               eqs. 5-6
              + g_context w + W_k dl - g_shift                      eq. 13 and shift
    of W_k    sum_hw dl F,   dl = w (g_context . F - g_context . context)

All but D, sign(S) and F are numbers of a cell times numbers of a channel: no other map is read.
"""
from typing import NamedTuple

import torch
from torch import Tensor

from .blocks import Workspace
from .gather import weighted


class Factors(NamedTuple):
    """The small factors of the first two lines, for some images; None where a line, or a part of it, is off."""

    focal: Tensor | None             # (n, 1, HW)  -2 A^S (g_fg fg + g_bg bg)
    a_channel: Tensor                # (n, C, 1)
    flat: Tensor | None              # (n, 1, 1)   -2 g_squares
    by_cell: Tensor | None           # (n, 1, HW)  g_cell / C; both or none
    by_channel: Tensor | None        # (n, C, 1)   g_channel / HW

    def of(self, few: slice) -> "Factors":
        """Those of a few images."""
        return Factors(*(None if each is None else each[few] for each in self))


class Columns:
    """The third line for a few images: ``columns`` (n, C, k) times rows (n, k, HW), k of 1 or 3; and the gradient of W_k on the way.

    Args:
        shift: -g_shift, (n, C).
        key: W_k, (C,), or None where only the shift comes back.
        upstream, context: (n, C).
        softmax: w, (n, HW).
    """

    def __init__(
        self, shift: Tensor, key: Tensor | None = None, upstream: Tensor | None = None, context: Tensor | None = None, softmax: Tensor | None = None,
    ):
        self.columns, self.softmax = shift[:, :, None], softmax
        if key is not None:
            self.columns = torch.stack([shift, upstream, key.expand_as(upstream)], dim=2)
            self.upstream, self.level = upstream[:, None], (upstream * context).sum(dim=1, keepdim=True)
            self.of_key = torch.zeros_like(context)

    def rows(self, block: Tensor, cells: slice) -> Tensor:
        """1, w and dl at the cells of a block of F (n, C, B): (n, k, B)."""
        if self.softmax is None:
            return torch.ones_like(block[:, :1])
        softmax = self.softmax[:, cells]
        logits = softmax * (torch.bmm(self.upstream, block)[:, 0] - self.level)
        self.of_key += weighted(block, logits)
        return torch.stack([torch.ones_like(logits), softmax, logits], dim=1)


def write_gradient(
    out: Tensor, student: Tensor, teacher: Tensor, factors: Factors, columns_s: Columns | None, columns_t: Columns | None, work: Workspace, step: int,
) -> None:
    """Fill ``out`` with the gradient of a few students' maps, and let both columns sum those of W_k. Maps (n, C, HW), ``step`` cells at a time."""
    for start in range(0, student.shape[2], step):
        cells = slice(start, start + step)
        s, t = student[:, :, cells], teacher[:, :, cells]
        shape = tuple(s.shape)
        t, s = work.load(0, t), work.load(1, s)
        rows_s = None if columns_s is None else columns_s.rows(s, cells)
        if columns_t is not None:
            columns_t.rows(t, cells)
        gradient, sign, scratch = work(0, shape), work(1, shape), work(2, shape)     # in the place of copies of t and s, if made
        squares_gradient(gradient, s, t, factors, cells, scratch)
        if factors.by_cell is not None:
            torch.add(factors.by_cell[:, :, cells], factors.by_channel, out=scratch)
            gradient.addcmul_(torch.sign(s, out=sign), scratch)
        if rows_s is not None:
            gradient.baddbmm_(columns_s.columns, rows_s)
        out[:, :, cells].copy_(gradient)


def squares_gradient(gradient: Tensor, student: Tensor, teacher: Tensor, factors: Factors, cells: slice, scratch: Tensor) -> None:
    """The line of D, written to a block of ``gradient``."""
    if factors.focal is None and factors.flat is None:
        gradient.zero_()
        return
    torch.sub(teacher, student, out=gradient)
    if factors.focal is None:
        gradient.mul_(factors.flat)
        return
    torch.mul(factors.focal[:, :, cells], factors.a_channel, out=scratch)
    gradient.mul_(scratch if factors.flat is None else scratch.add_(factors.flat))
