"""Images and boxes as tensors: any COCO-format folder, the built-in digit scenes among them.

    folder, split --annotations.py--> checked entries --Scenes--> (image (3, H, W) in 0..1, target dict) --loader--> batches

A loader's processes hand on pixels as the bytes they are stored in; they become numbers in 0..1 on the device that computes with them.
"""
import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from fgdlab.masks import focal_masks

from ..config import RunConfig
from ..errors import UserError
from ..io import short_hash
from .annotations import Annotations, read_split, splits_of
from .batch_sampler import epoch_batches
from .digits import DigitScenes, digit_folder
from .image_cache import image_cache
from .images import read_image
from .segmentation import decode_masks

CELLS_AT_ONCE = 10**7                                                # boxes times cells that are held in memory while shares are counted
MAX_KEPT_BYTES = 2 * 2**30                                               # decoded images kept in memory, at most; the processes of a loader share the bound
LEARNED = ("image", "boxes", "labels", "masks")                      # what a detector learns from; the rest is read on the host, where on CUDA every look is a wait


def data_folder(config: RunConfig, progress: bool = True) -> Path:
    """The COCO folder that a run reads; digit scenes are made on first use."""
    if config.data != "digits":
        return Path(config.data).expanduser()
    if not config.train_images or not config.eval_images:
        got = f"got {config.train_images} and {config.eval_images}"
        raise UserError(f"train_images and eval_images must be at least 1 for digit scenes, {got}; 0 means all, which a folder has and digit scenes have not")
    recipe = DigitScenes(config.image_size, config.train_images, config.eval_images, config.eval_images, config.lookalikes, masks=config.detector == "mask_rcnn")
    return digit_folder(recipe, progress=progress)


def open_split(config: RunConfig, split: str, progress: bool = True) -> "DetectionDataset":
    """One split of a run's data, shrunk and cut to the run's settings."""
    folder = data_folder(config, progress)
    limit = config.train_images if split == config.train_split else config.eval_images
    long_side = 0 if config.data == "digits" else config.image_size
    try:
        read = read_digits if config.data == "digits" else read_split
        return DetectionDataset(read(folder, split, masks=config.detector == "mask_rcnn"), long_side=long_side, limit=limit)
    except UserError as error:
        if config.data != "digits" or not folder.is_dir() or split not in splits_of(folder):
            raise
        raise UserError(f"{error}; or delete {folder}, and it is made again") from error


def read_digits(folder: Path, split: str, masks: bool) -> Annotations:
    """A split of the digit scenes; a run opens the same ones up to seven times, and checks their file once as long as nobody writes it anew."""
    try:
        written = (folder / "annotations.json").stat().st_mtime_ns
    except OSError:                                                  # whoever reads it says what is wrong
        return read_split(folder, split, masks=masks)
    return read_once(folder, split, masks, written)


@lru_cache(maxsize=4)
def read_once(folder: Path, split: str, masks: bool, written: int) -> Annotations:
    return read_split(folder, split, masks=masks)


class DetectionDataset(Dataset):
    """One split as a torch data set.

    Args:
        annotations: from annotations.py.
        long_side: shrink images whose longer side exceeds it, in pixels; 0 = never. Boxes shrink along.
        limit: at most so many images, spread evenly over the ids; 0 = all.

    Item i is ``(image, target)``: image (3, H, W) float in 0..1; target ``boxes`` (K, 4) xyxy pixels of that image, ``labels`` (K,) 1..C,
    ``image_id`` a scalar tensor, ``scale`` = loaded size over original size; ``masks`` (K, H, W) of 0 and 1 where the annotations have them. Crowd
    regions are no targets.
    """

    def __init__(self, annotations: Annotations, long_side: int = 0, limit: int = 0):
        self.annotations, self.long_side = annotations, long_side
        entries = annotations.images
        if limit and limit < len(entries):
            entries = [entries[i] for i in np.linspace(0, len(entries) - 1, limit).round().astype(int)]
        self.entries = entries
        self.flip, self._flip_key = 0.0, (0, 0)
        self._cached_pixels: np.ndarray | None = None
        self._kept: dict[int, Tensor] = {}
        self._kept_bytes = 0

    @property
    def classes(self) -> list[str]:
        return self.annotations.classes

    @property
    def category_ids(self) -> list[int]:
        return self.annotations.category_ids

    @property
    def image_ids(self) -> list[int]:
        return [entry["id"] for entry in self.entries]

    def __len__(self) -> int:
        return len(self.entries)

    def set_flip(self, chance: float, seed: int, epoch: int) -> None:
        """Mirror each image with this chance; which ones depends on seed, epoch and image alone, not on the process that loads it."""
        self.flip, self._flip_key = chance, (seed, epoch)

    def loaded_size(self, i: int) -> tuple[int, int]:
        """(height, width) in pixels of item i, known without opening the file."""
        entry = self.entries[i]
        scale = self._scale(entry)
        return max(round(entry["height"] * scale), 1), max(round(entry["width"] * scale), 1)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        image, target = self.as_bytes(i)
        return zero_to_one(image), target

    def as_bytes(self, i: int, epoch: int | None = None) -> tuple[Tensor, dict[str, Tensor]]:
        """Item i with its pixels as they are stored, uint8 in 0..255; mirrored as in this epoch, default the one that :meth:`set_flip` was told."""
        entry = self.entries[i]
        image_id = entry["id"]
        pixels = self._pixels(i)
        height, width = pixels.shape[-2:]
        scale = np.array([width / entry["width"], height / entry["height"]] * 2)
        ordinary = ~self.annotations.crowd[image_id]
        boxes = (self.annotations.boxes[image_id][ordinary].reshape(-1, 4) * scale).astype(np.float32)          # numpy: a third of torch's time on so few numbers
        labels = torch.from_numpy(self.annotations.labels[image_id][ordinary])
        image, masks = pixels, {}
        if self.annotations.segmentations is not None:
            shapes = [shape for shape, counts in zip(self.annotations.segmentations[image_id], ordinary, strict=True) if counts]
            masks = {"masks": torch.from_numpy(decode_masks(shapes, (entry["height"], entry["width"]), (height, width)))}
        if self.flip and self._mirrored(image_id, epoch):
            image, masks = image.flip(-1), {name: each.flip(-1) for name, each in masks.items()}
            boxes = np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
        boxes, scale = torch.from_numpy(never_flat(boxes)), torch.from_numpy(scale)
        return image, {"boxes": boxes, "labels": labels, "image_id": torch.tensor(image_id), "scale": scale, **masks}

    def _mirrored(self, image_id: int, epoch: int | None) -> bool:
        seed, told = self._flip_key
        return np.random.default_rng([seed, told if epoch is None else epoch, image_id]).random() < self.flip

    def _scale(self, entry: dict) -> float:
        return min(1.0, self.long_side / max(entry["height"], entry["width"])) if self.long_side else 1.0

    def cache_pixels(self, progress: bool = True) -> "DetectionDataset":
        """Decode every image once, into a file that all runs map; nothing happens where the images differ in size or are too many."""
        self._cached_pixels = image_cache(self, progress)
        return self

    def decode(self, i: int) -> np.ndarray:
        """(3, H, W) uint8 of item i, read from its file and shrunk."""
        array = read_image(self.annotations.image_folder, self.entries[i])
        height, width = self.loaded_size(i)
        if (height, width) != array.shape[:2]:
            array = np.asarray(Image.fromarray(array).resize((width, height), Image.Resampling.BILINEAR))
        return np.ascontiguousarray(array.transpose(2, 0, 1))

    def _pixels(self, i: int) -> Tensor:
        """(3, H, W) uint8, from the shared store or kept after the first decoding while the memory bound lasts."""
        if self._cached_pixels is not None:
            return torch.from_numpy(np.array(self._cached_pixels[i]))
        if i not in self._kept:
            pixels, among = torch.from_numpy(self.decode(i)), get_worker_info()
            if self._kept_bytes + pixels.numel() > MAX_KEPT_BYTES // (among.num_workers if among else 1):
                return pixels
            self._kept[i] = pixels
            self._kept_bytes += pixels.numel()
        return self._kept[i]

    def ground_truth(self) -> dict:
        """The split as pycocotools reads it: original pixels and category ids, only the images that this data set holds."""
        return self.annotations.coco(self.image_ids)

    def content_hash(self) -> str:
        """A hash of what a run learns from or is judged by: annotations, images held, size."""
        return short_hash({"annotations": self.annotations.content_hash, "ids": self.image_ids, "long_side": self.long_side})


class AsBytes(Dataset):
    """What a loader asks of scenes: key (i, epoch) is item i as bytes. The epoch comes along because its processes outlive one."""

    def __init__(self, scenes: DetectionDataset):
        self.scenes = scenes

    def __getitem__(self, key: tuple[int, int | None]) -> tuple[Tensor, dict[str, Tensor]]:
        return self.scenes.as_bytes(*key)


def load_batches(scenes: DetectionDataset, chunks: Iterable[list[tuple[int, int | None]]], *, device: str | torch.device = "cpu", workers: int = 0) -> Iterator[tuple[list, list]]:
    """(images in 0..1, targets) of one chunk of keys (i, epoch) after the other, as lists, for images may differ in size.

    Args:
        device: where images, boxes, labels and masks are wanted; image_id and scale stay on the host.
        workers: processes that decode, each two chunks ahead, until all chunks are through; 0 = decode here. The same comes out, to the last bit.
    """
    pin = torch.device(device).type == "cuda"                        # memory that a copy to the card need not wait for
    loader = DataLoader(AsBytes(scenes), batch_sampler=chunks, num_workers=workers, collate_fn=packed, generator=torch.Generator(), pin_memory=pin)
    for batch in loader:
        moved = {name: (flat.to(device, non_blocking=True) if name in LEARNED else flat, shapes) for name, (flat, shapes) in batch.items()}
        images, *columns = (unpacked(*each) for each in moved.values())
        yield [zero_to_one(image) for image in images], [dict(zip([*moved][1:], values, strict=True)) for values in zip(*columns, strict=True)]


def packed(items: list[tuple[Tensor, dict]]) -> dict[str, tuple[Tensor, list[tuple]]]:
    """A batch as one flat tensor a name and the shapes in it: tensors one by one would cost a process, and a card, far more than their bytes."""
    named = [{"image": image, **target} for image, target in items]
    return {name: (torch.cat([each[name].reshape(-1) for each in named]), [tuple(each[name].shape) for each in named]) for name in named[0]}


def unpacked(flat: Tensor, shapes: list[tuple]) -> list[Tensor]:
    """The tensors again, as views."""
    return [part.view(shape) for part, shape in zip(flat.split([math.prod(shape) for shape in shapes]), shapes, strict=True)]


def zero_to_one(pixels: Tensor) -> Tensor:
    """uint8 in 0..255 -> a float32 of its own in 0..1."""
    return pixels.float().div_(255)


def shuffled_batches(
    scenes: DetectionDataset, batch_size: int, *, seed: int, epoch: int, epochs: int = 1, first: int = 0, flip: float = 0.0, workers: int = 0, aspect_groups: bool = False,
    share: Callable[[list[int]], list[int]] = list, device: str | torch.device = "cpu",
) -> Iterator[tuple[list, list]]:
    """Shuffled full batches of one epoch as (images, targets) lists; the order depends on seed and epoch alone.

    Args:
        epochs: go on into so many epochs; one loader serves them all, so nothing starts anew or runs dry where one ends.
        first: skip so many batches, to go on where an interrupted epoch stopped.
        workers: processes that decode ahead; 0 = decode here.
        aspect_groups: no batch holds wide and tall images (see training/order.py).
        share: what this process takes of a batch's indices; all of them by default.
        device: where images, boxes, labels and masks are wanted; image_id and scale stay on the host.
    """
    scenes.set_flip(flip, seed, epoch)

    def chunks() -> Iterator[list[tuple[int, int]]]:
        for each in range(epoch, epoch + epochs):
            for indices in epoch_batches(scenes, batch_size, seed, each, aspect_groups)[first if each == epoch else 0:]:
                yield [(i, each) for i in share(indices)]

    yield from load_batches(scenes, chunks(), device=device, workers=workers)


def never_flat(boxes: np.ndarray) -> np.ndarray:
    """The same boxes (K, 4), where rounding to float32 took a sliver's width or height with the least that there is; detectors refuse a box without."""
    near, far = boxes[:, :2], boxes[:, 2:]
    return np.concatenate([near, np.maximum(far, np.nextafter(near, np.float32(np.inf)))], axis=1)


def foreground_shares(scenes: DetectionDataset, strides: tuple[int, ...] = (8, 16, 32), rounding: str = "exact") -> dict[str, float]:
    """Share of the cells of each pyramid level that lie inside a box, in 0..1, averaged over the images."""
    shares = {f"P{int(np.log2(stride))}": [] for stride in strides}
    for i, entry in enumerate(scenes.entries):
        height, width = scenes.loaded_size(i)
        boxes = torch.from_numpy(scenes.annotations.boxes[entry["id"]]).reshape(-1, 4) * (width / entry["width"])
        for level, stride in zip(shares, strides, strict=True):
            grid = (-(-height // stride), -(-width // stride))
            covered = torch.zeros(grid, dtype=torch.bool)
            for some in boxes.split(max(CELLS_AT_ONCE // (grid[0] * grid[1]), 1)):
                covered |= focal_masks([some], [(grid[0] * stride, grid[1] * stride)], grid, rounding=rounding).binary[0] > 0
            shares[level].append(covered.float().mean().item())
    return {level: float(np.mean(each)) for level, each in shares.items()}
