"""The terms of FGD on the levels of a pyramid: on the CPU from cpu.py, all at once; on a card level after level, from its sums."""
import torch
from torch import Tensor
from torch.nn.functional import layer_norm, linear

from ..attention import Attention
from ..focal import attention_term
from ..masks import FocalMasks
from ..relation import GcBlock, RelationTerm
from .cuda import autograd as node
from .cuda.reductions import Plan, Sums
from .masks import PyramidMasks, side_by_side


def plan_of(config, weights: dict[str, float]) -> Plan:
    """What the terms of a configuration need; ``weights`` are those of ``FGDConfig.weights``."""
    looked = ("student", "teacher") if config.attention_of == "mean" else (config.attention_of,)
    return Plan(
        temperature=config.temperature, spatial=config.spatial_attention, channel=config.channel_attention,
        weighed_by=looked if weights.keys() & {"fg", "bg", "both"} else (),
        compared="attention" in weights, squares="global" in weights, shift="global" in weights and config.relation != "mse",
    )


def sums_of_levels(
    students: list[Tensor], teachers: list[Tensor], masks: PyramidMasks | None, relations: list[RelationTerm | None], config,
) -> list[dict[str, Tensor]]:
    """Of each level {term: its sum before the coefficient, averaged over the batch}, of the terms that ``config.weights()`` names.

    Args:
        students, teachers: maps (N, C, H, W) of each level, of the same shape; the student's have already passed their align layer f.
        masks: those of all levels; None where no term needs them.
        relations: the level's R; None without the global term.
    """
    if on_card(students[0]):
        of_levels = [None] * len(students) if masks is None else masks.levels()
        return [sums_on_card(*level, config) for level in zip(students, teachers, of_levels, relations, strict=True)]
    from .cpu.autograd import terms_of_levels

    return terms_of_levels(students, teachers, masks, relations, config)


def alike(students: list[Tensor], teachers: list[Tensor], channels: int) -> bool:
    """Do the maps agree as the fused form takes for granted: pair by pair in shape, and all of them in images, channels and device, with no map empty?"""
    images, device = len(students[0]), students[0].device
    return all(
        student.shape == teacher.shape and student.ndim == 4 and student.shape[:2] == (images, channels) and student.numel() > 0
        and student.device == device and teacher.device == device for student, teacher in zip(students, teachers, strict=True))


def on_card(maps: Tensor) -> bool:
    """Do the maps lie on a card, whose kernels read them?"""
    return maps.is_cuda


def level_sums(student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config) -> dict[str, Tensor]:
    """``sums_of_levels`` of one level, whose masks are (N, H, W)."""
    return sums_of_levels([student], [teacher], None if masks is None else side_by_side([masks]), [relation], config)[0]


def sums_on_card(student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config) -> dict[str, Tensor]:
    """The same on a card: sums from kernels, and what follows from them by torch."""
    weights, (n, c, h, w) = config.weights(), student.shape
    fg = masks.fg if weights.keys() & {"fg", "both"} else None
    bg = masks.bg if "bg" in weights else None
    blocks = (relation.student, relation.teacher) if relation is not None and relation.kind == "gc" else ()
    keys = [each for block in blocks for each in (block.key.weight, block.key.bias)] or [None] * 4
    sums = Sums(*node.LevelSums.apply(student, teacher, fg, bg, *keys, plan_of(config, weights)))
    raw = {name: each / n for name, each in (("fg", sums.fg), ("bg", sums.bg), ("both", sums.fg)) if each is not None}
    if "attention" in weights:
        of_student = sharpened(sums.g_spatial_s, sums.g_channel_s, (n, c, h, w), config.temperature)
        raw["attention"] = attention_term(of_student, sharpened(sums.g_spatial_t, sums.g_channel_t, (n, c, h, w), config.temperature))
    if "global" in weights:
        raw["global"] = global_sum(sums, relation, h * w) / n
    return {name: raw[name] for name in weights}


def sharpened(g_spatial: Tensor | None, g_channel: Tensor | None, shape: tuple[int, int, int, int], temperature: float) -> Attention:
    """Eqs. 7-8 from G^S (N, HW) and G^C (N, C); 1 everywhere for a part that is off, which then adds nothing to eq. 10."""
    n, c, h, w = shape
    return Attention(
        spatial=g_channel.new_ones(n, 1) if g_spatial is None else h * w * torch.softmax(g_spatial / temperature, dim=1),
        channel=g_spatial.new_ones(n, 1) if g_channel is None else c * torch.softmax(g_channel / temperature, dim=1),
    )


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
    e = transformed(relation.teacher, sums.context_t) - transformed(relation.student, sums.context_s)           # (N, C)
    return squares + (e * (2 * sums.shift + cells * e)).sum()


def transformed(block: GcBlock, context: Tensor) -> Tensor:
    """v = W_v2 ReLU(LN(W_v1 context)) of eq. 13, (N, C) -> (N, C): ``block.transform`` with matrices in place of 1x1 convolutions."""
    narrow, norm, _, widen = block.transform
    hidden = linear(context, narrow.weight.flatten(1), narrow.bias)
    hidden = layer_norm(hidden, hidden.shape[1:], norm.weight.flatten(), norm.bias.flatten(), norm.eps).relu()
    return linear(hidden, widen.weight.flatten(1), widen.bias)
