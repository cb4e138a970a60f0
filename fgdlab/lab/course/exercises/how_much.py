"""Exercises of notebook 03: spatial attention, its effective area, the gap in foreground and background."""
import torch

from fgdlab.attention import attention

from .answers import Case, Verdict, check_answer, random_maps


def spatial_attention(answer) -> Verdict:
    """answer(features, temperature): A^S of eqs. 5 and 7, (N, C, H, W) -> (N, H, W)."""
    cases = [
        (random_maps(0, 1, 2, 2, 3), 0.5, "one map of 2 x 3 pixels and 2 channels",
         "mean of |F| over channels, softmax over all pixels, times H W"),
        (random_maps(1, 3, 4, 3, 5), 1.0, "a batch of 3", "each image has its own softmax: its attention sums to H W"),
        (random_maps(2, 2, 5, 4, 2), 0.1, "a low temperature", "G is divided by T, not multiplied"),
    ]
    return check_answer(answer, [
        Case(name, (features, t), attention(features, t).spatial, hint=hint) for features, t, name, hint in cases
    ])


def effective_fraction(answer) -> Verdict:
    """answer(a): (sum a)^2 / (H W sum a^2) of an attention (H, W); 1 if uniform, 1/(H W) for one pixel."""
    one = torch.zeros(3, 5)
    one[1, 2] = 15.0
    half = torch.tensor([[2.0, 0.0, 2.0, 0.0], [0.0, 2.0, 0.0, 2.0]])
    cases = [
        (torch.ones(4, 6), "all pixels equal", "all of them count"),
        (one, "one pixel of 15 has all the attention", "one of 15 counts"),
        (half, "half of the pixels have equal attention, the others none", "half of them count"),
        (random_maps(3, 1, 1, 3, 4)[0, 0].exp(), "weights that do not sum to H W", "the sum is part of the formula"),
    ]
    return check_answer(answer, [
        Case(name, (a,), (a.sum() ** 2 / a.square().sum() / a.numel()).item(), hint=hint) for a, name, hint in cases
    ])


def gap(answer) -> Verdict:
    """answer(teacher, student, binary): mean |A^S_T - A^S_S| over foreground and background cells, all (N, H, W)."""
    uneven = torch.zeros(2, 3, 4)  # six foreground cells in one image, one in the other: a mean of means differs
    uneven[0, :2, :3], uneven[1, 2, 3] = 1.0, 1.0
    cases = []
    for seed, name, hint in (
        (4, "two images with objects of different size",
         "one mean over all foreground cells of the batch, one over all background cells"),
        (5, "other maps", "the absolute difference, cell by cell, before any mean"),
    ):
        teacher, student = (attention(random_maps(s, 2, 3, 3, 4)).spatial for s in (seed, seed + 10))
        difference = (teacher - student).abs()
        expected = difference[uneven == 1].mean().item(), difference[uneven == 0].mean().item()
        cases.append(Case(name, (teacher, student, uneven), expected, hint=hint))
    return check_answer(answer, cases)
