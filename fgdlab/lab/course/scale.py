"""Helpers of notebook 10: write a small COCO folder, count activation bytes and memory traffic."""
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.utils import save_image

from ..datasets import DetectionDataset
from ..io import write_json


def write_coco_split(folder: Path, split: str, dataset: DetectionDataset, indices: Iterable[int]) -> Path:
    """Write scenes in COCO's layout, SPLIT/*.png and annotations/instances_SPLIT.json; return the path of the latter.

    As in COCO, images differ in width (padded by 0, 32 or 64 pixels) and category ids have gaps (multiples of 7).
    """
    whole, images = dataset.ground_truth(), []
    (folder / split).mkdir(parents=True)
    for i in indices:
        pixels, image_id = nn.functional.pad(dataset[i][0], (0, 32 * (i % 3))), dataset.image_ids[i]
        name, (_, height, width) = f"{image_id:012d}.png", pixels.shape
        save_image(pixels, folder / split / name)
        images.append({"id": image_id, "file_name": name, "height": height, "width": width})
    kept = {image["id"] for image in images}
    annotations = [
        {**each, "category_id": 7 * each["category_id"]} for each in whole["annotations"] if each["image_id"] in kept]
    categories = [{**each, "id": 7 * each["id"]} for each in whole["categories"]]
    file = folder / "annotations" / f"instances_{split}.json"
    write_json(file, {"images": images, "annotations": annotations, "categories": categories})
    return file


def activation_bytes(detector: nn.Module, height: int, width: int) -> int:
    """Bytes that autograd saves for the backward pass of one image through backbone and head.

    Each storage counts once, parameters and losses not at all. Works on the ``meta`` device, where tensors are empty.
    """
    saved: dict[int, Tensor] = {}
    parameters = {storage_of(tensor) for tensor in detector.state_dict(keep_vars=True).values()}

    def keep(tensor: Tensor) -> Tensor:
        saved[storage_of(tensor)] = tensor  # held until the end, so that no storage is used again
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        maps = detector.train().backbone(torch.zeros(1, 3, height, width, device=next(detector.parameters()).device))
        detector.head(list(maps.values()))
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in saved.items() if storage not in parameters)


class MemoryTraffic(TorchDispatchMode):
    """Counts in ``bytes_moved`` what operations inside the ``with`` read and write: all inputs and results.

    Views (reshape, transpose) move nothing. Caches are not modelled.
    """

    def __init__(self):
        super().__init__()
        self.bytes_moved = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        inputs, results = ([x for x in tree_leaves(tree) if isinstance(x, Tensor)] for tree in ((args, kwargs), result))
        read = {storage_of(x) for x in inputs}
        if operation._schema.is_mutable or any(storage_of(x) not in read for x in results):
            self.bytes_moved += sum(min(x.nbytes, x.untyped_storage().nbytes()) for x in inputs + results)
        return result


def storage_of(tensor: Tensor) -> int:
    """A number that is equal for tensors that share memory, also on the ``meta`` device."""
    return tensor.untyped_storage()._cdata
