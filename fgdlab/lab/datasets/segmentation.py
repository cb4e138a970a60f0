"""Masks of objects: COCO's polygons and run lengths, checked, and turned into pixels.

    segmentation: [[x1, y1, x2, y2, ...], ...] or {"size": [h, w], "counts": [...] or "..."} --check_segmentations--> the same, sound
        --mask_of--> (H, W) of 0 and 1
"""
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..errors import raise_first, short_repr
from .coco_json import called, is_finite, is_integer

REMEDY = "export polygons or run lengths, or choose a detector without masks, such as faster_rcnn"


class SegmentationCounts(NamedTuple):
    """How many annotations have a sound segmentation of each kind, how many have none, and a line for each that has something else."""

    polygons: int
    run_lengths: int
    missing: int
    invalid: list[str]

    @property
    def valid(self) -> int:
        return self.polygons + self.run_lengths

    @property
    def objects(self) -> int:
        return self.valid + self.missing + len(self.invalid)

    def __str__(self) -> str:
        if self.missing == self.objects:
            return "none; mask_rcnn needs them, the other detectors do not"
        kinds = {"polygons": self.polygons, "run lengths": self.run_lengths, "without": self.missing, "broken": len(self.invalid)}
        return f"{self.valid} of {self.objects} objects: {', '.join(f'{many} {kind}' for kind, many in kinds.items() if many)}"


def count_segmentations(entries: list[dict], by_id: dict[int, dict], file: Path) -> SegmentationCounts:
    """Look at every annotation's segmentation, as :func:`check_segmentations` does, and refuse none."""
    absent = [each for each in entries if not each.get("segmentation")]
    given = [each for each in entries if each.get("segmentation")]
    broken = {each["id"]: line for each, line in defects_of(given, by_id, file)}
    polygons = sum(isinstance(each["segmentation"], list) for each in given if each["id"] not in broken)
    return SegmentationCounts(polygons, len(given) - len(broken) - polygons, len(absent), list(broken.values()))


def check_segmentations(entries: list[dict], by_id: dict[int, dict], file: Path) -> None:
    """Raises:
        UserError: the first annotation whose 'segmentation' is neither polygons nor run lengths of its image's size, with the count of the others.
    """
    raise_first([line for _, line in defects_of(entries, by_id, file)], REMEDY)


def defects_of(entries: list[dict], by_id: dict[int, dict], file: Path) -> list[tuple[dict, str]]:
    """Each annotation without a sound segmentation, and what is wrong with it."""
    found = []
    for each in entries:
        image = by_id[each["image_id"]]
        wanted = expected_segmentation(each.get("segmentation"), image["height"], image["width"])
        if wanted:
            found.append((each, f"{called(each, by_id, file)} must have {wanted} as 'segmentation', got {short_repr(each.get('segmentation'))}"))
    return found


def expected_segmentation(segmentation, height: int, width: int) -> str:
    """What a segmentation should be and is not, "" where it is sound."""
    if isinstance(segmentation, list):
        sound = segmentation and all(isinstance(each, list) and len(each) in range(6, 10**6, 2) and all(map(is_finite, each)) for each in segmentation)
        return "" if sound else "polygons of at least 3 points, [[x1, y1, x2, y2, x3, y3, ...], ...],"
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return f"polygons, or run lengths of size [{height}, {width}],"
    try:
        counts = decode_run_lengths(segmentation)
    except ValueError:
        return "run lengths that can be read"
    return "" if min(counts, default=0) >= 0 and sum(counts) == height * width else f"run lengths that add up to {height} x {width}"


def decode_run_lengths(segmentation: dict) -> list[int]:
    """The run lengths, column by column, zeros first. A text holds them in characters of 6 bits, from the third on as a difference to the one before
    the last.

    Raises:
        ValueError: neither a list of whole numbers nor such a text.
    """
    counts = segmentation.get("counts")
    if isinstance(counts, list) and all(map(is_integer, counts)):
        return counts
    if not isinstance(counts, str):
        raise ValueError("counts must be a list of whole numbers or a text")
    found: list[int] = []
    value = shift = 0
    for letter in counts:
        bits = ord(letter) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("counts hold a character that is none of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:                                            # the last character of a number; bit 16 is its sign
            value -= (1 << shift) if bits & 16 else 0
            found.append(value + found[-2] if len(found) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("counts end within a number")
    return found


def decode_mask(segmentation: list | dict, size: tuple[int, int], shown: tuple[int, int]) -> np.ndarray:
    """(height, width) uint8 of 0 and 1.

    Args:
        segmentation: a sound one.
        size: (height, width) of the file that it was drawn on, in pixels.
        shown: (height, width) of the mask: that of the image as it was loaded. Polygons are scaled before they are filled.
    """
    (height, width), (rows, columns) = size, shown
    if isinstance(segmentation, dict):
        runs = decode_run_lengths(segmentation)
        mask = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(width, height).T
        return np.ascontiguousarray(mask) if size == shown else np.array(Image.fromarray(mask).resize((columns, rows), Image.Resampling.NEAREST))
    scale = np.array([columns / width, rows / height])
    polygons = [(np.clip(np.reshape(each, (-1, 2)), 0, (width, height)) * scale).flatten().tolist() for each in segmentation]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, rows, columns)))


def decode_masks(segmentations: Sequence, size: tuple[int, int], shown: tuple[int, int]) -> np.ndarray:
    """(K, height, width) uint8 of K segmentations."""
    return np.stack([decode_mask(each, size, shown) for each in segmentations]) if len(segmentations) else np.zeros((0, *shown), np.uint8)
