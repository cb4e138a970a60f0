"""FGD on CUDA, level by level: an autograd function around the kernels, and the terms from its sums."""
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable
from torch.nn.functional import layer_norm, linear

from ...attention import Attention, without
from ...config import FGDConfig
from ...focal import attention_term
from ...masks import FocalMasks
from ...relation import GcBlock, RelationTerm
from ..cpu.memory import empty_like


class Sums(NamedTuple):
    """What the terms need of both maps, D = T - S. Averages over the batch are left to the caller."""

    fg: Tensor | None  # (), eq. 9 over the batch; None without masks
    bg: Tensor | None
    squares: Tensor           # (N,)    sum D^2
    shift: Tensor             # (N, C)  sum_hw D
    g_spatial_s: Tensor       # (N, HW) eq. 5
    g_channel_s: Tensor       # (N, C)  eq. 6
    context_s: Tensor | None  # (N, C)  sum_hw w F of eq. 13; None without W_k
    context_t: Tensor | None
    g_spatial_t: Tensor  # of the teacher: constants
    g_channel_t: Tensor


class LevelSums(Function):
    """:class:`Sums` of one level, with gradients of the student's map and of both W_k.

    ``student`` and ``teacher`` (N, C, H, W) may have any memory format and half precision; ``fg`` and ``bg`` (N, H, W)
    or None; W_k of both networks with their biases, or None. A bias is the same at all cells and changes no softmax:
    its gradient is 0.
    """

    @staticmethod
    def forward(ctx, student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, config):
        from . import launch  # needs Triton

        masks = [] if fg is None else [fg.flatten(1), bg.flatten(1)]
        sums, saved = launch.read_maps(student.flatten(2), teacher.flatten(2), masks, key_s, key_t, config)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, *saved)
        ctx.mark_non_differentiable(sums.g_spatial_t, sums.g_channel_t)
        return tuple(sums)

    @staticmethod
    @once_differentiable
    def backward(ctx, *gradients):
        from . import launch

        student, teacher, fg, bg, key_s, bias_s, key_t, bias_t, *saved = ctx.saved_tensors
        masks = [] if fg is None else [fg.flatten(1), bg.flatten(1)]
        out = empty_like(student)
        of_keys = launch.write_gradient(
            out.flatten(2), student.flatten(2), teacher.flatten(2), masks, (key_s, key_t), Sums(*gradients), *saved)
        of_layers = []
        for of_key, key, bias in zip(of_keys, (key_s, key_t), (bias_s, bias_t), strict=True):
            of_layers += [None, None] if of_key is None else [of_key.view_as(key), torch.zeros_like(bias)]
        return out, None, None, None, *of_layers, None


def level_sums(
    student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config: FGDConfig,
) -> dict[str, Tensor]:
    """As ``fgd.term_sums``."""
    weights, (n, _, h, w) = config.weights(), student.shape
    fg, bg = (None, None) if masks is None else (masks.fg, masks.bg)
    blocks = (relation.student, relation.teacher) if relation is not None and relation.kind == "gc" else ()
    keys = [each for block in blocks for each in (block.key.weight, block.key.bias)] or [None] * 4
    sums = Sums(*LevelSums.apply(student, teacher, fg, bg, *keys, config))
    raw = {} if masks is None else {"fg": sums.fg / n, "bg": sums.bg / n, "both": sums.fg / n}
    if "attention" in weights:
        off = {"spatial": not config.spatial_attention, "channel": not config.channel_attention}
        raw["attention"] = attention_term(*(
            without(attention_from_means(spatial, channel, config.temperature), **off)
            for spatial, channel in ((sums.g_spatial_s, sums.g_channel_s), (sums.g_spatial_t, sums.g_channel_t))
        ))
    if "global" in weights:
        raw["global"] = global_sum(sums, relation, h * w) / n
    return {name: raw[name] for name in weights}


def attention_from_means(g_spatial: Tensor, g_channel: Tensor, temperature: float) -> Attention:
    """Eqs. 7-8 from G^S (N, HW) and G^C (N, C)."""
    return Attention(*(each.shape[1] * torch.softmax(each / temperature, dim=1) for each in (g_spatial, g_channel)))


def global_sum(sums: Sums, relation: RelationTerm, cells: int) -> Tensor:
    """Eq. 12 summed over the batch.

    R adds one vector v to all cells (eq. 13), so with e = v_t - v_s:  sum (D + e)^2 = sum D^2 + 2 e . shift + H W e . e
    Without the spatial mean of D ("centred"), e = -shift / (H W).
    """
    squares = sums.squares.sum()
    if relation.kind == "mse":
        return squares
    if relation.kind == "centred":
        return squares - sums.shift.square().sum() / cells
    e = transformed(relation.teacher, sums.context_t) - transformed(relation.student, sums.context_s)  # (N, C)
    return squares + (e * (2 * sums.shift + cells * e)).sum()


def transformed(block: GcBlock, context: Tensor) -> Tensor:
    """v = W_v2 ReLU(LN(W_v1 context)) of eq. 13, (N, C) -> (N, C): ``block.transform`` without convolutions."""
    narrow, norm, _, widen = block.transform
    hidden = linear(context, narrow.weight.flatten(1), narrow.bias)
    hidden = layer_norm(hidden, hidden.shape[1:], norm.weight.flatten(), norm.bias.flatten(), norm.eps).relu()
    return linear(hidden, widen.weight.flatten(1), widen.bias)
