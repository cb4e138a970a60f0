"""How much to look: spatial and channel attention (eqs. 5-8).

    F (N, C, H, W) --mean of |F|--> G^S (N, H, W), G^C (N, C) --softmax at temperature T--> A^S, A^C
"""
from typing import NamedTuple

import torch
from torch import Tensor


class Attention(NamedTuple):
    """``spatial`` (N, H, W) sums to H*W per image; ``channel`` (N, C) sums to C per image. The average value is 1.

    >>> spatial, channel = attention(maps["P3"], temperature=0.5)
    >>> tuple(spatial.shape), tuple(channel.shape)
    ((2, 16, 20), (2, 8))
    """

    spatial: Tensor
    channel: Tensor


def attention(features: Tensor, temperature: float = 0.5) -> Attention:
    """Attention of one feature map.

    G^S = mean over channels of |F|     (eq. 5)     A^S = H W softmax(G^S / T)   (eq. 7)
    G^C = mean over pixels of |F|       (eq. 6)     A^C = C   softmax(G^C / T)   (eq. 8)

    Args:
        features: (N, C, H, W).
        temperature: T > 0. T -> infinity gives 1 everywhere, T -> 0 selects one pixel and one channel.
    Raises:
        ValueError: T not above 0, or features of another shape.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}; 0.5 is the paper's")
    if features.ndim != 4:
        raise ValueError(f"features must have shape (N, C, H, W), got {tuple(features.shape)}")
    _, c, h, w = features.shape
    magnitude = features.abs()
    g_spatial = magnitude.mean(dim=1)       # G^S (N, H, W)
    g_channel = magnitude.mean(dim=(2, 3))  # G^C (N, C)
    a_spatial = h * w * torch.softmax(g_spatial.flatten(1) / temperature, dim=1)
    a_channel = c * torch.softmax(g_channel / temperature, dim=1)
    return Attention(a_spatial.view_as(g_spatial), a_channel)


def without(full: Attention, *, spatial: bool = False, channel: bool = False) -> Attention:
    """The attention with the named part off, which is 1 everywhere (the ablation of the paper's Table 5)."""
    return Attention(
        torch.ones_like(full.spatial) if spatial else full.spatial,
        torch.ones_like(full.channel) if channel else full.channel,
    )


def attention_of(source: str, student: Attention, teacher: Attention) -> Attention:
    """The attention that weighs eq. 9, without gradient.

    Args:
        source: ``teacher`` as in the paper, ``student``, or the ``mean`` of both as in FBKD.
    """
    if source == "teacher":
        return Attention(*(part.detach() for part in teacher))
    student = Attention(*(part.detach() for part in student))
    if source == "student":
        return student
    return Attention(*((s + t) / 2 for s, t in zip(student, teacher, strict=True)))
