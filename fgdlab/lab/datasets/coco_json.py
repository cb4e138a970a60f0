"""One COCO JSON file, checked: whatever would go wrong later is refused here, in one line.

    file --read_json--> anything --read_document--> images, categories, annotations --box_table--> columns, boxes (M, 4) xyxy pixels

A message says which entry of which file, what it must be, what it is, and what to do; further entries with the same defect are counted.
"""
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath

import numpy as np

from ..errors import UserError, raise_first, short_repr

KEYS = {"images": ("id", "file_name", "width", "height"), "categories": ("id", "name"), "annotations": ("id", "image_id", "category_id", "bbox")}
EXPORT = "export it as COCO detection annotations"
REMEDY = {"bbox": "add it: x, y, width, height in pixels, the extent of the outline"}
MEND = "correct or remove it in the file"
MAX_FILE_BYTES = 2 * 2**30                                             # bytes; COCO's train2017 has 0.45 GB
MAX_PIXELS = 89_478_485                                             # of an image: where Pillow begins to warn of decompression bombs
MAX_CLASSES = 30_000                                                # a head has weights for each; the largest public sets have some 21,000
MAX_BOXES = 5000                                                    # on an image: masks and matching hold boxes x cells in memory


def read_json(file: Path):
    """Any JSON value. Raises UserError with line and column where the file is not JSON, or cut off."""
    try:
        size = file.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UserError(f"{file} must have at most {MAX_FILE_BYTES} bytes, got {size}; cut it into several data sets")
        data = file.read_bytes()
        return json.loads(data)
    except OSError as error:
        raise UserError(f"{file} must be readable, got: {error.strerror or error}; check its rights and its disk") from error
    except json.JSONDecodeError as error:
        ends = not error.doc[error.pos:].strip() or error.msg.startswith("Unterminated string")
        reason = f"the file ends there, after {len(data)} bytes" if ends else error.msg
        raise UserError(
            f"{file} must be whole JSON, got a fault at line {error.lineno}, column {error.colno} ({reason}); copy or export it again"
        ) from error
    except (ValueError, RecursionError) as error:                    # not UTF-8; a number of thousands of digits; nested without end
        raise UserError(f"{file} must be readable JSON in UTF-8, got: {' '.join(str(error).split())}; copy or export it again") from error


def read_document(file: Path) -> dict:
    """The file's ``images``, ``categories`` and ``annotations``: lists of dicts with every needed key and unique ids, whole numbers from 0 up.

    Images are checked through, annotations by :func:`box_table`.
    """
    document = read_json(file)
    if not isinstance(document, dict):
        raise UserError(f"{file} must hold a JSON object with images, annotations and categories, got {short_repr(document)}; {EXPORT}")
    for part, needed in KEYS.items():
        if not isinstance(document.get(part), list):
            got = short_repr(document[part]) if part in document else "only " + (", ".join(map(repr, document)) or "an empty object")
            raise UserError(f"{file} must have a list {part!r}, got {got}; {EXPORT}")
        check_entries(document[part], part, needed, file)
    check_images(document["images"], file)
    if not 1 <= len(document["categories"]) <= MAX_CLASSES:
        many = len(document["categories"])
        raise UserError(f"{file}: 'categories' must list at least one class and at most {MAX_CLASSES}, got {many or 'none'}; {EXPORT}")
    bad = [each for each in document["categories"] if not isinstance(each["name"], str)]
    raise_first([f"{file}: category {each['id']} must have a text as 'name', got {short_repr(each['name'])}" for each in bad], MEND)
    return document


def check_entries(entries: list, part: str, needed: tuple[str, ...], file: Path) -> None:
    called = [f"{file}: entry {number} of {part!r}" for number in range(1, len(entries) + 1)]
    named = list(zip(called, entries, strict=True))
    raise_first([f"{name} must be an object, got {short_repr(each)}" for name, each in named if not isinstance(each, dict)], MEND)
    for key in needed:
        raise_first([f"{name} must have a key {key!r}, got {short_repr(each)}" for name, each in named if key not in each], REMEDY.get(key, "add it"))
    bad = [(name, each["id"]) for name, each in named if not is_integer(each["id"]) or each["id"] < 0]
    raise_first([f"{name} must have a whole number from 0 up as 'id', got {short_repr(value)}" for name, value in bad], MEND)
    twice = repeated(each["id"] for each in entries)
    raise_first([f"{file}: ids in {part!r} must be unique, got {each} twice" for each in twice], "number the entries anew")


def check_images(images: list[dict], file: Path) -> None:
    bad = [each for each in images if leaves_folder(each["file_name"])]
    raise_first(
        [f"{file}: image {each['id']} must have a 'file_name' within the image folder, got {short_repr(each['file_name'])}" for each in bad],
        "write it relative to the image folder, without '..'",
    )
    twice = repeated(each["file_name"] for each in images)
    raise_first([f"{file}: every image must have a file of its own, got {each!r} twice" for each in twice], "merge the entries into one")
    for side in ("width", "height"):
        bad = [each for each in images if not is_integer(each[side]) or each[side] < 1]
        raise_first(
            [f"{file}: image {each['id']} {each['file_name']!r} must have a positive, whole {side!r}, got {short_repr(each[side])}" for each in bad],
            "write the size of the image file in pixels",
        )
    bad = [each for each in images if each["width"] * each["height"] > MAX_PIXELS]
    raise_first(
        [f"{file}: image {each['id']} {each['file_name']!r} must have at most {MAX_PIXELS} pixels, got {each['width']} x {each['height']}" for each in bad],
        "cut it into tiles, or write the size of the image file",
    )


def leaves_folder(name) -> bool:
    """Whether a file name is none at all, or could point outside of the folder it is joined to, on any system."""
    if not isinstance(name, str) or not name.strip():
        return True
    posix, windows = PurePosixPath(name), PureWindowsPath(name)
    return bool(posix.is_absolute() or windows.anchor or ".." in posix.parts or ".." in windows.parts)


@dataclass(frozen=True, eq=False)
class BoxTable:
    """All M annotations of a file as columns, sorted by annotation id.

    image_ids: M ints. boxes: (M, 4) float64 xyxy pixels, cut to the image. labels: (M,) int64 in 1..C, in the order of category ids.
    crowd: (M,) bool. areas: (M,) float64 square pixels, the file's or else those of the cut box.
    cut: (M,) bool, reached past the border. flat: (M,) bool, has no width or no height and is to be left out.
    """

    image_ids: list[int]
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    cut: np.ndarray
    flat: np.ndarray
    segmentations: list                                              # as they stand in the file, unchecked


def box_table(document: dict, file: Path, *, allow_flat: bool) -> BoxTable:
    """Check every annotation of a document and turn all into columns.

    Args:
        allow_flat: mark boxes of width or height 0 as ``flat`` instead of refusing them.
    """
    entries = sorted(document["annotations"], key=lambda each: each["id"])
    by_id = {each["id"]: each for each in document["images"]}
    label_of = {number: label for label, number in enumerate(sorted(each["id"] for each in document["categories"]), start=1)}
    check_annotations(entries, by_id, label_of, file, allow_flat)

    images = [by_id[each["image_id"]] for each in entries]
    border = np.array([(each["width"], each["height"]) * 2 for each in images], dtype=np.float64).reshape(-1, 4)
    given = np.array([each["bbox"] for each in entries], dtype=np.float64).reshape(-1, 4)                                    # xywh
    whole = np.concatenate([given[:, :2], given[:, :2] + given[:, 2:]], axis=1)                                              # xyxy
    boxes = np.clip(whole, 0, border) + 0.0                          # no -0.0, which is other bytes than 0.0
    flat = (given[:, 2:] == 0).any(axis=1)
    single = boxes.astype(np.float32)                                # detectors compute in float32, where a sliver may have no width left
    outside = np.flatnonzero(~flat & (single[:, 2:] <= single[:, :2]).any(axis=1))
    raise_first(
        [f"{called(entries[row], by_id, file)} must have a 'bbox' (x, y, width, height) that overlaps its image of {images[row]['width']} x "
         f"{images[row]['height']} pixels, got {short_repr(entries[row]['bbox'])}" for row in outside],
        "correct or remove the box, or correct the image's width and height",
    )
    sizes = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1).tolist()
    return BoxTable(
        image_ids=[each["image_id"] for each in entries],
        boxes=boxes,
        labels=np.array([label_of[each["category_id"]] for each in entries], dtype=np.int64),
        crowd=np.array([each.get("iscrowd") == 1 for each in entries], dtype=bool),
        areas=np.array([own if each.get("area") is None else each["area"] for each, own in zip(entries, sizes, strict=True)], dtype=np.float64),
        cut=(np.abs(boxes - whole) > 1e-6).any(axis=1),              # pixels; x + width in floats may miss the border by less
        flat=flat,
        segmentations=[each.get("segmentation") for each in entries],
    )


def check_annotations(entries: list[dict], by_id: dict[int, dict], label_of: dict[int, int], file: Path, allow_flat: bool) -> None:
    def require(key: str, must: str, fine, remedy: str = MEND) -> None:
        bad = [each for each in entries if not fine(each.get(key))]
        raise_first([f"{called(each, by_id, file)} must have {must}, got {short_repr(each.get(key))}" for each in bad], remedy)

    require("image_id", f"the 'image_id' of one of the {len(by_id)} images", lambda value: is_integer(value) and value in by_id)
    known = short_repr(list(label_of))
    require("category_id", f"a 'category_id' among {known}", lambda value: is_integer(value) and value in label_of, "correct it, or add the category")
    require("bbox", "4 finite numbers x, y, width, height as 'bbox'",
            lambda value: isinstance(value, list) and len(value) == 4 and all(map(is_finite, value)))
    require("bbox", "a positive width and height in 'bbox' (x, y, width, height)",
            lambda value: min(value[2:]) > 0 or (allow_flat and min(value[2:]) == 0), "correct or remove it; 'bbox' must not be x1, y1, x2, y2")
    require("iscrowd", "0 or 1 as 'iscrowd'", lambda value: value in (None, 0, 1))
    crowded = [(by_id[each], many) for each, many in Counter(each["image_id"] for each in entries).items() if many > MAX_BOXES]
    raise_first(
        [f"{file}: image {image['id']} {image['file_name']!r} must have at most {MAX_BOXES} boxes, got {many}" for image, many in crowded],
        "cut it into tiles, or look for a mistake in the image ids",
    )
    require("area", "a number from 0 up as 'area'", lambda value: value is None or (is_finite(value) and value >= 0))


def called(entry: dict, by_id: dict[int, dict], file: Path) -> str:
    """The words for an annotation: its file, its id, its image where that is known."""
    image = by_id.get(entry["image_id"]) if is_integer(entry["image_id"]) else None
    return f"{file}: annotation {entry['id']}" + (f" of image {image['id']} {image['file_name']!r}" if image else "")


def repeated(values: Iterable) -> list:
    """Every value after its first occurrence."""
    seen: set = set()
    return [each for each in values if each in seen or seen.add(each)]


def is_integer(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**63


def is_finite(value) -> bool:
    """A number, and not one so large that float32 arithmetic overflows."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) < 1e12

