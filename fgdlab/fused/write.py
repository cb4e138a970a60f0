"""The gradient of a few images, written block after block from one read of both maps; the lines are those of gradient.py."""
import torch
from torch import Tensor

from .blocks import Workspace
from .gradient import Context, Factors

ATEN, NO_MEAN = torch.ops.aten, 0                                    # derivative of (S - T)^2 in one operation: it has no name in torch itself


def write_images(
    out: Tensor, student: Tensor, teacher: Tensor, factors: Factors, context_s: Context | None, context_t: Context | None, work: Workspace, cells: int,
) -> list[Tensor | None]:
    """Fill ``out``; maps are (n, C, HW), ``cells`` go to a block. Returns the gradients of W_k of both networks by image, (n, C) or None."""
    n, c, hw = student.shape
    contexts = [each for each in (context_s, context_t) if each is not None]
    of_keys = [torch.zeros_like(each.upstream)[:, :, None] for each in contexts]
    level = torch.stack([(each.upstream * each.context).sum(dim=1, keepdim=True) for each in contexts], dim=1) if contexts else None     # g . context
    softmax = [each.softmax.split(cells, 1) for each in contexts]
    columns, rows = columns_of(factors, context_s), work.memory.new_ones(n, 3, min(cells, hw))       # 1, w, dl of the student, block after block
    pieces = Pieces(factors, cells, work, (n, c, hw))
    for i, (s, t, target) in enumerate(zip(student.split(cells, 2), teacher.split(cells, 2), out.split(cells, 2), strict=True)):
        t, s = work.load(0, t), work.load(1, s)
        maps = [block for block, each in ((s, context_s), (t, context_t)) if each is not None]
        row = rows[:, :, :s.shape[2]]
        if contexts:
            pulls = torch.cat([torch.bmm(each.upstream[:, None], block) for each, block in zip(contexts, maps, strict=True)], dim=1)
            w = torch.stack([each[i] for each in softmax], dim=1)
            dl = pulls.sub_(level).mul_(w)                           # w (g . F - g . context), (n, networks, B)
            for of_key, block, each in zip(of_keys, maps, dl.unsqueeze(3).unbind(1), strict=True):
                of_key.baddbmm_(block, each)                         # sum_hw dl F
            if context_s is not None:
                torch.stack([w[:, 0], dl[:, 0]], dim=1, out=row[:, 1:])
        scratch, as_wide = work(2, tuple(s.shape)), target.dtype == work.dtype
        gradient = target if as_wide else work(0, tuple(s.shape))    # in the place of the teacher's copy
        pieces.squares(i, gradient, s, t, scratch)
        if columns is not None:
            gradient.baddbmm_(columns, row[:, :columns.shape[2]])    # (n, C, k) times (n, k, B)
        if factors.by_cell is not None:
            torch.sign(s, out=scratch)
            gradient.addcmul_(scratch, pieces.by_cell[i]).addcmul_(scratch, factors.by_channel)
        if not as_wide:
            target.copy_(gradient)
    found = iter(of_keys)
    return [None if each is None else next(found)[:, :, 0] for each in (context_s, context_t)]


def columns_of(factors: Factors, context: Context | None) -> Tensor | None:
    """What multiplies 1, w and dl of a cell in the third line: (n, C, k), k of 1 or 3; None without that line."""
    if context is None:
        return factors.shift
    shift = torch.zeros_like(context.upstream) if factors.shift is None else factors.shift[:, :, 0]
    return torch.stack([shift, context.upstream, context.key.expand_as(context.upstream)], dim=2)


class Pieces:
    """Factors by cell, cut into blocks, and the line of D."""

    def __init__(self, factors: Factors, cells: int, work: Workspace, shape: tuple[int, int, int]):
        n, c, hw = shape
        self.a_channel, self.flat = factors.a_channel, factors.squares
        self.focal, self.by_cell = (None if row is None else row.split(cells, 2) for row in (factors.focal, factors.by_cell))
        if self.focal is not None and self.flat is not None:         # one factor at most may repeat along memory: others are not vectorised
            self.flat = self.flat.expand((n, c, 1) if work.by_pixel else (n, 1, min(cells, hw))).contiguous()

    def squares(self, i: int, gradient: Tensor, student: Tensor, teacher: Tensor, scratch: Tensor) -> None:
        """The line of D at block ``i``, written to ``gradient``: 2 (S - T) times what all squares weigh."""
        if self.focal is None and self.flat is None:
            gradient.zero_()
            return
        if self.focal is None:
            scratch.copy_(self.flat)
        elif self.flat is None:
            torch.mul(self.focal[i], self.a_channel, out=scratch)
        else:
            torch.addcmul(self.flat[:, :, :scratch.shape[2]], self.focal[i], self.a_channel, out=scratch)
        ATEN.mse_loss_backward.grad_input(scratch, student, teacher, NO_MEAN, grad_input=gradient)
