"""Which images belong to a split: the three layouts of a data folder, lists of ids, and draws by hash.

    folder --sources--> {split: Source(JSON file, image folder, choose: all image ids -> those of the split)}

    annotations.json, images/, perhaps splits.json {name: [image ids]}      any data set, the built-in digits among them
    annotations/instances_<split>.json, <split>/                            COCO's own, e.g. train2017 and val2017
    <split>/_annotations.coco.json beside its images                        as Roboflow exports; valid is val for short
"""
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from ..errors import UserError, raise_first, short_repr
from .coco_json import EXPORT, MEND, is_integer, read_json, repeated

DRAWN_PARTS = {"train": 0.70, "tune": 0.15, "val": 0.15}                   # shares, where annotations.json comes without splits.json
TRAIN_PARTS = {"train-fit": 0.80, "train-tune": 0.20}                    # shares of train: hyper-parameters are chosen without touching val
REPORTED = ("train", "tune", "val", "test")                          # a note warns where two of these share images


@dataclass(frozen=True)
class Source:
    """Where a split comes from. ``choose`` takes the sorted image ids of the file and returns those of the split.

    published: COCO's own files, which are taken with their known flaws. notes: what the reader should know about the choice.
    """

    file: Path
    image_folder: Path
    choose: Callable[[list[int]], list[int]] = list
    published: bool = False
    notes: tuple[str, ...] = ()


def sources(folder: Path) -> dict[str, Source]:
    """Every split that the folder offers, by name. Raises UserError where the folder has none of the layouts."""
    if not folder.is_dir():
        got = "a file; give the folder that holds it" if folder.exists() else "nothing there; correct the path"
        raise UserError(f"{folder} must be a folder with annotations.json and images/, got {got}")
    found = plain_sources(folder) if (folder / "annotations.json").is_file() else coco_sources(folder) or roboflow_sources(folder)
    if not found:
        present = sorted(each.name + "/" * each.is_dir() for each in folder.iterdir())
        shown = ", ".join(map(repr, present[:8])) + (f" and {len(present) - 8} more" if len(present) > 8 else "")
        raise UserError(
            f"{folder} must hold annotations.json and images/, or annotations/instances_<split>.json and <split>/, or <split>/_annotations.coco.json "
            f"beside its images, got {shown or 'an empty folder'}; give the folder that holds them, or {EXPORT}"
        )
    if "train" in found and not TRAIN_PARTS.keys() & found.keys():
        train = found["train"]
        for name in TRAIN_PARTS:
            found[name] = replace(train, choose=lambda ids, name=name: drawn(train.choose(ids), TRAIN_PARTS)[name])
    return found


def plain_sources(folder: Path) -> dict[str, Source]:
    everything = Source(folder / "annotations.json", folder / "images")
    if (folder / "splits.json").exists():
        return {"all": everything, **listed_sources(everything, folder / "splits.json")}
    notes = ("annotations.json came without splits.json: train, tune and val were drawn 70/15/15 by a hash of the image id",)
    return {**{name: replace(everything, choose=lambda ids, name=name: drawn(ids, DRAWN_PARTS)[name], notes=notes) for name in DRAWN_PARTS}, "all": everything}


def listed_sources(everything: Source, file: Path) -> dict[str, Source]:
    listed = read_json(file)
    hint = 'write {"train": [1, 2], "val": [3]}'
    if not isinstance(listed, dict):
        raise UserError(f"{file} must be an object of split names with lists of image ids, got {short_repr(listed)}; {hint}")
    bad = [(name, ids) for name, ids in listed.items() if not (isinstance(ids, list) and all(map(is_integer, ids)))]
    raise_first([f"{file}: split {name!r} must be a list of image ids, got {short_repr(ids)}" for name, ids in bad], hint)
    twice = [(name, each) for name, ids in listed.items() for each in repeated(ids)]
    raise_first([f"{file}: split {name!r} must list an image once, got image id {each} twice" for name, each in twice], MEND)

    def choose(ids: list[int], name: str) -> list[int]:
        there = set(ids)
        unknown = [(split, each) for split in listed for each in listed[split] if each not in there]
        raise_first([f"{file}: split {split!r} must list image ids of annotations.json, got {each}" for split, each in unknown], MEND)
        return listed[name]

    def notes(name: str) -> tuple[str, ...]:
        shared = {other: len(set(listed[name]) & set(listed[other])) for other in REPORTED if name in REPORTED and other in listed and other != name}
        return tuple(f"{count} of the images of {name} are in {other} too: see splits.json" for other, count in shared.items() if count)

    return {name: replace(everything, choose=lambda ids, name=name: choose(ids, name), notes=notes(name)) for name in listed}


def coco_sources(folder: Path) -> dict[str, Source]:
    """One split a file; train and val serve as short names where one file alone can be meant."""
    files = {each.stem.removeprefix("instances_"): each for each in sorted((folder / "annotations").glob("instances_*.json"))}
    found = {name: Source(file, folder / name, published=True) for name, file in files.items()}
    for short_name in ("train", "val"):
        meant = [name for name in files if name.startswith(short_name)]
        if len(meant) == 1:
            found.setdefault(short_name, found[meant[0]])
    return found


def roboflow_sources(folder: Path) -> dict[str, Source]:
    """One folder a split, its annotations beside its images."""
    found = {file.parent.name: Source(file, file.parent) for file in sorted(folder.glob("*/_annotations.coco.json"))}
    if "valid" in found:
        found.setdefault("val", found["valid"])
    return found


def drawn(ids: Sequence[int], shares: dict[str, float]) -> dict[str, list[int]]:
    """Deal ids out in the order of their hashes: disjoint parts, each within one of its share, whatever order the ids came in.

    Each part has an id where there is one for each.
    """
    salt = "/".join(shares)                                          # draws with other names do not depend on this one
    dealt = sorted(ids, key=lambda each: hashlib.sha256(f"{salt}:{each}".encode()).digest())
    counts = np.diff(np.rint(np.cumsum([0, *shares.values()]) * len(dealt)).astype(int))
    while len(dealt) >= len(counts) and counts.min() == 0:
        counts[counts.argmax()] -= 1
        counts[counts.argmin()] += 1
    ends = np.cumsum(counts).tolist()
    return {name: dealt[first:last] for name, first, last in zip(shares, [0, *ends[:-1]], ends, strict=True)}
