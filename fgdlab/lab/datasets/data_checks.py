"""One catalogue of checks over data, for ``data check``, ``doctor`` and the head of every run and sweep.

A check gives one or more sentences where a split is worse than its threshold: none on COCO, BCCD and playing cards.
"""
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from typing import NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from ..errors import UserError, listed
from ..io import cache_root, short_hash, write_json
from .dataset import DetectionDataset
from .images import decoding, orientation, read_image

LEVELS = ("refuse", "warn", "note")
HEADERS, DECODED = 200, 8  # files per split whose EXIF is read, whose pixels are looked at
FEWEST = 10  # boxes whose places say something
LEAST_SIDE = 4  # pixels of an object's shorter side
COUNTED = 100  # detections of a class per image that COCO's AP counts
CHECKS: list[tuple] = []


class Finding(NamedTuple):

    level: str  # one of LEVELS
    name: str
    sentence: str
    remedy: str

    def __str__(self) -> str:
        return f"{self.name}: {self.sentence}; {self.remedy}"


class Part:
    """One split as arrays. ``before``: splits that were named before it; the first of all is learned from."""

    def __init__(self, split: str, dataset: DetectionDataset, before: list["Part"], met, resized, kept: int):
        self.split, self.dataset, self.before = split, dataset, before
        self.met, self.resized, self.kept = met, resized, kept
        self.learned = before[0] if before else self
        found, rows = dataset.annotations, [np.zeros((0, 8))]
        for i, entry in enumerate(dataset.entries):
            kept = ~found.crowd[entry["id"]]
            rest = np.tile([entry["width"], entry["height"], i], (kept.sum(), 1))
            rows.append(np.column_stack([found.boxes[entry["id"]][kept], rest, found.labels[entry["id"]][kept]]))
        *corners, self.width, self.height, self.image, self.label = self.rows = np.concatenate(rows).T
        self.near, self.far = np.array(corners[:2]), np.array(corners[2:])  # (2, K) pixels of the file
        self.borders = np.array([self.width, self.height])
        self.count = len(self.label)
        self.crowds = sum(int(found.crowd[id_].sum()) for id_ in dataset.image_ids)
        self.per_class = np.bincount(self.label.astype(int), minlength=len(dataset.classes) + 1)[1:]

    @cached_property
    def sizes(self) -> np.ndarray:
        """(K, 2) widths and heights in pixels as the detector sees them."""
        scale = np.minimum(1, (self.dataset.long_side or np.inf) / self.borders.max(0))
        if self.resized[0]:
            scale = np.minimum(self.resized[0] / self.borders.min(0), self.resized[1] / self.borders.max(0))
        return ((self.far - self.near) * scale).T

    def files(self, most: int) -> list[tuple]:
        entries, folder = self.dataset.entries, self.dataset.annotations.image_folder
        return [(folder / entry["file_name"], entry) for entry in entries[::max(len(entries) // most, 1)][:most]]


def check(level: str, threshold: float, remedy: str):
    def add(function):
        CHECKS.append((level, function.__name__.replace("_", " "), threshold, remedy, function))
        return function
    return add


def examine(
    parts: dict[str, DetectionDataset], met: Callable[[np.ndarray], float] | None = None,
    resized: tuple[int, int] = (0, 0), kept: int = 100,
) -> list[Finding]:
    """What all checks find.

    Args:
        parts: split -> data set; the first one is learned from.
        met: (K, 2) widths and heights in pixels -> share that an anchor meets at IoU 0.5; None: no anchors.
        resized: (short side, longest side) in pixels to which the detector resizes; 0: it does not.
        kept: detections per image that the detector keeps.
    """
    before: list[Part] = []
    for split, dataset in parts.items():
        before.append(Part(split, dataset, before[:], met, resized, kept))
    found = []
    for level, name, threshold, remedy, function in CHECKS:
        splits: dict[str, list[str]] = {}
        for part in before:
            said = function(part, threshold) or []
            for sentence in [said] if isinstance(said, str) else said:
                splits.setdefault(sentence, []).append(part.split)
        if splits:
            text = "; ".join(f"in {listed(names, most=9)}, {sentence}" for sentence, names in splits.items())
            found.append(Finding(level, name, text, remedy))
    return sorted(found, key=lambda finding: LEVELS.index(finding.level))


def refuse_data(findings: Sequence[Finding], say: Callable[[str], None]) -> None:
    for finding in findings:
        if finding.level == "refuse":
            must = f"data must pass the check {finding.name!r}"
            raise UserError(f"{must}, got: {finding.sentence}; {finding.remedy}")
        if finding.level == "warn":
            say(f"worth a look: {finding}")


# --- objects ---

def lacks_objects(part: Part, least: float) -> str | None:
    crowds = f" but {part.crowds} crowd regions" if part.crowds else ""
    return f"none{crowds}" if part.count < least else None


@check("refuse", 1, "give a split with objects, or set iscrowd to 0")
def objects_to_learn(part: Part, least: float):
    return lacks_objects(part, least) if part.learned is part else None


@check("warn", 1, "its AP is no number; give a split with objects")
def objects_to_evaluate(part: Part, least: float):
    return lacks_objects(part, least) if part.learned is not part else None


@check("warn", 0, "give them one name if they are one class")
def classes_of_nearly_one_name(part: Part, most: float):
    spelt: dict[str, list[str]] = {}
    for name in part.dataset.classes:
        spelt.setdefault(name.casefold().strip(), []).append(repr(name))
    return listed([name for names in spelt.values() if len(names) > 1 for name in names]) or None


@check("warn", 1, "add images of them to the training split, or remove the class")
def classes_that_are_not_learned(part: Part, least: float):
    counts = zip(part.dataset.classes, part.learned.per_class, part.per_class, strict=True)
    lacking = [name for name, learned, here in counts if learned < least <= here]
    return f"objects of {listed(lacking)}" if lacking else None


@check("note", 10, "their AP varies much")
def classes_with_few_objects(part: Part, least: float):
    counts = zip(part.dataset.classes, part.per_class, strict=True)
    rare = [f"{name} {count}" for name, count in counts if count < least]
    return listed(rare, most=6) if rare and part.learned is part else None


@check("warn", 0.5, "they are learned as background; take them out if nobody labelled them")
def images_without_objects(part: Part, most: float):
    empty, total = len(part.dataset) - len(np.unique(part.image)), len(part.dataset)
    return f"{empty} of {total}" if empty > most * total and part.count else None


@check("warn", 95, "cut the images into tiles")
def more_objects_than_are_kept(part: Part, least: float):
    """AP is at most the mean over the classes of (100 recall + 1) / 101, at the recall that the kept ones can have."""
    (image, label), counts = np.unique(part.rows[[6, 7]].astype(int), axis=1, return_counts=True)
    total = part.per_class[label - 1]
    order = np.lexsort([total, image])  # of an image, objects of rare classes first: each adds most
    image, total, counted = image[order], total[order], np.minimum(counts[order], COUNTED)
    before = counted.cumsum() - counted
    found = np.clip(part.kept - before + before[np.searchsorted(image, image)], 0, counted)
    bound = (100 * (found / total).sum() / max((part.per_class > 0).sum(), 1) + 1) / 1.01
    if not part.count or bound >= least:
        return None
    limits = f"AP counts {COUNTED} of a class, the detector keeps {part.kept} in all"
    return f"up to {np.bincount(image, counts[order]).max():.0f} per image; {limits}, so AP cannot exceed {bound:.1f}"


@check("warn", 0.05, "remove the copies, which count as misses")
def boxes_stated_twice(part: Part, most: float):
    copies = part.count - np.unique(part.rows, axis=1).shape[1]
    return f"{copies} of {part.count}" if copies > most * part.count else None


# --- coordinates ---

@check("refuse", 0.9, "multiply x and width by the width of the image, y and height by its height")
def boxes_look_normalised(part: Part, share: float):
    inside = ((part.near <= 1) & (part.far <= 2)).all(0).sum()
    return f"{inside} of {part.count} lie within 0..1" if part.count and inside >= share * part.count else None


def past_far_border(part: Part, share: float) -> bool:
    """Do so many boxes end at the right or lower border, and far fewer begin at the left or upper one?"""
    far, near = (part.far >= part.borders).any(0), (part.near <= 0).any(0)
    return part.count >= FEWEST and far.mean() >= max(share, 3 * near.mean())


@check("warn", 0.2, "write x, y, width, height: subtract x and y from the last two numbers")
def boxes_look_like_corners(part: Part, share: float):
    wide = (part.far >= np.minimum(2 * part.near, part.borders)).all()
    return "every width and height is above x and y" if wide and past_far_border(part, share) else None


@check("warn", 0.1, "subtract half of width and height from x and y")
def boxes_look_like_centres(part: Part, share: float):
    inner = (part.near + 0.01 >= (part.far - part.near) / 2).all()
    return "every x and y is above half of width and height" if inner and past_far_border(part, share) else None


@check("warn", 0.55, "look for numbers in per cent, or for images of another size")
def boxes_in_one_corner(part: Part, share: float):
    reach = (part.far / part.borders).max(initial=0)
    return f"all lie in the upper left {reach:.0%}" if part.count >= 2 * FEWEST and reach < share else None


@check("warn", 0.25, "the detector hardly sees such objects")
def small_objects(part: Part, most: float):
    sides = part.sizes.min(1, initial=np.inf)
    if not part.count or (sides < LEAST_SIDE).mean() <= most:
        return None
    largest = int(part.borders.max())
    wanted = (part.dataset.long_side or largest) * LEAST_SIDE / max(np.quantile(sides, 0.1), 1e-6)
    found = f"{(sides < LEAST_SIDE).mean():.0%} have under {LEAST_SIDE} px once images are shrunk"
    return f"{found}; --image-size {int(min(np.ceil(wanted / 32) * 32, largest))} avoids it"


@check("warn", 0.25, "--scale photos fits torchvision's anchors to them; or choose another --image-size")
def boxes_without_anchor(part: Part, most: float):
    missed = 1 - part.met(part.sizes) if part.met and part.count and part.learned is part else 0
    return f"{missed:.0%} of the boxes meet no anchor at IoU 0.5" if missed > most else None


# --- files ---

@check("warn", 0, "keep each image in one split: AP on images that were learned says little")
def images_in_two_splits(part: Part, most: float):
    own = {*part.dataset.file_hashes}
    shared = [(len(own & {*other.dataset.file_hashes}), other.split) for other in part.before]
    found = [f"{count} of {len(own)} that {other} has too, byte for byte" for count, other in shared if count > most]
    return listed(found) if found else None


@check("note", 0, "look with `data check --look FILE`; if boxes lie wrong, say --exif-turned")
def exif_turns(part: Part, most: float):
    turned = 0
    for path, entry in part.files(HEADERS):
        with decoding(path), Image.open(path) as image:
            undecided = image.size == (entry["width"], entry["height"]) and not entry.get("upright")
            known = image.format != "PNG" or "exif" in image.info  # else a PNG would be decoded
            turned += known and undecided and orientation(image) != 1
    return f"{turned} of {len(part.files(HEADERS))} images have a turn that is not applied" if turned > most else None


@check("warn", 64, "look at them; scale 10 or 12 bits to all 16, or save them with 8")
def dark_images(part: Part, least: float):
    folder = part.dataset.annotations.image_folder
    largest = max(int(read_image(folder, entry).max()) for _, entry in part.files(DECODED))
    return f"files reach level {largest} of 255" if largest < least else None


@check("note", 0, "correct the files if that is wrong")
def how_it_was_read(part: Part, most: float):
    return part.dataset.annotations.notes


def check_pixels(dataset: DetectionDataset) -> None:
    """Decode every image, unless equal files were decoded before. UserError: one has a defect."""
    found, entries = dataset.annotations, dataset.entries
    stated = [[entry[name] for name in ("width", "height")] + [entry.get("upright")] for entry in entries]
    mark = cache_root() / "contents" / f"decoded-{short_hash([dataset.file_hashes, stated])}.json"
    if mark.exists():
        return

    def defect(entry: dict) -> str | None:
        try:
            read_image(found.image_folder, entry)
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(os.cpu_count()) as threads:  # Pillow decodes without the interpreter's lock
        said, what = threads.map(defect, entries), f"check images of {found.split}"
        defects = list(filter(None, tqdm(said, what, len(entries), unit="image")))
    if defects:
        more = f" (and {len(defects) - 1} more of {len(dataset)} images have a defect)"
        raise UserError(defects[0] + (more if len(defects) > 1 else ""))
    write_json(mark, len(entries))
