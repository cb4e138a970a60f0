"""The explorer's data: a data set as it is, an annotated folder, or a folder of the reader's own images."""
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import WHOLE, DetectionDataset, as_rgb, read_exif_rotated, read_split, shrink, splits_of
from ..errors import UserError, check_name
from ..io import user_path

SUFFIXES = (".jpg", ".jpeg", ".png")


def open_dataset(data, *, split: str = "", long_side: int = 1333):
    """The data set to explore: as it is, or a folder in a layout of fgdlab/lab/datasets/splits.py, or of images.

    split: of an annotated folder; "" = val if there is one, else the first. long_side: larger images of a folder are
    shrunk to this longer side in pixels; 0 = never.
    """
    if not isinstance(data, (str, Path)):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, Mapping):
            raise UserError(f"data must be a folder or a data set, got {type(data).__name__}; give the folder's path")
        if len(data) == 0:
            raise UserError("data must hold an image, got an empty data set; choose another split")
        return data
    folder = user_path(data)
    if not folder.is_dir():
        raise UserError(f"data must be a folder that exists, got {str(data)!r}; correct the path")
    whole = any((folder / name).exists() for name in (*WHOLE, "annotations"))
    if whole or not images_in(folder) and any(folder.glob("**/*.json")):
        known = splits_of(folder)
        split = split or ("val" if "val" in known else known[0])
        check_name("split", split, known)
        return DetectionDataset(read_split(folder, split), long_side=long_side)
    return ImageFolder(folder, long_side)


def images_in(folder: Path) -> list[Path]:
    return sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)


def item(file, name: str, number: int, long_side: int) -> tuple[Tensor, dict[str, Tensor]]:
    image = torch.from_numpy(as_rgb(shrink(read_exif_rotated(file, name), long_side))).permute(2, 0, 1).float() / 255
    none = torch.zeros(0, 4)
    return image, {"boxes": none, "labels": none[:, 0].long(), "image_id": torch.tensor(number)}


class AddedImages:
    """A data set, and the reader's own images after it; ``first`` is that data set."""

    def __init__(self, first, long_side: int):
        self.first, self.long_side, self.added = first, long_side, []
        self.classes = list(getattr(first, "classes", ["object"]))

    def add(self, name: str, content: bytes) -> None:
        self.added.append(item(io.BytesIO(content), name, len(self) + 1, self.long_side))

    def __len__(self) -> int:
        return len(self.first) + len(self.added)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        return self.first[i] if i < len(self.first) else self.added[i - len(self.first)]


class ImageFolder:
    """The .jpg and .png files of one folder, sorted by name and rotated as EXIF says; image_id starts at 1."""

    classes = ["object"]

    def __init__(self, folder: Path, long_side: int = 0):
        self.long_side, self.files = long_side, images_in(folder)
        if not self.files:
            raise UserError(f"{folder} must hold images ({', '.join(SUFFIXES)}) or COCO annotations, got neither")

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        return item(self.files[i], str(self.files[i]), i + 1, self.long_side)
