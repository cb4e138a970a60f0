"""Decoded images are kept once, and never outlive the files they came from."""
import os

import numpy as np
import pytest
import torch
from PIL import Image

from fgdlab.lab.datasets import image_cache as module
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.io import write_json


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    return coco_folder(tmp_path / "data", [(32, 48)] * 4)


def coco_folder(folder, sizes):
    """A COCO folder of random PNG images of the given (height, width), a box in each."""
    (folder / "images").mkdir(parents=True)
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (height, width) in enumerate(sizes, start=1):
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(
            folder / "images" / f"{number}.png"
        )
        images.append({"id": number, "file_name": f"{number}.png", "width": width, "height": height})
        annotations.append({"id": number, "image_id": number, "category_id": 1, "bbox": [1, 2, 10, 12]})
    write_json(
        folder / "annotations.json",
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "thing"}]},
    )
    return folder


def dataset_of(folder, **settings):
    return DetectionDataset(read_split(folder, "all"), **settings)


@pytest.mark.parametrize("long_side", [0, 24])
def test_cached_pixels_equal_decoded_pixels(folder, long_side):
    cached, plain = (
        dataset_of(folder, long_side=long_side).cache_pixels(progress=False), dataset_of(folder, long_side=long_side),
    )
    for i in range(len(plain)):
        assert torch.equal(cached[i][0], plain[i][0])
        assert torch.equal(cached[i][1]["boxes"], plain[i][1]["boxes"])


def test_files_are_decoded_once_for_all_runs(folder, monkeypatch):
    dataset_of(folder).cache_pixels(progress=False)
    monkeypatch.setattr("fgdlab.lab.datasets.dataset.read_image", lambda *args: pytest.fail("a file was decoded again"))
    again = dataset_of(folder).cache_pixels(progress=False)
    assert again[0][0].shape == (3, 32, 48)


def test_a_replaced_image_is_decoded_anew(folder):
    before = dataset_of(folder).cache_pixels(progress=False)[0][0]
    path = folder / "images" / "1.png"
    Image.new("RGB", (48, 32), (255, 0, 0)).save(path)
    os.utime(path, ns=(1, 1))
    after = dataset_of(folder).cache_pixels(progress=False)[0][0]
    assert not torch.equal(before, after)
    assert after[0].min() == 1 and after[1].max() == 0


def test_changing_a_loaded_image_leaves_the_cache_alone(folder):
    dataset = dataset_of(folder).cache_pixels(progress=False)
    before = dataset[0][0].clone()
    dataset._pixels(0).zero_()
    assert torch.equal(dataset[0][0], before)


def test_images_of_several_sizes_are_not_cached(tmp_path, monkeypatch):
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    assert module.image_cache(dataset_of(coco_folder(tmp_path / "data", [(32, 48), (48, 32)])), progress=False) is None


def test_a_cache_over_the_bound_is_not_made(folder, monkeypatch):
    monkeypatch.setattr(module, "MAX_BYTES", 4 * 3 * 32 * 48 - 1)
    assert module.image_cache(dataset_of(folder), progress=False) is None
    monkeypatch.setattr(module, "MAX_BYTES", 4 * 3 * 32 * 48)
    assert module.image_cache(dataset_of(folder), progress=False).shape == (4, 3, 32, 48)
