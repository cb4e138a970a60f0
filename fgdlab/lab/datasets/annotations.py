"""Boxes from disk: one split of a folder with COCO detection annotations, ready to train on and to evaluate with.

    folder --sources--> JSON file, image folder --read_document, box_table--> checked columns --of the split--> Annotations

splits.py knows which images belong to a split, coco_file.py what a file must hold, images.py reads pixels.
"""
import hashlib
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..errors import UserError, short_repr, unknown_name
from ..io import short_hash
from .coco_json import KEYS, box_table, read_document
from .segmentation import SegmentationCounts, check_segmentations, count_segmentations
from .splits import sources


class EmptySplit(UserError):
    """A split without an image."""


@dataclass(frozen=True, eq=False, repr=False)
class Annotations:
    """The images of one split and their boxes. Images, the boxes of an image and classes come in the order of their ids in the file.

    folder, image_folder: where it was read from, and what a ``file_name`` is relative to.
    images: dicts of id, file_name, width, height (pixels). The four dicts below have each of these ids as a key.
    boxes: (K, 4) float64 x1, y1, x2, y2 in pixels within the image, x1 < x2 and y1 < y2 in float32 too. K may be 0.
    labels: (K,) int64 in 1..C. Label k means ``classes[k - 1]``, in the file ``category_ids[k - 1]``; 0 is left for background.
    crowd: (K,) bool. areas: (K,) float64 square pixels, the file's ``area``, else width times height of the box.
    fingerprint: changes with images, boxes, labels, crowd, areas and classes; not with folders, name of the split, order of entries.
    notes: what was mended or chosen on the way, a line each, to be shown to the reader.
    segmentations: a sound one for each box (see masks.py), where masks were asked for; None where not. They are part of the fingerprint then.
    """

    folder: Path
    image_folder: Path
    split: str
    images: list[dict]
    boxes: dict[int, np.ndarray]
    labels: dict[int, np.ndarray]
    crowd: dict[int, np.ndarray]
    areas: dict[int, np.ndarray]
    classes: list[str]
    category_ids: list[int]
    content_hash: str
    notes: list[str]
    segmentations: dict[int, list] | None = None

    def __repr__(self) -> str:
        count = sum(map(len, self.boxes.values()))
        return f"{self.split} of {self.folder.name}: {len(self.images)} images, {count} boxes, {len(self.classes)} classes"

    def coco(self, ids: Iterable[int] | None = None) -> dict:
        """These images as a COCO document for pycocotools: the file's category ids; annotation ids from 1, as an id of 0 breaks its AP.

        Args:
            ids: image ids of this split, in any order; None = all of them.
        Raises:
            ValueError: an id that is not in the split.
        """
        wanted = set(self.boxes if ids is None else ids)
        if wanted - self.boxes.keys():
            raise ValueError(f"ids must be image ids of split {self.split!r}, got {sorted(wanted - self.boxes.keys())[:5]}")
        annotations = []
        for image_id in sorted(wanted):
            boxes = self.boxes[image_id]
            xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
            columns = (xywh, self.labels[image_id], self.crowd[image_id], self.areas[image_id])
            shapes = [{"segmentation": each} for each in self.segmentations[image_id]] if self.segmentations is not None else [{}] * len(boxes)
            for box, label, crowd, area, shape in zip(*(each.tolist() for each in columns), shapes, strict=True):
                annotations.append({
                    "id": len(annotations) + 1, "image_id": image_id, "category_id": self.category_ids[label - 1], "bbox": box, "area": area,
                    "iscrowd": int(crowd), **shape,
                })
        return {
            "info": {"description": repr(self), "fingerprint": self.content_hash},
            "images": [dict(each) for each in self.images if each["id"] in wanted],
            "annotations": annotations,
            "categories": [{"id": number, "name": name} for number, name in zip(self.category_ids, self.classes, strict=True)],
        }


def splits_of(folder: str | Path) -> list[str]:
    """The names that :func:`read_split` knows in this folder; annotations are not read for it."""
    return list(sources(Path(folder).expanduser()))


def read_split(folder: str | Path, split: str, masks: bool = False) -> Annotations:
    """Read and check one split. Entries of the whole file are checked, image files on disk (that they exist) for the split alone.

    Args:
        folder: in one of the layouts of splits.py.
        split: a name in splits.json, or train, tune and val, drawn 70/15/15 by a hash of the image id, where there is no such file;
            ``all``; in COCO's own layout train2017, or train for short; everywhere train-fit and train-tune, disjoint four fifths and
            one fifth of train.
        masks: check and keep segmentations as well; without, a file may have any or none.
    Raises:
        UserError: any defect, in one line. Boxes that reach past their image's border are no defect: they are cut there, with a note.
    Differs: COCO's own train2017 has two boxes of height 0. In its layout boxes without width or height are left out, with a note.
    """
    folder = Path(folder).expanduser()
    known = sources(folder)
    if split not in known:
        raise unknown_name("split", split, known, "choose by train_split and eval_split" + ("; train-tune is a fifth of train to tune on" if "train-tune" in known else ""))
    source = known[split]
    document = read_document(source.file)
    by_id = {each["id"]: {key: each[key] for key in KEYS["images"]} for each in document["images"]}
    ids = sorted(source.choose(sorted(by_id)))
    if not ids:
        raise EmptySplit(f"{source.file}: split {split!r} must have an image, got none of {len(by_id)}; add images, or choose another split")
    table = box_table(document, source.file, allow_flat=source.published)
    images, categories = [by_id[each] for each in ids], sorted(document["categories"], key=lambda each: each["id"])
    check_files(images, source.image_folder, split)

    rows: dict[int, list[int]] = {each: [] for each in ids}
    left_out = cut = 0
    for row, image_id in enumerate(table.image_ids):
        if image_id in rows:
            left_out += table.flat[row]
            cut += table.cut[row] and not table.flat[row]
            if not table.flat[row]:
                rows[image_id].append(row)
    per_image = {
        column: {each: getattr(table, column)[np.array(found, dtype=np.int64)] for each, found in rows.items()}
        for column in ("boxes", "labels", "crowd", "areas")
    }
    classes, category_ids = [each["name"] for each in categories], [each["id"] for each in categories]
    drawn = None
    if masks:
        kept, entries = [row for found in rows.values() for row in found], sorted(document["annotations"], key=lambda each: each["id"])
        check_segmentations([entries[row] for row in kept], by_id, source.file)
        drawn = {each: [table.segmentations[row] for row in found] for each, found in rows.items()}
    return Annotations(
        folder=folder, image_folder=source.image_folder, split=split, images=images, **per_image, classes=classes, category_ids=category_ids,
        content_hash=short_hash([images, classes, category_ids, [hash_of(per_image, each) for each in ids], *([drawn] if masks else [])]),
        segmentations=drawn,
        notes=[*source.notes, *counted(left_out, "without width or height", "left out"), *counted(cut, "past the border of the image", "cut there")],
    )


def segmentation_counts(folder: str | Path) -> dict[Path, SegmentationCounts]:
    """How many objects of each annotation file of a folder have an outline to learn masks from; boxes without width or height are none.

    The files are those that :func:`read_split` has found sound.
    """
    found = {}
    for file in dict.fromkeys(source.file for source in sources(Path(folder).expanduser()).values()):
        document = read_document(file)
        objects = [each for each in document["annotations"] if min(each["bbox"][2:]) > 0]
        found[file] = count_segmentations(objects, {each["id"]: each for each in document["images"]}, file)
    return found


def hash_of(per_image: dict[str, dict[int, np.ndarray]], image_id: int) -> str:
    return hashlib.sha256(b"".join(column[image_id].tobytes() for column in per_image.values())).hexdigest()


def counted(number: int, what: str, done: str) -> list[str]:
    words = "1 box {} was {}" if number == 1 else f"{number} boxes {{}} were {{}}"
    return [words.format(what, done)] if number else []


def leads_outside(image_folder: Path, name: str) -> bool:
    """Whether a file name passes a symbolic link and ends outside of the image folder, which may itself be a link."""
    parts, below = Path(name).parts, str(image_folder)
    if not any(os.path.islink(below := os.path.join(below, part)) for part in parts):
        return False
    return not Path(os.path.realpath(below)).is_relative_to(os.path.realpath(image_folder))


def check_files(images: list[dict], image_folder: Path, split: str) -> None:
    if not image_folder.is_dir():
        raise UserError(f"{image_folder} must be the folder with the images of split {split!r}, got no such folder; put them there, or link it")
    missing = [each for each in images if not os.path.isfile(image_folder / each["file_name"])]
    outside = [each for each in images if leads_outside(image_folder, each["file_name"])]
    if outside:
        raise UserError(
            f"{image_folder} must hold its images itself, got {len(outside)} that a link takes elsewhere, the first {outside[0]['file_name']!r} of image "
            f"{outside[0]['id']}; copy them there, or make the whole folder a link"
        )
    if missing:
        first = missing[0]["file_name"]
        if os.path.isfile(image_folder.parent / first):
            remedy = f"write file names relative to {image_folder.name}/"
        else:
            remedy = "put them there, or take those images out of the split"
        raise UserError(
            f"{image_folder} must hold the {len(images)} image files of split {split!r}, "
            f"got {len(missing)} missing, the first {short_repr(first)} of image {missing[0]['id']}; {remedy}"
        )
