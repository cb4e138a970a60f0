"""Attention transfer: where the student is loud imitates where the teacher is (Zagoruyko and Komodakis, ICLR 2017).

Paying More Attention to Attention. A map's attention is the mean power of its channels at every cell, brought to length 1 per image:

    Q(F)_i = mean_c |F_ci|^p,     A(F) = Q / ||Q||_2          i: cells of one image
    L = mean (A(F_s) - A(F_t))^2                              mean over images and cells

Only the pattern counts: the size of a map, its signs, and which channel is loud change nothing. FGD and FBKD took the same mean over
channels, with a softmax at a temperature in the place of the length (eqs. 5 and 7).
"""
import torch.nn.functional as F
from torch import Tensor

from ..config import check_weights
from ..pyramid import PyramidLoss, check_same_shape
from ..scene import Scene
from ..terms import Term


class AttentionTransfer(PyramidLoss):
    """One term ``attention`` a level, between 0 and 2 / (H W). There is no layer to learn, also where channels differ.

    Args:
        weight: beta, 1e3 in the authors' commands for CIFAR-10 (szagoruyko/attention-transfer, README.md). They name none for detectors.
        power: p, 2 in the authors' code; higher looks at the loudest channels only. At least 1.
    Differs:
        - The paper writes beta / 2 and the length of A(F_s) - A(F_t), and the sum over channels; this is their code (cifar.py), which takes
          the mean of squares. Sum or mean over channels is the same, for A has length 1.
        - The authors compare groups of a classifier's residual blocks; here, as in other detectors' tables, the levels of the pyramid.
    """

    def __init__(self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, weight: float = 1e3, power: float = 2.0):
        check_weights(weight=weight)
        if not 1 <= power < float("inf"):
            raise ValueError(f"power must be a finite number >= 1, got {power}; 2 is the authors'")
        super().__init__(levels, student_channels, teacher_channels, align=0)
        self.weight, self.power = weight, power

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weight:
            return []
        student = scene.features[level]                              # (N, C_s, H, W)
        check_same_shape(student[:, :1], teacher[:, :1])             # the grids; channels may differ
        error = pattern(student, self.power) - pattern(teacher, self.power)
        return [Term("attention", level, error.square().mean(), self.weight)]


def pattern(features: Tensor, power: float = 2.0) -> Tensor:
    """A(F): (N, C, H, W) -> (N, HW) of length 1 per image, never negative; a map of zeros has zeros."""
    return F.normalize(features.abs().pow(power).mean(dim=1).flatten(1), dim=1)
