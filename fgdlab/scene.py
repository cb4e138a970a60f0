"""The interface between detectors and losses.

A *detector* is any module with ``transform``, ``backbone`` and torchvision's forward:

    train:  detector(images, targets) -> {name: loss}
    eval:   detector(images)          -> [{"boxes", "labels", "scores"}]

RetinaNet, FCOS, Faster R-CNN and Mask R-CNN of torchvision are such modules. Any other model has an *adapter*, see
:class:`fgdlab.distill.Distiller`. A distillation loss knows of a detector only its :class:`Scene`:

    images, targets --transform--> pixels, boxes --backbone--> FPN maps        = Scene
"""
import math
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .config import FRAMES, check_choice

HALF = (torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class Scene:
    """What a detector saw: the resized batch, its boxes, its FPN maps.

    pixels:       (N, 3, H_pad, W_pad), normalised and padded to one size
    boxes:        N tensors (K_i, 4), x1 y1 x2 y2 in pixels of ``pixels``
    image_sizes:  N pairs (height, width) in pixels, before padding
    features:     {"P3": (N, C, H_3, W_3), ...}, finest first

    >>> Scene(pixels, boxes, [(128, 160)] * 2, maps).padded_size
    (128, 160)
    """

    pixels: Tensor
    boxes: list[Tensor]
    image_sizes: list[tuple[int, int]]
    features: dict[str, Tensor]

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H_pad, W_pad): what the maps span."""
        return grid_of(self.pixels)

    def frame_sizes(self, frame: str = "canvas") -> list[tuple[int, int]]:
        """The sizes that boxes are divided by to become cells: N pairs (height, width) in pixels.

        Differs: the authors divide by the size before padding (``image``) although the map spans the padded ``canvas``.
            That stretches every box of a padded image; the default here is what the map spans.
        """
        check_choice("frame", frame, FRAMES)
        return [self.padded_size] * len(self.boxes) if frame == "canvas" else list(self.image_sizes)

    def float(self) -> "Scene":
        """The scene with half-precision maps cast to float32, because their sums overflow."""
        return Scene(self.pixels, self.boxes, self.image_sizes, full_precision(self.features))


def grid_of(maps: Tensor) -> tuple[int, int]:
    """(H, W) of maps (..., H, W)."""
    return maps.shape[-2], maps.shape[-1]


def sum_dtype(*maps: Tensor) -> torch.dtype:
    """The precision of the loss's sums: float64 where one of the maps is float64, else float32."""
    return torch.float64 if torch.float64 in {each.dtype for each in maps} else torch.float32


def full_precision(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cast half-precision maps to float32; keep float32 and float64."""
    return {level: maps.float() if maps.dtype in HALF else maps for level, maps in features.items()}


def check_boxes(scene: Scene) -> None:
    """Raises:
        ValueError: boxes that are not x1 y1 x2 y2 in pixels, or rows of padding among them.
    """
    for of_image in [scene.boxes] if isinstance(scene.boxes, Tensor) else scene.boxes:
        if not isinstance(of_image, Tensor) or of_image.ndim != 2 or of_image.shape[1] != 4:
            got = tuple(of_image.shape) if isinstance(of_image, Tensor) else type(of_image).__name__
            must = "the boxes of each image must have shape (K, 4)"
            raise ValueError(f"{must}, got {got}; an image without boxes has shape (0, 4)")
    if any(of_image.dtype == torch.bfloat16 for of_image in scene.boxes):
        problem = "boxes must be float32 or integers, got bfloat16, which rounds pixel 999 to 1000"
        warnings.warn(f"{problem}; do not cast the targets", stacklevel=2)
    boxes = torch.cat(scene.boxes).detach().cpu() if scene.boxes else torch.zeros(0, 4)
    for wrong, hint in (
        (~boxes.isfinite(), "look at the data"),
        (boxes[:, 2:] < boxes[:, :2], "convert them from cxcywh or xywh"),
        ((boxes == 0).all(dim=1, keepdim=True) | (boxes == -1).all(dim=1, keepdim=True), "leave out rows of padding"),
        (((boxes < 0) | (boxes > 1)).any().logical_not().expand_as(boxes), "multiply them by width and height"),
    ):
        if wrong.any():
            first = boxes[wrong.any(dim=1)][0].tolist()
            raise ValueError(f"boxes must be x1 y1 x2 y2 in pixels, x1 <= x2, y1 <= y2, got {first}; {hint}")


def level_names(features: Mapping[str, Tensor], padded_height: int) -> dict[str, Tensor]:
    """Rename a backbone's keys to pyramid levels: "0" is P3 in torchvision's RetinaNet but P2 in its Faster R-CNN.

    P_l has stride 2^l, so the first level is log2(padded height / rows of the finest map). The others follow from the
    sizes; maps of one cell are counted. A second map of the same size is P5b, as in torchvision's MobileNetV3.
    """
    named: dict[str, Tensor] = {}
    level, name, size = 0, "", 0
    for maps in features.values():
        before, size = size, max(maps.shape[-2:])
        if not named:
            level = round(math.log2(padded_height / maps.shape[-2]))
        elif size != before or size == 1:
            level += max(round(math.log2(before / size)), 1) if size > 1 else 1
        name = f"P{level}" if f"P{level}" not in named else name[:2] + chr(ord((name + "a")[2]) + 1)
        named[name] = maps
    return named


def match_levels(
    scene: Scene, teacher: dict[str, Tensor], levels: Mapping[str, str] | None = None, resize: bool = False,
) -> dict[str, Tensor]:
    """The teacher's maps under the student's names, where their pyramids differ. A ``match`` of Distiller.

    Args:
        levels: {student's level: teacher's}; without it, the teacher's level whose size is nearest to the student's.
        resize: resize the teacher's maps to the student's, bilinearly; without it maps of another size are left out.
    Raises:
        ValueError: a level that student or teacher lacks.
    """
    sizes, cells = ({name: grid_of(maps) for name, maps in each.items()} for each in (scene.features, teacher))
    pairs = levels or {
        name: min(cells, key=lambda other: abs(math.log(math.prod(cells[other]) / math.prod(size))))
        for name, size in sizes.items()
    }
    if unknown := [*(pairs.keys() - sizes.keys()), *(set(pairs.values()) - cells.keys())]:
        must = f"levels must be {{one of {', '.join(sizes)}: one of {', '.join(cells)}}}"
        raise ValueError(f"{must}, got {unknown[0]!r}; the first is the student's level")
    if not resize:
        return {name: teacher[other] for name, other in pairs.items() if levels or sizes[name] == cells[other]}
    full = full_precision(teacher)
    return {name: F.interpolate(full[other], sizes[name], mode="bilinear") for name, other in pairs.items()}


def scene_of(batch: Any, targets: list[dict[str, Tensor]] | None, features: dict[str, Tensor]) -> Scene:
    """The scene from the outputs of ``transform`` (an ImageList and targets) and ``backbone``."""
    pixels, sizes = batch.tensors, batch.image_sizes
    boxes = [pixels.new_zeros(0, 4) for _ in sizes] if targets is None else [t["boxes"] for t in targets]
    return Scene(pixels, boxes, sizes, level_names(features, pixels.shape[-2]))


def look(detector: Any, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None) -> Scene:
    """Run a detector's transform and backbone, for figures and notebooks.

    Args:
        images: N tensors (3, H_i, W_i) in [0, 1].
        targets: N dicts with "boxes" (K_i, 4) and "labels" (K_i,), or None for scenes without boxes.
    """
    batch, targets = detector.transform(images, targets)
    return scene_of(batch, targets, detector.backbone(batch.tensors))


class Recorder:
    """Keeps the last output of modules of a model, by name, while it runs:

    >>> with Recorder(student, "backbone.body") as seen:
    ...     losses = student(images, targets)
    >>> list(seen["backbone.body"])
    ['0', '1', '2']

    Forward hooks exist inside the ``with`` and are removed after it, also after an exception.
    """

    def __init__(self, model: nn.Module, *names: str):
        self._modules = {name: model.get_submodule(name) for name in names}
        self._outputs: dict[str, Any] = {}

    def __enter__(self) -> Self:
        self._handles = [
            module.register_forward_hook(lambda *call, name=name: self._outputs.update({name: call[-1]}))
            for name, module in self._modules.items()]
        return self

    def __exit__(self, *exc: object) -> None:
        for handle in self._handles:
            handle.remove()

    def __getitem__(self, name: str) -> Any:
        """Raises:
            RuntimeError: the module has not run inside the ``with`` yet.
        """
        if name not in self._outputs:
            raise RuntimeError(f"{name} must run inside the `with` before its output is read; it has not")
        return self._outputs[name]


class Tap(Recorder):
    """Reads the Scene from a detector's own forward, so that its losses are computed once and unchanged.

    >>> with Tap(student) as tap:
    ...     losses = student(images, targets)
    >>> tuple(tap.scene.features["P3"].shape)  # (N, C, H/8, W/8)
    (2, 256, 16, 20)
    """

    def __init__(self, detector: nn.Module):
        super().__init__(detector, "transform", "backbone")

    @property
    def scene(self) -> Scene:
        """The scene of the last forward."""
        batch, targets = self["transform"]
        return scene_of(batch, targets, self["backbone"])
