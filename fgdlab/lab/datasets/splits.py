"""Which images belong to a split: folder layouts, lists of ids, and draws by hash.

    annotations.json, images/[, splits.json {name: [image ids]}]  any data set, also the built-in digits
    result.json, images/; labels.json, data/                      Label Studio's and FiftyOne's exports
    annotations/instances_<split>.json, <split>/                  COCO's layout, such as train2017, val2017
    annotations/<split>.json, images/<split>/ or images/          Datumaro's, CVAT's and other exports
    <split>.json, and folders as in the two lines above           hand-made data; <split>: Train, train2017
    <split>/_annotations.coco.json beside its images              Roboflow's exports; valid is also val
"""
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError, listed, raise_first, short_repr
from ..io import user_path
from .coco_json import EXPORT, MEND, is_integer, read_json, repeated

DRAWN_PARTS = {"train": 0.70, "tune": 0.15, "val": 0.15}  # fractions, without splits.json
TRAIN_PARTS = {"train-fit": 0.80, "train-tune": 0.20}  # fractions of train: to tune without touching val
DISJOINT = {"train", "tune", "val", "test"}  # data check compares their images
WHOLE = ("annotations.json", "result.json", "labels.json", "_annotations.coco.json")  # one file with everything
OF_SPLIT = ("_annotations.coco.json", "labels.json", "annotations.json")  # a file in the folder of its split
NOT_BOXES = ("person_keypoints_", "captions_", "stuff_", "panoptic_", "image_info_")  # COCO's other files
VOC = "from_pascal_voc('JPEGImages', 'Annotations').as_coco('OUT/images', 'OUT/annotations.json')"
YOLO = "from_yolo('images', 'labels', 'YAML').as_coco('OUT/images', 'OUT/annotations.json')"
YOLO_SPLITS = "from_yolo(f'IMAGES', f'LABELS', 'YAML').as_coco(f'OUT/{s}', f'OUT/annotations/instances_{s}.json')"


@dataclass(frozen=True)
class Source:
    file: Path
    image_folder: Path
    choose: Callable[[list[int]], list[int]] = list  # the sorted image ids of the file -> the ids of the split
    published: bool = False  # COCO's own file, whose known defects are accepted
    notes: tuple[str, ...] = ()  # what the user should know about the choice
    classes_of: Path | None = None  # the JSON file whose classes the labels number; None: its own


def sources(folder: str | Path) -> dict[str, Source]:
    folder = user_path(folder)
    if not folder.is_dir():
        got = "a file; give the folder that holds it" if folder.exists() else "nothing there; correct the path"
        raise UserError(f"{folder} must be a folder with annotations.json and images/, got {got}")
    whole = next((folder / name for name in WHOLE if (folder / name).is_file()), None)
    found = plain_sources(whole) if whole else coco_sources(folder) or folder_sources(folder)
    if not found:
        present = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = listed([repr(name) for name in present], most=8)
        raise UserError(
            f"{folder} must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
            f"<split>/_annotations.coco.json beside its images, got {shown or 'an empty folder'}; "
            f"{conversion(folder, present)}")
    for short_name in ("train", "val"):
        matches = [name for name in found if name.casefold().startswith(short_name)]
        if len(matches) == 1:
            found.setdefault(short_name, found[matches[0]])
    reference = found["train"].file if "train" in found else None
    found = {name: replace(source, classes_of=reference) for name, source in found.items()}
    if "train" in found and not TRAIN_PARTS.keys() & found.keys():
        found |= drawn_sources(found["train"], TRAIN_PARTS)
    return found


def conversion(folder: Path, present: list[str]) -> str:
    """What to do with a folder in another format: for VOC's and YOLO's, the lines that convert it."""
    yaml = next((name for name in ("data.yaml", "dataset.yaml") if name in present), "")
    if yaml or "labels/" in present:
        call, loop, yaml = YOLO, "", yaml or "data.yaml"
        for images in ("images/{s}", "{s}/images"):
            if names := [s for s in ("train", "val", "valid", "test") if (folder / images.format(s=s)).is_dir()]:
                labels = images.replace("images", "labels")
                call, loop = YOLO_SPLITS.replace("IMAGES", images).replace("LABELS", labels), f" for s in {names}"
    elif {"JPEGImages/", "Annotations/"} & {*present}:
        call, loop = VOC, ""
    else:
        return f"give the folder that holds them, or {EXPORT}"
    out = f"{folder.name}_coco"
    code = f"sv.DetectionDataset.{call.replace('YAML', yaml).replace('OUT', out)}"
    code = f"[{code}{loop}]" if loop else code
    return (
        f'convert it, in that folder, with `pip install supervision` and `python -c "import supervision as sv; {code}"'
        f"`, correct paths that differ, and give {out}"
    )


def first_folder(*folders: Path) -> Path:
    return next((folder for folder in folders if folder.is_dir()), folders[0])


def plain_sources(file: Path) -> dict[str, Source]:
    folder = file.parent
    beside = (folder,) if file.name != "annotations.json" else ()
    everything = Source(file, first_folder(folder / "images", folder / "data", *beside))
    if (folder / "splits.json").exists():
        return {"all": everything, **listed_sources(everything, folder / "splits.json")}
    return lone_sources(everything)


def lone_sources(everything: Source) -> dict[str, Source]:
    drawn = "train, tune and val were drawn 70/15/15 by a hash of the image id"
    everything_drawn = replace(everything, notes=(f"{everything.file.name} came without splits.json: {drawn}",))
    return {**drawn_sources(everything_drawn, DRAWN_PARTS), "all": everything}


def drawn_sources(source: Source, parts: dict[str, float]) -> dict[str, Source]:
    return {
        name: replace(source, choose=lambda ids, name=name: draw(source.choose(ids), parts)[name]) for name in parts
    }


def listed_sources(everything: Source, file: Path) -> dict[str, Source]:
    splits, hint = read_json(file), 'write {"train": [1, 2], "val": [3]}'
    if not isinstance(splits, dict):
        got = f"got {short_repr(splits)}; {hint}"
        raise UserError(f"{file} must be an object of split names with lists of image ids, {got}")
    raise_first(
        [f"{file}: split {name!r} must be a list of image ids, got {short_repr(ids)}" for name, ids in splits.items()
         if not (isinstance(ids, list) and all(map(is_integer, ids)))], hint)
    raise_first(
        [f"{file}: split {name!r} must list an image once, got image id {id_} twice"
         for name, ids in splits.items() for id_ in repeated(ids)], MEND)

    def choose(ids: list[int], name: str) -> list[int]:
        present = set(ids)
        raise_first(
            [f"{file}: split {split!r} must list image ids of annotations.json, got {id_}"
             for split in splits for id_ in splits[split] if id_ not in present], MEND)
        return splits[name]

    return {name: replace(everything, choose=partial(choose, name=name)) for name in splits}


def names_split(name: str) -> bool:
    return name.casefold().startswith(tuple(DISJOINT))


def coco_sources(folder: Path) -> dict[str, Source]:
    """One split per file. A lone file that names no split, such as CVAT's instances_default.json, is drawn."""
    files = sorted(folder.glob("annotations/instances_*.json")) or [
        file for file in sorted(folder.glob("annotations/*.json")) if not file.name.startswith(NOT_BOXES)
    ] or [file for file in sorted(folder.glob("*.json")) if names_split(file.stem)]
    found = {}
    for file in files:
        name = file.stem.removeprefix("instances_")
        images = first_folder(*(folder / place for place in (name, f"images/{name}", f"data/{name}", "images", "data")))
        found[name] = Source(file, images, published=True)
    if len(found) == 1 and not any(map(names_split, found)):
        return lone_sources(*found.values())
    return found


def folder_sources(folder: Path) -> dict[str, Source]:
    files = {path.parent.name: path for name in reversed(OF_SPLIT) for path in sorted(folder.glob(f"*/{name}"))}
    return {
        name: Source(file, first_folder(*(file.parent / place for place in (
            (".",) if file.name == OF_SPLIT[0] else ("data", "images", ".")))))
        for name, file in sorted(files.items())
    }


def draw(ids: Sequence[int], parts: dict[str, float]) -> dict[str, list[int]]:
    """Disjoint parts, whatever the order of ``ids``; none is empty if there are enough ids."""
    salt = "/".join(parts)  # draws with other part names are independent
    shuffled = sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}:{id_}".encode()).digest())
    counts = np.diff(np.rint(np.cumsum([0, *parts.values()]) * len(shuffled)).astype(int))
    while len(shuffled) >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    chunks = np.split(np.array(shuffled, dtype=object), np.cumsum(counts)[:-1])
    return {name: chunk.tolist() for name, chunk in zip(parts, chunks, strict=True)}
