"""DeFeat: object cells and background cells imitate the teacher, each with its own weight.

Distilling Object Detectors via Decoupled Features (Guo et al., CVPR 2021), https://arxiv.org/abs/2103.14475, its
feature part. With M = 1 on the cells of objects, else 0, and L levels,

    fg = 1/L  sum M (F_t - f(F_s))^2 / (2 C sum M)
    bg = 1/L  sum (1 - M) (F_t - f(F_s))^2 / (2 C sum (1 - M))          all sums over the batch

FGD's eq. 9 extends this: it adds attention, and weighs objects alike, not cells.
"""
from torch import Tensor, nn

from ..masks import box_weights
from ..pyramid import Channels, PyramidLoss
from ..scene import Scene, grid_of
from ..terms import Term
from .base import nonzero_weights
from .boxes import cells_of_level, check_box_settings


class DeFeat(PyramidLoss):
    """Terms ``fg`` and ``bg`` of every level; f is a 3x3 convolution on every level, with weights near 0 at the start.

    Args:
        fg_weight, bg_weight: 3 and 12 in the authors' only public config (ggjy/DeFeat.pytorch: Faster R-CNN for VOC).
        finest_size, rounding: as in :func:`fgdlab.methods.boxes.cells_of_level`.
    Differs:
        - The paper also distils class scores of proposals, which needs a two-stage head.
        - The authors project a box by the level's stride, here by grid over canvas: equal for multiples of the stride.
        - f starts from N(0, 1e-4); the authors fold draws beyond two deviations back.
    """

    PARTS = ("fg", "bg")
    PIXELS = ("finest_size",)

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        fg_weight: float = 3.0, bg_weight: float = 12.0, finest_size: float | None = 56.0, rounding: str = "authors",
    ):
        weights = nonzero_weights(self.PARTS, fg_weight, bg_weight)
        check_box_settings(finest_size, rounding)
        super().__init__(levels, student_channels, teacher_channels, align=3 if weights else 0, always=True)
        for name, weight in self.align.named_parameters():
            if name.endswith("weight"):
                nn.init.normal_(weight, std=1e-4)
        self.weights, self.finest_size, self.rounding = weights, finest_size, rounding

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weights:
            return []
        student = self.aligned(scene, level)  # (N, C_t, H, W)
        fg = self.mask(level, scene, teacher)  # M, (N, H, W)
        masks = {"fg": fg, "bg": 1 - fg}
        error = (teacher - student).square().mean(dim=1) / 2 / len(self.levels)  # (N, H, W)
        return [
            Term(name, level, (error * masks[name]).sum() / masks[name].sum().clamp(min=1), weight)
            for name, weight in self.weights.items()]

    def mask(self, level: str, scene: Scene, teacher: Tensor) -> Tensor:
        """M (N, H, W): 1 on the cells of boxes of this level, else 0."""
        cells = cells_of_level(scene, teacher, level, self.levels, self.finest_size, self.rounding)
        return (box_weights(cells, grid_of(teacher)) > 0).to(teacher.dtype)
