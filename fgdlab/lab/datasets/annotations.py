"""One split of a folder with COCO detection annotations, read and checked."""
import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ..errors import UserError, raise_first, short_repr, unknown_name
from ..io import cache_root, create_once, file_hashes, short_hash, user_path, write_json
from .coco_json import KEYS, box_table, class_names, read_document, read_json
from .file_names import is_file, other_spellings
from .images import QUARTER_TURNS, decoding, orientation
from .segmentation import invalid_segmentations
from .splits import Source, sources


class EmptySplit(UserError):
    """A split without images."""


@dataclass(frozen=True, eq=False, repr=False)
class Annotations:
    """The images of one split and their boxes, by image id. Images, boxes and classes are in the order of their ids."""

    folder: Path
    image_folder: Path  # what a file_name is relative to
    split: str
    images: list[dict]  # id, file_name, width and height in pixels; upright, if it is turned as its EXIF says
    boxes: dict[int, np.ndarray]  # (K, 4) float64 xyxy pixels within the image, with an area, also in float32
    labels: dict[int, np.ndarray]  # (K,) int64 in 1..C; label k is classes[k - 1]; 0 is background
    crowd: dict[int, np.ndarray]  # (K,) bool
    areas: dict[int, np.ndarray]  # (K,) float64 square pixels: the file's, or those of the box
    classes: list[str]
    category_ids: list[int]  # of the classes, in the file
    content_hash: str  # does not depend on folders, names of files and of the split, or the order of entries
    notes: list[str]  # one line per correction or choice, to be shown to the user
    segmentations: dict[int, list] | None = None  # one valid segmentation per box, if masks were asked for

    def __repr__(self) -> str:
        images, boxes, classes = len(self.images), sum(map(len, self.boxes.values())), len(self.classes)
        return f"{self.split} of {self.folder.name}: {images} images, {boxes} boxes, {classes} classes"

    def coco(self, ids: Iterable[int] | None = None) -> dict:
        """A COCO document of images by id, None: of all, with the file's category ids. ValueError for unknown ids."""
        wanted = set(self.boxes if ids is None else ids)
        if unknown := wanted - self.boxes.keys():
            raise ValueError(f"ids must be image ids of split {self.split!r}, got {sorted(unknown)[:5]}")
        annotations = []
        for image_id in sorted(wanted):
            boxes = self.boxes[image_id]
            xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).tolist()
            columns = [column[image_id].tolist() for column in (self.labels, self.crowd, self.areas)]
            for row, (box, label, crowd, area) in enumerate(zip(xywh, *columns, strict=True)):
                annotations.append({
                    "id": len(annotations) + 1,  # an id of 0 breaks the AP of pycocotools
                    "image_id": image_id, "category_id": self.category_ids[label - 1],
                    "bbox": box, "area": area, "iscrowd": int(crowd),
                })
                if self.segmentations is not None:
                    annotations[-1]["segmentation"] = self.segmentations[image_id][row]
        categories = zip(self.category_ids, self.classes, strict=True)
        return {
            "info": {"description": repr(self), "content_hash": self.content_hash},
            "images": [dict(image) for image in self.images if image["id"] in wanted],
            "annotations": annotations,
            "categories": [{"id": category_id, "name": name} for category_id, name in categories],
        }


def splits_of(folder: str | Path) -> list[str]:
    return list(sources(folder))


def read_split(folder: str | Path, split: str, masks: bool = False, exif_turned: bool = False) -> Annotations:
    """Read and check one split. All entries of the file are checked; image files must exist for this split only.

    Boxes that reach past the border of their image are clipped, with a note. Where splits have files of their own,
    classes are matched by name with those of the training file.

    Args:
        folder: in one of the layouts of splits.py.
        split: a name of :func:`splits_of`; train-fit and train-tune are the disjoint 80 % and 20 % of train.
        masks: also check and keep the segmentations. exif_turned: as the setting.
    Differs: COCO's train2017 has two boxes of height 0. In COCO's layout such boxes are left out, with a note.
    """
    folder = user_path(folder)
    known = sources(folder)
    if split not in known:
        hint = "; train-tune is a fifth of train to tune on" if "train-tune" in known else ""
        raise unknown_name("split", split, known, f"choose by train_split and eval_split{hint}")
    source = known[split]
    document = read_document(source.file)
    by_id = {image["id"]: {key: image[key] for key in KEYS["images"]} for image in document["images"]}
    ids = sorted(source.choose(sorted(by_id)))
    if not ids:
        must = f"{source.file}: split {split!r} must have an image"
        raise EmptySplit(f"{must}, got none of {len(by_id)}; add images, or choose another split")
    classes, category_ids, class_notes = match_classes(document, source, split)
    table = box_table(document, source.file, allow_empty=source.published, classes=classes)
    images = [by_id[id_] for id_ in ids]
    name_notes = check_files(images, source.image_folder, split)

    in_split = np.isin(table.image_ids, ids)
    kept = np.flatnonzero(in_split & ~table.empty)
    kept = kept[table.image_ids[kept].argsort(kind="stable")]
    rows = dict(zip(ids, np.split(kept, np.searchsorted(table.image_ids[kept], ids[1:])), strict=True))
    columns = {
        name: {id_: getattr(table, name)[rows[id_]] for id_ in ids} for name in ("boxes", "labels", "crowd", "areas")
    }
    if exif_turned:
        turn_upright(images, columns["boxes"], source.image_folder, masks)
    segmentations = None
    if masks:
        invalid = invalid_segmentations([table.entries[row] for id_ in ids for row in rows[id_]], by_id, source.file)
        remedy = "export polygons or run lengths, or choose a detector without masks, such as faster_rcnn"
        raise_first(list(invalid.values()), remedy)
        segmentations = {id_: [table.entries[row]["segmentation"] for row in rows[id_]] for id_ in ids}
    sizes = [[value for key, value in image.items() if key != "file_name"] for image in images]
    hashes = [hashlib.sha256(b"".join(column[id_].tobytes() for column in columns.values())).hexdigest() for id_ in ids]
    return Annotations(
        folder=folder, image_folder=source.image_folder, split=split, images=images, **columns,
        classes=classes, category_ids=category_ids, segmentations=segmentations,
        content_hash=short_hash([sizes, classes, category_ids, hashes, *([segmentations] if masks else [])]),
        notes=[
            *source.notes, *class_notes, *name_notes, *rotation_note(table.entries, kept),
            *box_note(np.sum(in_split & table.empty), "without width or height", "left out"),
            *box_note(table.clipped[kept].sum(), "past the border of the image", "cut there"),
        ],
    )


def box_note(count: int, which: str, what: str) -> list[str]:
    subject = f"1 box {which} was" if count == 1 else f"{count} boxes {which} were"
    return [f"{subject} {what}"] if count else []


def segmentation_counts(folder: str | Path) -> dict[Path, tuple[Counter, list[str]]]:
    """{file: (objects by kind of segmentation, a message for each broken one)}."""
    counts = {}
    for file in dict.fromkeys(source.file for source in sources(folder).values()):
        document = read_document(file)
        objects = [each for each in document["annotations"] if min(each["bbox"][2:]) > 0]
        present = [each for each in objects if each.get("segmentation")]
        broken = invalid_segmentations(present, {image["id"]: image for image in document["images"]}, file)
        polygons = sum(isinstance(each["segmentation"], list) for each in present if each["id"] not in broken)
        counts[file] = +Counter({
            "polygons": polygons, "run lengths": len(present) - len(broken) - polygons,
            "without": len(objects) - len(present), "broken": len(broken),
        }), list(broken.values())
    return counts


def links_outside(image_folder: Path, name: str) -> bool:
    """Does a file name pass a symbolic link and end outside the image folder, which may itself be a link?"""
    path = str(image_folder)
    passes_link = any(os.path.islink(path := os.path.join(path, part)) for part in Path(name).parts)
    return passes_link and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(image_folder))


def match_classes(document: dict, source: Source, split: str) -> tuple[list[str], list[int], list[str]]:
    """(classes in the order of the labels, their category ids in this file, notes).

    A class of the training file that this file lacks gets an id that is free here.
    """
    own = {category["name"]: category["id"] for category in document["categories"]}
    classes = class_names(document)
    if source.classes_of in (None, source.file):
        return classes, [own[name] for name in classes], []
    hash_ = file_hashes(source.classes_of.parent, [source.classes_of.name])[0]
    names = cache_root() / "contents" / f"classes-{hash_}.json"  # a training file may have 0.4 GB
    trained = read_json(create_once(names, lambda new: write_json(new, class_names(read_document(source.classes_of)))))
    free = max(own.values()) + 1
    note = f"{split} numbers its classes in another way than {source.classes_of.name}: they were matched by name"
    ids = [own.get(name, free + k) for k, name in enumerate(trained)]
    return trained, ids, [note] if [name for name in trained if name in own] != classes else []


def turn_upright(images: list[dict], boxes: dict[int, np.ndarray], folder: Path, masks: bool) -> None:
    """Mark images that their EXIF orientation turns. Where the sides swap, boxes are shares of the stated size."""
    for entry in images:
        with decoding(path := folder / entry["file_name"]), Image.open(path) as image:
            turn, stored = orientation(image), image.size
        if turn == 1:
            continue
        entry["upright"], size = True, (entry["width"], entry["height"])
        if turn in QUARTER_TURNS and stored == size and size[0] != size[1]:
            if masks:
                got = f"got {entry['file_name']!r}, whose sides swap; save the images upright"
                raise UserError(f"exif_turned must go without masks, {got}")
            entry["height"], entry["width"] = size
            boxes[entry["id"]] = boxes[entry["id"]] * ([size[1] / size[0], size[0] / size[1]] * 2)


def rotation_note(entries: list[dict], rows: np.ndarray) -> list[str]:
    def rotation(entry: dict):
        attributes = entry.get("attributes")
        return entry.get("rotation") or (attributes.get("rotation") if isinstance(attributes, dict) else 0)

    count = sum(bool(rotation(entries[row])) for row in rows)
    return [f"{count} boxes state a rotation, which is ignored: they are read as upright boxes"] if count else []


def check_files(images: list[dict], image_folder: Path, split: str) -> list[str]:
    if not image_folder.is_dir():
        got = "got no such folder; put them there, or link it"
        raise UserError(f"{image_folder} must be the folder with the images of split {split!r}, {got}")
    found = other_spellings([image["file_name"] for image in images], image_folder)
    for image in images:
        image["file_name"] = found.get(image["file_name"], image["file_name"])
    outside = [image for image in images if links_outside(image_folder, image["file_name"])]
    if outside:
        raise UserError(
            f"{image_folder} must hold its images itself, got {len(outside)} that a link takes elsewhere, the first "
            f"{outside[0]['file_name']!r} of image {outside[0]['id']}; copy them there, or make the whole folder a link"
        )
    missing = [image for image in images if not is_file(image_folder, image["file_name"])]
    if missing:
        name, remedy = missing[0]["file_name"], "put them there, or take those images out of the split"
        raise UserError(
            f"{image_folder} must hold the {len(images)} image files of split {split!r}, "
            f"got {len(missing)} missing, the first {short_repr(name)} of image {missing[0]['id']}; {remedy}")
    pairs = [f"{name!r} is {file!r}" for name, file in found.items()]
    return [f"{len(found)} files of {split} have names in another spelling: {pairs[0]}"] if found else []
