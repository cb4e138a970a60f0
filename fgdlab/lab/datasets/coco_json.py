"""One COCO JSON file, read and checked. Every defect that would cause an error later is refused here, in one line."""
import json
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError, listed, raise_first, reason, short_repr, unknown_name

KEYS = {
    "images": ("id", "file_name", "width", "height"),
    "categories": ("id", "name"),
    "annotations": ("id", "image_id", "category_id", "bbox"),
}
EXPORT = "export it as COCO detection annotations"
MEND = "correct or remove it in the file"
MAX_FILE_BYTES = 2 * 2**30  # COCO's train2017 has 0.45 GB
MAX_PIXELS = 89_478_485  # per image; above, Pillow warns of a bomb
MAX_CLASSES = 30_000  # the largest public sets have about 21,000
MAX_BOXES = 5000  # per image: masks need boxes x cells of memory


def read_json(file: Path):
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            got = f"got {size}; cut it into several data sets"
            raise UserError(f"{file} must have at most {MAX_FILE_BYTES} bytes, {got}")
        return json.loads(file.read_bytes())
    except OSError as error:
        raise UserError(f"{file} must be readable, got: {reason(error)}; check its rights and its disk") from error
    except json.JSONDecodeError as error:
        at_end = not error.doc[error.pos:].strip() or error.msg.startswith("Unterminated string")
        why = f"the file ends there, after {size} bytes" if at_end else error.msg
        got = f"got a fault at line {error.lineno}, column {error.colno} ({why})"
        raise UserError(f"{file} must be whole JSON, {got}; copy or export it again") from error
    except (ValueError, RecursionError) as error:  # not UTF-8, a number of 5000 digits, deep nesting
        got = f"got: {reason(error)}; copy or export it again"
        raise UserError(f"{file} must be readable JSON in UTF-8, {got}") from error


def read_document(file: Path) -> dict:
    """The file's JSON object, whose ``images`` and ``categories`` are checked; :func:`box_table` checks annotations."""
    document = read_json(file)
    if not isinstance(document, dict):
        got = short_repr(document)
        raise UserError(f"{file} must hold a JSON object with images, annotations and categories, got {got}; {EXPORT}")
    for part in KEYS:
        if not isinstance(document.get(part), list):
            present = ", ".join(map(repr, document)) or "an empty object"
            got = short_repr(document[part]) if part in document else f"only {present}"
            raise UserError(f"{file} must have a list {part!r}, got {got}; {EXPORT}")
        check_entries(document[part], part, file)
    check_images(document["images"], file)
    categories = document["categories"]
    if not 1 <= len(categories) <= MAX_CLASSES:
        got = f"got {len(categories) or 'none'}; {EXPORT}"
        raise UserError(f"{file}: 'categories' must list at least one class and at most {MAX_CLASSES}, {got}")
    check_values(
        categories, lambda i: f"{file}: category {categories[i]['id']}", "name", "a text as 'name'",
        lambda name: isinstance(name, str))
    twice = repeated(category["name"] for category in categories)
    raise_first(
        [f"{file}: classes must have names of their own, got {name!r} twice" for name in twice],
        "rename one, or give the objects of both one category_id")
    return document


def check_values(
    entries: list[dict], entry_name: Callable[[int], str], key: str, must: str, valid: Callable[..., bool],
    remedy: str = MEND,
) -> None:
    invalid = [(i, entry.get(key)) for i, entry in enumerate(entries) if not valid(entry.get(key))]
    raise_first([f"{entry_name(i)} must have {must}, got {short_repr(value)}" for i, value in invalid], remedy)


def check_entries(entries: list, part: str, file: Path) -> None:
    def entry_name(i: int) -> str:
        return f"{file}: entry {i + 1} of {part!r}"

    others = [(i, entry) for i, entry in enumerate(entries) if not isinstance(entry, dict)]
    raise_first([f"{entry_name(i)} must be an object, got {short_repr(entry)}" for i, entry in others], MEND)
    for key in KEYS[part]:
        missing = [(i, entry) for i, entry in enumerate(entries) if key not in entry]
        meaning = ": x, y, width, height in pixels, the extent of the object" if key == "bbox" else ""
        must = f"must have a key {key!r}"
        raise_first([f"{entry_name(i)} {must}, got {short_repr(entry)}" for i, entry in missing], f"add it{meaning}")
    check_values(
        entries, entry_name, "id", "a whole number from 0 up as 'id'", lambda id_: is_integer(id_) and id_ >= 0)
    twice = repeated(entry["id"] for entry in entries)
    raise_first([f"{file}: ids in {part!r} must be unique, got {i} twice" for i in twice], "number the entries anew")


def check_images(images: list[dict], file: Path) -> None:
    def image_name(i: int) -> str:
        return f"{file}: image {images[i]['id']} {images[i]['file_name']!r}"

    check_values(
        images, lambda i: f"{file}: image {images[i]['id']}", "file_name", "a 'file_name' within the image folder",
        lambda name: isinstance(name, str) and name.strip(), "write it relative to the image folder, without '..'")
    twice = repeated(image["file_name"] for image in images)
    must = "every image must have a file of its own"
    raise_first([f"{file}: {must}, got {name!r} twice" for name in twice], "merge the entries into one")
    for side in ("width", "height"):
        check_values(
            images, image_name, side, f"a positive, whole {side!r}", lambda value: is_integer(value) and value >= 1,
            "write the size of the image file in pixels")
    raise_first(
        [f"{image_name(i)} must have at most {MAX_PIXELS} pixels, got {image['width']} x {image['height']}"
         for i, image in enumerate(images) if image["width"] * image["height"] > MAX_PIXELS],
        "cut it into tiles, or write the size of the image file")


@dataclass(frozen=True, eq=False)
class BoxTable:
    image_ids: np.ndarray  # (M,) int64
    boxes: np.ndarray  # (M, 4), and so on as in annotations.Annotations
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    clipped: np.ndarray  # (M,) bool: the box reached past the border
    empty: np.ndarray  # (M,) bool: the box has width or height 0 and is to be left out
    entries: list[dict]  # as in the file, with segmentations unchecked


def box_table(document: dict, file: Path, *, allow_empty: bool, classes: list[str] | None = None) -> BoxTable:
    """Check all annotations. allow_empty: mark boxes of width or height 0 as ``empty`` instead of refusing them."""
    entries = sorted(document["annotations"], key=lambda entry: entry["id"])
    images = {image["id"]: image for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    label_of = {name: label for label, name in enumerate(classes or class_names(document), start=1)}
    labels = {category_id: label_of.get(name) for category_id, name in sorted(names.items())}
    check_annotations(entries, images, labels, file, allow_empty)
    if others := {entry["category_id"] for entry in entries if labels[entry["category_id"]] is None}:
        raise unknown_name(
            "class", names[min(others)], classes, f"{file} must have the classes of the training file; rename it, or "
            f"remove the objects of it ({listed([names[each] for each in sorted(others)])})")

    sizes = [(images[entry["image_id"]]["width"], images[entry["image_id"]]["height"]) for entry in entries]
    borders = np.array([size * 2 for size in sizes], dtype=np.float64).reshape(-1, 4)
    xywh = np.array([entry["bbox"] for entry in entries], dtype=np.float64).reshape(-1, 4)
    unclipped = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
    boxes = np.clip(unclipped, 0, borders) + 0.0  # + 0.0 turns -0.0, whose bytes differ, into 0.0
    empty = (xywh[:, 2:] == 0).any(axis=1)
    single = boxes.astype(np.float32)  # detectors use float32: a thin box may vanish
    outside = np.flatnonzero(~empty & (single[:, 2:] <= single[:, :2]).any(axis=1))
    raise_first(
        [f"{annotation_name(entries[row], images, file)} must have a 'bbox' (x, y, width, height) that overlaps "
         f"its image of {sizes[row][0]} x {sizes[row][1]} pixels, got {short_repr(entries[row]['bbox'])}"
         for row in outside],
        "correct or remove the box, or correct the image's width and height")
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    areas = [area if entry.get("area") is None else entry["area"] for entry, area in zip(entries, areas, strict=True)]
    return BoxTable(
        image_ids=np.array([entry["image_id"] for entry in entries], dtype=np.int64),
        boxes=boxes,
        labels=np.array([labels[entry["category_id"]] for entry in entries], dtype=np.int64),
        crowd=np.array([entry.get("iscrowd") == 1 for entry in entries], dtype=bool),
        areas=np.array(areas, dtype=np.float64),
        clipped=(np.abs(boxes - unclipped) > 1e-6).any(axis=1),  # pixels: tolerates rounding of x + width
        empty=empty,
        entries=entries,
    )


def class_names(document: dict) -> list[str]:
    return [category["name"] for category in sorted(document["categories"], key=lambda category: category["id"])]


def check_annotations(entries: list[dict], images: dict, labels: dict, file: Path, allow_empty: bool) -> None:
    check = partial(check_values, entries, lambda i: annotation_name(entries[i], images, file))
    check("image_id", f"the 'image_id' of one of the {len(images)} images",
          lambda value: is_integer(value) and value in images)
    check("category_id", f"a 'category_id' among {short_repr(list(labels))}",
          lambda value: is_integer(value) and value in labels, "correct it, or add the category")
    check("bbox", "4 finite numbers x, y, width, height as 'bbox'",
          lambda bbox: isinstance(bbox, list) and len(bbox) == 4 and all(map(is_finite, bbox)))
    check("bbox", "a positive width and height in 'bbox' (x, y, width, height)",
          lambda bbox: min(bbox[2:]) > 0 or (allow_empty and min(bbox[2:]) == 0),
          "correct or remove it; 'bbox' must not be x1, y1, x2, y2")
    check("iscrowd", "0 or 1 as 'iscrowd'", lambda value: value in (None, 0, 1))
    counts = Counter(entry["image_id"] for entry in entries)
    raise_first(
        [f"{file}: image {i} {images[i]['file_name']!r} must have at most {MAX_BOXES} boxes, got {count}"
         for i, count in counts.items() if count > MAX_BOXES],
        "cut it into tiles, or look for a mistake in the image ids")
    check("area", "a number from 0 up as 'area'", lambda area: area is None or (is_finite(area) and area >= 0))


def annotation_name(entry: dict, images: dict[int, dict], file: Path) -> str:
    image = images.get(entry["image_id"]) if is_integer(entry["image_id"]) else None
    return f"{file}: annotation {entry['id']}" + (f" of image {image['id']} {image['file_name']!r}" if image else "")


def repeated(values: Iterable) -> list:
    return [value for value, count in Counter(values).items() if count > 1]


def is_integer(value) -> bool:
    """An int that fits into int64, not a bool."""
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_finite(value) -> bool:
    """A number below 1e12, so that float32 arithmetic cannot overflow."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12
