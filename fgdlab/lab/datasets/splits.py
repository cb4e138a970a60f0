"""Which images belong to a split: three folder layouts, lists of ids, and draws by hash.

    folder --sources--> {split: Source(JSON file, image folder, choose: all image ids -> ids of the split)}

    annotations.json, images/, optionally splits.json {name: [image ids]}      any data set, also the built-in digits
    annotations/instances_<split>.json, <split>/                               COCO's layout, such as train2017, val2017
    <split>/_annotations.coco.json beside its images                           Roboflow's exports; valid is also val
"""
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from ..errors import UserError, listed, raise_first, short_repr
from .coco_json import EXPORT, MEND, is_integer, read_json, repeated

DRAWN_PARTS = {"train": 0.70, "tune": 0.15, "val": 0.15}  # fractions, without splits.json
TRAIN_PARTS = {"train-fit": 0.80, "train-tune": 0.20}  # fractions of train: to tune without touching val
DISJOINT = {"train", "tune", "val", "test"}  # a note warns where two of these share images


@dataclass(frozen=True)
class Source:
    """Where a split comes from."""

    file: Path
    image_folder: Path
    choose: Callable[[list[int]], list[int]] = list  # the sorted image ids of the file -> the ids of the split
    published: bool = False  # COCO's own file, whose known defects are accepted
    notes: tuple[str, ...] = ()  # what the user should know about the choice


def sources(folder: Path) -> dict[str, Source]:
    """All splits of a folder by name. Raises UserError where the folder has none of the layouts."""
    if not folder.is_dir():
        got = "a file; give the folder that holds it" if folder.exists() else "nothing there; correct the path"
        raise UserError(f"{folder} must be a folder with annotations.json and images/, got {got}")
    if (folder / "annotations.json").is_file():
        found = plain_sources(folder)
    else:
        found = coco_sources(folder) or roboflow_sources(folder)
    if not found:
        present = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = listed([repr(name) for name in present], most=8)
        raise UserError(
            f"{folder} must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
            f"<split>/_annotations.coco.json beside its images, got {shown or 'an empty folder'}; give the folder that "
            f"holds them, or {EXPORT}"
        )
    if "train" in found and not TRAIN_PARTS.keys() & found.keys():
        found |= drawn_sources(found["train"], TRAIN_PARTS)
    return found


def plain_sources(folder: Path) -> dict[str, Source]:
    everything = Source(folder / "annotations.json", folder / "images")
    if (folder / "splits.json").exists():
        return {"all": everything, **listed_sources(everything, folder / "splits.json")}
    drawn = "train, tune and val were drawn 70/15/15 by a hash of the image id"
    everything_drawn = replace(everything, notes=(f"annotations.json came without splits.json: {drawn}",))
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
         if not (isinstance(ids, list) and all(map(is_integer, ids)))], hint,
    )
    raise_first(
        [f"{file}: split {name!r} must list an image once, got image id {id_} twice"
         for name, ids in splits.items() for id_ in repeated(ids)], MEND,
    )

    def choose(ids: list[int], name: str) -> list[int]:
        present = set(ids)
        raise_first(
            [f"{file}: split {split!r} must list image ids of annotations.json, got {id_}"
             for split in splits for id_ in splits[split] if id_ not in present], MEND,
        )
        return splits[name]

    def notes(name: str) -> tuple[str, ...]:
        others = splits.keys() & DISJOINT - {name} if name in DISJOINT else ()
        shared = {other: len(set(splits[name]) & set(splits[other])) for other in sorted(others)}
        return tuple(
            f"{count} of the images of {name} are in {other} too: see splits.json"
            for other, count in shared.items() if count
        )

    return {name: replace(everything, choose=partial(choose, name=name), notes=notes(name)) for name in splits}


def coco_sources(folder: Path) -> dict[str, Source]:
    """One split per file. train and val are short names if only one file name starts so."""
    files = {path.stem.removeprefix("instances_"): path for path in sorted(folder.glob("annotations/instances_*.json"))}
    found = {name: Source(file, folder / name, published=True) for name, file in files.items()}
    for short_name in ("train", "val"):
        matches = [name for name in files if name.startswith(short_name)]
        if len(matches) == 1:
            found.setdefault(short_name, found[matches[0]])
    return found


def roboflow_sources(folder: Path) -> dict[str, Source]:
    found = {file.parent.name: Source(file, file.parent) for file in sorted(folder.glob("*/_annotations.coco.json"))}
    if "valid" in found:
        found.setdefault("val", found["valid"])
    return found


def draw(ids: Sequence[int], parts: dict[str, float]) -> dict[str, list[int]]:
    """Disjoint parts, whatever the order of ``ids``. No part is empty if there are enough ids."""
    salt = "/".join(parts)  # draws with other part names are independent
    shuffled = sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}:{id_}".encode()).digest())
    counts = np.diff(np.rint(np.cumsum([0, *parts.values()]) * len(shuffled)).astype(int))
    while len(shuffled) >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    chunks = np.split(np.array(shuffled, dtype=object), np.cumsum(counts)[:-1])
    return {name: chunk.tolist() for name, chunk in zip(parts, chunks, strict=True)}
