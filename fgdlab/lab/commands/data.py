"""``fgdlab data``: make the digit scenes, check a folder of images."""
from pathlib import Path

import click

from ..errors import UserError
from .settings_flags import PATH


@click.group()
def data() -> None:
    """Make the built-in digit scenes, or check a COCO-format folder."""


@data.command()
@click.option("--size", default=128, show_default=True, help="side of the square scenes in pixels")
@click.option("--train", default=3600, show_default=True, help="number of training scenes")
@click.option("--tune", default=400, show_default=True, help="number of scenes to choose hyper-parameters on")
@click.option("--val", default=400, show_default=True, help="number of scenes to report")
@click.option("--lookalikes/--no-lookalikes", default=True, show_default=True,
              help="draw letters, mirrored and turned digits that are no objects")
@click.option("--seed", default=0, show_default=True, help="seed of everything that is drawn")
@click.option("--out", type=PATH, default=None, help="folder to make  [default: the cache]")
def digits(size, train, tune, val, lookalikes, seed, out) -> None:
    """Make the digit scenes as a COCO-format folder.

    It holds images/, annotations.json and splits.json.
    """
    from ..datasets import DigitScenes, digit_folder

    if out is not None and out.exists():
        raise UserError(f"--out must be a new folder, got {str(out)!r}; delete it or choose another")
    folder = digit_folder(DigitScenes(size, train, tune, val, lookalikes, seed), out)
    click.echo(f"{folder}")
    print_splits(read_splits(folder))


@data.command()
@click.argument("folder", type=PATH)
@click.option("--pixels/--no-pixels", default=True, show_default=True, help="decode every image as well")
@click.option("--masks", is_flag=True, help="every object must have a segmentation mask, as mask_rcnn needs it")
@click.option("--image-size", default=0, help="longest side in pixels to which a run will shrink  [default: as it is]")
@click.option("--exif-turned", is_flag=True, help="boxes were drawn on images as their EXIF orientation turns them")
@click.option("--look", type=PATH, default=None, help="also draw images with boxes into this file, such as look.png")
def check(folder: Path, pixels: bool, masks: bool, image_size: int, exif_turned: bool, look: Path | None) -> None:
    """Check whether a run can use a COCO-format folder.

    Annotations, splits and every image are read; the output is what is in them, or what is wrong. Segmentation masks
    are counted. Invalid ones are a note; with --masks they are an error.
    """
    from ..datasets import DISJOINT, DetectionDataset, check_pixels, examine, refuse_data

    splits = read_splits(folder, masks, exif_turned)
    named = sorted((each for each in splits if each.split in DISJOINT), key=lambda each: each.split != "train")
    named = named or splits[:1]
    sets = {each.split: DetectionDataset(each, image_size) for each in named}
    if look is not None:
        click.echo(f"{contact_sheet(sets, look)}: images with their boxes as they are read")
    if pixels:
        checked: set[Path] = set()
        for each in splits:
            names = {each.image_folder / image["file_name"] for image in each.images}
            if not names <= checked:
                check_pixels(DetectionDataset(each))
                checked |= names
    print_splits(splits)
    print_masks(folder)
    findings = examine(sets)
    for finding in findings:
        if finding.level == "note":
            click.echo(f"note: {finding}")
    refuse_data(findings, click.echo)


def read_splits(folder: Path, masks: bool = False, exif_turned: bool = False) -> list:
    """Every split of a folder. Derived parts of train that are too small to hold an image are left out."""
    from ..datasets import TRAIN_PARTS, EmptySplit, read_split, splits_of

    splits = []
    for split in splits_of(folder):
        try:
            splits.append(read_split(folder, split, masks, exif_turned))
        except EmptySplit:
            if split not in TRAIN_PARTS:
                raise
    return splits


def print_splits(splits: list) -> None:
    """One line per split: images, boxes, classes, and the share of cells of each pyramid level that lie in a box."""
    from ..datasets import DetectionDataset, foreground_fractions

    for annotations in splits:
        boxes = sum(len(of_image) for of_image in annotations.boxes.values())
        shares = foreground_fractions(DetectionDataset(annotations, limit=500))
        click.echo(
            f"{annotations.split:>12}: {len(annotations.images):6d} images  {boxes:7d} boxes  "
            f"{len(annotations.classes):3d} classes   "
            f"cells in a box: {', '.join(f'{level} {share:.0%}' for level, share in shares.items())}"
        )


def print_masks(folder: Path) -> None:
    """One line per annotation file: the number of segmentation masks; and a note if mask_rcnn would refuse some."""
    from ..datasets import segmentation_counts

    others = "the other detectors do not read masks"
    for file, counts in segmentation_counts(folder).items():
        click.echo(f"segmentation masks in {file}: {counts}")
        if counts.invalid:
            more = f" (and {len(counts.invalid) - 1} more like it)" if len(counts.invalid) > 1 else ""
            click.echo(f"note: {counts.invalid[0]}{more}; mask_rcnn would refuse it, {others}")
        elif counts.missing and counts.valid:
            missing = f"{counts.missing} of {counts.objects} objects have no segmentation mask"
            click.echo(f"note: {missing}; mask_rcnn would refuse them, {others}")


def contact_sheet(sets: dict, path: Path, tile: int = 320, columns: int = 4) -> Path:
    """Write one picture: a row of images per split, spread evenly, with boxes and classes as the program reads them."""
    from PIL import Image, ImageDraw

    from ..datasets import read_image, shrink
    from ..io import atomic_write

    sheet = Image.new("RGB", (tile * columns, tile * len(sets)), "white")
    for row, dataset in enumerate(sets.values()):
        found, step = dataset.annotations, max(len(dataset) // columns, 1)
        for column, entry in enumerate(dataset.entries[::step][:columns]):
            image = shrink(Image.fromarray(read_image(found.image_folder, entry)), tile)
            draw = ImageDraw.Draw(image)
            boxes = found.boxes[entry["id"]] * (image.width / entry["width"])
            for box, label in zip(boxes.tolist(), found.labels[entry["id"]], strict=True):
                draw.rectangle(box, outline="red", width=2)
                draw.text(box[:2], found.classes[label - 1], fill="white", stroke_width=2, stroke_fill="black")
            sheet.paste(image, (column * tile, row * tile))
    with atomic_write(path) as unfinished:
        sheet.save(unfinished, path.suffix.lstrip(".") or "png")
    return path
