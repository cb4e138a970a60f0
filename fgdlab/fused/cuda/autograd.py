"""The sums of a level on a card as one node of autograd's graph. The CPU has a node of its own, which gives the terms themselves (cpu.py)."""
import torch
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ...scene import sum_dtype
from ..cpu.memory import empty_like
from .gradient import Context, factors_of
from .reductions import Sums

SAVED = ("a_spatial", "a_channel", "softmax_s", "context_s", "softmax_t", "context_t")


class LevelSums(Function):
    """:class:`Sums` of one level, and the gradients of the student's map and of both W_k.

    ``student`` and ``teacher`` (N, C, H, W) may lie in memory in any order and be of half precision; ``fg`` and ``bg`` (N, H, W) or None;
    W_k of both networks with their biases, or None. A bias is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, plan):
        from . import launch as card  # needs Triton

        s, t = student.flatten(2), teacher.flatten(2)                # (N, C, HW)
        fg, bg = (None if mask is None else mask.flatten(1).to(sum_dtype(s, t)) for mask in (fg, bg))
        masks = [mask for mask in (fg, bg) if mask is not None]
        found = card.read_maps(s, t, masks, key_s, key_t, plan)
        focal = iter(found["focal"]) if masks else None
        sums = Sums(None if fg is None else next(focal), None if bg is None else next(focal), *(found[name] for name in Sums._fields[2:]))
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, *(found[name] for name in SAVED))
        ctx.mark_non_differentiable(*(each for each in (sums.g_spatial_t, sums.g_channel_t) if each is not None))
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        from . import launch as card

        student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, a_spatial, a_channel, softmax_s, context_s, softmax_t, context_t = ctx.saved_tensors
        g, out = Sums(*gradients), empty_like(student)
        s, t = student.flatten(2), teacher.flatten(2)
        factors = factors_of(g, tuple(s.shape), (fg, bg), a_spatial, a_channel, torch.zeros((), dtype=sum_dtype(s, t), device=s.device))
        contexts = [
            None if upstream is None else Context(key.flatten(), upstream, context, softmax)
            for key, upstream, context, softmax in ((key_s, g.context_s, context_s, softmax_s), (key_t, g.context_t, context_t, softmax_t))
        ]
        of_keys = card.write_gradient(out.flatten(2), s, t, factors, contexts)
        keys = [None if found is None else found.view_as(key) for found, key in zip(of_keys, (key_s, key_t), strict=True)]
        biases = [None if found is None else torch.zeros_like(bias) for found, bias in zip(of_keys, (bias_s, bias_t), strict=True)]
        return out, None, None, None, keys[0], biases[0], keys[1], biases[1], None
