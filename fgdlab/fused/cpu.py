"""The sums and the gradient of a level on the CPU: block after block of both maps, each in the cache while all is taken from it."""
import torch
from torch import Tensor

from .blocks import Workspace, block_sizes
from .gather import OneMap, Weighed, added, weighted
from .gradient import Context, Factors
from .sums import Plan, sum_dtype

ATEN, NO_MEAN = torch.ops.aten, 0                                    # derivative of (S - T)^2 in one operation: it has no name in torch itself


# ---- forward -----------------------------------------------------------------------------------------------------------------------

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
    for start in range(0, len(student), images):
        few = slice(start, start + images)
        groups.append(read_images(student[few], teacher[few], [mask[few] for mask in masks], key_s, key_t, plan, work, cells))
    found = {name: None if one is None else torch.cat([group[name] for group in groups]) for name, one in groups[0].items()}
    return {**found, "focal": found["focal"].sum(dim=0) if masks else None}


def read_images(student, teacher, masks, key_s, key_t, plan: Plan, work: Workspace, cells: int) -> dict[str, Tensor | None]:
    """The sums of a few images, read once. Maps (n, C, HW), masks (n, HW)."""
    of_student, of_teacher = one_map("student", key_s, plan), one_map("teacher", key_t, plan)
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


def one_map(who: str, key: Tensor | None, plan: Plan) -> OneMap:
    looks = plan.looks_at(who)
    return OneMap(plan.spatial and looks, plan.channel and looks, None if key is None else key.reshape(1, 1, -1))


def mean_of(tensors: list[Tensor | None]) -> Tensor | None:
    return None if tensors[0] is None else tensors[0] if len(tensors) == 1 else sum(tensors) / len(tensors)


# ---- backward ----------------------------------------------------------------------------------------------------------------------

def write_gradient(out: Tensor, student: Tensor, teacher: Tensor, factors: Factors, contexts: list[Context | None]) -> list[Tensor | None]:
    """Fill ``out`` (N, C, HW) with the gradient of the student's map; returns those of W_k (C,) of the student and of the teacher."""
    images, cells = blocks = block_sizes(*student.shape)
    work, of_keys = Workspace(3, student, blocks, sum_dtype(student, teacher)), [[], []]
    for start in range(0, len(student), images):
        few = slice(start, start + images)
        looks = [None if context is None else Look(context.of(few)) for context in contexts]
        gradient_of_images(out[few], student[few], teacher[few], factors.of(few), *looks, work, cells)
        for found, look in zip(of_keys, looks, strict=True):
            found += [] if look is None else [look.of_key]
    return [torch.cat(found).sum(dim=0) if found else None for found in of_keys]


class Look:
    """Eq. 13 of one network, for a few images: dl by cell, and the gradient of W_k on the way."""

    def __init__(self, given: Context):
        self.given, self.upstream = given, given.upstream[:, None]
        self.level = (given.upstream * given.context).sum(dim=1, keepdim=True)       # g . context
        self.of_key = torch.zeros_like(given.context)

    def dl(self, block: Tensor, cells: slice) -> Tensor:
        """w (g . F - g . context) at the cells of a block of F (n, C, B): (n, B)."""
        logits = self.given.softmax[:, cells] * (torch.bmm(self.upstream, block)[:, 0] - self.level)
        self.of_key += weighted(block, logits)
        return logits


def gradient_of_images(out, student, teacher, factors: Factors, look_s: Look | None, look_t: Look | None, work: Workspace, step: int) -> None:
    """The gradient of a few students' maps, ``step`` cells at a time. Maps (n, C, HW)."""
    columns = columns_of(factors.shift, look_s)
    for start in range(0, student.shape[2], step):
        cells = slice(start, start + step)
        t, s, target = work.load(0, teacher[:, :, cells]), work.load(1, student[:, :, cells]), out[:, :, cells]
        dl = None if look_s is None else look_s.dl(s, cells)
        if look_t is not None:
            look_t.dl(t, cells)
        gradient, sign, scratch = (work(i, tuple(s.shape)) for i in range(3))        # in the place of copies of t and s, if made
        squares_gradient(gradient, s, t, factors, cells, scratch)
        if columns is not None:
            rows = [torch.ones_like(s[:, 0])] + ([] if dl is None else [look_s.given.softmax[:, cells], dl])
            gradient.baddbmm_(columns, torch.stack(rows, dim=1))                     # (n, C, k) times (n, k, B)
        if factors.by_cell is None:
            target.copy_(gradient)
            continue
        torch.sign(s, out=sign)
        torch.add(factors.by_cell[:, :, cells], factors.by_channel, out=scratch)
        if target.dtype == gradient.dtype:
            torch.addcmul(gradient, sign, scratch, out=target)
        else:
            target.copy_(gradient.addcmul_(sign, scratch))


def columns_of(shift: Tensor | None, look: Look | None) -> Tensor | None:
    """What multiplies 1, w and dl of a cell in the third line of gradient.py: (n, C, k), k of 1 or 3; None without that line."""
    if look is None:
        return shift
    given = look.given
    return torch.stack([torch.zeros_like(given.upstream) if shift is None else shift[:, :, 0], given.upstream, given.key.expand_as(given.upstream)], dim=2)


def squares_gradient(gradient: Tensor, student: Tensor, teacher: Tensor, factors: Factors, cells: slice, scratch: Tensor) -> None:
    """The line of D, written to a block of ``gradient``: 2 (S - T) times what all squares weigh."""
    focal, squares = None if factors.focal is None else factors.focal[:, :, cells], factors.squares
    if focal is None and squares is None:
        gradient.zero_()
        return
    if focal is None:
        weights = scratch.copy_(squares)
    elif squares is None:
        weights = torch.mul(focal, factors.a_channel, out=scratch)
    else:                                                            # one factor at most may repeat along memory: others are not vectorised
        by_pixel = scratch.stride(1) == 1
        squares = squares.expand_as(factors.a_channel if by_pixel else focal).contiguous()
        weights = torch.addcmul(squares, focal, factors.a_channel, out=scratch)
    ATEN.mse_loss_backward.grad_input(weights, student, teacher, NO_MEAN, grad_input=gradient)
