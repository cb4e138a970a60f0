"""Tiny data and settings for the tests of fgdlab.lab."""
from pathlib import Path

import numpy as np
import pytest
import torch

from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset, data_folder
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.errors import UserError

TINY = {
    "image_size": 64, "train_images": 12, "eval_images": 8, "teacher": "compact_s", "teacher_epochs": 1,
    "teacher_batch_size": 4, "epochs": 3, "batch_size": 4, "lr": 2e-3, "log_every": 1, "device": "cpu", "scale": "test",
}


def make_tiny_config(**changes) -> RunConfig:
    return RunConfig.of({**TINY, **changes})


@pytest.fixture(scope="session")
def tiny_config():
    """tiny_config(**changes) -> RunConfig: 12 training images of 64 px, 3 epochs of 3 steps, 8 evaluation images."""
    return make_tiny_config


@pytest.fixture(scope="session")
def scene_cache(tmp_path_factory) -> Path:
    """A cache root that holds the tiny digit scenes, made once for all tests."""
    root = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", str(root))
        data_folder(make_tiny_config(), progress=False)
    return root


@pytest.fixture
def lab_home(scene_cache, tmp_path, monkeypatch) -> Path:
    """$FGDLAB_HOME of one test, with the tiny digit scenes, without teachers and their feature maps."""
    root = tmp_path / "home"
    root.mkdir()
    (root / "data").symlink_to(scene_cache / "data")
    monkeypatch.setenv("FGDLAB_HOME", str(root))
    return root


@pytest.fixture(scope="session")
def tiny_scenes(scene_cache):
    """tiny_scenes(split="train", **settings) -> a new DetectionDataset of the tiny digit scenes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", str(scene_cache))
        folder = data_folder(make_tiny_config(), progress=False)

    def dataset(split: str = "train", **settings) -> DetectionDataset:
        return DetectionDataset(read_split(folder, split), **settings)

    return dataset


def make_distiller(seed: int = 0, loss: FGDConfig | None = FGDConfig(1e-3, 5e-4, 1e-2, 1e-4)) -> Distiller:
    """A compact student of this seed and, with a loss, a compact teacher of seed 99."""
    torch.manual_seed(seed)
    student = build("retinanet", "compact_s", 10)
    if loss is None:
        return Distiller(student)
    imitation = FGDLoss(student.levels, 48, 48, loss)
    torch.manual_seed(99)
    return Distiller(student, build("retinanet", "compact_s", 10), imitation)


@pytest.fixture(scope="session")
def tiny_distiller():
    """tiny_distiller(seed=0, loss=FGDConfig(...) or None) -> Distiller."""
    return make_distiller


@pytest.fixture(scope="session")
def refusal():
    """refusal(call, *args, **settings) -> the text of the UserError that the call raises, of one line."""

    def text_of(call, *args, **settings) -> str:
        with pytest.raises(UserError) as caught:
            call(*args, **settings)
        text = str(caught.value)
        assert text and "\n" not in text
        return text

    return text_of


def copy_of_state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@pytest.fixture(scope="session")
def bits():
    """bits(module) -> a copy of its state."""
    return copy_of_state


@pytest.fixture(scope="session")
def same_bits():
    """same_bits(a, b): two states, or modules, are equal to the last bit; a failure names the tensors that differ."""

    def check(a, b):
        a, b = (each.state_dict() if isinstance(each, torch.nn.Module) else each for each in (a, b))
        assert a.keys() == b.keys()
        assert [name for name in a if not torch.equal(a[name], b[name])] == []

    return check


@pytest.fixture
def coco_folder(tmp_path):
    """coco_folder(sizes, boxes, ...) -> a folder in the plain layout. Images show the boxes as white rectangles.

    sizes: (width, height) per image in pixels; ids from 1.
    boxes: {image id: [(x, y, width, height, category id, iscrowd), ...]}.
    """
    from PIL import Image

    from fgdlab.lab.io import write_json

    def write(sizes, boxes, categories=(3, 7), splits=None, name="folder") -> Path:
        folder = tmp_path / name
        (folder / "images").mkdir(parents=True)
        images, annotations = [], []
        for image_id, (width, height) in enumerate(sizes, start=1):
            pixels = np.zeros((height, width, 3), np.uint8)
            for x, y, w, h, category_id, crowd in boxes.get(image_id, ()):
                pixels[y:y + h, x:x + w] = 255
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": category_id,
                    "bbox": [x, y, w, h], "area": w * h, "iscrowd": crowd,
                })
            Image.fromarray(pixels).save(folder / "images" / f"{image_id}.png")
            images.append({"id": image_id, "file_name": f"{image_id}.png", "width": width, "height": height})
        categories = [{"id": each, "name": f"class {each}"} for each in categories]
        write_json(
            folder / "annotations.json", {"images": images, "annotations": annotations, "categories": categories}
        )
        if splits:
            write_json(folder / "splits.json", splits)
        return folder

    return write
