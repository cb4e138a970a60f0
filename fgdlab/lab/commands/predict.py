"""``fgdlab predict``: a student's detections in images."""
import glob
from pathlib import Path

import click

from .. import checkpoints, datasets
from ..errors import UserError, reason
from ..io import make_folder, user_path, write_json
from .settings_flags import PATH, option

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")


@click.command()
@click.argument("student", type=PATH)
@click.argument("images", nargs=-1, required=True)
@option("--out", "folder to write", type=PATH, default=Path("predictions"))
@option("--threshold", "lowest score of a detection", type=click.FloatRange(0, 1), default=0.3)
@option("--long-side",
        "shrink images to this longest side in pixels, 0 = never  [default: as the student was trained]",
        type=click.IntRange(0))
@option("--pictures/--no-pictures", "also draw the boxes", default=True)
def predict(student, images, out, threshold, long_side, pictures) -> None:
    """Detect objects in images.

    STUDENT is the folder of a run or a weights file. IMAGES are files, folders, or patterns in quotes such as
    'photos/*.jpg'. Writes predictions.json into the folder: file_name, class, score, and bbox (x, y, width, height) in
    pixels of the file, turned as its EXIF orientation says; and a picture for each image.
    """
    import torch
    from torchvision.transforms.v2.functional import pil_to_tensor, to_pil_image
    from torchvision.utils import draw_bounding_boxes
    from tqdm import tqdm

    files = image_files(images, out)
    detector, settings = checkpoints.detector_of(student)
    config, classes = checkpoints.described(student)
    classes = classes or [f"class {label}" for label in range(1, settings["classes"] + 1)]
    if long_side is None:
        long_side = config.image_size if config else 0
    found, unread, undrawn = [], [], []
    make_folder(out)
    for number, file in enumerate(tqdm(files, desc="predict", unit="image")):
        try:
            image = datasets.read_exif_rotated(file)
        except UserError as error:  # go on with the others
            unread.append(str(error))
            continue
        small = pil_to_tensor(datasets.shrink(image, long_side))
        with torch.no_grad():
            result = detector([small.float() / 255])[0]
        kept = (result["scores"] >= threshold) & (result["labels"] > 0)
        boxes = result["boxes"][kept] * torch.tensor([image.width / small.shape[2], image.height / small.shape[1]] * 2)
        names, scores = [classes[i - 1] for i in result["labels"][kept]], result["scores"][kept].tolist()
        for name, score, (left, top, right, bottom) in zip(names, scores, boxes.tolist(), strict=True):
            bbox = [left, top, right - left, bottom - top]
            found.append({"file_name": str(file), "class": name, "score": score, "bbox": bbox})
        if pictures:
            labels = [f"{name} {score:.2f}" for name, score in zip(names, scores, strict=True)]
            drawn = pil_to_tensor(image)
            if labels:
                drawn = draw_bounding_boxes(drawn, boxes, labels, "blue", width=2)
            try:
                to_pil_image(drawn).save(out / f"{number:04d}_{file.stem}.jpg")
            except (OSError, ValueError) as error:  # such as a side that JPEG cannot have
                undrawn.append(f"{file} must be drawn as JPEG, got: {reason(error)}; its detections are kept")
    if len(unread) < len(files):
        write_json(out / "predictions.json", found)
        seen = len(files) - len(unread)
        click.echo(f"{len(found)} detections of score {threshold:g} or more in {seen} images: {out}")
    for failed, what in (unread, "read"), (undrawn, "drawn"):
        if failed:
            raise UserError(f"{failed[0]} ({len(failed)} of {len(files)} images could not be {what})")


def image_files(names: tuple[str, ...], out: Path) -> list[Path]:
    """Files, the images of folders, and what patterns match, each once; without the pictures of an earlier call in
    folder ``out``, unless they are named. A UserError for a name that gives no image."""
    files: dict[Path, None] = {}
    for name in names:
        path = user_path(name)
        inside = sorted(path.rglob("*")) if path.is_dir() else map(Path, sorted(glob.glob(str(path), recursive=True)))
        found = [
            file for file in inside
            if file.is_file() and file.suffix.lower() in SUFFIXES and file.parent.resolve() != out.resolve()
        ]
        found = [path] if path.is_file() else found
        if not found:
            kinds = ", ".join(SUFFIXES)
            raise UserError(f"IMAGES must be files, folders or patterns with images ({kinds}), got {name!r}")
        files |= dict.fromkeys(found)
    return list(files)
