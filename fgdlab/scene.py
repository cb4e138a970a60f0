"""The interface between detectors and losses.

A *detector* is any module with ``transform``, ``backbone`` and torchvision's forward:

    train:  detector(images, targets) -> {name: loss}
    eval:   detector(images)          -> [{"boxes", "labels", "scores"}]

RetinaNet, FCOS, Faster R-CNN and Mask R-CNN of torchvision are such modules. A distillation loss knows of a detector
only its :class:`Scene`:

    images, targets --transform--> pixels, boxes --backbone--> FPN maps        = Scene
"""
import math
from dataclasses import dataclass, replace

import torch
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
    """

    pixels: Tensor
    boxes: list[Tensor]
    image_sizes: list[tuple[int, int]]
    features: dict[str, Tensor]

    @property
    def padded_size(self) -> tuple[int, int]:
        """(H_pad, W_pad): what the maps span."""
        return tuple(self.pixels.shape[-2:])

    def frame_sizes(self, frame: str = "canvas") -> list[tuple[int, int]]:
        """The sizes that boxes are divided by to become cells: N pairs (height, width) in pixels.

        Differs: the authors divide by the size before padding (``image``) although the map spans the padded ``canvas``.
            That stretches every box of a padded image; the default here is what the map spans.
        """
        check_choice("frame", frame, FRAMES)
        return [self.padded_size] * len(self.boxes) if frame == "canvas" else list(self.image_sizes)

    def float(self) -> "Scene":
        """The scene with half-precision maps cast to float32: sums over C*H*W overflow in half precision."""
        return replace(self, features=full_precision(self.features))


def sum_dtype(*maps: Tensor) -> torch.dtype:
    """The precision of the loss's sums: float64 where one of the maps is float64, else float32."""
    return torch.float64 if torch.float64 in {each.dtype for each in maps} else torch.float32


def full_precision(features: dict[str, Tensor]) -> dict[str, Tensor]:
    """Cast half-precision maps to float32; keep float32 and float64."""
    return {level: maps.float() if maps.dtype in HALF else maps for level, maps in features.items()}


def level_names(features: dict[str, Tensor], padded_height: int) -> dict[str, Tensor]:
    """Rename a backbone's keys to pyramid levels: "0" is P3 in torchvision's RetinaNet but P2 in its Faster R-CNN.

    P_l has stride 2^l, so the first level is log2(padded height / rows of the finest map).
    """
    finest = next(iter(features.values()))
    first = round(math.log2(padded_height / finest.shape[-2]))
    return {f"P{first + i}": maps for i, maps in enumerate(features.values())}


def scene_of(batch, targets: list[dict] | None, features: dict[str, Tensor]) -> Scene:
    """The scene from the outputs of ``transform`` (an ImageList and targets) and ``backbone``."""
    pixels, sizes = batch.tensors, batch.image_sizes
    boxes = [pixels.new_zeros(0, 4) for _ in sizes] if targets is None else [t["boxes"] for t in targets]
    return Scene(pixels, boxes, sizes, level_names(features, pixels.shape[-2]))


def look(detector: nn.Module, images: list[Tensor], targets: list[dict] | None = None) -> Scene:
    """Run a detector's transform and backbone, for figures and notebooks.

    Args:
        images: N tensors (3, H_i, W_i) in [0, 1].
        targets: N dicts with "boxes" (K_i, 4) and "labels" (K_i,), or None for scenes without boxes.
    """
    batch, targets = detector.transform(images, targets)
    return scene_of(batch, targets, detector.backbone(batch.tensors))


class Tap:
    """Reads the Scene from a detector's own forward, so that its losses are computed once and unchanged.

        with Tap(student) as tap:
            losses = student(images, targets)
        tap.scene.features["P3"]            # (N, C, H/8, W/8)

    Two forward hooks exist inside the ``with`` and are removed after it, also after an exception.
    """

    def __init__(self, detector: nn.Module):
        self._detector = detector
        self._batch = self._targets = self._features = None

    def __enter__(self) -> "Tap":
        transform, backbone = self._detector.transform, self._detector.backbone  # both must exist before the first hook
        self._handles = [
            transform.register_forward_hook(self._keep_batch), backbone.register_forward_hook(self._keep_features)]
        return self

    def __exit__(self, *exc) -> None:
        for handle in self._handles:
            handle.remove()

    def _keep_batch(self, module, args, output) -> None:
        self._batch, self._targets = output

    def _keep_features(self, module, args, output) -> None:
        self._features = output

    @property
    def scene(self) -> Scene:
        """The scene of the last forward.

        Raises:
            RuntimeError: the detector has not run inside the ``with`` yet.
        """
        if self._features is None:
            raise RuntimeError("the detector must run inside the `with Tap(...)` before its scene is read; it has not")
        return scene_of(self._batch, self._targets, self._features)
