"""Augmentation of training images by torchvision's transforms: pixels, boxes and masks move together.

    image, boxes, masks --flip, colour, zoom, crop--> one view; which one depends on seed, epoch and image id only
"""
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..config import RunConfig

PADDING = [124, 116, 104]  # ImageNet's mean colour, 0 for the networks
VISIBLE = 0.3  # a box that keeps less of its area is left out


class Augmentation(NamedTuple):
    flip: float = 0.0
    zoom: float = 0.0
    colour: float = 0.0
    views: int = 0

    @classmethod
    def of(cls, config: RunConfig) -> "Augmentation":
        return cls(*(getattr(config, name) for name in cls._fields))

    @property
    def active(self) -> bool:
        return any((self.flip, self.zoom, self.colour))

    def key(self, seed: int, epoch: int) -> list[int]:
        """What a view of an image depends on. A bounded number of views is the same for all seeds."""
        return [0, epoch % self.views] if self.views else [seed, epoch]

    def view(
        self, image: Tensor, boxes: Tensor, masks: Tensor | None, canvas: tuple[int, int], key: list[int],
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """(image, boxes, masks, which boxes were kept) of one view. With ``zoom`` every view has the size ``canvas``.

        image: (3, H, W) uint8; boxes: (K, 4) xyxy pixels; masks: (K, H, W) or None; canvas: (height, width) in pixels.
        """
        from torchvision.transforms import v2  # torchvision takes a second, which `data check` does not need
        from torchvision.tv_tensors import BoundingBoxes, Image, Mask

        framed = BoundingBoxes(boxes, format="XYXY", canvas_size=image.shape[-2:], clamping_mode=None)
        sample = {"image": Image(image), "boxes": framed} | ({} if masks is None else {"masks": Mask(masks)})
        steps = [v2.RandomHorizontalFlip(self.flip)] if self.flip else []
        steps += [v2.ColorJitter(*[self.colour] * 3)] if self.colour else []
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(int(np.random.default_rng(key).integers(2**32)))
            for step in steps:
                sample = step(sample)
            if self.zoom:  # by a factor from 1 / (1 + zoom) to 1 + zoom, evenly on a log scale
                factor = (1 + self.zoom) ** float(torch.empty(()).uniform_(-1, 1))
                sample = v2.Resize([max(round(side * factor), 1) for side in image.shape[-2:]])(sample)
                sample = v2.RandomCrop(canvas, pad_if_needed=True, fill={Image: PADDING, "others": 0})(sample)
        boxes = whole = sample["boxes"].as_subclass(Tensor)
        if self.zoom:
            boxes = whole.clamp(min=0).minimum(whole.new_tensor(canvas[::-1] * 2))
        sides, before = (each[:, 2:] - each[:, :2] for each in (boxes, whole))
        kept = (sides.prod(1) >= VISIBLE * before.prod(1)) & (sides.amin(1) >= bool(self.zoom))  # pixels
        masks = None if masks is None else sample["masks"].as_subclass(Tensor)[kept]
        return sample["image"].as_subclass(Tensor), boxes[kept], masks, kept

