"""What all distillation losses share: check the levels, cast to float32, go through the levels.

    Scene, teacher's maps --PyramidLoss.forward--> on_level(level, scene, teacher map) --> list[Term]

A new method is one class with one method. The smallest:

    class Plain(PyramidLoss):
        def on_level(self, level, scene, teacher):
            return [Term("plain", level, (teacher - self.aligned(scene, level)).square().mean(), 1.0)]
"""
import torch
from torch import Tensor, nn

from .scene import Scene, full_precision
from .terms import Term


class PyramidLoss(nn.Module):
    """loss(scene, teacher_maps) -> list[Term]: unweighted sums with their weights, level by level, in float32.

    A method on maps alone is built from channel counts, as here. A method that needs anchors or heads sets
    ``built_from = "detectors"`` and takes (levels, student, teacher); it must hide both detectors from nn.Module.

    Args:
        levels: pyramid levels to imitate, finest first, e.g. ("P3", "P4", "P5").
        student_channels, teacher_channels: C of the two pyramids.
        align: kernel size of the convolution f from the student's to the teacher's channels; 0 never makes one.
        always: make f also where channels agree.
    """

    built_from = "channels"
    PARTS: tuple[str, ...] = ()  # terms that can be switched off by a keyword NAME_weight=0, which removes their layers
    PIXELS: tuple[str, ...] = ()  # keywords in pixels; their defaults suit detectors with smallest anchors of 32 pixels

    def __init__(
        self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, align: int = 1,
        always: bool = False,
    ):
        super().__init__()
        self.levels = tuple(levels)
        with_align = levels if align and (always or student_channels != teacher_channels) else ()
        self.align = nn.ModuleDict({
            level: nn.Conv2d(student_channels, teacher_channels, align, padding=align // 2) for level in with_align})

    def forward(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """Terms of all levels.

        Args:
            scene: the student's.
            teacher: {level: (N, C_t, H, W)}, treated as constants.
        Raises:
            ValueError: a level that either network lacks, or maps of different size.
        """
        self.check_levels(scene, teacher)
        teacher = {level: maps.detach() for level, maps in full_precision(teacher).items()}
        with torch.autocast(scene.pixels.device.type, enabled=False):
            return self.on_scene(scene.float(), teacher)

    def check_levels(self, scene: Scene, teacher: dict[str, Tensor]) -> None:
        """Raises:
            ValueError: a level that either network lacks.
        """
        for who, maps in {"student": scene.features, "teacher": teacher}.items():
            missing = [level for level in self.levels if level not in maps]
            if missing:
                raise ValueError(
                    f"the {who} must have the levels {', '.join(self.levels)}, got {', '.join(maps)}; "
                    f"{', '.join(missing)} missing"
                )

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """All levels in turn. A method that compares levels or runs a head overrides this instead of ``on_level``."""
        return [term for level in self.levels for term in self.on_level(level, scene, teacher[level])]

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        """The terms of one level; ``teacher`` is (N, C_t, H, W) on the same grid as the student's map."""
        raise NotImplementedError

    def aligned(self, scene: Scene, level: str) -> Tensor:
        """f(F^S): the student's map with the teacher's channels, (N, C_t, H, W)."""
        return self.align[level](scene.features[level]) if self.align else scene.features[level]


def check_boxes(scene: Scene, images: int) -> None:
    """Raises:
        ValueError: the scene has no list of boxes for each of the images.
    """
    if len(scene.boxes) != images:
        raise ValueError(
            f"the scene must have boxes for each of the {images} images, got boxes for {len(scene.boxes)}; "
            "an image without boxes has shape (0, 4)"
        )


def check_same_shape(student: Tensor, teacher: Tensor) -> None:
    """Raises:
        ValueError: two maps that differ in (N, C, H, W).
    """
    if student.shape != teacher.shape:
        raise ValueError(
            f"student map {tuple(student.shape)} and teacher map {tuple(teacher.shape)} must have the same shape; "
            "align channels first, and feed both networks the same resized batch"
        )
