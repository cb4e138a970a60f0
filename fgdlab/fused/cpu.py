"""FGD on the CPU: all levels as one node of autograd's graph, whose sums, small terms and gradients are compiled loops (loops.py).

Importing this file needs numba; level.py does, when it is first used.
"""
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.autograd import Function

from ..masks import FocalMasks
from ..relation import RelationTerm
from . import loops
from .pages import empty_like
from .sums import sum_dtype
from .tiles import Tiles

KINDS = {torch.float32: "float32", torch.float64: "float64"}
TERMS = ("fg", "bg", "attention", "global")


class Setting(NamedTuple):
    """What the loops must know of a configuration."""

    shares: tuple[float, float]                                      # of the student's and the teacher's attention in what weighs eq. 9
    spatial: float                                                   # 1 / T of both parts of attention, 0 where a part is off
    channel: float
    relation: int                                                    # as loops.py numbers them
    called: dict[str, str]                                           # terms that are asked for, by their names of TERMS: "both" is "fg", with a background of 0


@cache
def setting_of(config) -> Setting:
    called = {name: "fg" if name == "both" else name for name in config.weights()}
    sharpness, weighing = 1 / config.temperature, {"fg", "bg"} & set(called.values())
    return Setting(
        shares={"student": (1.0, 0.0), "teacher": (0.0, 1.0), "mean": (0.5, 0.5)}[config.attention_of] if weighing else (0.0, 0.0),
        spatial=sharpness if config.spatial_attention else 0.0, channel=sharpness if config.channel_attention else 0.0,
        relation={"mse": loops.MSE, "centred": loops.CENTRED, "gc": loops.GC}[config.relation] if "global" in called else 0, called=called,
    )


class Blocks(NamedTuple):
    """The parameters of R of all levels, level after level, the student's block before the teacher's; none where R has no blocks."""

    parameters: list[Tensor]
    hidden: int = 0                                                  # channels between W_v1 and W_v2 of a block
    eps: float = 0.0                                                 # of LN


def blocks_of(relations: list[RelationTerm | None]) -> Blocks:
    if relations[0] is None or relations[0].kind != "gc":
        return Blocks([])
    parameters: list[Tensor] = []
    for relation in relations:                                       # relation.parameters(), in a twentieth of its time
        for block in relation._modules.values():
            key, transform = block._modules.values()
            narrow, norm, _, widen = transform._modules.values()
            for layer in (key, narrow, norm, widen):
                parameters += layer._parameters.values()
    return Blocks(parameters, narrow.out_channels, norm.eps)


def terms_of_levels(
    students: list[Tensor], teachers: list[Tensor], masks: list[FocalMasks | None], relations: list[RelationTerm | None], config,
) -> list[dict[str, Tensor]]:
    """What ``level.sums_of_levels`` gives, of the same arguments."""
    setting, blocks = setting_of(config), blocks_of(relations)
    found = PyramidTerms.apply(setting, blocks, teachers, masks, len(students), *students, *blocks.parameters)
    return [{name: found[level + TERMS.index(here)] for name, here in setting.called.items()} for level in range(0, len(found), len(TERMS))]


class PyramidTerms(Function):
    """Terms of all levels as :data:`TERMS` names them, level after level, None where not asked; each averaged over the batch. Gradients of the
    students' maps and of all R.

    Maps (N, C, H, W) may lie in memory in any order and be of half precision; masks' ``fg`` and ``bg`` are (N, H, W). One node for all levels,
    since on small maps calls cost more than numbers. A bias of W_k is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, setting, blocks, teachers, masks, count, *given):
        students = given[:count]
        dtype = sum_dtype(*students, *teachers)
        weights = joined(blocks.parameters, dtype, count)
        levels = [Level(student, *each, setting, blocks, dtype) for student, *each in zip(students, masks, weights, strict=True)]
        terms = [term for level, *maps in zip(levels, students, teachers, strict=True) for term in level.forward(*maps)]
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*students, *teachers)
        ctx.kept = levels, weights.shape
        asked = [name in setting.called.values() for name in TERMS] * count
        return tuple(torch.scalar_tensor(term, dtype=dtype) if wanted else None for term, wanted in zip(terms, asked, strict=True))

    @staticmethod
    def backward(ctx, *given):
        if torch.is_grad_enabled():                                  # create_graph=True
            raise RuntimeError("the fused form of the FGD loss has first derivatives only; FGDLoss(..., fused=False) has second ones")
        (levels, shape), maps, count = ctx.kept, ctx.saved_tensors, len(ctx.kept[0])
        parameters = levels[0].blocks.parameters
        of_weights, of_maps, each = torch.empty(shape, dtype=levels[0].dtype), [None] * count, len(parameters) // count
        of_parameters = list(_unflatten_dense_tensors(of_weights.view(-1), parameters)) if parameters else []
        for i, (level, row) in enumerate(zip(levels, of_weights.numpy(), strict=True)):
            g = given[len(TERMS) * i:len(TERMS) * (i + 1)]
            if any(one is not None for one in g):
                of_maps[i] = level.backward(maps[i], maps[count + i], tuple(0.0 if one is None else one.item() for one in g), row)
            if g[TERMS.index("global")] is None:
                of_parameters[i * each:(i + 1) * each] = [None] * each
        return None, None, None, None, None, *of_maps, *of_parameters


def joined(parameters: list[Tensor], dtype: torch.dtype, levels: int):
    """All values of all parameters, a row a level."""
    return (_flatten_dense_tensors(parameters).to(dtype).view(levels, -1) if parameters else torch.empty(levels, 0, dtype=dtype)).numpy()


class Level:
    """A level from its forward to its backward: what the loops need, and what they leave for each other.

    Args:
        student: of what size and precision the maps are.
        masks: fg and bg, or None.
        weights: of both blocks of R, in a row.
        dtype: of the sums.
    """

    def __init__(self, student: Tensor, masks: FocalMasks | None, weights, setting: Setting, blocks: Blocks, dtype: torch.dtype):
        n, c, h, w = student.shape
        self.dtype, self.kind, self.setting, self.blocks, self.weights = dtype, KINDS[dtype], setting, blocks, weights
        self.loops, self.sharpness = loops.compiled(self.kind), (setting.spatial / c, setting.channel / (h * w))
        drawn = (masks.fg, masks.bg) if masks is not None else (None, None)
        self.masks, self.keys = [loops.rows_of(mask, (n, h * w), self.kind) for mask in drawn], loops.keys_of(weights, c)

    def forward(self, student: Tensor, teacher: Tensor) -> tuple[float, float, float, float]:
        """The terms in the order of TERMS, those too that nobody asked for."""
        tiles, (spatial, channel) = Tiles([student, teacher], self.dtype), self.sharpness
        n, c, h, w = student.shape
        (self.by_cell, self.by_channel), (self.middle,) = loops.empty(self.kind, (n, 4, h * w), (n, 6, c)), loops.empty("float64", (n, 2, 3, self.blocks.hidden))
        sums, peaks, wholes = loops.empty(self.kind, (tiles.count, 10, c), (tiles.count, 4), (tiles.count, 4))
        tiles.each(lambda first, last, scratch, s, t: self.loops.read(
            first, last, scratch, *s, *t, *self.masks, self.keys, self.setting.shares, spatial, tiles.wide, self.by_cell, sums, peaks, wholes))
        return self.loops.close(
            self.setting.shares, channel, tiles.wide, self.setting.relation, self.weights, self.blocks.eps, self.by_cell, sums, peaks, wholes,
            self.by_channel, self.middle)

    def backward(self, student: Tensor, teacher: Tensor, g: tuple[float, float, float, float], of_weights) -> Tensor:
        """The gradient of the student's map from those of the terms; that of R goes into ``of_weights``."""
        out, shares, relation, (spatial, channel) = empty_like(student), self.setting.shares, self.setting.relation, self.sharpness
        tiles = Tiles([out, student, teacher], self.dtype, written=True)
        n, c, _, _ = student.shape
        (factors, of_keys), (levels,) = loops.empty(self.kind, (n, 5, c), (tiles.count, 2, c)), loops.empty("float64", (n, 3))
        self.loops.pull(g, shares, channel, relation, self.weights, self.by_cell, self.by_channel, self.middle, factors, levels, of_weights)
        tiles.each(lambda first, last, scratch, out, s, t: self.loops.write(
            first, last, scratch, *out, *s, *t, *self.masks, self.keys, g, shares, spatial, relation, tiles.wide, self.by_cell, factors, levels, of_keys))
        self.loops.keys(of_keys, c, of_weights)
        return out
