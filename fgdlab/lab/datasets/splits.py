"""Which images belong to a split: three folder layouts, lists of ids, and draws by hash.

    folder --sources--> {split: Source(JSON file, image folder, choose: all image ids -> ids of the split)}

    annotations.json, images/, optionally splits.json {name: [image ids]}      any data set, also the built-in digits
    annotations/instances_<split>.json, <split>/                               COCO's layout, such as train2017, val2017
    <split>/_annotations.coco.json beside its images                           Roboflow's exports; valid is also val
"""
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError, raise_first, short_repr
from .coco_json import EXPORT, MEND, is_integer, read_json, repeated

DRAWN_PARTS = {"train": 0.70, "tune": 0.15, "val": 0.15}  # fractions, without splits.json
TRAIN_PARTS = {"train-fit": 0.80, "train-tune": 0.20}  # fractions of train: to tune without touching val
DISJOINT = ("train", "tune", "val", "test")  # a note warns where two of these share images


@dataclass(frozen=True)
class Source:
    """Where a split comes from.

    choose: the sorted image ids of the file -> the ids of the split.
    published: COCO's own file, whose known defects are accepted.
    notes: what the user should know about the choice.
    """

    file: Path
    image_folder: Path
    choose: Callable[[list[int]], list[int]] = list
    published: bool = False
    notes: tuple[str, ...] = ()


def sources(folder: Path) -> dict[str, Source]:
    """All splits of a folder by name.

    Raises:
        UserError: the folder has none of the layouts.
    """
    if not folder.is_dir():
        got = "a file; give the folder that holds it" if folder.exists() else "nothing there; correct the path"
        raise UserError(f"{folder} must be a folder with annotations.json and images/, got {got}")
    if (folder / "annotations.json").is_file():
        found = plain_sources(folder)
    else:
        found = coco_sources(folder) or roboflow_sources(folder)
    if not found:
        present = sorted(path.name + "/" * path.is_dir() for path in folder.iterdir())
        shown = ", ".join(map(repr, present[:8])) + (f" and {len(present) - 8} more" if len(present) > 8 else "")
        raise UserError(
            f"{folder} must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or "
            f"<split>/_annotations.coco.json beside its images, got {shown or 'an empty folder'}; give the folder that "
            f"holds them, or {EXPORT}"
        )
    if "train" in found and not TRAIN_PARTS.keys() & found.keys():
        train = found["train"]
        for name in TRAIN_PARTS:
            found[name] = replace(train, choose=lambda ids, name=name: draw(train.choose(ids), TRAIN_PARTS)[name])
    return found


def plain_sources(folder: Path) -> dict[str, Source]:
    everything = Source(folder / "annotations.json", folder / "images")
    if (folder / "splits.json").exists():
        return {"all": everything, **listed_sources(everything, folder / "splits.json")}
    note = (
        "annotations.json came without splits.json: "
        "train, tune and val were drawn 70/15/15 by a hash of the image id"
    )
    found = {
        name: replace(everything, choose=lambda ids, name=name: draw(ids, DRAWN_PARTS)[name], notes=(note,))
        for name in DRAWN_PARTS
    }
    return {**found, "all": everything}


def listed_sources(everything: Source, file: Path) -> dict[str, Source]:
    listed = read_json(file)
    hint = 'write {"train": [1, 2], "val": [3]}'
    if not isinstance(listed, dict):
        must = "must be an object of split names with lists of image ids"
        raise UserError(f"{file} {must}, got {short_repr(listed)}; {hint}")
    raise_first(
        [f"{file}: split {name!r} must be a list of image ids, got {short_repr(ids)}" for name, ids in listed.items()
         if not (isinstance(ids, list) and all(map(is_integer, ids)))], hint,
    )
    raise_first(
        [f"{file}: split {name!r} must list an image once, got image id {id_} twice"
         for name, ids in listed.items() for id_ in repeated(ids)], MEND,
    )

    def choose(ids: list[int], name: str) -> list[int]:
        present = set(ids)
        raise_first(
            [f"{file}: split {split!r} must list image ids of annotations.json, got {id_}"
             for split in listed for id_ in listed[split] if id_ not in present], MEND,
        )
        return listed[name]

    def notes(name: str) -> tuple[str, ...]:
        others = [other for other in DISJOINT if name in DISJOINT and other in listed and other != name]
        shared = {other: len(set(listed[name]) & set(listed[other])) for other in others}
        return tuple(
            f"{count} of the images of {name} are in {other} too: see splits.json"
            for other, count in shared.items() if count
        )

    return {
        name: replace(everything, choose=lambda ids, name=name: choose(ids, name), notes=notes(name)) for name in listed
    }


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
    """One folder per split with annotations beside the images."""
    found = {file.parent.name: Source(file, file.parent) for file in sorted(folder.glob("*/_annotations.coco.json"))}
    if "valid" in found:
        found.setdefault("val", found["valid"])
    return found


def draw(ids: Sequence[int], parts: dict[str, float]) -> dict[str, list[int]]:
    """Deal ids out in the order of their hashes: disjoint parts, whatever the order of ``ids``.

    Each part's size is within one of its fraction. No part is empty if there are enough ids.
    """
    salt = "/".join(parts)  # draws with other part names are independent
    shuffled = sorted(ids, key=lambda id_: hashlib.sha256(f"{salt}:{id_}".encode()).digest())
    counts = np.diff(np.rint(np.cumsum([0, *parts.values()]) * len(shuffled)).astype(int))
    while len(shuffled) >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    chunks = np.split(np.array(shuffled, dtype=object), np.cumsum(counts)[:-1])
    return {name: chunk.tolist() for name, chunk in zip(parts, chunks, strict=True)}
