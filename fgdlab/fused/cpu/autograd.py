"""FGD on the CPU: one autograd function for all levels, around the compiled loops. Importing this file needs numba."""
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch._utils import _flatten_dense_tensors, _unflatten_dense_tensors
from torch.autograd import Function

from ...config import FGDConfig
from ...masks import FocalMasks
from ...relation import RelationTerm
from ...scene import sum_dtype
from . import loops
from .memory import empty_like
from .tiles import KINDS, Tiles

TERMS = ("fg", "bg", "attention", "global")


class Setting(NamedTuple):
    mix: tuple[float, float]  # weights of the student's and teacher's attention in eq. 9
    spatial: float  # 1 / T of both attention parts, 0 where a part is off
    channel: float
    relation: int  # as loops.py numbers them
    terms: dict[str, str]  # {term: its name in TERMS}: "both" is "fg"


@cache
def setting_of(config: FGDConfig) -> Setting:
    terms = {name: "fg" if name == "both" else name for name in config.weights()}
    inverse_t, weighs = 1 / config.temperature, {"fg", "bg"} & set(terms.values())
    mix = {"student": (1.0, 0.0), "teacher": (0.0, 1.0), "mean": (0.5, 0.5)}[config.attention_of]
    kinds = {"mse": loops.MSE, "centred": loops.CENTRED, "gc": loops.GC}
    return Setting(
        mix=mix if weighs else (0.0, 0.0),
        spatial=inverse_t if config.spatial_attention else 0.0, channel=inverse_t if config.channel_attention else 0.0,
        relation=kinds[config.relation] if "global" in terms else 0, terms=terms,
    )


class Blocks(NamedTuple):
    """The parameters of R, level by level, the student's block first; none where R has no blocks."""

    parameters: list[Tensor]
    hidden: int = 0  # channels between W_v1 and W_v2
    eps: float = 0.0  # of LN


def blocks_of(relations: list[RelationTerm | None]) -> Blocks:
    if relations[0] is None or relations[0].kind != "gc":
        return Blocks([])
    parameters: list[Tensor] = []
    for relation in relations:  # relation.parameters(), 20 times as fast
        for block in relation._modules.values():
            key, transform = block._modules.values()
            narrow, norm, _, widen = transform._modules.values()
            for layer in (key, narrow, norm, widen):
                parameters += layer._parameters.values()
    return Blocks(parameters, narrow.out_channels, norm.eps)


def sums_of_levels(
    students: list[Tensor], teachers: list[Tensor], masks: list[FocalMasks] | None,
    relations: list[RelationTerm | None], config: FGDConfig,
) -> list[dict[str, Tensor]]:
    setting, blocks, dtype = setting_of(config), blocks_of(relations), sum_dtype(*students, *teachers)
    students, teachers = ([each.to(dtype) for each in maps] for maps in (students, teachers))
    found = PyramidTerms.apply(setting, blocks, teachers, masks, len(students), *students, *blocks.parameters)
    return [
        {name: found[first + TERMS.index(term)] for name, term in setting.terms.items()}
        for first in range(0, len(found), len(TERMS))
    ]


class PyramidTerms(Function):
    """The terms of all levels in the order of TERMS, level by level, averaged over the batch; None for unused terms.

    On small maps, calls cost more than arithmetic, hence one for all. Maps (N, C, H, W) may have any memory format.
    A bias of W_k is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, setting, blocks, teachers, masks, count, *tensors):
        students = tensors[:count]
        pyramid = Pyramid(setting, blocks, students[0].dtype)
        terms = pyramid.forward(students, teachers, masks)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*students, *teachers)
        ctx.pyramid = pyramid
        used = [name in setting.terms.values() for name in TERMS] * count
        return tuple(
            torch.scalar_tensor(term, dtype=pyramid.dtype) if is_used else None
            for term, is_used in zip(terms, used, strict=True))

    @staticmethod
    def backward(ctx, *gradients):
        if torch.is_grad_enabled():  # create_graph=True
            raise RuntimeError("FusedFGDLoss has first derivatives only; FGDLoss has second ones")
        maps, count = ctx.saved_tensors, len(ctx.saved_tensors) // 2
        return None, None, None, None, None, *ctx.pyramid.backward(maps[:count], maps[count:], gradients)


class Pyramid:
    """What the loops need of all levels, and what the forward pass leaves for the backward pass. dtype: of the sums."""

    def __init__(self, setting: Setting, blocks: Blocks, dtype: torch.dtype):
        self.setting, self.blocks, self.dtype, self.kind = setting, blocks, dtype, KINDS[dtype]
        self.loops = loops.compiled(self.kind)

    def forward(self, students: list[Tensor], teachers: list[Tensor], masks: list[FocalMasks] | None) -> list[float]:
        tiles, (mix, spatial, channel, relation, _) = Tiles(students, teachers, self.dtype), self.setting
        levels, (n, c, _, _), parameters = len(students), students[0].shape, self.blocks.parameters
        self.table, self.weights = tiles.table, self.joined(levels)
        self.versions = [each._version for each in parameters]
        self.keys = loops.keys_of(self.weights, c)
        self.fg, self.bg = loops.mask_rows(masks, (n, tiles.cells), self.kind)
        self.by_cell, self.by_channel, sums, maxima, exp_sums = loops.empty(
            self.kind, (n, 4, tiles.cells), (levels, n, 6, c), (tiles.count, 10, c), (tiles.count, 4), (tiles.count, 4))
        self.hidden, terms = loops.empty("float64", (levels, n, 2, 3, self.blocks.hidden), (levels, len(TERMS)))
        tiles.run(lambda first, last, scratch, table: self.loops.forward_tiles(
            first, last, scratch, table, self.fg, self.bg, self.keys, mix, spatial / c, tiles.wide, self.by_cell, sums,
            maxima, exp_sums))
        self.loops.finish_terms(
            tiles.table, mix, channel, tiles.wide, relation, self.weights, self.blocks.eps, self.by_cell, sums, maxima,
            exp_sums, self.by_channel, self.hidden, terms)
        return terms.ravel().tolist()

    def backward(
        self, students: list[Tensor], teachers: list[Tensor], gradients: tuple[Tensor | None, ...],
    ) -> list[Tensor | None]:
        levels, (n, c, _, _), (mix, spatial, channel, relation, _) = len(students), students[0].shape, self.setting
        by_level = [gradients[first:first + len(TERMS)] for first in range(0, len(gradients), len(TERMS))]
        g = [[0.0 if each is None else each.item() for each in of_level] for of_level in by_level]
        g = loops.array(g, "float64")
        weights = self.weights_again(levels) if self.weights is None else self.weights
        of_weights = torch.empty(weights.shape, dtype=self.dtype)
        (factors,), (scalars,) = loops.empty(self.kind, (levels, n, 5, c)), loops.empty("float64", (levels, n, 3))
        self.loops.backward_terms(
            self.table, g, mix, channel, relation, weights, self.by_cell, self.by_channel, self.hidden, factors,
            scalars, of_weights.numpy())
        self.weights = weights = None  # make room for the gradients of the maps
        outs = [
            None if all(each is None for each in of_level) else empty_like(student)
            for student, of_level in zip(students, by_level, strict=True)
        ]
        tiles = Tiles(students, teachers, self.dtype, outs)
        of_keys, = loops.empty(self.kind, (tiles.count, 2, c))
        tiles.run(lambda first, last, scratch, table: self.loops.backward_tiles(
            first, last, scratch, table, self.fg, self.bg, self.keys, g, mix, spatial / c, relation, tiles.wide,
            self.by_cell, factors, scalars, of_keys))
        self.loops.sum_key_gradients(tiles.table, of_keys, of_weights.numpy())
        parameters = self.blocks.parameters
        found = list(_unflatten_dense_tensors(of_weights.view(-1), parameters)) if parameters else []
        per_level = len(parameters) // levels
        for level, of_level in enumerate(by_level):
            if of_level[TERMS.index("global")] is None:
                found[level * per_level:(level + 1) * per_level] = [None] * per_level
        return outs + found

    def weights_again(self, levels: int):
        if [each._version for each in self.blocks.parameters] != self.versions:
            raise RuntimeError(
                "a parameter of the relation has been modified by an inplace operation since the loss was computed; "
                "ask for gradients before")
        return self.joined(levels)

    def joined(self, levels: int):
        parameters = self.blocks.parameters
        values = _flatten_dense_tensors(parameters) if parameters else torch.empty(0)
        return values.to(self.dtype).view(levels, values.numel() // levels).numpy()
