"""Checkers of notebook 03: spatial attention, how many pixels it leaves, and the gap between two networks on objects and beside them."""
from collections.abc import Callable

import torch
from torch import Tensor

from fgdlab.attention import attention

from .judge import Case, Verdict, judge


def maps(seed: int, *shape: int) -> Tensor:
    """A feature map of no symmetry: channels and pixels of different size, both signs."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator) * torch.linspace(0.5, 2.0, shape[1])[:, None, None]


def spatial_attention(answer: Callable) -> Verdict:
    """``answer(features, temperature) -> (N, H, W)``: A^S of eqs. 5 and 7 from features (N, C, H, W)."""
    cases = [
        (maps(0, 1, 2, 2, 3), 0.5, "one map of 2 x 3 pixels and 2 channels", "mean of |F| over channels, softmax over all pixels, times H W"),
        (maps(1, 3, 4, 3, 5), 1.0, "a batch of 3", "each image has a softmax of its own: its attention sums to H W"),
        (maps(2, 2, 5, 4, 2), 0.1, "a low temperature", "G is divided by T, not multiplied"),
    ]
    return judge(answer, [Case(name, (features, t), attention(features, t).spatial, hint=hint) for features, t, name, hint in cases])


def effective_share(answer: Callable) -> Verdict:
    """``answer(a) -> number``: (sum a)^2 / (H W sum a^2) of an attention (H, W): 1 if all pixels weigh the same, 1/(H W) if one has everything."""
    one = torch.zeros(3, 5)
    one[1, 2] = 15.0
    half = torch.tensor([[2.0, 0.0, 2.0, 0.0], [0.0, 2.0, 0.0, 2.0]])
    cases = [
        (torch.ones(4, 6), "all pixels alike", "all of them count"), (one, "one pixel of 15 has everything", "one of 15 counts"),
        (half, "half of the pixels share it", "half of them count"),
        (maps(3, 1, 1, 3, 4)[0, 0].exp(), "weights that do not sum to H W", "the sum is part of the formula"),
    ]
    return judge(answer, [Case(name, (a,), (a.sum() ** 2 / a.square().sum() / a.numel()).item(), hint=hint) for a, name, hint in cases])


def gap(answer: Callable) -> Verdict:
    """``answer(teacher, student, binary) -> (foreground, background)``: mean |A^S_T - A^S_S| a cell, over all images, by M. All (N, H, W)."""
    def expected(teacher: Tensor, student: Tensor, binary: Tensor) -> tuple[float, float]:
        difference = (teacher - student).abs()
        return difference[binary == 1].mean().item(), difference[binary == 0].mean().item()

    uneven = torch.zeros(2, 3, 4)
    uneven[0, :2, :3], uneven[1, 2, 3] = 1.0, 1.0                    # six cells in one image, one in the other: means of means differ
    cases = []
    for seed, name, hint in (
        (4, "two images with objects of different size", "one mean over all foreground cells of the batch, one over all background cells"),
        (5, "other maps", "the absolute difference, cell by cell, before any mean"),
    ):
        teacher, student = attention(maps(seed, 2, 3, 3, 4)).spatial, attention(maps(seed + 10, 2, 3, 3, 4)).spatial
        cases.append(Case(name, (teacher, student, uneven), expected(teacher, student, uneven), hint=hint))
    return judge(answer, cases)
