"""The sums and the gradient of a level on a CUDA card: three Triton kernels and small tensors between them; the host never waits.

    first_read   S, T --> g, logits by cell; |F|, D, D^2 by channel --> attentions, w          (torch, on N HW and N C numbers)
    second_read  S, T --> eq. 9, contexts
    gradient     S, T --> gradient of S, of both W_k                                            (backward)

Unlike the CPU's tiles a card's run side by side, so eq. 9 waits for the attention of all tiles: two reads forward, not one.
"""
import torch
import triton
import triton.language as tl
from torch import Tensor

from ...scene import sum_dtype
from . import kernels
from .gradient import Context, Factors
from .reductions import Plan

CHANNELS, CELLS = 32, 128                                            # of a step of a tile; both powers of 2


def read_maps(
    student: Tensor, teacher: Tensor, masks: list[Tensor], key_s: Tensor | None, key_t: Tensor | None, plan: Plan,
) -> dict[str, Tensor | None]:
    """Fields of :class:`Sums` and what the gradient needs, by name; "focal" is eq. 9 with each of ``masks``, (len(masks),).

    Args:
        student, teacher: (N, C, HW).
        masks: none, or some of fg and bg, each (N, HW), in the precision of the sums.
        key_s, key_t: W_k of both networks, or None.
    """
    n, c, hw = student.shape
    dtype = sum_dtype(student, teacher)
    new, tiles = dict(dtype=dtype, device=student.device), triton.cdiv(hw, CELLS)
    zero_key = torch.zeros(c, **new)
    keys = [zero_key if key is None else key.detach().reshape(-1).contiguous() for key in (key_s, key_t)]
    by_cell, by_channel = torch.empty(n, 4, hw, **new), torch.empty(n, tiles, 4, c, **new)
    launch(kernels.first_read, (tiles, n), student, teacher, *keys, by_cell, by_channel, c, hw, tiles, *student.stride(), *teacher.stride(), dtype=dtype)
    sums = by_channel.sum(dim=1)                                     # (N, 4, C)
    g_spatial, g_channel = by_cell[:, :2] / c, sums[:, :2] / hw      # eqs. 5-6, (N, 2, HW) and (N, 2, C)
    softmax = torch.softmax(by_cell[:, 2:], dim=2)                   # w of eq. 13, (N, 2, HW)
    looked = [("student", "teacher").index(who) for who in plan.weighed_by]
    a_spatial = hw * torch.softmax(g_spatial[:, looked[0]:looked[-1] + 1] / plan.temperature, dim=2).mean(dim=1) if looked and plan.spatial else None
    a_channel = c * torch.softmax(g_channel[:, looked[0]:looked[-1] + 1] / plan.temperature, dim=2).mean(dim=1) if looked and plan.channel else None

    focal = contexts = None
    if masks or key_s is not None:
        rows = [mask if a_spatial is None else mask * a_spatial for mask in masks]
        rows += [torch.zeros(n, hw, **new)] * (2 - len(rows))
        weights = torch.cat([torch.stack(rows, dim=1), softmax], dim=1)
        ones = torch.ones(n, c, **new) if a_channel is None else a_channel.contiguous()
        focal, contexts = torch.empty(n, tiles, 2, **new), torch.empty(n, tiles, 2, c, **new)
        launch(
            kernels.second_read, (tiles, n), student, teacher, weights, ones, focal, contexts, c, hw, tiles, *student.stride(), *teacher.stride(),
            dtype=dtype,
        )
        contexts = contexts.sum(dim=1)                               # (N, 2, C)

    found = {
        "focal": focal.sum(dim=(0, 1)) if masks else None, "a_spatial": a_spatial, "a_channel": a_channel,
        "squares": sums[:, 3].sum(dim=1) if plan.squares else None, "shift": sums[:, 2] if plan.shift else None,
    }
    for i, (who, key) in enumerate((("student", key_s), ("teacher", key_t))):
        found[f"g_spatial_{who[0]}"] = g_spatial[:, i] if plan.spatial and plan.looks_at(who) else None
        found[f"g_channel_{who[0]}"] = g_channel[:, i] if plan.channel and plan.looks_at(who) else None
        found[f"softmax_{who[0]}"], found[f"context_{who[0]}"] = (None, None) if key is None else (softmax[:, i], contexts[:, i])
    return found


def write_gradient(out: Tensor, student: Tensor, teacher: Tensor, factors: Factors, contexts: list[Context | None]) -> list[Tensor | None]:
    """Fill ``out`` (N, C, HW) with the gradient of the student's map; returns those of W_k (C,) of the student and of the teacher."""
    n, c, hw = student.shape
    dtype = sum_dtype(student, teacher)
    new, tiles = dict(dtype=dtype, device=student.device), triton.cdiv(hw, CELLS)
    of_cells, of_channels = torch.zeros(n, 4, hw, **new), torch.zeros(n, 10, c, **new)
    for i, row in enumerate((factors.focal, factors.by_cell)):
        if row is not None:
            of_cells[:, i] = row[:, 0]
    for i, row in enumerate((factors.a_channel, factors.squares, factors.by_channel, factors.shift)):
        if row is not None:
            of_channels[:, i] = row[:, :, 0]
    for i, given in enumerate(contexts):
        if given is not None:
            of_cells[:, 2 + i] = given.softmax
            of_channels[:, 4 + 3 * i], of_channels[:, 5 + 3 * i] = given.key.detach(), given.upstream
            of_channels[:, 6 + 3 * i] = (given.upstream * given.context).sum(dim=1, keepdim=True)
    some = any(given is not None for given in contexts)
    keys = torch.empty(n, tiles, 2, c, **new) if some else of_channels
    launch(
        kernels.gradient, (tiles, n), student, teacher, out, of_cells, of_channels, keys, c, hw, tiles, *student.stride(), *teacher.stride(), *out.stride(),
        dtype=dtype, KEYS=some,
    )
    return [None if given is None else keys[:, :, i].sum(dim=(0, 1)) for i, given in enumerate(contexts)]


def launch(kernel, grid: tuple[int, int], *given, dtype: torch.dtype, **switches: bool) -> None:
    """Run a kernel over tiles and images on the card where its maps lie."""
    with torch.cuda.device_of(given[0]):
        kernel[grid](*given, CHANNELS=CHANNELS, CELLS=CELLS, DTYPE=tl.float64 if dtype == torch.float64 else tl.float32, **switches)
