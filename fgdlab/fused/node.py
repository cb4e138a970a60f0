"""The sums of a level as one node of autograd's graph."""
import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from .blocks import Workspace, block_sizes
from .gradient import Columns, Factors, write_gradient
from .pages import empty_like
from .sums import Sums, read_images, sum_dtype

SAVED = ("a_spatial", "a_channel", "softmax_s", "context_s", "softmax_t", "context_t")


class LevelSums(Function):
    """:class:`Sums` of one level, and the gradients of the student's map and of both W_k.

    ``student`` and ``teacher`` (N, C, H, W) may lie in memory in any order and be of half precision; ``fg`` and ``bg`` (N, H, W) or None;
    W_k of both networks with their biases, or None. A bias is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, plan):
        s, t = student.flatten(2), teacher.flatten(2)                # (N, C, HW)
        blocks, dtype = block_sizes(*s.shape), sum_dtype(s, t)
        images, cells = blocks
        fg, bg = (None if mask is None else mask.flatten(1).to(dtype) for mask in (fg, bg))
        masks = [mask for mask in (fg, bg) if mask is not None]
        work = Workspace(3, s, blocks, dtype)
        groups = []
        for start in range(0, len(s), images):
            few = slice(start, start + images)
            groups.append(read_images(s[few], t[few], [mask[few] for mask in masks], key_s, key_t, plan, work, cells))
        found = {name: None if one is None else torch.cat([group[name] for group in groups]) for name, one in groups[0].items()}
        focal = iter(found["focal"].sum(dim=0)) if masks else None
        sums = Sums(None if fg is None else next(focal), None if bg is None else next(focal), *(found[name] for name in Sums._fields[2:]))
        ctx.blocks = blocks
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, *(found[name] for name in SAVED))
        ctx.mark_non_differentiable(*(each for each in (sums.g_spatial_t, sums.g_channel_t) if each is not None))
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, a_spatial, a_channel, softmax_s, context_s, softmax_t, context_t = ctx.saved_tensors
        g, (images, cells), out = Sums(*gradients), ctx.blocks, empty_like(student)
        s, t, o = student.flatten(2), teacher.flatten(2), out.flatten(2)
        work = Workspace(3, s, ctx.blocks, sum_dtype(s, t))
        factors = gradient_factors(g, s.shape, (fg, bg), a_spatial, a_channel, work.memory)
        of_keys = [[], []]
        for start in range(0, len(s), images):
            few = slice(start, start + images)
            shift = work.memory.new_zeros(s[few].shape[:2]) if g.shift is None else -g.shift[few]
            both = [
                None if upstream is None else Columns(shift, key.flatten(), upstream[few], context[few], softmax[few])
                for key, upstream, context, softmax in ((key_s, g.context_s, context_s, softmax_s), (key_t, g.context_t, context_t, softmax_t))
            ]
            for found, columns in zip(of_keys, both, strict=True):
                found += [] if columns is None else [columns.of_key]
            if both[0] is None and g.shift is not None:
                both[0] = Columns(shift)
            write_gradient(o[few], s[few], t[few], factors.of(few), *both, work, cells)
        keys = [torch.cat(found).sum(dim=0).view_as(key) if found else None for found, key in zip(of_keys, (key_s, key_t), strict=True)]
        biases = [torch.zeros_like(bias) if found else None for found, bias in zip(of_keys, (bias_s, bias_t), strict=True)]
        return out, None, None, None, keys[0], biases[0], keys[1], biases[1], None


def gradient_factors(g: Sums, shape: tuple[int, int, int], masks: tuple, a_spatial: Tensor | None, a_channel: Tensor | None, like: Tensor) -> Factors:
    """The small factors of the whole batch, from the gradients that come from above."""
    n, c, hw = shape
    focal = [mask[:, None] * (-2 * upstream) for mask, upstream in zip(masks, (g.fg, g.bg), strict=True) if upstream is not None]
    signed = g.g_spatial_s is not None or g.g_channel_s is not None
    return Factors(
        focal=None if not focal else sum(focal) if a_spatial is None else sum(focal) * a_spatial[:, None],
        a_channel=like.new_ones(n, c, 1) if a_channel is None else a_channel[:, :, None],
        flat=None if g.squares is None else -2 * g.squares[:, None, None],
        by_cell=None if not signed else like.new_zeros(n, 1, hw) if g.g_spatial_s is None else g.g_spatial_s[:, None] / c,
        by_channel=None if not signed else like.new_zeros(n, c, 1) if g.g_channel_s is None else g.g_channel_s[:, :, None] / hw,
    )
