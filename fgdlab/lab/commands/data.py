"""``fgdlab data``: the built-in scenes, and whether a folder can be used."""
from pathlib import Path

import click

from ..errors import UserError


@click.group()
def data() -> None:
    """Make the built-in digit scenes, or check a COCO-format folder."""


@data.command()
@click.option("--size", default=128, show_default=True, help="side of the square scenes in pixels")
@click.option("--train", default=3600, show_default=True, help="scenes to learn from")
@click.option("--tune", default=400, show_default=True, help="scenes to choose hyper-parameters on")
@click.option("--val", default=400, show_default=True, help="scenes to report")
@click.option("--lookalikes/--no-lookalikes", default=True, show_default=True, help="letters, mirrored and turned digits that are no objects")
@click.option("--seed", default=0, show_default=True, help="seed of everything that is drawn")
@click.option("--out", type=click.Path(path_type=Path), default=None, help="folder to make  [default: the cache]")
def digits(size, train, tune, val, lookalikes, seed, out) -> None:
    """Make the digit scenes as a COCO folder (images/, annotations.json, splits.json) and say what is in them."""
    from ..datasets import DigitScenes, digit_folder

    if out is not None and out.exists():
        raise UserError(f"--out must be a folder that is not there yet, got {str(out)!r}; delete it or choose another")
    folder = digit_folder(DigitScenes(size, train, tune, val, lookalikes, seed), out)
    click.echo(f"{folder}")
    summarise(parts(folder))


@data.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--pixels/--no-pixels", default=True, show_default=True, help="decode every image as well")
@click.option("--masks", is_flag=True, help="every object must have an outline, as mask_rcnn needs it")
def check(folder: Path, pixels: bool, masks: bool) -> None:
    """Read a COCO-format folder as a run would: annotations, splits, and every image; say what is in it or what is wrong.

    Outlines of objects are counted. Those that mask_rcnn would refuse are a note, with --masks a mistake.
    """
    from ..datasets import check_pixels

    splits = parts(folder, masks)
    if pixels:
        seen: set[Path] = set()
        for annotations in splits:
            names = {annotations.image_folder / each["file_name"] for each in annotations.images}
            if not names <= seen:
                check_pixels(annotations)
                seen |= names
    summarise(splits)
    say_outlines(folder)


def parts(folder: Path, masks: bool = False) -> list:
    """Every split of a folder. A share of train that is too small to hold an image is passed over: nobody asked for it."""
    from ..datasets import TRAIN_PARTS, EmptySplit, read_split, splits_of

    found = []
    for split in splits_of(folder):
        try:
            found.append(read_split(folder, split, masks))
        except EmptySplit:
            if split not in TRAIN_PARTS:
                raise
    return found


def summarise(splits: list) -> None:
    """One line a split: images, boxes, classes, and the share of cells of each pyramid level that lie in a box."""
    from ..datasets import DetectionDataset, foreground_shares

    notes: dict[str, None] = {}
    for annotations in splits:
        boxes = sum(len(each) for each in annotations.boxes.values())
        shares = foreground_shares(DetectionDataset(annotations, limit=500))
        click.echo(
            f"{annotations.split:>12}: {len(annotations.images):6d} images  {boxes:7d} boxes  {len(annotations.classes):3d} classes   "
            f"cells in a box: {', '.join(f'{level} {share:.0%}' for level, share in shares.items())}"
        )
        notes |= dict.fromkeys(annotations.notes)
    for note in notes:
        click.echo(f"note: {note}")


def say_outlines(folder: Path) -> None:
    """One line an annotation file: how many objects have polygons or run lengths; and a note, where mask_rcnn would refuse some."""
    from ..datasets import segmentation_counts

    for file, found in segmentation_counts(folder).items():
        click.echo(f"outlines in {file}: {found}")
        if found.invalid:
            more = f" (and {len(found.invalid) - 1} more like it)" if len(found.invalid) > 1 else ""
            click.echo(f"note: {found.invalid[0]}{more}; mask_rcnn would refuse it, the other detectors read no outlines")
        elif found.missing and found.valid:
            click.echo(f"note: {found.missing} of {found.objects} objects have no outline; mask_rcnn would refuse them, the other detectors read no outlines")
