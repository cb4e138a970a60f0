"""Hint: the student's map imitates the teacher's on every cell alike, the baseline of the methods that compare maps.

FitNets: Hints for Thin Deep Nets (Romero et al., ICLR 2015), https://arxiv.org/abs/1412.6550.

    L = 1/2 mean (F_t - r(F_s))^2    mean over images, channels and cells;  r the regressor, a convolution
"""
from torch import Tensor

from ..pyramid import Channels
from ..scene import Scene
from .base import OneTermLoss


class Hint(OneTermLoss):
    """One term ``hint`` per level.

    Args:
        weight: of the sum over levels. FitNets has none: its hint stage minimises this loss alone.
        kernel: size of the regressor r, odd.
        always: a regressor on every level, also where channels agree.
    Differs:
        - FitNets trains on the hint of one layer first and on labels afterwards; here both at once, on every level.
        - The paper writes the squared norm of a map. The mean does not grow with the map.
        - FitNets always has a regressor, because its student is always thinner; here ``always`` does it.
    """

    TERM = "hint"

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float = 1.0, kernel: int = 1, always: bool = False,
    ):
        if kernel not in range(1, 100, 2):
            raise ValueError(f"kernel must be an odd number >= 1, got {kernel}; an even one changes the map's size")
        super().__init__(levels, student_channels, teacher_channels, weight=weight, align=kernel, always=always)

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        return (teacher - student).square().mean() / 2
