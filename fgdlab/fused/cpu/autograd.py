"""FGD on the CPU: all levels as one node of autograd's graph, whose sums, small terms and gradients are compiled loops (loops.py).

Importing this file needs numba; level.py does, when it is first used.
"""
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.autograd import Function

from ...relation import RelationTerm
from ...scene import sum_dtype
from ..cuda.reductions import KINDS
from ..masks import PyramidMasks
from . import loops
from .memory import empty_like
from .tiles import Tiles

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
    students: list[Tensor], teachers: list[Tensor], masks: PyramidMasks | None, relations: list[RelationTerm | None], config,
) -> list[dict[str, Tensor]]:
    """What ``level.sums_of_levels`` gives, of the same arguments."""
    setting, blocks = setting_of(config), blocks_of(relations)
    found = PyramidTerms.apply(setting, blocks, teachers, masks, len(students), *students, *blocks.parameters)
    return [{name: found[level + TERMS.index(here)] for name, here in setting.called.items()} for level in range(0, len(found), len(TERMS))]


class PyramidTerms(Function):
    """Terms of all levels as :data:`TERMS` names them, level after level, None where not asked; each averaged over the batch. Gradients of the
    students' maps and of all R.

    Maps (N, C, H, W) may lie in memory in any order and be of half precision. One node for all levels, since on small maps calls cost more than
    numbers. A bias of W_k is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, setting, blocks, teachers, masks, count, *given):
        students = given[:count]
        pyramid = Pyramid(setting, blocks, sum_dtype(*students, *teachers))
        terms = pyramid.forward(students, teachers, masks)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*students, *teachers)
        ctx.pyramid = pyramid
        asked = [name in setting.called.values() for name in TERMS] * count
        return tuple(torch.scalar_tensor(term, dtype=pyramid.dtype) if wanted else None for term, wanted in zip(terms, asked, strict=True))

    @staticmethod
    def backward(ctx, *given):
        if torch.is_grad_enabled():                                  # create_graph=True
            raise RuntimeError("FusedFGDLoss has first derivatives only; FGDLoss has second ones")
        maps, count = ctx.saved_tensors, len(ctx.saved_tensors) // 2
        return None, None, None, None, None, *ctx.pyramid.backward(maps[:count], maps[count:], given)


class Pyramid:
    """All levels between their forward and their backward: what the loops need, and what they leave for each other.

    Args:
        dtype: of the sums.
    """

    def __init__(self, setting: Setting, blocks: Blocks, dtype: torch.dtype):
        self.setting, self.blocks, self.dtype, self.kind = setting, blocks, dtype, KINDS[dtype]
        self.loops = loops.compiled(self.kind)

    def forward(self, students: list[Tensor], teachers: list[Tensor], masks: PyramidMasks | None) -> list[float]:
        """The terms of all levels in the order of TERMS, those too that nobody asked for."""
        tiles, (shares, spatial, channel, relation, _) = Tiles(students, teachers, self.dtype), self.setting
        count, (n, c, _, _) = len(students), students[0].shape
        self.fg, self.bg = loops.rows_of(masks, (n, tiles.cells), self.kind)
        self.table, self.weights = tiles.table, joined(self.blocks.parameters, self.dtype, count)
        self.keys, self.versions = loops.keys_of(self.weights, c), [each._version for each in self.blocks.parameters]
        self.by_cell, self.by_channel, sums, peaks, wholes = loops.empty(
            self.kind, (n, 4, tiles.cells), (count, n, 6, c), (tiles.count, 10, c), (tiles.count, 4), (tiles.count, 4))
        self.middle, terms = loops.empty("float64", (count, n, 2, 3, self.blocks.hidden), (count, len(TERMS)))
        tiles.each(lambda first, last, scratch, table: self.loops.read(
            first, last, scratch, table, self.fg, self.bg, self.keys, shares, spatial / c, tiles.wide, self.by_cell, sums, peaks, wholes))
        self.loops.close(
            tiles.table, shares, channel, tiles.wide, relation, self.weights, self.blocks.eps, self.by_cell, sums, peaks, wholes, self.by_channel,
            self.middle, terms)
        return terms.ravel().tolist()

    def backward(self, students: list[Tensor], teachers: list[Tensor], given: tuple[Tensor | None, ...]) -> list[Tensor | None]:
        """Gradients of the students' maps and of R's parameters from those of the terms; None for a level whose terms have none."""
        count, (n, c, _, _), (shares, spatial, channel, relation, _) = len(students), students[0].shape, self.setting
        by_level = [given[at:at + len(TERMS)] for at in range(0, len(given), len(TERMS))]
        g = loops.array([[0.0 if one is None else one.item() for one in of_level] for of_level in by_level], "float64")
        weights = self.weights_again() if self.weights is None else self.weights
        of_weights = torch.empty(weights.shape, dtype=self.dtype)
        (factors,), (flat,), row = loops.empty(self.kind, (count, n, 5, c)), loops.empty("float64", (count, n, 3)), of_weights.numpy()
        self.loops.pull(self.table, g, shares, channel, relation, weights, self.by_cell, self.by_channel, self.middle, factors, flat, row)
        self.weights = weights = None                                # make room for the gradients of the maps
        outs = [empty_like(each) if any(one is not None for one in of_level) else None for each, of_level in zip(students, by_level, strict=True)]
        tiles = Tiles(students, teachers, self.dtype, outs)
        of_keys, = loops.empty(self.kind, (tiles.count, 2, c))
        tiles.each(lambda first, last, scratch, table: self.loops.write(
            first, last, scratch, table, self.fg, self.bg, self.keys, g, shares, spatial / c, relation, tiles.wide, self.by_cell, factors, flat, of_keys))
        self.loops.keys(tiles.table, of_keys, row)
        parameters, each = self.blocks.parameters, len(self.blocks.parameters) // count
        found = list(_unflatten_dense_tensors(of_weights.view(-1), parameters)) if parameters else []
        for level, of_level in enumerate(by_level):
            if of_level[TERMS.index("global")] is None:
                found[level * each:(level + 1) * each] = [None] * each
        return outs + found

    def weights_again(self):
        """All values of the parameters once more, for a graph that is kept and asked again."""
        if [each._version for each in self.blocks.parameters] != self.versions:
            raise RuntimeError("a parameter of the relation has been modified by an inplace operation since the loss was computed; ask for gradients before")
        return joined(self.blocks.parameters, self.dtype, len(self.by_channel))


def joined(parameters: list[Tensor], dtype: torch.dtype, levels: int):
    """All values of all parameters, a row a level."""
    return (_flatten_dense_tensors(parameters).to(dtype).view(levels, -1) if parameters else torch.empty(levels, 0, dtype=dtype)).numpy()
