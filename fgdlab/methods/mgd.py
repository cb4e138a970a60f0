"""MGD: from its own map with random cells blotted out, the student has to generate the teacher's (Yang et al., ECCV 2022).

Masked Generative Distillation. With M (N, 1, H, W) drawn anew at every step and 0 on a share lambda of the cells, 1 on the rest,

    L = 1/N  sum_n sum_c sum_ij  (G(f(F_s) M) - F_t)^2          G = conv3x3 - ReLU - conv3x3, trained with the student

The blotted cells can be filled in from their neighbours alone, so every cell of the student's map has to know about its surroundings.
"""
import torch
from torch import Tensor, nn

from ..config import check_weights
from ..pyramid import PyramidLoss, check_same_shape
from ..scene import Scene
from ..terms import Term


class MGD(PyramidLoss):
    """One term ``mgd`` a level, each level with a generation block G of its own.

    M comes from torch's global generator of the map's device: a run that restores its state draws the masks it would have drawn.

    Args:
        weight: alpha; 2e-5 for one-stage, 5e-7 for two-stage detectors (paper; configs of yzd-v/MGD).
        masked_ratio: lambda, in [0, 1); 0.65 for one-stage, 0.45 for two-stage detectors.
    Differs: the authors start the student's neck and head from the teacher's weights where shapes allow; that is the training's business.
    """

    def __init__(
        self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, weight: float = 2e-5, masked_ratio: float = 0.65
    ):
        check_weights(weight=weight)
        if not 0 <= masked_ratio < 1:
            raise ValueError(f"masked_ratio must be in [0, 1), got {masked_ratio}; at 1 nothing of the student would be left")
        super().__init__(levels, student_channels, teacher_channels, align=1 if weight else 0)
        self.weight, self.masked_ratio = weight, masked_ratio
        self.generate = nn.ModuleDict({level: generation_block(teacher_channels) for level in levels} if weight else {})

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weight:
            return []
        student = self.aligned(scene, level)                         # f: (N, C_s, H, W) -> (N, C_t, H, W)
        check_same_shape(student, teacher)
        generated = self.generate[level](student * random_mask(student, self.masked_ratio))
        return [Term("mgd", level, (generated - teacher).square().sum() / len(teacher), self.weight)]


def generation_block(channels: int) -> nn.Sequential:
    """G: (N, C, H, W) -> (N, C, H, W); a cell of the output sees 5 x 5 cells of the input."""
    return nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(channels, channels, 3, padding=1))


def random_mask(features: Tensor, masked_ratio: float) -> Tensor:
    """M: 0 with probability ``masked_ratio``, else 1, one draw for all channels of a cell. (N, C, H, W) -> (N, 1, H, W)."""
    draw = torch.rand_like(features[:, :1])                          # uniform in [0, 1), no gradient
    return (draw >= masked_ratio).to(features.dtype)
