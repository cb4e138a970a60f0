"""What every distillation loss does alike: check the levels, go to float32, visit level after level.

    Scene, teacher's maps --PyramidLoss.forward--> on_level(level, scene, teacher map) --> list[Term]

A new method is one class with one function; the smallest there is:

    class Plain(PyramidLoss):
        def on_level(self, level, scene, teacher):
            return [Term("plain", level, (teacher - self.aligned(scene, level)).square().mean(), 1.0)]
"""
import torch
from torch import Tensor, nn

from .scene import Scene, full_precision
from .terms import Term


class PyramidLoss(nn.Module):
    """loss(scene, teacher_maps) -> list[Term]: unweighted sums beside their weights, level by level, in float32.

    A method that looks at maps alone is built from channel counts, as here. One that needs more of a detector (anchors, heads) says
    ``built_from = "detectors"`` and takes (levels, student, teacher) instead; it must hide both from nn.Module, for they are guests.

    Args:
        levels: pyramid levels to imitate, finest first, e.g. ("P3", "P4", "P5").
        student_channels, teacher_channels: C of the two pyramids.
        align: kernel size of the convolution f that brings the student's map to the teacher's channels; 0 = none is ever made.
        always: make f where channels agree, too.
    """

    built_from = "channels"
    PARTS: tuple[str, ...] = ()          # names of terms that can be switched off: a keyword NAME_weight=0 each, which removes its layers
    PIXELS: tuple[str, ...] = ()         # keywords in pixels, whose defaults suit detectors with smallest anchors of 32 pixels

    def __init__(self, levels: tuple[str, ...], student_channels: int, teacher_channels: int, *, align: int = 1, always: bool = False):
        super().__init__()
        self.levels = tuple(levels)
        wanted = align and (always or student_channels != teacher_channels)
        make = lambda: nn.Conv2d(student_channels, teacher_channels, align, padding=align // 2)      # noqa: E731
        self.align = nn.ModuleDict({level: make() for level in levels} if wanted else {})

    def forward(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """Terms of all levels.

        Args:
            scene: the student's.
            teacher: {level: (N, C_t, H, W)}, treated as constants.
        Raises:
            ValueError: a level that either network lacks, or maps of different size.
        """
        self.check_levels(scene, teacher)
        teacher = {level: each.detach() for level, each in full_precision(teacher).items()}
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
        """All levels, one after the other; a method that compares levels or runs a head over all of them writes this one instead."""
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
    """Both maps must agree in (N, C, H, W), or their difference means nothing."""
    if student.shape != teacher.shape:
        raise ValueError(
            f"student map {tuple(student.shape)} and teacher map {tuple(teacher.shape)} must have the same shape; "
            "align channels first, and feed both networks the same resized batch"
        )
