"""Decoded images in one mapped file, which the runs of a sweep share."""
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..io import cache_root, checked_read, create_once, reserve_disk_space, short_hash

MAX_BYTES = 2 * 2**30


def image_cache(dataset, progress: bool = True) -> np.ndarray | None:
    """The pixels of all items of a DetectionDataset, (items, 3, H, W) uint8, mapped read-only; made on first use.

    None if image sizes differ or the file would exceed ``MAX_BYTES``.
    """
    sizes = {dataset.loaded_size(i) for i in range(len(dataset))}
    shape = (len(dataset), 3, *sizes.pop())
    if sizes or np.prod(shape) > MAX_BYTES:
        return None
    files = [dataset.file_hashes, [entry.get("upright", False) for entry in dataset.entries]]
    path = cache_root() / "pixels" / f"{short_hash([files, shape])}.npy"

    def decode(unfinished: Path) -> None:
        pixels = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        reserve_disk_space(unfinished)
        for i in tqdm(range(len(dataset)), desc="decode images", unit="image", disable=not progress):
            pixels[i] = dataset.decode(i)
        pixels.flush()

    with checked_read(create_once(path, decode)):
        return np.load(path, mmap_mode="r").view(np.ndarray)  # still mapped; indexing a memmap object is slow
