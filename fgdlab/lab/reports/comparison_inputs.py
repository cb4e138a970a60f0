"""The detections of two detectors and the ground truth they are evaluated on, read and checked."""
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..datasets import box_table, check_values, is_finite, is_integer, read_document, read_json
from ..errors import UserError, check_name, raise_first, short_repr
from ..io import checked_read
from ..run import RunFolder, evaluation_set
from .sweep_runs import SweepRuns

EXPORT = "give a list in COCO's result format, as a run's detections.json, with the ids of the ground truth"


@dataclass(frozen=True)
class ComparisonInputs:
    """Two sides on the images ``image_ids`` of a COCO ``ground_truth``. ``data`` and ``notes`` are for the reader.

    names: of A and B. pairs: {seed or other label: detections of A and of B, in COCO's result format}.
    """

    names: tuple[str, str]
    pairs: dict[str, tuple[list[dict], list[dict]]]
    ground_truth: dict
    image_ids: list[int]
    data: str
    notes: list[str]


def read_detections(file: Path, ground_truth: dict) -> list[dict]:
    detections = read_json(file)
    if not isinstance(detections, list):
        raise UserError(f"{file} must hold a list of detections, got {short_repr(detections)}; {EXPORT}")

    def name(i: int) -> str:
        return f"{file}: detection {i + 1}"

    others = [(i, each) for i, each in enumerate(detections) if not isinstance(each, dict)]
    raise_first([f"{name(i)} must be an object, got {short_repr(each)}" for i, each in others], EXPORT)
    images, categories = ({each["id"] for each in ground_truth[part]} for part in ("images", "categories"))
    check = partial(check_values, detections, name, remedy=EXPORT)
    check("image_id", f"the 'image_id' of one of the {len(images)} images of the ground truth",
          lambda value: is_integer(value) and value in images)
    check("category_id", f"a 'category_id' among {short_repr(sorted(categories))}",
          lambda value: is_integer(value) and value in categories)
    check("bbox", "x, y, width, height as 'bbox'", is_box)
    check("score", "a finite 'score'", is_finite)
    return detections


def is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value)) and min(value[2:]) >= 0


def read_ground_truth(file: Path) -> dict:
    """A checked COCO file; missing ``iscrowd`` and ``area`` are filled in for pycocotools."""
    document = read_document(file)
    if not document["images"] or not document["annotations"]:
        counts = f"{len(document['images'])} and {len(document['annotations'])}"
        raise UserError(f"{file} must hold images and annotations, got {counts}; give the ground truth of the split")
    table = box_table(document, file, allow_empty=True)
    annotations = [
        {**each, "iscrowd": each.get("iscrowd") or 0, "area": float(area)}
        for each, area in zip(table.entries, table.areas, strict=True)
    ]
    return {"images": document["images"], "categories": document["categories"], "annotations": annotations}


def comparison_of_files(a: Sequence[Path], b: Sequence[Path], truth: Path | None = None) -> ComparisonInputs:
    """The k-th path of A against the k-th of B: folders of finished runs, or files of detections with ground truth."""
    if len(a) != len(b) or not a:
        raise UserError(f"both sides must have as many runs, got {len(a)} and {len(b)}; name them seed by seed")
    names = tuple(str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more" for paths in (a, b))
    if truth is None:
        files = [str(path) for path in (*a, *b) if path.is_file()]
        if files:
            raise UserError(f"{files[0]} must come with its ground truth, got none; add --truth ANNOTATIONS.json")
        return comparison_of_runs(a, b, names)
    ground_truth = read_ground_truth(truth)
    image_ids = [each["id"] for each in ground_truth["images"]]
    labels = list(map(str, range(1, len(a) + 1))) if len(a) > 1 else ["one pair"]
    return paired(names, labels, a, b, ground_truth, image_ids, f"{truth.name}, {len(image_ids)} images", [])


def paired(
    names: tuple[str, str], labels: list[str], a: Sequence[Path], b: Sequence[Path], ground_truth: dict,
    image_ids: list[int], data: str, notes: list[str],
) -> ComparisonInputs:
    """The detections in pairs of files or run folders, with a note if some images have no detection."""
    pairs, seen = {}, set()
    for label, *paths in zip(labels, a, b, strict=True):
        files = [path / "detections.json" if path.is_dir() else path for path in paths]
        pairs[label] = tuple(read_detections(file, ground_truth) for file in files)
        images_a, images_b = ({each["image_id"] for each in side} for side in pairs[label])
        if images_a and images_b and not images_a & images_b:
            raise UserError(
                f"{files[0]} and {files[1]} must be of the same images, got {len(images_a)} and {len(images_b)} images "
                "and none in both; run both on one split"
            )
        seen |= images_a | images_b
    empty = len(set(image_ids) - seen)
    note = (
        f"{empty} of {len(image_ids)} images have no detection of either side, and are evaluated so. "
        "If no detector saw them, remove them from the ground truth."
    )
    return ComparisonInputs(names, pairs, ground_truth, image_ids, data, [*notes, note] if empty else notes)


def comparison_of_runs(a: Sequence[Path], b: Sequence[Path], names: tuple[str, str]) -> ComparisonInputs:
    """Finished runs against finished runs, paired by seed; the ground truth is read from the data of the runs."""
    results = {folder: finished(folder) for folder in (*a, *b)}
    first = results[a[0]]
    for folder, result in results.items():
        if result["data_hashes"]["eval"] != first["data_hashes"]["eval"]:
            raise UserError(
                f"all runs must be evaluated on the same images, got {first['data_line']!r} in {a[0]} and "
                f"{result['data_line']!r} in {folder}; compare runs of one split and size"
            )
    sides = (sorted((results[folder]["settings"]["seed"], folder) for folder in side) for side in (a, b))
    (seeds_a, a), (seeds_b, b) = (map(list, zip(*side, strict=True)) for side in sides)
    if len(a) > 1 and (seeds_a != seeds_b or len(set(seeds_a)) < len(seeds_a)):
        raise UserError(
            f"each seed must have one run on both sides, got seeds {seeds_a} and {seeds_b}; name runs of the same seeds"
        )
    labels, notes = [f"seed {seed}" for seed in seeds_a], []
    if seeds_a != seeds_b:
        labels = ["one pair"]
        notes = [f"The two runs have different seeds, {seeds_a[0]} and {seeds_b[0]}; this adds seed variance."]
    dataset = evaluation_set(a[0], results[a[0]])
    return paired(names, labels, a, b, dataset.ground_truth(), dataset.image_ids, first["data_line"], notes)


def finished(folder: Path) -> dict:
    if not all((folder / name).is_file() for name in ("result.json", "detections.json")):
        raise UserError(
            f"{folder} must be the folder of a finished run, with result.json and detections.json, got another path; "
            "correct it, or run it first"
        )
    result = RunFolder(folder).result()
    with checked_read(folder / "result.json"):
        result["data_hashes"]["eval"], result["settings"]["seed"], result["data_line"]
    return result


def detections_of(folder: Path) -> list[dict]:
    with checked_read(folder / "detections.json"):
        return list(json.loads((folder / "detections.json").read_text(encoding="utf-8")))


def comparison_of_rows(runs: SweepRuns, a: str, b: str) -> ComparisonInputs:
    for row in (a, b):
        check_name("row", row, runs.sweep.rows)
    sides = [runs.finished(row) for row in (a, b)]
    seeds = sorted(sides[0].keys() & sides[1].keys())
    if not seeds:
        raise UserError(
            f"{runs.home} must hold finished runs of {a!r} and {b!r} with a common seed, got none; "
            f"run `fgdlab sweep {runs.sweep.name}` first"
        )
    labels = (runs.sweep.rows[a].label, runs.sweep.rows[b].label)
    return comparison_of_runs(*([side[seed] for seed in seeds] for side in sides), labels)
