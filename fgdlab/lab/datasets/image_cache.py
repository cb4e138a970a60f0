"""Decoded images, kept once for all the runs of a sweep: fifteen runs decode every file once instead of fifteen times.

    image files --read_image, resize--> (images, 3, H, W) uint8 in one mapped file of the cache
"""
from pathlib import Path

import numpy as np
from tqdm import tqdm

from ..io import cache_root, checked_read, create_once, reserve_disk_space, short_hash

LARGEST_BYTES = 2 * 2**30


def image_cache(scenes, progress: bool = True) -> np.ndarray | None:
    """The pixels of every item of a data set, mapped read-only; made on first use. None where sizes differ or it would be too large.

    Args:
        scenes: a data set of data.py.
        progress: show a bar while files are decoded.
    Returns:
        (items, 3, H, W) uint8. The key holds name, size and time of every file, so a replaced image is decoded anew.
    """
    sizes = {scenes.loaded_size(i) for i in range(len(scenes))}
    if len(sizes) != 1:
        return None
    shape = (len(scenes), 3, *next(iter(sizes)))
    if np.prod(shape) > LARGEST_BYTES:
        return None
    path = cache_root() / "pixels" / f"{short_hash({'files': stamps(scenes), 'shape': shape})}.npy"

    def decode(unfinished: Path) -> None:
        store = np.lib.format.open_memmap(unfinished, mode="w+", dtype=np.uint8, shape=shape)
        reserve_disk_space(unfinished, unfinished.stat().st_size)
        for i in tqdm(range(len(scenes)), desc="decode images", unit="image", disable=not progress):
            store[i] = scenes.decode(i)
        store.flush()

    with checked_read(create_once(path, decode)):
        return np.load(path, mmap_mode="r").view(np.ndarray)         # still mapped; a memmap's own indexing is slow


def stamps(scenes) -> list[tuple[str, int, int]]:
    """(path, bytes, time of change) of every file of the data set."""
    found = []
    for entry in scenes.entries:
        path = scenes.annotations.image_folder / entry["file_name"]
        status = path.stat()
        found.append((str(path), status.st_size, status.st_mtime_ns))
    return found
