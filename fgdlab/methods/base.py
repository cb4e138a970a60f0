"""What several methods share."""
from torch import Tensor

from ..config import check_weights
from ..pyramid import Channels, PyramidLoss
from ..scene import Scene
from ..terms import Term


class OneTermLoss(PyramidLoss):
    """One term, ``TERM``, per level, computed by ``raw`` from maps of the same shape. Weight 0 leaves no layers.

    align, always: as in PyramidLoss.
    """

    TERM = ""

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *,
        weight: float, align: int = 1, always: bool = False,
    ):
        check_weights(weight=weight)
        super().__init__(levels, student_channels, teacher_channels, align=align if weight else 0, always=always)
        self.weight = weight

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        if not self.weight:
            return []
        student = self.aligned(scene, level)
        return [Term(self.TERM, level, self.raw(student, teacher, level, scene), self.weight)]

    def raw(self, student: Tensor, teacher: Tensor, level: str, scene: Scene) -> Tensor:
        """The unweighted term, a scalar, from the aligned student's map and the teacher's, each (N, C_t, H, W)."""
        raise NotImplementedError


def nonzero_weights(parts: tuple[str, ...], *weights: float) -> dict[str, float]:
    """{part: weight} without weights of 0. ValueError where one is negative or not finite."""
    named = dict(zip(parts, weights, strict=True))
    check_weights(**{f"{part}_weight": weight for part, weight in named.items()})
    return {part: weight for part, weight in named.items() if weight}
