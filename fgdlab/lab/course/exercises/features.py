"""Exercises of notebook 01: the grid of a level, the magnitude of a cell, correlation channel by channel."""
import math

import torch
from torch import Tensor

from .answers import Case, Verdict, check_answer, random_maps


def grid_size(answer) -> Verdict:
    """answer(height, width, stride): (H, W) of the map of an image that is first padded to a multiple of 32 pixels."""
    sizes = {
        "the photograph, stride 8": (427, 640, 8), "a small image, stride 16": (100, 200, 16),
        "a tall image, stride 32": (600, 333, 32), "no padding needed": (128, 96, 32),
    }

    def expected(height: int, width: int, stride: int) -> tuple[int, ...]:
        return tuple(math.ceil(side / 32) * 32 // stride for side in (height, width))

    hint = "pad each side up to a multiple of 32 first, then divide by the stride"
    return check_answer(answer, [Case(name, size, expected(*size), hint=hint) for name, size in sizes.items()])


def magnitude(answer) -> Verdict:
    """answer(features): mean of |F| over the channels, (N, C, H, W) -> (N, H, W)."""
    small = torch.tensor([[[[1.0, -2, 0], [1, 0, -1]], [[-1, 4, 0], [3, 0, 1]]]])
    batch = random_maps(0, 3, 5, 4, 6)
    return check_answer(answer, [
        Case("two channels of 2 x 3", (small,), small.abs().mean(dim=1), hint="absolute values first, then their mean"),
        Case("a batch of 3 maps of 5 channels", (batch,), batch.abs().mean(dim=1),
             hint="dimension 1 holds the channels"),
    ])


def same_channel_correlation(answer) -> Verdict:
    """answer(teacher, student): Pearson's correlation per channel of two maps (N, C, H, W), over images and cells."""
    first, second = random_maps(1, 3, 4, 2, 5), random_maps(2, 3, 4, 2, 5)
    gains, parts = torch.tensor([1.0, -2.0, 0.5, 1.0]), torch.tensor([0.0, 0.5, 1.0, 3.0])
    mixed = first * gains[:, None, None] + parts[:, None, None] * second
    brighter = first + torch.arange(3.0)[:, None, None, None]
    return check_answer(answer, [
        Case(name, pair, correlation(*pair), rtol=1e-4, atol=1e-5, hint=hint) for name, pair, hint in (
            ("channels that agree, oppose and mix", (first, mixed + 1),
             "each channel is a list of N H W numbers; subtract its mean, then compare"),
            ("images of different brightness", (brighter, second), "one correlation over all images together"),
        )
    ])


def correlation(teacher: Tensor, student: Tensor) -> Tensor:
    """(C,): Pearson's correlation per channel, over images and cells."""
    channels = zip(teacher.transpose(0, 1).flatten(1), student.transpose(0, 1).flatten(1), strict=True)
    return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in channels])
