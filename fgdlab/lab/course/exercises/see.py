"""Checkers of notebook 01: the grid of a level, the strength of a pixel, and whether a channel means the same to two networks."""
import math
from collections.abc import Callable

import torch
from torch import Tensor

from .judge import Case, Verdict, judge

PAD_TO = 32                                                          # torchvision pads a batch to a multiple of this many pixels


def grid_size(answer: Callable) -> Verdict:
    """``answer(height, width, stride) -> (H, W)``: cells of the map of an image that is first padded to a multiple of 32 pixels."""
    hint = "pad each side up to a multiple of 32 first, then divide by the stride"
    sizes = {
        "the photograph, stride 8": (427, 640, 8), "a small image, stride 16": (100, 200, 16), "a tall image, stride 32": (600, 333, 32),
        "no padding needed": (128, 96, 32),
    }
    return judge(answer, [Case(name, given, padded_grid(*given), hint=hint) for name, given in sizes.items()])


def padded_grid(height: int, width: int, stride: int) -> tuple[int, int]:
    return tuple(math.ceil(side / PAD_TO) * PAD_TO // stride for side in (height, width))


def strength(answer: Callable) -> Verdict:
    """``answer(features) -> (N, H, W)``: the mean of |F| over the channels of features (N, C, H, W)."""
    cases = [
        (torch.tensor([[[[1.0, -2, 0], [1, 0, -1]], [[-1, 4, 0], [3, 0, 1]]]]), "two channels of 2 x 3", "absolute values first, then their mean"),
        (maps(0, 3, 5, 4, 6), "a batch of 3 maps of 5 channels", "dimension 1 holds the channels"),
    ]
    return judge(answer, [Case(name, (features,), features.abs().mean(dim=1), hint=hint) for features, name, hint in cases])


def same_channel_correlation(answer: Callable) -> Verdict:
    """``answer(teacher, student) -> (C,)``: Pearson's correlation of channel k of one network with channel k of the other.

    Over all images and pixels of both maps (N, C, H, W).
    """
    first, second = maps(1, 3, 4, 2, 5), maps(2, 3, 4, 2, 5)
    mixed = first * torch.tensor([1.0, -2.0, 0.5, 1.0])[:, None, None] + torch.tensor([0.0, 0.5, 1.0, 3.0])[:, None, None] * second
    cases = [
        (first, mixed + 1, "channels that agree, oppose, and mix", "each channel is a list of N H W numbers; subtract its mean, then compare"),
        (first + torch.arange(3.0)[:, None, None, None], second, "images of different brightness", "one correlation over all images together"),
    ]
    return judge(answer, [Case(name, (t, s), correlation(t, s), rtol=1e-4, atol=1e-5, hint=hint) for t, s, name, hint in cases])


def maps(seed: int, *shape: int) -> Tensor:
    """Maps of both signs whose channels differ in size and mean."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    return noise * torch.linspace(0.5, 2.0, shape[1])[:, None, None] + torch.linspace(-1.0, 1.0, shape[1])[:, None, None]


def correlation(teacher: Tensor, student: Tensor) -> Tensor:
    """Pearson's correlation a channel, (C,), of two maps (N, C, H, W) over images and pixels."""
    ours, theirs = ((each - each.mean(dim=(0, 2, 3), keepdim=True)).double() for each in (student, teacher))
    both = (ours * theirs).sum(dim=(0, 2, 3))
    return both / (ours.square().sum(dim=(0, 2, 3)) * theirs.square().sum(dim=(0, 2, 3))).sqrt()
