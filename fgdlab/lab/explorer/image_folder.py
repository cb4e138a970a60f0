"""The explorer's data: a data set as it is, an annotated folder, or a folder of the reader's own images.

    data --open_dataset--> item i = (image (3, H, W) in 0..1, target with boxes, labels, image_id)
"""
import io
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from ..datasets import DetectionDataset, as_rgb, read_exif_rotated, read_split, shrink, splits_of
from ..errors import UserError, unknown_name

SUFFIXES = (".jpg", ".jpeg", ".png")


def open_dataset(data, *, split: str = "", long_side: int = 1333, boxes: Mapping[str, list] | None = None):
    """The data set to explore.

    Args:
        data: a data set; a folder in a layout of fgdlab/lab/datasets/splits.py; a folder of .jpg and .png files.
        split: of an annotated folder; "" = val if there is one, else the first.
        long_side: larger images of a folder are shrunk until their longer side has so many pixels; 0 = never.
        boxes: for a folder of images: {file name: [[x1, y1, x2, y2], ...]} in pixels of the file; none for other files.
    """
    if not isinstance(data, (str, Path)):
        if not (hasattr(data, "__len__") and hasattr(data, "__getitem__")) or isinstance(data, Mapping):
            raise UserError(f"data must be a folder or a data set, got {type(data).__name__}; give the folder's path")
        if len(data) == 0:
            raise UserError("data must hold an image, got an empty data set; choose another split")
        return data
    folder = Path(data).expanduser()
    if not folder.is_dir():
        raise UserError(f"data must be a folder that exists, got {str(data)!r}; correct the path")
    if (folder / "annotations.json").is_file() or (folder / "annotations").is_dir():
        known = splits_of(folder)
        if split and split not in known:
            raise unknown_name("split", split, known)
        split = split or ("val" if "val" in known else known[0])
        return DetectionDataset(read_split(folder, split), long_side=long_side)
    return ImageFolder(folder, long_side, boxes or {})


class AddedImages:
    """A data set, and the reader's own images after it; ``first`` is that data set."""

    def __init__(self, first, long_side: int):
        self.first, self.long_side, self.added = first, long_side, []
        self.classes = list(getattr(first, "classes", ["object"]))

    def add(self, name: str, content: bytes) -> None:
        """Append the image of a file. Raises a UserError if it cannot be decoded."""
        self.added.append(decoded(io.BytesIO(content), name, self.long_side)[0])

    def __len__(self) -> int:
        return len(self.first) + len(self.added)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        if i < len(self.first):
            return self.first[i]
        labels = torch.zeros(0, dtype=torch.int64)
        target = {"boxes": torch.zeros(0, 4), "labels": labels, "image_id": torch.tensor(i + 1)}
        return self.added[i - len(self.first)], target


def decoded(file, name: str, long_side: int) -> tuple[Tensor, tuple[int, int]]:
    """(image (3, H, W) in 0..1 with at most ``long_side`` pixels on the longer side; width and height of the file)."""
    try:
        picture = read_exif_rotated(file)
    except Exception as error:  # Pillow raises many types for broken files
        reason = " ".join(str(error).split())
        raise UserError(f"{name} must be an image that can be decoded, got: {reason}; remove it") from error
    small = shrink(picture, long_side)
    return torch.from_numpy(as_rgb(small)).permute(2, 0, 1).float() / 255, picture.size


class ImageFolder:
    """The .jpg and .png files of one folder, sorted by name and rotated as EXIF says; boxes have one class.

    Item i is ``(image, target)`` as in fgdlab/lab/datasets/dataset.py; image_id starts at 1.
    """

    classes = ["object"]

    def __init__(self, folder: Path, long_side: int = 0, boxes: Mapping[str, list] = {}):
        self.long_side = long_side
        self.files = sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES)
        if not self.files:
            raise UserError(f"{folder} must hold images ({', '.join(SUFFIXES)}) or COCO annotations, got neither")
        names = [file.name for file in self.files]
        for name in boxes:
            if name not in names:
                raise unknown_name("image file in boxes", name, names)
        self.boxes = {name: torch.as_tensor(rows, dtype=torch.float32) for name, rows in boxes.items() if len(rows)}
        for name, rows in self.boxes.items():
            if rows.ndim != 2 or rows.shape[1] != 4 or not (rows[:, 2:] > rows[:, :2]).all():
                problem = f"boxes of {name!r} must be rows x1, y1, x2, y2 in pixels with x1 < x2 and y1 < y2"
                raise UserError(f"{problem}, got {rows.tolist()}; correct them")
        self.image_ids = list(range(1, len(self.files) + 1))

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> tuple[Tensor, dict[str, Tensor]]:
        file = self.files[i]
        image, (width, height) = decoded(file, str(file), self.long_side)
        boxes = self.boxes.get(file.name, torch.zeros(0, 4))
        scale = torch.tensor([image.shape[2] / width, image.shape[1] / height] * 2)
        labels = torch.ones(len(boxes), dtype=torch.int64)
        return image, {"boxes": boxes * scale, "labels": labels, "image_id": torch.tensor(i + 1)}
