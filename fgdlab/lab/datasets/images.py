"""Pixels from disk: any file that Pillow decodes, as (H, W, 3) RGB bytes of the very size that the annotations promise."""
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm import tqdm

from ..errors import UserError
from .annotations import Annotations

SIXTEEN_BITS = ("I;16", "I;16L", "I;16B", "I;16N", "I")              # Pillow's modes for grey images of 16 bits; "I" in older files and versions
QUARTER_TURNS = (5, 6, 7, 8)                                         # EXIF orientations that swap width and height


def read_image(annotations_or_folder: Annotations | str | Path, entry: dict) -> np.ndarray:
    """Decode one image.

    Args:
        annotations_or_folder: a split, or the folder that ``file_name`` is relative to.
        entry: an item of ``Annotations.images``: file_name, and width and height in pixels.
    Returns:
        (height, width, 3) uint8 RGB, writable. Grey is repeated, 16-bit grey keeps its upper 8 bits, transparency is dropped. Pixels are
        as stored, as boxes of COCO lie on stored pixels; a quarter turn that EXIF asks for is made where the entry's size is that of the turned image.
    Raises:
        UserError: the file is missing, cut off or no image, or its size is not the entry's.
    """
    own = isinstance(annotations_or_folder, Annotations)
    path = Path(annotations_or_folder.image_folder if own else annotations_or_folder) / entry["file_name"]
    try:
        with Image.open(path) as image:
            mismatch = size_mismatch(image, entry)                   # known from the header, before a byte is decoded
            if not mismatch:
                turned = image.size != (entry["width"], entry["height"])
                return as_rgb(ImageOps.exif_transpose(image) if turned else image)
    except FileNotFoundError as error:
        raise UserError(f"{path} must be an image file, got no such file; put it there, or take the image out of the split") from error
    except Exception as error:                                       # what Pillow raises for broken bytes is not one type
        reason = " ".join(str(error).split()) or type(error).__name__
        raise UserError(f"{path} must be an image that can be decoded, got: {reason}; copy it again, or take it out of the split") from error
    raise UserError(f"{path} {mismatch}")


def as_rgb(image: Image.Image) -> np.ndarray:
    if image.mode in SIXTEEN_BITS:
        grey = np.asarray(image).astype(np.int64)
        if grey.min() < 0 or grey.max() > 65535:
            raise ValueError(f"grey values from {grey.min()} to {grey.max()}, which are neither 8 nor 16 bits")
        return np.repeat((grey >> 8).astype(np.uint8)[..., None], 3, axis=2)
    if image.mode == "F":                                            # Pillow would cut to 0..255, which makes 0..1 black
        raise ValueError("floating point pixels, which have no agreed white; save it with 8 bits")
    if "transparency" in image.info and image.mode == "P":
        image = image.convert("RGBA")                                # Pillow warns on the direct way
    return np.array(image.convert("RGB"))


def read_exif_rotated(path: Path) -> Image.Image:
    """A photograph as RGB, turned as EXIF says; whatever Pillow raises for a file that it cannot decode comes through."""
    with Image.open(path) as image:
        return Image.fromarray(as_rgb(ImageOps.exif_transpose(image)))


def shrink(image: Image.Image, long_side: int) -> Image.Image:
    """The image with its longer side at most ``long_side`` pixels; 0 leaves it as it is."""
    if not long_side or max(image.size) <= long_side:
        return image
    scale = long_side / max(image.size)
    return image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.BILINEAR)


def size_mismatch(image: Image.Image, entry: dict) -> str:
    """What is wrong with the size of a file, "" if nothing is: the size is the entry's, as stored or turned upright as EXIF says."""
    stored, promised = image.size, (entry["width"], entry["height"])
    if stored == promised:
        return ""
    sizes = f"must be {promised[0]} x {promised[1]} pixels as in the annotations, got {stored[0]} x {stored[1]}"
    if stored != promised[::-1]:
        return f"{sizes}; use the images that were annotated, or correct width, height and boxes"
    if image.getexif().get(ExifTags.Base.Orientation) in QUARTER_TURNS:
        return ""
    return f"{sizes}: the sides are swapped, perhaps by an EXIF rotation that was lost; rotate the image, or correct width, height and boxes"


def check_pixels(annotations: Annotations, progress: bool = True) -> None:
    """Decode every image of a split once, with a bar, so that a long training does not end on a broken file.

    Raises:
        UserError: the first file with a defect, with the count of the others.
    """
    defects = []
    for entry in tqdm(annotations.images, desc=f"check images of {annotations.split}", unit="image", disable=not progress):
        try:
            read_image(annotations, entry)
        except UserError as error:
            defects.append(str(error))
    if defects:
        raise UserError(defects[0] + (f" (and {len(defects) - 1} more of {len(annotations.images)} images have a defect)" if len(defects) > 1 else ""))
