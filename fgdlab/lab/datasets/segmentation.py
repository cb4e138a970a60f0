"""Segmentation masks in COCO's formats: polygons and run lengths, checked and decoded to pixels."""
from pathlib import Path

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

from ..errors import short_repr
from .coco_json import annotation_name, is_finite, is_integer


def invalid_segmentations(annotations: list[dict], images: dict[int, dict], file: Path) -> dict[int, str]:
    """{annotation id: message} where the segmentation is neither polygons nor run lengths of the image's size."""
    messages = {}
    for annotation in annotations:
        image, segmentation = images[annotation["image_id"]], annotation.get("segmentation")
        if expected := expected_segmentation(segmentation, image["height"], image["width"]):
            must = f"{annotation_name(annotation, images, file)} must have {expected} as 'segmentation'"
            messages[annotation["id"]] = f"{must}, got {short_repr(segmentation)}"
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
    """Run lengths in column-major order; the first run is of zeros. ValueError for other ``counts``.

    COCO's text form has 5 bits of a number per character, and from the fourth number on the difference to the number
    before the previous one. pycocotools reads past the end of an invalid text.
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


def run_lengths(mask: np.ndarray) -> dict:
    """COCO's of a mask (H, W) of 0 and 1."""
    packed = coco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))
    return {"size": [*map(int, packed["size"])], "counts": packed["counts"].decode("ascii")}


def decode_mask(segmentation: list | dict, size: tuple[int, int], loaded_size: tuple[int, int]) -> np.ndarray:
    """A valid segmentation of an image of ``size`` (height, width) as uint8 of 0 and 1 in ``loaded_size``. Polygons are
    scaled before they are filled."""
    (height, width), (loaded_height, loaded_width) = size, loaded_size
    if isinstance(segmentation, dict):
        runs = decode_run_lengths(segmentation)
        mask = np.repeat(np.arange(len(runs)) % 2, runs).astype(np.uint8).reshape(width, height).T
        return np.array(Image.fromarray(mask).resize((loaded_width, loaded_height), Image.Resampling.NEAREST))
    scale = np.array([loaded_width / width, loaded_height / height])
    points = [np.clip(np.reshape(polygon, (-1, 2)), 0, (width, height)) * scale for polygon in segmentation]
    polygons = [polygon.flatten().tolist() for polygon in points]
    return coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, loaded_height, loaded_width)))
