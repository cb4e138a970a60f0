"""Sums over blocks of cells that need softmaxes over all cells, taken in one go.

A softmax over all cells is known only at the end, but a cell's own logit as soon as its channels are read. So a block's sums are taken with
the powers of its logits below the block's largest, which cannot overflow, and are put to scale when the largest of all is known:

    softmax_j = e^(l_j - block's peak) * e^(block's peak - peak) / sum_k e^(l_k - peak)
"""
import torch
from torch import Tensor


class OneMap:
    """What is read off one network's map F: |F| by cell and by channel, and the context of eq. 13.

    Args:
        spatial, channel: gather mean |F| over channels, over cells (eqs. 5-6)?
        key: W_k of eq. 13 as (1, 1, C), or None.
    """

    def __init__(self, spatial: bool, channel: bool, key: Tensor | None):
        self.spatial, self.channel, self.key = spatial, channel, key
        self.by_cell, self.by_channel, self.logits, self.contexts, self.peaks = [], [], [], [], []

    def read(self, block: Tensor, scratch: Tensor) -> None:
        """One block (n, C, B); ``scratch`` is overwritten."""
        if self.spatial or self.channel:
            torch.abs(block, out=scratch)
        if self.spatial:
            self.by_cell.append(scratch.sum(dim=1))
        if self.channel:
            self.by_channel.append(scratch.sum(dim=2))
        if self.key is not None:
            logits = torch.bmm(self.key.expand(len(block), 1, -1), block)[:, 0]      # (n, B)
            powers, peak = below_peak(logits)
            self.logits.append(logits)
            self.peaks.append(peak)
            self.contexts.append(weighted(block, powers))

    def close(self, channels: int, cells: int) -> None:
        """Blocks -> images: G^S (n, HW), G^C (n, C), softmax of the logits (n, HW), context (n, C); None for what was not gathered."""
        self.g_spatial = torch.cat(self.by_cell, dim=1) / channels if self.spatial else None
        self.g_channel = added(self.by_channel) / cells if self.channel else None
        self.softmax, scale = to_scale(torch.cat(self.logits, dim=1), self.peaks) if self.key is not None else (None, None)
        self.context = added(self.contexts, scale) if self.key is not None else None


def weighted(block: Tensor, weights: Tensor) -> Tensor:
    """sum_hw w_hw x_c,hw: (n, C, B), (n, B) -> (n, C)."""
    return torch.bmm(block, weights[:, :, None])[:, :, 0]


def below_peak(logits: Tensor) -> tuple[Tensor, Tensor]:
    """exp(logits - peak) (n, B) and the peak (n, 1)."""
    peak = logits.amax(dim=1, keepdim=True)
    return (logits - peak).exp_(), peak


def to_scale(logits: Tensor, peaks: list[Tensor]) -> tuple[Tensor, Tensor]:
    """softmax of all logits (n, HW), and what each block's powers must be multiplied by to become it, (n, blocks)."""
    powers, peak = below_peak(logits)
    whole = powers.sum(dim=1, keepdim=True)
    return powers / whole, (torch.cat(peaks, dim=1) - peak).exp_() / whole


def added(parts: list[Tensor], scale: Tensor | None = None) -> Tensor:
    """sum_b scale_b parts_b over the blocks, each part (n, C)."""
    every = torch.stack(parts, dim=1)                                # (n, blocks, C)
    return every.sum(dim=1) if scale is None else torch.bmm(scale[:, None], every)[:, 0]


class Weighed:
    """sum_hw mask A^S D^2 by channel, with the A^S of one network.

    Args:
        network: the map whose blocks have been read just before.
        masks: those of fg and bg that are asked for, each (n, HW).
    """

    def __init__(self, network: OneMap, masks: int, temperature: float):
        self.network, self.temperature = network, temperature
        self.parts, self.peaks = [[] for _ in range(masks)], []

    def read(self, squares: Tensor, masks: list[Tensor]) -> None:
        """A block of D^2 (n, C, B) and the same cells of the masks (n, B)."""
        if self.network.spatial:
            powers, peak = below_peak(self.network.by_cell[-1] / (squares.shape[1] * self.temperature))
            self.peaks.append(peak)
            masks = [mask * powers for mask in masks]
        for parts, mask in zip(self.parts, masks, strict=True):
            parts.append(weighted(squares, mask))

    def close(self) -> tuple[list[Tensor], Tensor | None, Tensor | None]:
        """The sums by channel (n, C) of each mask; A^S (n, HW), A^C (n, C), None where off. After the network's own ``close``."""
        a_spatial = scale = a_channel = None
        if self.network.spatial:
            softmax, scale = to_scale(self.network.g_spatial / self.temperature, self.peaks)
            cells = softmax.shape[1]
            a_spatial, scale = cells * softmax, cells * scale
        if self.network.channel:
            g_channel = self.network.g_channel
            a_channel = g_channel.shape[1] * torch.softmax(g_channel / self.temperature, dim=1)
        return [added(parts, scale) for parts in self.parts], a_spatial, a_channel
