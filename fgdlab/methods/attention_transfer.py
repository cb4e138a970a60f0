"""Attention transfer: the student's activations are large where the teacher's are.

Paying More Attention to Attention (Zagoruyko and Komodakis, ICLR 2017), https://arxiv.org/abs/1612.03928. The attention
of a map is the mean power of its channels at every cell, scaled to length 1 per image:

    Q(F)_i = mean_c |F_ci|^p,     A(F) = Q / ||Q||_2          i: cells of one image
    L = mean (A(F_s) - A(F_t))^2                              mean over images and cells

FGD and FBKD take the same mean with p = 1, and a softmax at a temperature instead of the length (eqs. 5 and 7).
"""
import torch.nn.functional as F
from torch import Tensor

from ..pyramid import Channels
from ..scene import Scene
from .base import OneTermLoss


class AttentionTransfer(OneTermLoss):
    """One term ``attention`` per level, between 0 and 2 / (H W). No layers, also where channels differ.

    Args:
        weight: beta, 1e3 in the authors' commands for CIFAR-10 (szagoruyko/attention-transfer); none for detectors.
        power: p >= 1, 2 in the authors' code. A higher power gives large activations more weight.
    Differs:
        - The paper writes beta / 2, the length of A(F_s) - A(F_t) and the sum over channels, which changes nothing: A
          has length 1. This is the authors' code (cifar.py), which takes the mean of squares.
        - The authors compare groups of a classifier's residual blocks, not levels of a pyramid.
    """

    TERM = "attention"

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float = 1e3, power: float = 2.0,
    ):
        if not 1 <= power < float("inf"):
            raise ValueError(f"power must be a finite number >= 1, got {power}; 2 is the authors'")
        super().__init__(levels, student_channels, teacher_channels, weight=weight, align=0)
        self.power = power

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        return (pattern(student, self.power) - pattern(teacher, self.power)).square().mean()


def pattern(features: Tensor, power: float = 2.0) -> Tensor:
    """A(F): (N, C, H, W) -> (N, HW), never negative, of length 1 per image; 0 for a map of zeros."""
    return F.normalize(features.abs().pow(power).mean(dim=1).flatten(1), dim=1)
