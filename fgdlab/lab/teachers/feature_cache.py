"""The teacher's maps, computed once and kept: exact to float16, bounded in size, refused where pixels change from epoch to epoch."""
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
from ..datasets import DetectionDataset, load_batches
from ..errors import UserError
from ..io import cache_root, checked_read, create_once, reserve_disk_space, short_hash, write_json


class TeacherCache:
    """``cache(image_ids) -> {"P3": (N, C, H, W) float32, ...}``: what the teacher's backbone gave for these images, stored in float16.

    Stands in for the teacher in :class:`fgdlab.Distiller` (argument ``recall``). Files are mapped, not read: processes share one copy in memory.
    """

    def __init__(self, folder: Path):
        with checked_read(folder):
            index = json.loads((folder / "index.json").read_text())
            self._row = {image_id: row for row, image_id in enumerate(index["image_ids"])}
            self._maps = {level: np.asarray(np.load(folder / f"{level}.npy", mmap_mode="r")) for level in index["levels"]}
        self.device = "cpu"

    def __call__(self, image_ids: list[int]) -> dict[str, torch.Tensor]:
        rows = [self._row[image_id] for image_id in image_ids]
        return {level: torch.from_numpy(maps[rows]).to(self.device).float() for level, maps in self._maps.items()}


def cache_refusal(config: RunConfig, scenes: DetectionDataset, teacher: nn.Module) -> str | None:
    """Why this teacher cannot be cached for this data; None if it can."""
    if config.teacher_cache == "off":
        return "it is switched off (teacher_cache=off)"
    if config.flip:
        return f"images are mirrored at random (flip={config.flip:g}), so the pixels differ from epoch to epoch"
    if config.min_sizes.strip():
        return f"images are resized to a side that is drawn each step (min_sizes={config.min_sizes})"
    sizes = {scenes.loaded_size(i) for i in range(len(scenes))}
    if len(sizes) > 1:
        return f"images come in {len(sizes)} sizes, so a map depends on how its batch was padded"
    size = cache_bytes(scenes, teacher)
    if size > config.teacher_cache_gb * 1e9:
        return f"it would take {size / 1e9:.1f} GB, more than teacher_cache_gb={config.teacher_cache_gb:g}"
    return None


def cache_bytes(scenes: DetectionDataset, teacher: nn.Module) -> int:
    """Bytes on disk: 2 a value, summed over levels and images."""
    return 2 * len(scenes) * sum(each[0].numel() for each in one_batch(teacher, [scenes[0][0]]).values())


def get_cache(config: RunConfig, scenes: DetectionDataset, teacher: nn.Module, teacher_hash: str, *, device: str = "cpu", progress: bool = True) -> TeacherCache | None:
    """The cache of this teacher on this data, filled on first use; None where it is refused and ``teacher_cache`` is auto or off.

    Raises:
        UserError: refused although ``teacher_cache=on``.
    """
    refused = cache_refusal(config, scenes, teacher)
    if refused:
        if config.teacher_cache == "on":
            raise UserError(f"teacher_cache=on must be possible, but {refused}; use teacher_cache=auto to run the teacher each step")
        if progress:
            print(f"no teacher cache: {refused}", flush=True)
        return None
    folder = cache_root() / "teacher_maps" / short_hash({"teacher": teacher_hash, "data": scenes.content_hash()})
    cache = TeacherCache(create_once(folder, lambda unfinished: fill(unfinished, scenes, teacher, device, progress, config.workers)))
    cache.device = device
    return cache


@torch.no_grad()
def one_batch(teacher: nn.Module, images: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    """The teacher's maps by level name, of images as the student's own transform would batch them."""
    device = next(teacher.parameters()).device
    pixels = teacher.eval().transform([image.to(device) for image in images], None)[0].tensors
    return level_names(teacher.backbone(pixels), pixels.shape[-2])


def fill(folder: Path, scenes: DetectionDataset, teacher: nn.Module, device: str, progress: bool, workers: int = 0, batch_size: int = 32) -> None:
    if shutil.disk_usage(cache_root()).free < 1.1 * cache_bytes(scenes, teacher):
        raise UserError(f"{cache_root()} must have {cache_bytes(scenes, teacher) / 1e9:.1f} GB free for the teacher cache; free space or use teacher_cache=off")
    folder.mkdir(parents=True)
    starts = range(0, len(scenes), batch_size)
    through = load_batches(scenes, [[(i, None) for i in range(start, min(start + batch_size, len(scenes)))] for start in starts], device=device, workers=workers)
    along = zip(tqdm(starts, desc="teacher cache", unit="batch", disable=not progress), through, strict=True)
    write_maps(folder, scenes.image_ids, (one_batch(teacher, images) for _, (images, _) in along))


def write_maps(folder: Path, image_ids: list[int], batches: Iterable[dict[str, torch.Tensor]]) -> None:
    """What :class:`TeacherCache` reads: the maps of these images, batch after batch in their order."""
    files, start = {}, 0
    for batch in batches:
        for level, maps in batch.items():
            if level not in files:
                path = folder / f"{level}.npy"
                files[level] = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=(len(image_ids), *maps.shape[1:]))
                reserve_disk_space(path, path.stat().st_size)
            files[level][start:start + len(maps)] = maps.half().cpu().numpy()
        start += len(maps)
    for each in files.values():
        each.flush()
    write_json(folder / "index.json", {"image_ids": image_ids, "levels": list(files)})
