"""What the notebook on full scale counts and makes: a tiny COCO folder, what a backward pass keeps, bytes that operations move."""
import json
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torchvision.utils import save_image

from ..datasets import DetectionDataset
from ..io import write_text


def write_coco_split(folder: Path, split: str, scenes: DetectionDataset, indices: Iterable[int]) -> Path:
    """Some scenes as one split of COCO's own layout: SPLIT/*.png and annotations/instances_SPLIT.json, whose path comes back.

    As on COCO, images differ in width (every second and third is padded by 32 and 64 pixels) and category ids have gaps (multiples of 7).
    """
    images, annotations = [], []
    (folder / split).mkdir(parents=True)
    (folder / "annotations").mkdir(exist_ok=True)
    for i in indices:
        pixels, target = scenes[i]
        pixels = nn.functional.pad(pixels, (0, 32 * (i % 3)))
        name = f"{i:012d}.png"
        save_image(pixels, folder / split / name)
        images.append({"id": i, "file_name": name, "height": pixels.shape[1], "width": pixels.shape[2]})
        for (x1, y1, x2, y2), label in zip(target["boxes"].tolist(), target["labels"].tolist(), strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 7 * label, "bbox": [x1, y1, x2 - x1, y2 - y1]})
    categories = [{"id": 7 * (k + 1), "name": name} for k, name in enumerate(scenes.classes)]
    file = folder / "annotations" / f"instances_{split}.json"
    write_text(file, json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return file


def activation_bytes(detector: nn.Module, height: int, width: int) -> int:
    """Bytes that autograd keeps for the backward pass of one image through backbone and head, each piece of memory once, parameters left out.

    Exact and free of cost for a detector on the ``meta`` device, whose tensors have shapes but no memory. The head's losses are not counted.
    """
    kept: dict[int, Tensor] = {}
    own = {storage_of(each) for each in detector.state_dict(keep_vars=True).values()}

    def keep(tensor: Tensor) -> Tensor:
        kept[storage_of(tensor)] = tensor                            # held until the end, so that no place in memory is given out twice
        return tensor

    device = next(detector.parameters()).device
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = detector.head(list(detector.train().backbone(torch.zeros(1, 3, height, width, device=device)).values()))
    assert all(each.requires_grad for each in output.values())
    return sum(tensor.untyped_storage().nbytes() for storage, tensor in kept.items() if storage not in own)


class Traffic(TorchDispatchMode):
    """Counts in ``moved`` the bytes that operations inside the ``with`` read and write: every input and every result once an operation.

    An operation that only looks at the same memory in another way (view, transpose) moves none. Caches are not modelled.
    """

    def __init__(self):
        super().__init__()
        self.moved = 0

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        result = operation(*args, **(kwargs or {}))
        given, made = ([each for each in tree_leaves(part) if isinstance(each, Tensor)] for part in ((args, kwargs), result))
        known = {storage_of(each) for each in given}
        if operation._schema.is_mutable or any(storage_of(each) not in known for each in made):
            self.moved += sum(min(each.numel() * each.element_size(), each.untyped_storage().nbytes()) for each in given + made)
        return result


def storage_of(tensor: Tensor) -> int:
    """The same number for tensors that share their memory; a ``meta`` tensor has no address, but it has a storage."""
    return tensor.untyped_storage()._cdata
