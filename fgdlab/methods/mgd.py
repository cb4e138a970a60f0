"""MGD: the student generates the teacher's map from its own map with random cells set to 0.

Masked Generative Distillation (Yang et al., ECCV 2022), https://arxiv.org/abs/2205.01529. With M (N, 1, H, W) drawn at
every step, 0 with probability lambda and else 1,

    L = 1/N  sum_n sum_c sum_ij  (G(f(F_s) M) - F_t)^2    G = conv3x3 - ReLU - conv3x3, trained with the student
"""
from functools import partial

import torch
from torch import Tensor, nn

from ..pyramid import Channels
from ..scene import Scene
from .base import OneTermLoss


class MGD(OneTermLoss):
    """One term ``mgd`` per level; each level has its own block G.

    M comes from torch's global generator of the map's device, so that a restored run draws the same masks.

    Args:
        weight: alpha; 2e-5 for one-stage, 5e-7 for two-stage detectors (paper; configs of yzd-v/MGD).
        masked_ratio: lambda, in [0, 1); 0.65 for one-stage, 0.45 for two-stage detectors.
    Differs: the authors start the student's neck and head from the teacher's weights where shapes allow; here the
        setting ``inherit`` does.
    """

    TERM = "mgd"

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float = 2e-5, masked_ratio: float = 0.65,
    ):
        if not 0 <= masked_ratio < 1:
            raise ValueError(f"masked_ratio must be in [0, 1), got {masked_ratio}; at 1 nothing of the student is left")
        super().__init__(levels, student_channels, teacher_channels, weight=weight)
        self.masked_ratio = masked_ratio
        conv = {level: partial(nn.Conv2d, count, count, 3, padding=1) for level, count in self.teacher_channels.items()}
        self.generate = nn.ModuleDict({
            level: nn.Sequential(conv[level](), nn.ReLU(inplace=True), conv[level]()) for level in levels if weight
        })

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        generated = self.generate[level](student * random_mask(student, self.masked_ratio))
        return (generated - teacher).square().sum() / len(teacher)


def random_mask(features: Tensor, masked_ratio: float) -> Tensor:
    """M of maps (N, C, H, W): (N, 1, H, W)."""
    return (torch.rand_like(features[:, :1]) >= masked_ratio).to(features.dtype)
