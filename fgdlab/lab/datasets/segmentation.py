"""Segmentation masks in COCO's formats: polygons and run lengths, checked and decoded to pixels.

    segmentation: [[x1, y1, x2, y2, ...], ...] or {"size": [h, w], "counts": [...] or "..."}
        --check_segmentations--> valid segmentations --decode_mask--> (H, W) of 0 and 1
"""
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..errors import raise_first, short_repr
from .coco_json import annotation_name, is_finite, is_integer


class SegmentationCounts(NamedTuple):
    """Numbers of annotations with valid polygons, with valid run lengths and without segmentation.

    invalid: one message per annotation with another segmentation.
    """

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
        counts = {
            "polygons": self.polygons, "run lengths": self.run_lengths, "without": self.missing,
            "broken": len(self.invalid),
        }
        return f"{self.valid} of {self.objects} objects: {', '.join(f'{n} {kind}' for kind, n in counts.items() if n)}"


def count_segmentations(annotations: list[dict], images: dict[int, dict], file: Path) -> SegmentationCounts:
    """Count without refusing what :func:`check_segmentations` refuses."""
    present = [annotation for annotation in annotations if annotation.get("segmentation")]
    invalid = invalid_segmentations(present, images, file)
    polygons = sum(
        isinstance(annotation["segmentation"], list) for annotation in present if annotation["id"] not in invalid
    )
    run_lengths = len(present) - len(invalid) - polygons
    return SegmentationCounts(polygons, run_lengths, len(annotations) - len(present), list(invalid.values()))


def check_segmentations(annotations: list[dict], images: dict[int, dict], file: Path) -> None:
    """Raises UserError where a 'segmentation' is neither polygons nor run lengths of its image's size."""
    remedy = "export polygons or run lengths, or choose a detector without masks, such as faster_rcnn"
    raise_first(list(invalid_segmentations(annotations, images, file).values()), remedy)


def invalid_segmentations(annotations: list[dict], images: dict[int, dict], file: Path) -> dict[int, str]:
    """{annotation id: message} of annotations without a valid segmentation."""
    messages = {}
    for annotation in annotations:
        image, segmentation = images[annotation["image_id"]], annotation.get("segmentation")
        expected = expected_segmentation(segmentation, image["height"], image["width"])
        if expected:
            name = annotation_name(annotation, images, file)
            got = short_repr(segmentation)
            messages[annotation["id"]] = f"{name} must have {expected} as 'segmentation', got {got}"
    return messages


def expected_segmentation(segmentation, height: int, width: int) -> str:
    """What an invalid segmentation should be; "" for a valid one."""
    if isinstance(segmentation, list):
        valid = segmentation and all(
            isinstance(polygon, list) and len(polygon) in range(6, 10**6, 2) and all(map(is_finite, polygon))
            for polygon in segmentation
        )
        return "" if valid else "polygons of at least 3 points, [[x1, y1, x2, y2, x3, y3, ...], ...],"
    if not isinstance(segmentation, dict) or segmentation.get("size") != [height, width]:
        return f"polygons, or run lengths of size [{height}, {width}],"
    try:
        counts = decode_run_lengths(segmentation)
    except ValueError:
        return "run lengths that can be read"
    complete = min(counts, default=0) >= 0 and sum(counts) == height * width
    return "" if complete else f"run lengths that add up to {height} x {width}"


def decode_run_lengths(segmentation: dict) -> list[int]:
    """Run lengths in column-major order; the first run is of zeros.

    COCO's text form has 5 bits of a number per character, and from the fourth number on the difference to the number
    before the previous one.

    Raises:
        ValueError: ``counts`` is neither a list of integers nor a valid text.
    """
    counts = segmentation.get("counts")
    if isinstance(counts, list) and all(map(is_integer, counts)):
        return counts
    if not isinstance(counts, str):
        raise ValueError("counts must be a list of whole numbers or a text")
    runs: list[int] = []
    value = shift = 0
    for character in counts:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise ValueError("counts hold a character that is none of run lengths")
        value |= (bits & 31) << shift
        shift += 5
        if not bits & 32:  # last character of a number; bit 16 is the sign
            value -= (1 << shift) if bits & 16 else 0
            runs.append(value + runs[-2] if len(runs) > 2 else value)
            value = shift = 0
    if shift:
        raise ValueError("counts end within a number")
    return runs


def decode_mask(segmentation: list | dict, size: tuple[int, int], loaded_size: tuple[int, int]) -> np.ndarray:
    """(height, width) uint8 of 0 and 1, in ``loaded_size``.

    Args:
        segmentation: a valid one.
        size: (height, width) in pixels of the file that was annotated.
        loaded_size: (height, width) in pixels of the image as loaded. Polygons are scaled before they are filled.
    """
    (height, width), (loaded_height, loaded_width) = size, loaded_size
    if isinstance(segmentation, dict):
        runs = decode_run_lengths(segmentation)
        mask = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(width, height).T
        if size == loaded_size:
            return np.ascontiguousarray(mask)
        return np.array(Image.fromarray(mask).resize((loaded_width, loaded_height), Image.Resampling.NEAREST))
    scale = np.array([loaded_width / width, loaded_height / height])
    points = [np.clip(np.reshape(polygon, (-1, 2)), 0, (width, height)) * scale for polygon in segmentation]
    polygons = [polygon.flatten().tolist() for polygon in points]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, loaded_height, loaded_width)))


def decode_masks(segmentations: Sequence, size: tuple[int, int], loaded_size: tuple[int, int]) -> np.ndarray:
    """(K, height, width) uint8 of K segmentations."""
    if not len(segmentations):
        return np.zeros((0, *loaded_size), np.uint8)
    return np.stack([decode_mask(segmentation, size, loaded_size) for segmentation in segmentations])
