"""FGD and LD together, on GFL."""
from torch import Tensor, nn

from ..config import PRESETS, FGDConfig
from ..fgd import FGDLoss
from ..scene import Scene
from ..terms import Term
from .ld import LD


class FGDWithLD(LD):
    """The terms of ``FGDLoss`` and of ``LD``, side by side.

    Args:
        config: of FGD. Weights: as in ``LD``.
    """

    PARTS = ()

    def __init__(
        self, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, *,
        config: FGDConfig = PRESETS["gfl"], **weights: float,
    ):
        super().__init__(levels, student, teacher, **weights)
        self.fgd = FGDLoss(levels, self.student_channels, self.teacher_channels, config)

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        return [*self.fgd(scene, teacher), *super().on_scene(scene, teacher)]
