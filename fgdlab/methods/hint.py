"""Hint: the student's map imitates the teacher's everywhere alike (FitNets, Romero et al., ICLR 2015).

    L = 1/2 mean (F_t - r(F_s))^2          mean over images, channels and cells;  r the regressor, a convolution

Every other method of this folder that compares maps is this one with weights on cells, on channels or on neither, so it is the one to beat.
"""
from torch import Tensor

from ..config import check_weights
from ..pyramid import PyramidLoss, check_same_shape
from ..scene import Scene
from ..terms import Term


class Hint(PyramidLoss):
    """Plain squared distance on every level, one term ``hint`` a level.

    Args:
        weight: of the sum over levels. FitNets has none, for its hint stage minimises this loss alone.
        kernel: size of the regressor r, odd.
        always: a regressor on every level, also where channels agree.
    Differs:
        - FitNets trains on one layer's hint first and on labels afterwards; here one training does both, on every level of the pyramid.
        - The paper writes the squared norm of a map; the mean over its elements, which does not grow with the map, is a choice made here.
        - FitNets always has a regressor, for its student is always thinner; here r exists where channels differ, unless ``always``.
    """

    def __init__(
        self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, weight: float = 1.0, kernel: int = 1, always: bool = False
    ):
        check_weights(weight=weight)
        if kernel not in range(1, 100, 2):
            raise ValueError(f"kernel must be an odd number >= 1, got {kernel}; an even one would change the map's size")
        super().__init__(levels, student_channels, teacher_channels, align=kernel if weight else 0, always=always)
        self.weight = weight

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weight:
            return []
        student = self.aligned(scene, level)                         # (N, C_t, H, W)
        check_same_shape(student, teacher)
        return [Term("hint", level, (teacher - student).square().mean() / 2, self.weight)]
