"""What all distillation losses share: check the levels, cast to float32, go through the levels.

    Scene, teacher's maps --PyramidLoss.forward--> on_level(level, scene, teacher map) --> list[Term]
"""
from collections.abc import Callable, Mapping
from typing import Any, Self

import torch
from torch import Tensor, nn

from .scene import HALF, Scene, check_boxes, full_precision
from .terms import Term

Channels = int | Mapping[str, int]  # C of every level, or {level: C}


class PyramidLoss(nn.Module):
    """loss(scene, teacher_maps) -> list[Term]: unweighted sums with their weights, level by level, in float32.

    Its layers stay in float32 under ``.half()`` and ``.bfloat16()``. Boxes are checked at every call, on a GPU at the
    first one only, so that the host need not wait.

    A method on maps alone is built from channel counts, as here. A method that needs anchors or heads sets
    ``built_from = "detectors"`` and takes (levels, student, teacher); it must hide both detectors from nn.Module.

    >>> class Plain(PyramidLoss):
    ...     def on_level(self, level, scene, teacher):
    ...         return [Term("plain", level, (teacher - self.aligned(scene, level)).square().mean())]
    >>> len(Plain(("P3",), 8, 16)(scene, taught))
    1

    Args:
        levels: pyramid levels to imitate, finest first, e.g. ("P3", "P4", "P5").
        student_channels, teacher_channels: C of the two pyramids: one number, or {level: C}.
        align: kernel size of the convolution f from the student's to the teacher's channels; 0 never makes one.
        always: make f also where channels agree.
    """

    __call__: Callable[..., list[Term]]
    built_from = "channels"
    PARTS: tuple[str, ...] = ()  # terms that can be switched off by a keyword NAME_weight=0, which removes their layers
    PIXELS: tuple[str, ...] = ()  # keywords in pixels; their defaults suit detectors with smallest anchors of 32 pixels

    def __init__(
        self, levels: tuple[str, ...], student_channels: Channels, teacher_channels: Channels, *, align: int = 1,
        always: bool = False,
    ):
        super().__init__()
        if isinstance(levels, str) or not 0 < len({*levels}) == len(levels):
            raise ValueError(f"levels must be different names in a tuple, got {levels!r}; write ('P3', 'P4')")
        self.levels = tuple(levels)
        self.student_channels = by_level(student_channels, self.levels, "student_channels")
        self.teacher_channels = by_level(teacher_channels, self.levels, "teacher_channels")
        self._boxes_checked = False
        pairs = {level: (self.student_channels[level], self.teacher_channels[level]) for level in self.levels}
        self.align = nn.ModuleDict({
            level: nn.Conv2d(ours, theirs, align, padding=align // 2)
            for level, (ours, theirs) in pairs.items() if align and (always or ours != theirs)})

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        def full(tensor: Tensor) -> Tensor:
            moved = fn(tensor)
            return tensor.to(moved.device, torch.float32) if moved.dtype in HALF else moved

        return super()._apply(full, recurse)  # type: ignore[no-untyped-call]

    def forward(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """Terms of all levels.

        Args:
            scene: the student's.
            teacher: {level: (N, C_t, H, W)}, treated as constants.
        Raises:
            ValueError: a level that either network lacks, maps of other channels or size, boxes not in pixels.
        """
        self.check_input(scene, teacher)
        teacher = {level: maps.detach() for level, maps in full_precision(teacher).items()}
        with torch.autocast(scene.pixels.device.type, enabled=False):
            return self.on_scene(scene.float(), teacher)

    def check_input(self, scene: Scene, teacher: dict[str, Tensor]) -> None:
        """Raises ValueError as ``forward``."""
        sides = {"student": (scene.features, self.student_channels), "teacher": (teacher, self.teacher_channels)}
        for who, (maps, channels) in sides.items():
            missing = [level for level in self.levels if level not in maps]
            if missing:
                raise ValueError(
                    f"the {who} must have the levels {', '.join(self.levels)}, got {', '.join(maps)}; "
                    f"{', '.join(missing)} missing"
                )
            for level, count in channels.items():
                check_channels(f"{who}_channels", level, maps[level], count)
        for level in self.levels:
            check_same_shape(scene.features[level], teacher[level], channels=False)
        if not (torch.compiler.is_compiling() or self._boxes_checked and scene.pixels.is_cuda):
            check_boxes(scene)
            self._boxes_checked = True

    def on_scene(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """All levels in turn. A method that compares levels or runs a head overrides this instead of ``on_level``."""
        return [term for level in self.levels for term in self.on_level(level, scene, teacher[level])]

    def on_level(self, level: str, scene: Scene, teacher: Tensor) -> list[Term]:
        """The terms of one level; ``teacher`` is (N, C_t, H, W) on the same grid as the student's map."""
        raise NotImplementedError

    def aligned(self, scene: Scene, level: str) -> Tensor:
        """f(F^S): the student's map with the teacher's channels, (N, C_t, H, W)."""
        maps = scene.features[level]
        return self.align[level](maps) if level in self.align else maps


def by_level(channels: Any, levels: tuple[str, ...], name: str) -> dict[str, int]:
    """{level: C}. Raises ValueError where ``channels`` is neither one number nor a mapping with all levels."""
    if isinstance(channels, int):
        return dict.fromkeys(levels, channels)
    if isinstance(channels, Mapping) and all(isinstance(channels.get(level), int) for level in levels):
        return {level: channels[level] for level in levels}
    raise ValueError(f"{name} must be a whole number, or {{level: number}} for {', '.join(levels)}, got {channels!r}")


def check_channels(argument: str, level: str, maps: Tensor, channels: int) -> None:
    """Raises:
        ValueError: a map that is not (N, ``channels``, H, W).
    """
    if maps.ndim == 4 and maps.shape[1] == channels:
        return
    remedy = "give the loss the channels of the maps"
    if channels == maps.shape[-1]:
        remedy = "move C: maps.permute(0, 3, 1, 2), or maps.transpose(1, 2).unflatten(2, (H, W)) for tokens"
    shape = tuple(maps.shape)
    raise ValueError(f"{argument} must be C of the maps (N, C, H, W), got {channels} and {shape} on {level}; {remedy}")


def check_box_count(scene: Scene, images: int) -> None:
    """Raises:
        ValueError: the scene has no list of boxes for each of the images.
    """
    if len(scene.boxes) != images:
        raise ValueError(
            f"the scene must have boxes for each of the {images} images, got boxes for {len(scene.boxes)}; "
            "an image without boxes has shape (0, 4)"
        )


def check_same_shape(student: Tensor, teacher: Tensor, channels: bool = True) -> None:
    """Raises:
        ValueError: two maps that differ in (N, C, H, W), or without ``channels`` in (N, H, W).
    """
    shapes = [tuple(maps.shape) for maps in (student, teacher)]
    if shapes[0] != shapes[1] if channels else student[:, :1].shape != teacher[:, :1].shape:
        raise ValueError(
            f"student map {shapes[0]} and teacher map {shapes[1]} must have the same shape; feed both networks the "
            "same resized batch, and pair levels of one stride (match= of Distiller)")
