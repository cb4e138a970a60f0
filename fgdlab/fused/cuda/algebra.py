"""The sums of FGD on all levels, in an order that torch.compile fuses into few reads of the maps (eqs. 2-13).

A sum over a map is of one of two kinds, and one read serves all of a kind:

    over channels, per cell     |F| for G^S, W_k F of eq. 13
    over cells, per channel     |F| for G^C, D = T - S, D^2, M S A^S D^2, the contexts of eq. 13

A^C weighs the sums over cells afterwards. R adds one vector v to all cells: with e = v(T) - v(S), per image

    sum (D + e)^2 = sum D^2 + 2 e . sum_hw D + H W e . e
"""
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import layer_norm
from torch.nn.utils import parameters_to_vector

from ...config import FGDConfig
from ...fgd import MASKED
from ...masks import FocalMasks, box_weights, projected, swapped, unsplit_masks, with_background
from ...pyramid import check_box_count
from ...scene import Scene, sum_dtype

OUTSIDE = -10**6  # pixels: a box there covers no cell
OPTIONS = {  # of torch.compile, if its version knows them
    "combo_kernels": True, "combo_kernel_max_num_nodes": 64, "combo_kernel_max_distance": -1,
    "combo_kernel_peak_memory_pct_threshold": 1.0,  # all levels in one launch
    "realize_reads_threshold": 99, "realize_opcount_threshold": 999, "realize_acc_reads_threshold": 99,  # no copies
    "triton.mix_order_reduction": False,  # costs launches
    "eager_numerics.division_rounding": True,  # boxes cover the cells of FGDLoss
}


def sums_of_levels(
    students: list[Tensor], teachers: list[Tensor], scene: Scene, relations: list[Any], config: FGDConfig,
) -> list[dict[str, Tensor]]:
    """:func:`fgdlab.fgd.term_sums` of all levels, also of maps in half precision; the host does not wait."""
    check_box_count(scene, len(students[0]))
    layers, names = None, list(config.weights())
    if relations[0] is not None and relations[0].kind == "gc":
        blocks = [getattr(each, who) for who in ("student", "teacher") for each in relations]
        layers = parameters_to_vector(e for block in blocks for e in block.parameters()).view(len(blocks), 1, -1)
    found = compiled()(students, teachers, *located(scene, config.frame), layers, config).unbind()
    return [dict(zip(names, found[first:], strict=False)) for first in range(0, len(found), len(names))]


@cache
def compiled() -> Callable[..., Tensor]:
    known = torch._inductor.list_options()
    options = {name: value for name, value in OPTIONS.items() if name in known}
    return torch.compile(pyramid_sums, fullgraph=True, options=options)


def located(scene: Scene, frame: str) -> tuple[Tensor, Tensor]:
    """(B, 4) all boxes; (N, 2 + K) height and width of each frame, and the indices of its boxes, -1 for none."""
    counts, first, rows = [len(each) for each in scene.boxes], 0, []
    most = max(2, *counts)  # torch.compile takes sizes below 2 for constants
    for count, size in zip(counts, scene.frame_sizes(frame), strict=True):
        rows.append([*size, *range(first, first + count), *[-1] * (most - count)])
        first += count
    boxes = torch.cat(scene.boxes) if first else scene.boxes[0].new_zeros(1, 4)
    table = torch.tensor(rows, pin_memory=boxes.is_cuda).to(boxes.device, non_blocking=True)
    torch._dynamo.maybe_mark_dynamic(boxes, 0)
    torch._dynamo.maybe_mark_dynamic(table, 1)
    return boxes, table


def pyramid_sums(
    students: list[Tensor], teachers: list[Tensor], boxes: Tensor, table: Tensor, layers: Tensor | None,
    config: FGDConfig,
) -> Tensor:
    """One vector: the terms of the first level in the order of ``config.weights()``, then those of the next.

    layers: (2 L, 1, P) parameters of R's blocks: the students' level by level, then the teachers'.
    """
    levels, (n, channels, _, _) = len(students), students[0].shape
    keys: Any = [None] * 2 * levels
    if layers is not None:
        hidden = channels // 2
        sizes = channels, 1, hidden * channels, hidden, hidden, hidden, hidden * channels, channels
        keys, _, *transform = layers.split(sizes, 2)
    of_levels = [
        level_sums(*each, boxes, table, config)
        for each in zip(students, teachers, keys[:levels], keys[levels:], strict=True)]
    parts = {name: torch.stack([each[name] for each in of_levels]) for name in of_levels[0]}  # (L, N, C) or (L, N, 1)
    student, teacher = (  # A^C
        channels * torch.softmax(parts[g] / config.temperature, 2) if config.channel_attention
        else torch.ones_like(parts[g]) for g in ("student", "teacher"))
    weight = weighing(student, teacher, config)
    sums = {name: parts[name] * weight for name in MASKED & parts.keys()}
    sums["attention"] = (student - teacher).abs().sum(2, keepdim=True) + parts["attention"]
    e = -parts["D"] / parts["cells"] if config.relation == "centred" else torch.zeros_like(parts["D"])
    if layers is not None:
        contexts = torch.stack([each[name] for name in ("context_s", "context_t") for each in of_levels])
        v = offsets(transform, contexts)
        e = v[levels:] - v[:levels]
    sums["global"] = parts["D^2"] + e * (2 * parts["D"] + parts["cells"] * e)
    return torch.stack([sums[name].sum((1, 2)) / n for name in config.weights()], dim=1).view(-1)


def level_sums(
    student: Tensor, teacher: Tensor, student_key: Tensor | None, teacher_key: Tensor | None, boxes: Tensor,
    table: Tensor, config: FGDConfig,
) -> dict[str, Tensor]:
    """Sums over the cells of one level, (N, C), or (N, 1) without channels. "student" and "teacher" are G^C."""
    dtype, grid = sum_dtype(student, teacher), student.shape[2:]
    s, t = (maps.to(dtype).flatten(2).mT for maps in (student, teacher))  # (N, HW, C)
    d = t - s  # ahead of the sums: then backward reads the maps again, and no copy in float32 is kept
    squares, (of_student, of_teacher) = d.square(), (spatial_attention(maps, config) for maps in (s, t))
    sums = {
        "D": d.sum(1), "D^2": squares.sum(1), "student": s.abs().mean(1), "teacher": t.abs().mean(1),
        "attention": (of_student - of_teacher).abs().sum(1, keepdim=True), "cells": s.new_full((1, 1), s.shape[1]),
    }
    if masked := [name for name in config.weights() if name in MASKED]:
        masks, weight = masks_on(grid, boxes, table, config, dtype), weighing(of_student, of_teacher, config)
        for name in masked:
            mask = masks.bg if name == "bg" else masks.fg
            sums[name] = (squares * (mask.flatten(1) * weight)[..., None]).sum(1)
    if student_key is not None and teacher_key is not None:
        sums |= {"context_s": context(student_key, s), "context_t": context(teacher_key, t)}
    return sums


def masks_on(
    grid: tuple[int, int], boxes: Tensor, table: Tensor, config: FGDConfig, dtype: torch.dtype,
) -> FocalMasks:
    if config.area == "both":
        return unsplit_masks(len(table), grid, dtype, table.device)
    height, width = table[:, :2, None].to(boxes.dtype).unbind(1)  # (N, 1)
    index = table[:, 2:]
    placed = torch.where(index[..., None] < 0, OUTSIDE, boxes[index.clamp(min=0)])  # (N, K, 4)
    cells = projected(placed, [height, width], grid, config.rounding)
    return with_background(box_weights(swapped(cells, config.axes), grid, dtype))


def spatial_attention(maps: Tensor, config: FGDConfig) -> Tensor:
    """A^S of eq. 7: (N, HW, C) -> (N, HW)."""
    if not config.spatial_attention:
        return maps.new_ones(maps.shape[:2])
    exponentials, total = softmax_parts(maps.abs().mean(2) / config.temperature)
    return maps.shape[1] * exponentials / total


def weighing(student: Tensor, teacher: Tensor, config: FGDConfig) -> Tensor:
    return {"student": student, "teacher": teacher, "mean": (student + teacher) / 2}[config.attention_of].detach()


def softmax_parts(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Numerators (N, HW) and denominator (N, 1): a sum that is divided late has a simple gradient."""
    exponentials = (logits - logits.detach().amax(1, keepdim=True)).exp()
    return exponentials, exponentials.sum(1, keepdim=True)


def context(key: Tensor, maps: Tensor) -> Tensor:
    """sum_j softmax_j(W_k F_j) F_j, with W_k (1, C): (N, HW, C) -> (N, C). The bias of W_k changes no softmax."""
    exponentials, total = softmax_parts((key * maps).sum(2))
    return (exponentials[..., None] * maps).sum(1) / total


def offsets(transform: list[Tensor], contexts: Tensor) -> Tensor:
    """v = W_v2 ReLU(LN(W_v1 context)) of eq. 13 by B blocks: parameters (B, 1, .), contexts (B, N, C) -> (B, N, C)."""
    narrow, narrow_bias, gain, shift, widen, widen_bias = transform
    hidden = (contexts[:, :, None] * narrow.unflatten(2, (-1, contexts.shape[2]))).sum(3) + narrow_bias
    hidden = (layer_norm(hidden, hidden.shape[2:]) * gain + shift).relu()
    return (hidden[:, :, None] * widen.unflatten(2, (-1, hidden.shape[2]))).sum(3) + widen_bias
