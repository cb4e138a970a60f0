"""Launches the kernels of one level, with small tensors between them. The host never waits.

    first_read   S, T --> g, logits per cell; |F|, D, D^2 per channel --> attention, w by torch
    second_read  S, T --> eq. 9, contexts
    gradient     S, T --> gradients of S and of both W_k

Unlike the CPU's, a GPU's tiles run side by side, so eq. 9 waits for the attention of all tiles: two reads forward.
"""
import torch
import triton
import triton.language as tl
from torch import Tensor

from ...config import FGDConfig
from ...scene import sum_dtype
from . import kernels
from .autograd import Sums

CHANNELS, CELLS = 32, 128  # of a step of a tile; powers of 2


def read_maps(
    student: Tensor, teacher: Tensor, masks: list[Tensor], key_s: Tensor | None, key_t: Tensor | None,
    config: FGDConfig,
) -> tuple[Sums, tuple[Tensor | None, ...]]:
    """The sums, and what the gradient needs: A^S (N, HW) and A^C (N, C) of eq. 9, w (N, 2, HW), contexts (N, 2, C).

    Args:
        student, teacher: (N, C, HW).
        masks: none, or fg and bg, each (N, HW).
        key_s, key_t: W_k of both networks, or None.
    """
    n, c, hw = student.shape
    dtype = sum_dtype(student, teacher)
    new, tiles = dict(dtype=dtype, device=student.device), triton.cdiv(hw, CELLS)
    zeros, strides = torch.zeros(c, **new), (*student.stride(), *teacher.stride())
    keys = [zeros if key is None else key.detach().reshape(-1).contiguous() for key in (key_s, key_t)]
    by_cell, by_channel = torch.empty(n, 4, hw, **new), torch.empty(n, tiles, 4, c, **new)
    launch(
        kernels.first_read, (tiles, n), student, teacher, *keys, by_cell, by_channel, c, hw, tiles, *strides,
        dtype=dtype)
    sums = by_channel.sum(dim=1)  # (N, 4, C)
    g_spatial, g_channel = by_cell[:, :2] / c, sums[:, :2] / hw  # eqs. 5-6, (N, 2, HW) and (N, 2, C)
    softmax = torch.softmax(by_cell[:, 2:], dim=2)  # w of eq. 13, (N, 2, HW)
    weighing = {"student": slice(0, 1), "teacher": slice(1, 2), "mean": slice(0, 2)}[config.attention_of]
    a_spatial, a_channel = (
        each.shape[2] * torch.softmax(each[:, weighing] / config.temperature, dim=2).mean(dim=1) if on
        else torch.ones(n, each.shape[2], **new)
        for each, on in ((g_spatial, config.spatial_attention), (g_channel, config.channel_attention))
    )
    fg = bg = context_s = context_t = contexts = None
    if masks or key_s is not None:
        rows = torch.zeros(n, 2, hw, **new) if not masks else torch.stack(masks, dim=1).to(dtype) * a_spatial[:, None]
        focal, contexts = torch.empty(n, tiles, 2, **new), torch.empty(n, tiles, 2, c, **new)
        launch(
            kernels.second_read, (tiles, n), student, teacher, torch.cat([rows, softmax], dim=1), a_channel, focal,
            contexts, c, hw, tiles, *strides, dtype=dtype)
        contexts = contexts.sum(dim=1)  # (N, 2, C)
    if masks:
        fg, bg = focal.sum(dim=(0, 1)).unbind()
    if key_s is not None:
        context_s, context_t = contexts.unbind(dim=1)
    sums = Sums(
        fg, bg, sums[:, 3].sum(dim=1), sums[:, 2], g_spatial[:, 0], g_channel[:, 0], context_s, context_t,
        g_spatial[:, 1], g_channel[:, 1])
    return sums, (a_spatial, a_channel, softmax, contexts)


def write_gradient(
    out: Tensor, student: Tensor, teacher: Tensor, masks: list[Tensor], keys: tuple[Tensor | None, ...], g: Sums,
    a_spatial: Tensor, a_channel: Tensor, softmax: Tensor, contexts: Tensor | None,
) -> list[Tensor | None]:
    """Fill ``out`` (N, C, HW) with the gradient of the student's map; returns those of both W_k (C,).

    Args:
        g: gradients of the sums; None where nothing uses a sum.
        a_spatial, a_channel, softmax, contexts: as :func:`read_maps` returns them.
    """
    n, c, hw = student.shape
    dtype = sum_dtype(student, teacher)
    new, tiles = dict(dtype=dtype, device=student.device), triton.cdiv(hw, CELLS)
    of_cells, of_channels = torch.zeros(n, 4, hw, **new), torch.zeros(n, 10, c, **new)  # rows: see kernels.gradient
    for mask, upstream in zip(masks, (g.fg, g.bg), strict=False):
        if upstream is not None:
            of_cells[:, 0] += mask * upstream * a_spatial
    if g.g_spatial_s is not None:
        of_cells[:, 1] = g.g_spatial_s / c
    of_cells[:, 2:] = softmax
    of_channels[:, 0] = a_channel
    if g.squares is not None:
        of_channels[:, 1] = g.squares[:, None]
    if g.g_channel_s is not None:
        of_channels[:, 2] = g.g_channel_s / hw
    if g.shift is not None:
        of_channels[:, 3] = -g.shift
    of_contexts = (g.context_s, g.context_t)
    for i, (key, upstream) in enumerate(zip(keys, of_contexts, strict=True)):
        if upstream is not None:
            of_channels[:, 4 + 3 * i], of_channels[:, 5 + 3 * i] = key.detach().flatten(), upstream
            of_channels[:, 6 + 3 * i] = (upstream * contexts[:, i]).sum(dim=1, keepdim=True)
    with_keys = any(each is not None for each in of_contexts)
    of_keys = torch.empty(n, tiles, 2, c, **new) if with_keys else of_channels
    launch(
        kernels.gradient, (tiles, n), student, teacher, out, of_cells, of_channels, of_keys, c, hw, tiles,
        *student.stride(), *teacher.stride(), *out.stride(), dtype=dtype, KEYS=with_keys,
    )
    return [None if upstream is None else of_keys[:, :, i].sum(dim=(0, 1)) for i, upstream in enumerate(of_contexts)]


def launch(kernel, grid: tuple[int, int], *args, dtype: torch.dtype, **switches: bool) -> None:
    """Run a kernel over tiles and images on the device of its maps."""
    sums = tl.float64 if dtype == torch.float64 else tl.float32
    with torch.cuda.device_of(args[0]):
        kernel[grid](*args, CHANNELS=CHANNELS, CELLS=CELLS, DTYPE=sums, **switches)
