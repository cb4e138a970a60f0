"""Image files as (H, W, 3) RGB bytes of the size that the annotations state."""
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from PIL import ExifTags, Image, ImageOps

from ..errors import UserError, reason

GREY_16_BIT = ("I;16", "I;16L", "I;16B", "I;16N", "I")  # Pillow's modes
QUARTER_TURNS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_image(image_folder: str | Path, entry: dict) -> np.ndarray:
    """Decode the image of an item of ``Annotations.images``: (height, width, 3) uint8 RGB, writable.

    Grey is repeated, 16-bit grey keeps its upper 8 bits, transparency is dropped. COCO's boxes refer to stored pixels,
    so an EXIF rotation is applied only if the entry's size is that of the rotated image, or if it says ``upright``.
    UserError: the file is missing, not an image or truncated, or its size is not the entry's.
    """
    path = Path(image_folder) / entry["file_name"]
    with decoding(path), Image.open(path) as image:
        mismatch = size_mismatch(image, entry)  # from the header, before pixels are decoded
        if not mismatch:
            rotated = entry.get("upright") or image.size != (entry["width"], entry["height"])
            return as_rgb(ImageOps.exif_transpose(image) if rotated else image)
    raise UserError(f"{path} {mismatch}")


@contextmanager
def decoding(name: str | Path) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # Pillow raises many types for corrupt files
        must = f"{name} must be an image that can be decoded"
        raise UserError(f"{must}, got: {reason(error)}; copy it again, or leave it out") from error


def as_rgb(image: Image.Image) -> np.ndarray:
    """(height, width, 3) uint8. ValueError for values that 8 bits cannot hold."""
    if image.mode in GREY_16_BIT:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"grey values from {grey.min()} to {grey.max()}, which are neither 8 nor 16 bits")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":  # Pillow would clip to 0..255
        raise ValueError("floating point pixels, which have no agreed white; save it with 8 bits")
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")  # P to RGB directly gives a warning
    return np.array(image.convert("RGB"))


def read_exif_rotated(file: Path | IO[bytes], name: str = "") -> Image.Image:
    with decoding(name or file), Image.open(file) as image:
        return Image.fromarray(as_rgb(ImageOps.exif_transpose(image)))


def orientation(image: Image.Image) -> int:
    turn = image.getexif().get(ExifTags.Base.Orientation)
    return turn if turn in range(2, 9) else 1  # some cameras write 0


def shrink(image: Image.Image, long_side: int) -> Image.Image:
    """The longer side becomes at most ``long_side`` pixels; 0: unchanged."""
    if not long_side or max(image.size) <= long_side:
        return image
    scale = long_side / max(image.size)
    return image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.BILINEAR)


def size_mismatch(image: Image.Image, entry: dict) -> str:
    """What is wrong with the size of an image file, "" if it is the entry's, as stored or after EXIF rotation."""
    stored, annotated = image.size, (entry["width"], entry["height"])
    swapped = stored == annotated[::-1]
    if stored == annotated or (swapped and orientation(image) in QUARTER_TURNS):
        return ""
    reason = "; use the images that were annotated"
    if swapped:
        reason = ": the sides are swapped, perhaps by an EXIF rotation that was lost; rotate the image"
    must = f"must be {annotated[0]} x {annotated[1]} pixels as in the annotations, got {stored[0]} x {stored[1]}"
    return f"{must}{reason}, or correct width, height and boxes"
