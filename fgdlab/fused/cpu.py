"""A level on the CPU: one node of autograd's graph, whose sums, small terms and gradients are compiled loops (loops.py)."""
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from ..masks import FocalMasks
from ..relation import GcBlock, RelationTerm
from .pages import empty_like
from .sums import sum_dtype

CACHE = 2**19                                                        # bytes of both maps in a tile: half of a usual second cache
ALONE = 2**17                                                        # values a thread, below which a second one costs more than it takes over
STRIP = 8                                                            # tiles of half precision that are converted together
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
    from . import loops

    called = {name: "fg" if name == "both" else name for name in config.weights()}
    sharpness, weighing = 1 / config.temperature, {"fg", "bg"} & set(called.values())
    return Setting(
        shares={"student": (1.0, 0.0), "teacher": (0.0, 1.0), "mean": (0.5, 0.5)}[config.attention_of] if weighing else (0.0, 0.0),
        spatial=sharpness if config.spatial_attention else 0.0, channel=sharpness if config.channel_attention else 0.0,
        relation={"mse": loops.MSE, "centred": loops.CENTRED, "gc": loops.GC}[config.relation] if "global" in called else 0, called=called,
    )


def level_terms(student: Tensor, teacher: Tensor, masks: FocalMasks | None, relation: RelationTerm | None, config) -> dict[str, Tensor]:
    """What ``level.level_sums`` gives, of the same arguments."""
    shape, parameters = parts_of(relation)
    fg, bg = (masks.fg, masks.bg) if masks is not None else (None, None)
    setting = setting_of(config)
    found = dict(zip(TERMS, LevelTerms.apply(student, teacher, fg, bg, setting, shape, *parameters), strict=True))
    return {name: found[here] for name, here in setting.called.items()}


def parts_of(relation: RelationTerm | None) -> tuple[tuple[int, float], list[Tensor]]:
    """(hidden channels, eps of LN) and the parameters of both blocks; zeros and none where there are no blocks."""
    if relation is None or relation.kind != "gc":
        return (0, 0.0), []
    parameters = [each for block in (relation.student, relation.teacher) for each in parameters_of(block)]
    return (parameters[2].shape[0], relation.student.transform[1].eps), parameters


def parameters_of(block: GcBlock) -> list[Tensor]:
    """In the order in which the loops expect them."""
    narrow, norm, _, widen = block.transform
    return [each for layer in (block.key, narrow, norm, widen) for each in (layer.weight, layer.bias)]


def joined(parameters: tuple[Tensor, ...], dtype: torch.dtype):
    """All values of all parameters in one row."""
    from .loops import in_a_row

    return in_a_row([each.detach().numpy() for each in parameters], str(dtype).removeprefix("torch."))


class LevelTerms(Function):
    """Terms of one level as :data:`TERMS` names them, None where not asked, each averaged over the batch; gradients of the student's map and of R.

    ``student`` and ``teacher`` (N, C, H, W) may lie in memory in any order and be of half precision; ``fg`` and ``bg`` (N, H, W) or None.
    A bias of W_k is the same at all cells and changes no softmax: its gradient is 0.
    """

    @staticmethod
    def forward(ctx, student, teacher, fg, bg, setting, shape, *parameters):
        s, t = student.flatten(2), teacher.flatten(2)                # (N, C, HW)
        (n, c, hw), dtype = s.shape, sum_dtype(s, t)
        masks = [s.new_zeros(n, hw, dtype=dtype) if mask is None else mask.detach().flatten(1).to(dtype) for mask in (fg, bg)]
        masks = [mask.contiguous().numpy() for mask in masks]
        weights = joined(parameters, dtype)
        keys = weights.reshape(2, -1)[:, :c].copy() if parameters else torch.zeros(2, c, dtype=dtype).numpy()
        tiles = Tiles(s, t, dtype)
        by_cell, sums, of_image = (torch.empty(size, dtype=dtype).numpy() for size in ((n, 4, hw), (tiles.count, 10, c), (n, 6, c)))
        peaks, wholes = torch.empty(2, tiles.count, 4, dtype=dtype).numpy()
        terms = torch.empty(len(TERMS), dtype=torch.float64)
        tiles.each(lambda first, last, scratch, s, t: tiles.loops.read(
            first, last, scratch, *s, *t, *masks, keys, setting.shares, setting.spatial / c, tiles.wide, by_cell, sums, peaks, wholes))
        tiles.loops.close(
            setting.shares, setting.channel / hw, tiles.wide, setting.relation, weights, *shape, by_cell, sums, peaks, wholes, of_image, terms.numpy())
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(student, teacher)
        ctx.kept = setting, shape, [(each.shape, each.numel(), each.dtype) for each in parameters], masks, weights, keys, by_cell, of_image
        return tuple(torch.scalar_tensor(term, dtype=dtype) if name in setting.called.values() else None for name, term in zip(TERMS, terms.tolist(), strict=True))

    @staticmethod
    def backward(ctx, *given):
        if torch.is_grad_enabled():                                  # create_graph=True
            raise RuntimeError("the fused form of the FGD loss has first derivatives only; FGDLoss(..., fused=False) has second ones")
        student, teacher = ctx.saved_tensors
        setting, shape, parameters, masks, weights, keys, by_cell, of_image = ctx.kept
        s, t, out = student.flatten(2), teacher.flatten(2), empty_like(student)
        tiles, (n, c, hw) = Tiles(s, t, sum_dtype(s, t), out.flatten(2)), s.shape
        g = tuple(0.0 if each is None else each.item() for each in given)
        new = dict(dtype=tiles.dtype)
        factors, levels, of_weights = torch.empty(n, 5, c, **new).numpy(), torch.empty(n, 3, dtype=torch.float64).numpy(), torch.empty(len(weights), **new)
        of_keys = torch.empty(tiles.count, 2, c, **new).numpy()
        tiles.loops.pull(
            g, setting.shares, setting.spatial / c, setting.channel / hw, setting.relation, weights, *shape, by_cell, of_image, factors, levels, of_weights.numpy())
        tiles.each(lambda first, last, scratch, out, s, t: tiles.loops.write(
            first, last, scratch, *out, *s, *t, *masks, keys, g, setting.shares, setting.spatial / c, setting.relation, tiles.wide, by_cell, factors, levels,
            of_keys))
        of_parameters = [None] * len(parameters)
        if parameters and given[TERMS.index("global")] is not None:
            of_weights.view(2, -1).numpy()[:, :c] = of_keys.sum(axis=0)
            parts = of_weights.split([size for _, size, _ in parameters])
            of_parameters = [part.view(of).to(kind) for part, (of, _, kind) in zip(parts, parameters, strict=True)]
        return out, None, None, None, None, None, *of_parameters


class Tiles:
    """The tiles of a level, and the memory of maps (N, C, HW) as the loops take it, shared out among threads.

    Args:
        student, teacher: the maps that are read.
        dtype: of the sums. A map of another precision is converted strip by strip.
        out: the gradient that is written; none forward.
    """

    def __init__(self, student: Tensor, teacher: Tensor, dtype: torch.dtype, out: Tensor | None = None):
        from . import loops

        n, c, hw = student.shape
        cells = min(loops.WIDE, CACHE // (2 * c * dtype.itemsize))
        self.wide = max(cells // loops.LINE * loops.LINE, 1)
        self.of_image = -(-hw // self.wide)
        self.count, self.threads = n * self.of_image, min(torch.get_num_threads(), max(1, n * c * hw // ALONE))
        self.dtype, self.loops = dtype, loops.compiled(str(dtype).removeprefix("torch."))
        self.maps = [each.detach() for each in (out, student, teacher) if each is not None]
        self.memory = [memory(each) if each.dtype == dtype else None for each in self.maps]
        turned = any(each is not None and each[1][3] != 1 for each in self.memory)
        self.scratch = loops.ROWS + (3 * c * loops.WIDE if turned else 0)
        self.out = out

    def each(self, work: Callable[..., None]) -> None:
        """``work(first, last, scratch, *memory of the maps)`` over all tiles."""
        ends = [self.count * part // self.threads for part in range(self.threads + 1)]
        others = [helpers(os.getpid(), self.threads).submit(self.some, work, *ends[part:part + 2]) for part in range(1, self.threads)]
        self.some(work, *ends[:2])
        for other in others:
            other.result()

    def some(self, work: Callable[..., None], first: int, last: int) -> None:
        scratch = torch.empty(self.scratch, dtype=self.dtype).numpy()
        if None not in self.memory:
            work(first, last, scratch, *self.memory)
            return
        while first < last:
            image = first // self.of_image
            end = min(last, first + STRIP, (image + 1) * self.of_image)
            start, stop = (tile - image * self.of_image for tile in (first, end))
            cells = slice(start * self.wide, stop * self.wide)
            strips = [each[image, :, cells].to(self.dtype).contiguous() for each in self.maps]
            work(first, end, scratch, *((each.view(-1).numpy(), (-cells.start, 0, each.shape[1], 1)) for each in strips))
            if self.out is not None:
                self.out[image, :, cells] = strips[0]
            first = end


def memory(maps: Tensor):
    """The memory of maps (N, C, HW) from their first value to their last, and where they lie in it."""
    flat = maps.as_strided((1 + sum((size - 1) * step for size, step in zip(maps.shape, maps.stride(), strict=True)),), (1,))
    by_image, by_channel, by_cell = maps.stride()
    return flat.numpy(), (0, by_image, by_channel, by_cell if maps.shape[2] > 1 else 1)


@cache
def helpers(process: int, count: int) -> ThreadPoolExecutor:
    """Threads that help the calling one; a process that was forked needs its own. Compiled loops let go of the interpreter while they run."""
    return ThreadPoolExecutor(count - 1)
