"""The explorer's cache is bounded."""

import gc
from pathlib import Path

import numpy as np
import pytest
import torch

from fgdlab.lab.detectors.builder import build
from fgdlab.lab.explorer.explorer import explore
from fgdlab.lab.explorer.lru_cache import LRUCache


class RandomImages:
    """1000 different images, computed on demand."""

    classes, category_ids, image_ids = ["a", "b"], [1, 2], list(range(1000))

    def __len__(self) -> int:
        return 1000

    def __getitem__(self, i: int):
        pixels = np.random.default_rng(i).random((3, 128, 128), dtype=np.float32)
        return torch.from_numpy(pixels), {
            "boxes": torch.tensor([[10.0, 10.0, 60.0, 70.0]]),
            "labels": torch.tensor([1]),
            "image_id": torch.tensor(i),
        }


def resident_mb() -> float:
    """Memory of this process that is in use, in MB."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096 / 1e6


@pytest.mark.slow
@pytest.mark.skipif(
    not Path("/proc/self/statm").exists(),
    reason="skipped, because memory in use is read from /proc, which this system does not have",
)
def test_200_changes_of_the_image_grow_the_kernel_by_less_than_50_mb():
    torch.manual_seed(0)
    students = {"baseline": build("retinanet", "compact_s", 2), "distilled": build("retinanet", "compact_s", 2)}
    explorer = explore(students, build("retinanet", "compact_t", 2), RandomImages(), view="before_after", cache_mb=20)
    for image in range(1, 6):  # memory that the allocator and libraries need once
        explorer.set(image=image).numbers()
    before = resident_mb()
    for image in range(6, 206):
        explorer.set(image=image).numbers()
        explorer.set(temperature=0.1 + image / 100).numbers()
    grown = resident_mb() - before
    print(f"grown by {grown:.1f} MB")
    assert grown < 50
    assert explorer.session.inference.cache.bytes <= 20e6


def test_the_least_recently_used_entry_is_evicted():
    computed = []
    cache = LRUCache(max_bytes=10)

    def get(key):
        return cache.get(key, lambda: computed.append(key) or key, lambda value: 4)

    for key in "abac":  # a was used after b: b goes
        get(key)
    assert set(cache.entries) == {"a", "c"} and cache.bytes == 8
    get("b")
    assert computed == ["a", "b", "c", "b"] and "a" not in cache.entries


def test_many_small_entries_stay_within_the_bytes():
    cache = LRUCache(max_bytes=1000)
    for key in range(500):
        cache.get(key, lambda: 0, lambda value: 1)
    assert len(cache.entries) == 500


def test_the_latest_entries_are_never_evicted():
    cache = LRUCache(max_bytes=1, min_items=2)
    for key in range(4):
        cache.get(key, lambda: 0, lambda value: 100)
    assert set(cache.entries) == {2, 3} and cache.bytes == 200
