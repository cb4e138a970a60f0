"""Images and boxes as tensors, of any COCO-format folder or of the built-in digit scenes.

Loader processes pass pixels on as bytes, and the device that computes with them converts them to 0..1.
"""
import math
from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from fgdlab.masks import focal_masks

from ..config import RunConfig
from ..errors import UserError
from ..io import file_hashes, short_hash, user_path
from .annotations import Annotations, read_split, splits_of
from .augmentation import Augmentation
from .batch_sampler import epoch_batches
from .digits import DigitScenes, digit_folder
from .image_cache import image_cache
from .images import read_image, shrink
from .segmentation import decode_mask

MAX_KEPT_BYTES = 2 * 2**30  # decoded images in memory, of all workers
ON_DEVICE = ("image", "boxes", "labels", "masks")  # the rest stays on the host

Batch = tuple[list[Tensor], list[dict[str, Tensor]]]


def data_folder(config: RunConfig, progress: bool = True) -> Path:
    if config.data != "digits":
        return user_path(config.data)
    if not config.train_images or not config.eval_images:
        raise UserError(
            "train_images and eval_images must be at least 1 for digit scenes, got "
            f"{config.train_images} and {config.eval_images}; 0 means all, which a folder has and digit scenes have not"
        )
    recipe = DigitScenes(
        config.image_size, config.train_images, config.eval_images, config.eval_images, config.lookalikes,
        masks=config.detector == "mask_rcnn",
    )
    return digit_folder(recipe, progress=progress)


def open_split(config: RunConfig, split: str, progress: bool = True) -> "DetectionDataset":
    folder = data_folder(config, progress)
    limit = config.train_images if split == config.train_split else config.eval_images
    digits = config.data == "digits"
    try:
        annotations = read_split(folder, split, config.detector == "mask_rcnn", config.exif_turned)
    except UserError as error:
        if not digits or not folder.is_dir() or split not in splits_of(folder):
            raise
        raise UserError(f"{error}; or delete {folder}, and it is made again") from error
    return DetectionDataset(annotations, long_side=0 if digits else config.image_size, limit=limit)


class DetectionDataset(Dataset):
    """One split as a torch data set.

    Item i is ``(image, target)``: image (3, H, W) float32 in 0..1; target ``boxes`` (K, 4) xyxy pixels of that image,
    ``labels`` (K,) in 1..C, ``image_id`` (), ``scale`` (4,) loaded over original size, and ``masks`` (K, H, W) of 0 and
    1 if the annotations have segmentations. Crowd regions are left out. A bounded number of views adds ``view`` ().

    Args:
        long_side: images with a longer side are shrunk to it, with their boxes; pixels, 0: never.
        limit: maximum number of images, spread evenly over the ids; 0: all.
    """

    def __init__(self, annotations: Annotations, long_side: int = 0, limit: int = 0):
        self.annotations, self.long_side = annotations, long_side
        self.classes, self.category_ids = annotations.classes, annotations.category_ids
        self.entries = annotations.images
        if limit and limit < len(self.entries):
            chosen = np.linspace(0, len(self.entries) - 1, limit).round().astype(int)
            self.entries = [self.entries[i] for i in chosen]
        self.augment(Augmentation(), seed=0, epoch=0)
        self._cached_pixels: np.ndarray | None = None
        self._kept: dict[int, Tensor] = {}
        self._kept_bytes = 0

    @property
    def image_ids(self) -> list[int]:
        return [entry["id"] for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def augment(self, augmentation: Augmentation, seed: int, epoch: int) -> None:
        """Show views of the images from now on, which depend on seed, epoch and image id only."""
        self.augmentation, self._seed, self._epoch = augmentation, seed, epoch

    @cached_property
    def canvas(self) -> tuple[int, int]:
        """The largest (height, width) in pixels of all items: the size of every view with zoom."""
        heights, widths = zip(*map(self.loaded_size, range(len(self))), strict=True)
        return max(heights), max(widths)

    def loaded_size(self, i: int) -> tuple[int, int]:
        """(height, width) in pixels of item i, without reading the file."""
        height, width = self.entries[i]["height"], self.entries[i]["width"]
        scale = min(1.0, self.long_side / max(height, width)) if self.long_side else 1.0
        return max(round(height * scale), 1), max(round(width * scale), 1)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.as_bytes(i)
        return zero_to_one(image), target

    def as_bytes(self, i: int, epoch: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Item i with uint8 pixels, as it is seen in ``epoch``; None: the epoch of :meth:`augment`."""
        entry, image = self.entries[i], self._pixels(i)
        image_id, (height, width) = entry["id"], image.shape[-2:]
        scale = np.array([width / entry["width"], height / entry["height"]] * 2)
        ordinary = ~self.annotations.crowd[image_id]
        boxes = (self.annotations.boxes[image_id][ordinary] * scale).astype(np.float32)
        labels = torch.from_numpy(self.annotations.labels[image_id][ordinary])
        masks, view = None, {}
        if self.annotations.segmentations is not None:
            segmentations = [self.annotations.segmentations[image_id][k] for k in np.flatnonzero(ordinary)]
            sizes = (entry["height"], entry["width"]), (height, width)
            decoded = np.array([decode_mask(segmentation, *sizes) for segmentation in segmentations], np.uint8)
            masks = torch.from_numpy(decoded.reshape(-1, height, width))
        if self.augmentation.active:
            key = self.augmentation.key(self._seed, self._epoch if epoch is None else epoch)
            image, moved, masks, kept = self.augmentation.view(
                image, torch.from_numpy(boxes), masks, self.canvas, [*key, image_id])
            boxes, labels = moved.numpy(), labels[kept]
            view = {"view": torch.tensor(key[1])} if self.augmentation.views else {}
        near, far = boxes[:, :2], boxes[:, 2:]
        far[:] = np.maximum(far, np.nextafter(near, np.float32(np.inf)))  # detectors refuse boxes without an area
        return image, {
            "boxes": torch.from_numpy(boxes), "labels": labels, "image_id": torch.tensor(image_id),
            "scale": torch.from_numpy(scale), **({} if masks is None else {"masks": masks}), **view,
        }

    def cache_pixels(self, progress: bool = True) -> "DetectionDataset":
        self._cached_pixels = image_cache(self, progress)
        return self

    def decode(self, i: int) -> np.ndarray:
        image = shrink(Image.fromarray(read_image(self.annotations.image_folder, self.entries[i])), self.long_side)
        return np.ascontiguousarray(np.asarray(image).transpose(2, 0, 1))

    def _pixels(self, i: int) -> Tensor:
        """(3, H, W) uint8, from the cache file or memory, which keeps decoded images up to a bound."""
        if self._cached_pixels is not None:
            return torch.from_numpy(np.array(self._cached_pixels[i]))
        if i not in self._kept:
            pixels, worker = torch.from_numpy(self.decode(i)), get_worker_info()
            if self._kept_bytes + pixels.numel() > MAX_KEPT_BYTES // (worker.num_workers if worker else 1):
                return pixels
            self._kept[i] = pixels
            self._kept_bytes += pixels.numel()
        return self._kept[i]

    def ground_truth(self) -> dict:
        return self.annotations.coco(self.image_ids)

    @cached_property
    def file_hashes(self) -> list[str]:
        return file_hashes(self.annotations.image_folder, [entry["file_name"] for entry in self.entries])

    def content_hash(self) -> str:
        """A hash of annotations, ids, image size, and the bytes of the image files; not of paths or names."""
        return short_hash({
            "annotations": self.annotations.content_hash, "ids": self.image_ids, "long_side": self.long_side,
            "files": self.file_hashes,
        })


class KeyedDataset(Dataset):
    """A data set for loader processes, which outlive an epoch: key (i, epoch) is item i as bytes."""

    def __init__(self, dataset: DetectionDataset):
        self.dataset = dataset

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.dataset.as_bytes(*key)
def load_batches(
    dataset: DetectionDataset, keys: Iterable[list[tuple[int, int | None]]], *, device: str | torch.device = "cpu",
    workers: int = 0,
) -> Iterator[Batch]:
    """(images in 0..1, targets) of one batch after another, as lists because image sizes may differ.

    Args:
        keys: one list of (i, epoch) per batch.
        device: where what ``ON_DEVICE`` names goes.
        workers: processes that decode ahead; 0: decode here.
    """
    loader = DataLoader(
        KeyedDataset(dataset), batch_sampler=keys, num_workers=workers, collate_fn=pack, generator=torch.Generator(),
        pin_memory=torch.device(device).type == "cuda",  # a copy to the GPU need not wait
    )
    for packed in loader:
        columns = {}
        for name, (flat, shapes) in packed.items():
            flat = flat.to(device, non_blocking=True) if name in ON_DEVICE else flat
            columns[name] = unpack(zero_to_one(flat) if name == "image" else flat, shapes)
        images = columns.pop("image")
        yield images, [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def pack(items: list[tuple[Tensor, dict]]) -> dict[str, tuple[Tensor, list[tuple]]]:
    """{name: (one flat tensor, shapes)} of a batch, because many small tensors are slow to pass on."""
    rows = [{"image": image, **target} for image, target in items]
    return {
        name: (torch.cat([row[name].reshape(-1) for row in rows]), [tuple(row[name].shape) for row in rows])
        for name in rows[0]
    }


def unpack(flat: Tensor, shapes: list[tuple]) -> list[Tensor]:
    parts = flat.split([math.prod(shape) for shape in shapes])
    return [part.view(shape) for part, shape in zip(parts, shapes, strict=True)]
def zero_to_one(pixels: Tensor) -> Tensor:
    return pixels.float().div_(255)


def shuffled_batches(
    dataset: DetectionDataset, batch_size: int, *, seed: int, epoch: int, epochs: int = 1, first: int = 0,
    augmentation: Augmentation = Augmentation(), workers: int = 0, aspect_groups: bool = False,
    share: Callable[[list[int]], list[int]] = list, device: str | torch.device = "cpu",
) -> Iterator[Batch]:
    """The batches of :func:`epoch_batches` of so many ``epochs``, from one loader without a pause between them.

    Args:
        first: number of batches to skip, to resume an interrupted epoch.
        share: a batch's indices -> those for this process; default: all.
    """
    dataset.augment(augmentation, seed, epoch)

    def keys() -> Iterator[list[tuple[int, int]]]:
        for current in range(epoch, epoch + epochs):
            batches = epoch_batches(dataset, batch_size, seed, current, aspect_groups)
            for indices in batches[first if current == epoch else 0:]:
                yield [(i, current) for i in share(indices)]

    yield from load_batches(dataset, keys(), device=device, workers=workers)


def foreground_fractions(dataset: DetectionDataset, rounding: str = "exact") -> dict[str, float]:
    """Fraction of cells inside a box on P3, P4 and P5, 0..1, mean over the images."""
    strides, fractions = (8, 16, 32), {"P3": [], "P4": [], "P5": []}
    for i, entry in enumerate(dataset.entries):
        height, width = dataset.loaded_size(i)
        boxes = torch.from_numpy(dataset.annotations.boxes[entry["id"]]) * (width / entry["width"])
        for level, stride in zip(fractions, strides, strict=True):
            grid = (-(-height // stride), -(-width // stride))
            masks = focal_masks([boxes], [(grid[0] * stride, grid[1] * stride)], grid, rounding=rounding)
            fractions[level].append(masks.binary.mean().item())
    return {level: float(np.mean(values)) for level, values in fractions.items()}
