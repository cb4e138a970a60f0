"""``fgdlab data``: make the digit scenes, check a folder of images."""
from pathlib import Path

import click

from .. import datasets, plots, tables
from ..errors import UserError
from .settings_flags import PATH, option


@click.group()
def data() -> None:
    """Make the built-in digit scenes, or check a COCO-format folder."""


@data.command()
@option("--size", "side of the square scenes in pixels", default=128)
@option("--train", "number of training scenes", default=3600)
@option("--tune", "number of scenes to choose hyper-parameters on", default=400)
@option("--val", "number of scenes to report", default=400)
@option("--lookalikes/--no-lookalikes", "draw letters, mirrored and turned digits that are no objects", default=True)
@option("--seed", "seed of everything that is drawn", default=0)
@option("--out", "folder to make  [default: the cache]", type=PATH)
def digits(size, train, tune, val, lookalikes, seed, out) -> None:
    """Make the digit scenes as a COCO-format folder.

    It holds images/, annotations.json and splits.json.
    """
    if out is not None and out.exists():
        raise UserError(f"--out must be a new folder, got {str(out)!r}; delete it or choose another")
    folder = datasets.digit_folder(datasets.DigitScenes(size, train, tune, val, lookalikes, seed), out)
    click.echo(f"{folder}")
    print_splits(read_splits(folder))


@data.command()
@click.argument("folder", type=PATH)
@option("--pixels/--no-pixels", "decode every image as well", default=True)
@option("--masks", "every object must have a segmentation mask, as mask_rcnn needs it", is_flag=True)
@option("--image-size",
        "longest side in pixels to which a run will shrink  [default: as it is]", type=click.IntRange(0))
@option("--exif-turned", "boxes were drawn on images as their EXIF orientation turns them", is_flag=True)
@option("--look", "also draw images with boxes into this file, such as look.png", type=PATH)
def check(folder, pixels, masks, image_size, exif_turned, look) -> None:
    """Check whether a run can use a COCO-format folder.

    Annotations, splits and every image are read; the output is what is in them, or what is wrong. Segmentation masks
    are counted. Invalid ones are a note; with --masks they are an error.
    """
    splits = read_splits(folder, masks, exif_turned)
    named = [each for each in splits if each.split in datasets.DISJOINT] or splits[:1]
    named.sort(key=lambda each: each.split != "train")
    sets = {each.split: datasets.DetectionDataset(each, image_size or 0) for each in named}
    if look is not None:
        click.echo(f"{contact_sheet(sets, look)}: images with their boxes as they are read")
    for each in [each for each in splits if each.split == "all"] or splits:
        if pixels and each.split not in datasets.TRAIN_PARTS:  # which train holds
            datasets.check_pixels(datasets.DetectionDataset(each))
    print_splits(splits)
    print_masks(folder)
    findings = datasets.examine(sets)
    for finding in findings:
        if finding.level == "note":
            click.echo(f"note: {finding}")
    datasets.refuse_data(findings, click.echo)


def read_splits(folder: Path, masks: bool = False, exif_turned: bool = False) -> list:
    """Every split of a folder. Derived parts of train that are too small to hold an image are left out."""
    splits = []
    for split in datasets.splits_of(folder):
        try:
            splits.append(datasets.read_split(folder, split, masks, exif_turned))
        except datasets.EmptySplit:
            if split not in datasets.TRAIN_PARTS:
                raise
    return splits


def print_splits(splits: list) -> None:
    """One line per split: images, boxes, classes, and the share of cells of each pyramid level that lie in a box."""
    for annotations in splits:
        boxes = sum(map(len, annotations.boxes.values()))
        shares = datasets.foreground_fractions(datasets.DetectionDataset(annotations, limit=500))
        click.echo(
            f"{annotations.split:>12}: {len(annotations.images):6d} images  {boxes:7d} boxes  "
            f"{len(annotations.classes):3d} classes   "
            f"cells in a box: {', '.join(f'{level} {share:.0%}' for level, share in shares.items())}"
        )


def print_masks(folder: Path) -> None:
    for file, (kinds, broken) in datasets.segmentation_counts(folder).items():
        valid, total = kinds["polygons"] + kinds["run lengths"], kinds.total()
        shown = f"{valid} of {total} objects: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}"
        none = "none; mask_rcnn needs them, the other detectors do not"
        click.echo(f"segmentation masks in {file}: {none if kinds['without'] == total else shown}")
        missing = f"{kinds['without']} of {total} objects have no segmentation mask"
        if defects := broken or [missing] * (kinds["without"] and valid > 0):
            more = f" (and {len(broken) - 1} more like it)" if len(broken) > 1 else ""
            refused = "refuse it" if broken else "refuse them"
            click.echo(f"note: {defects[0]}{more}; mask_rcnn would {refused}, the other detectors do not read masks")


def contact_sheet(sets: dict, path: Path) -> Path:
    """Write one picture: four images per split, spread evenly, with boxes and classes as a run reads them."""
    shown = [
        (split, dataset, index) for split, dataset in sets.items()
        for index in range(0, len(dataset), max(len(dataset) // 4, 1))[:4]
    ]
    figure, axes = plots.image_panels(len(shown), 1.0)
    for ax, (split, dataset, index) in zip(axes, shown, strict=True):
        plots.draw_detections(ax, [], dataset, index, 0.0)
        plots.set_title(ax, f"{split}, image {dataset.image_ids[index]}")
    return tables.save_figure(figure, path)
