"""Makes a data set as a labelling tool exports it, to try the project on data of another origin.

    python -m tests.robustness.foreign_dataset FOLDER                 write the export
    python -m tests.robustness.foreign_dataset FOLDER --mend NAME     make a change that `fgdlab data check` asks for

The export has result.json instead of annotations.json, file names relative to the folder above, ids that are words,
polygons without boxes, categories numbered from 1 with gaps, PNG and JPEG in folders by place and day, a photograph
that EXIF rotates, a grey one, and one with transparency.
"""
import argparse
import json
import random
from math import cos, pi, sin
from pathlib import Path

from PIL import Image, ImageDraw

# id: name, colour
KINDS = {
    1: ("leaf", (60, 150, 60)), 4: ("berry", (190, 40, 60)), 7: ("stone", (130, 130, 140)), 12: ("twig", (120, 80, 40)),
}


def polygon(draw: random.Random, kind: int, width: int, height: int) -> list[float]:
    """A polygon x, y, x, y, ... of four to nine corners, all of it within the image."""
    size = draw.uniform(0.08, 0.3) * min(width, height)
    x, y = draw.uniform(size, width - size), draw.uniform(size, height - size)
    corners = {"leaf": 6, "berry": 9, "stone": 5, "twig": 4}[KINDS[kind][0]]
    stretch = (1.0, 0.3) if KINDS[kind][0] == "twig" else (1.0, draw.uniform(0.6, 1.0))
    angles = sorted(draw.uniform(0, 2 * pi) for _ in range(corners))
    return [
        round(value, 2)
        for angle in angles
        for value in (x + size * stretch[0] * cos(angle), y + size * stretch[1] * sin(angle))
    ]


def export(folder: Path, count: int = 60, seed: int = 4) -> None:
    """Write images/<place>/<day>/..., result.json."""
    draw, images, annotations = random.Random(seed), [], []
    for n in range(count):
        place, day = draw.choice(["north slope", "Weiher"]), f"2024-05-{1 + n % 3:02d}"
        width, height = draw.choice([(320, 240), (240, 320), (400, 300)])
        picture = Image.effect_noise((width, height), 40).convert("RGB").point(lambda value: value // 2 + 60)
        brush = ImageDraw.Draw(picture)
        for _ in range(draw.randint(1, 5)):
            kind = draw.choice([*KINDS])
            points = polygon(draw, kind, width, height)
            brush.polygon(points, fill=KINDS[kind][1])
            annotations.append(
                {
                    "id": f"a{len(annotations)}", "image_id": f"img-{n:04d}", "category_id": kind,
                    "segmentation": [points], "iscrowd": 0,
                }
            )
        name = f"images/{place}/{day}/IMG {n:04d}" + (".JPG", ".png", ".jpeg")[n % 3]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save(picture, folder / name, n)
        images.append({"id": f"img-{n:04d}", "file_name": name, "width": width, "height": height, "date_captured": day})
    categories = [{"id": number, "name": name, "supercategory": "found"} for number, (name, _) in KINDS.items()]
    (folder / "result.json").write_text(
        json.dumps({"info": {"version": "1.0"}, "images": images, "annotations": annotations, "categories": categories})
    )


def save(picture: Image.Image, path: Path, n: int) -> None:
    """As cameras and tools write them: every fifth JPEG lies in the file and is turned by EXIF; some PNGs are grey or
    have transparency."""
    if path.suffix == ".png":
        picture.convert(("RGB", "L", "RGBA")[n // 3 % 3]).save(path)
    elif n % 5 == 0:
        exif = Image.Exif()
        exif[0x0112] = 6                                             # turn by 90 degrees clockwise to look at it
        picture.transpose(Image.Transpose.ROTATE_90).save(path, exif=exif, quality=90)
    else:
        picture.save(path, quality=90)


def edited(folder: Path, edit) -> None:
    document = json.loads((folder / "annotations.json").read_text())
    edit(document)
    (folder / "annotations.json").write_text(json.dumps(document))


def numbered(document: dict) -> None:
    number = {each["id"]: n for n, each in enumerate(document["images"], start=1)}
    for each in document["images"]:
        each["id"] = number[each["id"]]
    for n, each in enumerate(document["annotations"], start=1):
        each.update(id=n, image_id=number[each["image_id"]])


def boxed(document: dict) -> None:
    for each in document["annotations"]:
        xs, ys = each["segmentation"][0][0::2], each["segmentation"][0][1::2]
        each["bbox"] = [min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)]


MEND = {
    "name": lambda folder: (folder / "result.json").rename(folder / "annotations.json"),
    "ids": lambda folder: edited(folder, numbered),
    "boxes": lambda folder: edited(folder, boxed),
    "files": lambda folder: edited(
        folder,
        lambda document: [
            each.update(file_name=each["file_name"].removeprefix("images/")) for each in document["images"]
        ],
    ),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mend", choices=MEND)
    given = parser.parse_args()
    MEND[given.mend](given.folder) if given.mend else export(given.folder)
