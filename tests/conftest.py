"""Fixtures that several tests need. Everything is random but seeded, and runs on one core."""
import os
from collections import OrderedDict
from importlib.util import find_spec

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from fgdlab.scene import Scene

if find_spec("click"):  # the bench is installed; `make oldest` tests the method with torch and torchvision alone
    pytest_plugins = ["tests.helpers.lab_fixtures", "tests.helpers.process_fixtures"]
torch.set_num_threads(1)
# files with few but long tests, the longest first; they start first, so that no process waits for them at the end
LONGEST = ("test_kills.py", "test_notebooks.py", "test_dask_executor.py", "test_gpu_model.py", "test_torchrun.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.name, len(order)))  # the others keep their order


def pytest_runtest_setup(item: pytest.Item) -> None:
    """A test that needs a GPU is skipped without one, or fails with FGDLAB_CUDA=required."""
    if item.get_closest_marker("cuda") and not torch.cuda.is_available():
        if os.environ.get("FGDLAB_CUDA") == "required":
            pytest.fail("FGDLAB_CUDA=required, but torch finds no CUDA GPU")
        pytest.skip("skipped, because torch finds no CUDA GPU")


@pytest.fixture(autouse=True)
def seed_everything():
    torch.manual_seed(0)


def tiny_retinanet(width: int = 8, classes: int = 3) -> RetinaNet:
    """torchvision's RetinaNet with P3-P7 of ``width`` channels on four strided convolutions; random weights."""

    def stage(inputs, stride):
        return nn.Sequential(nn.Conv2d(inputs, width, 3, stride=stride, padding=1), nn.BatchNorm2d(width), nn.ReLU())

    body = nn.Sequential(OrderedDict(stem=stage(3, 4), c3=stage(width, 2), c4=stage(width, 2), c5=stage(width, 2)))
    backbone = BackboneWithFPN(body, {"c3": "0", "c4": "1", "c5": "2"}, [width] * 3, width, LastLevelP6P7(width, width))
    return RetinaNet(backbone, classes, min_size=64, max_size=96)


@pytest.fixture
def retinanet():
    return tiny_retinanet


@pytest.fixture
def batch():
    """Two images of different shape, so that the batch is padded; three boxes on the first, none on the second."""
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 90)]
    boxes = torch.tensor([[4.0, 4.0, 20.0, 24.0], [10.0, 12.0, 60.0, 60.0], [40.0, 2.0, 50.0, 9.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2, 1]), "image_id": torch.tensor(7)},
        {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64), "image_id": torch.tensor(8)},
    ]
    return images, targets


def random_scene(seed: int, channels: int = 4, levels=("P3", "P4"), scale: float = 1.0, dtype=torch.float64) -> Scene:
    """A padded batch of two: boxes overlap, hang over the border or lie on cell edges; some images have none."""
    draw = torch.Generator().manual_seed(seed)

    def integer(low, high):
        return int(torch.randint(low, high, (), generator=draw))

    height, width = 32 * integer(1, 3), 32 * integer(1, 3)
    sizes = [(height - integer(0, 16), width - integer(0, 16)) for _ in range(2)]
    boxes = []
    for image_h, image_w in sizes:
        near = (torch.rand(integer(0, 5), 2, generator=draw, dtype=torch.float64) * 1.2 - 0.2) * torch.tensor(
            [image_w, image_h]
        )
        size = torch.rand(len(near), 2, generator=draw, dtype=torch.float64) * torch.tensor([image_w, image_h]) + 1
        each = torch.cat([near, near + size], dim=1)
        # Half of them on whole pixels, often on cell edges.
        boxes.append(each if integer(0, 2) else (each / 4).round() * 4)
    grids = {level: (height >> int(level[1:]), width >> int(level[1:])) for level in levels}
    features = {
        level: scale * torch.randn(2, channels, *grid, generator=draw, dtype=torch.float64).to(dtype)
        for level, grid in grids.items()
    }
    return Scene(torch.zeros(2, 3, height, width), boxes, sizes, features)


@pytest.fixture(name="random_scene")
def random_scene_fixture():
    return random_scene


@pytest.fixture
def agree():
    """agree(fast, slow, seed): a float64 tensor equals nested lists to 1e-9 relative; a failure names the seed."""

    def check(fast, slow, seed):
        assert_close(
            fast.detach(),
            torch.tensor(slow, dtype=torch.float64),
            rtol=1e-9,
            atol=0,
            msg=lambda text: f"seed {seed}: {text}",
        )

    return check


def shake(module: nn.Module, size: float = 0.3) -> nn.Module:
    """Move every parameter off its start, where R of eq. 13 is the identity and hides what its layers do."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(size * torch.randn_like(parameter))
    return module


@pytest.fixture(name="shake")
def shake_fixture():
    return shake
