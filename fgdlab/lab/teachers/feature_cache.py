"""The teacher's feature maps, computed once and kept in float16. Refused where pixels change from epoch to epoch."""
import json
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import nn
from tqdm import tqdm

from fgdlab.scene import level_names

from ..config import RunConfig
from ..datasets import Augmentation, DetectionDataset, load_batches
from ..errors import UserError
from ..io import cache_root, checked_read, create_once, reserve_disk_space, short_hash, write_json

BATCH_SIZE = 32  # of the teacher's forward pass


class TeacherCache:
    """``cache(keys) -> {"P3": (N, C, H, W) float32, ...}``, in place of the teacher's forward pass
    (``recall`` of :class:`fgdlab.Distiller`).

    A key is an image id, or (image id, view). Files are memory-mapped, so processes share one copy.
    """

    def __init__(self, folder: Path):
        with checked_read(folder):
            index = json.loads((folder / "index.json").read_text())
            keys = index["image_ids"]
            self._row = {tuple(key) if isinstance(key, list) else key: row for row, key in enumerate(keys)}
            self._maps = {
                level: np.asarray(np.load(folder / f"{level}.npy", mmap_mode="r")) for level in index["levels"]
            }
        self.device = "cpu"

    def __call__(self, keys: list) -> dict[str, torch.Tensor]:
        rows = [self._row[key] for key in keys]
        return {level: torch.from_numpy(maps[rows]).to(self.device).float() for level, maps in self._maps.items()}


def cache_refusal(config: RunConfig, dataset: DetectionDataset, teacher: nn.Module) -> str | None:
    if config.teacher_cache == "off":
        return "it is switched off (teacher_cache=off)"
    augmentation = Augmentation.of(config)
    if augmentation.active and not config.views:
        changes = ", ".join(f"{name}={getattr(config, name):g}" for name in ("flip", "zoom", "colour"))
        return f"images are augmented ({changes}), so the pixels differ from epoch to epoch; views bounds their number"
    if config.min_sizes.strip():
        return f"images are resized to a side that is drawn each step (min_sizes={config.min_sizes})"
    sizes = {dataset.canvas if config.zoom else dataset.loaded_size(i) for i in range(len(dataset))}
    if len(sizes) > 1:
        return f"images come in {len(sizes)} sizes, so a map depends on how its batch was padded"
    size = cache_bytes(dataset, teacher)
    if size > config.teacher_cache_gb * 1e9:
        return f"it would take {size / 1e9:.1f} GB, more than teacher_cache_gb={config.teacher_cache_gb:g}"
    return None


def cache_bytes(dataset: DetectionDataset, teacher: nn.Module) -> int:
    """Bytes on disk: 2 per value of all levels, images and views."""
    views = dataset.augmentation.views or 1
    return 2 * views * len(dataset) * sum(maps[0].numel() for maps in one_batch(teacher, [dataset[0][0]]).values())


def get_cache(
    config: RunConfig, dataset: DetectionDataset, teacher: nn.Module, teacher_hash: str, *, device: str = "cpu",
    progress: bool = True,
) -> TeacherCache | None:
    """Filled on first use; None where it is refused, or a UserError with ``teacher_cache=on``."""
    augmentation = Augmentation.of(config)
    dataset.augment(augmentation, seed=config.seed, epoch=0)
    refused = cache_refusal(config, dataset, teacher)
    if refused:
        if config.teacher_cache == "on":
            hint = "use teacher_cache=auto to run the teacher each step"
            raise UserError(f"teacher_cache=on must be possible, but {refused}; {hint}")
        if progress:
            print(f"no teacher cache: {refused}", flush=True)
        return None
    views = {"views": augmentation} if augmentation.active else {}
    name = short_hash({"teacher": teacher_hash, "data": dataset.content_hash(), **views})
    cache = TeacherCache(create_once(
        cache_root() / "teacher_maps" / name,
        lambda unfinished: fill(unfinished, dataset, teacher, device, progress, config.workers),
    ))
    cache.device = device
    return cache


@torch.no_grad()
def one_batch(teacher: nn.Module, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    device = next(teacher.parameters()).device
    pixels = teacher.eval().transform([image.to(device) for image in images], None)[0].tensors
    return level_names(teacher.backbone(pixels), pixels.shape[-2])


def fill(
    folder: Path, dataset: DetectionDataset, teacher: nn.Module, device: str, progress: bool, workers: int,
) -> None:
    size = cache_bytes(dataset, teacher)
    if shutil.disk_usage(cache_root()).free < 1.1 * size:
        hint = "free space or use teacher_cache=off"
        raise UserError(f"{cache_root()} must have {size / 1e9:.1f} GB free for the teacher cache; {hint}")
    folder.mkdir(parents=True)
    views, ids = dataset.augmentation.views if dataset.augmentation.active else 0, dataset.image_ids
    items = [(i, view) for view in range(views or 1) for i in range(len(dataset))]
    chunks = [items[start:start + BATCH_SIZE] for start in range(0, len(items), BATCH_SIZE)]
    batches = load_batches(dataset, chunks, device=device, workers=workers)
    bar = tqdm(batches, total=len(chunks), desc="teacher cache", unit="batch", disable=not progress)
    keys = [(ids[i], view) if views else ids[i] for i, view in items]
    write_maps(folder, keys, (one_batch(teacher, images) for images, _ in bar))


def write_maps(folder: Path, image_ids: list, batches: Iterable[dict[str, torch.Tensor]]) -> None:
    """The files of :class:`TeacherCache`. batches: maps of these images or keys, in their order."""
    files, start = {}, 0
    for batch in batches:
        for level, maps in batch.items():
            if level not in files:
                path, shape = folder / f"{level}.npy", (len(image_ids), *maps.shape[1:])
                files[level] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)
                reserve_disk_space(path)
            files[level][start:start + len(maps)] = maps.half().cpu().numpy()
        start += len(maps)
    for file in files.values():
        file.flush()
    write_json(folder / "index.json", {"image_ids": image_ids, "levels": list(files)})
