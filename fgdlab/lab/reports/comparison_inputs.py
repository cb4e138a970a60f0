"""The detections of two detectors and the ground truth they are evaluated on, read and checked.

    two run folders | two files of detections and a file of ground truth | two rows of a sweep --> ComparisonInputs
"""
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..datasets import DetectionDataset, box_table, is_finite, is_integer, open_split, read_document, read_json
from ..errors import UserError, raise_first, short_repr, unknown_name
from ..io import checked_read
from ..run import RunFolder

KEYS = ("image_id", "category_id", "bbox", "score")
EXPORT = "give a list in COCO's result format, as a run's detections.json"


@dataclass(frozen=True)
class ComparisonPair:
    """Detections of one run of each side, in COCO's result format. ``label``: their seed, or another name."""

    label: str
    detections_a: list[dict]
    detections_b: list[dict]


@dataclass(frozen=True)
class ComparisonInputs:
    """Two sides on the images ``image_ids`` of a COCO ``ground_truth``. ``data`` and ``notes`` are for the reader."""

    name_a: str
    name_b: str
    pairs: list[ComparisonPair]
    ground_truth: dict
    image_ids: list[int]
    data: str
    notes: list[str]


def read_detections(file: Path) -> list[dict]:
    """A file of detections, each checked.

    Raises:
        UserError: not JSON, no list, empty, or an entry that is no detection.
    """
    detections = read_json(file)
    if not isinstance(detections, list):
        raise UserError(f"{file} must hold a list of detections, got {short_repr(detections)}; {EXPORT}")
    if not detections:
        raise UserError(f"{file} must hold at least one detection, got an empty list; without any, AP is 0")

    def check(valid: Callable[[dict], bool], expected: str, key: str = "") -> None:
        raise_first([
            f"{file}: detection {number} must {expected}, got {short_repr(each[key] if key else each)}"
            for number, each in enumerate(detections, start=1) if not valid(each)
        ], EXPORT)

    check(lambda each: isinstance(each, dict) and set(KEYS) <= set(each), f"be an object with {', '.join(KEYS)}")
    for key in KEYS[:2]:
        check(lambda each, key=key: is_integer(each[key]), f"have a whole number as {key!r}", key)
    check(lambda each: is_box(each["bbox"]), "have x, y, width, height as 'bbox'", "bbox")
    check(lambda each: is_finite(each["score"]), "have a finite 'score'", "score")
    return detections


def is_box(value) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_finite, value)) and min(value[2:]) >= 0


def read_ground_truth(file: Path) -> dict:
    """A checked COCO file; missing ``iscrowd`` and ``area`` are filled in for pycocotools."""
    document = read_document(file)
    if not document["images"] or not document["annotations"]:
        counts = f"{len(document['images'])} and {len(document['annotations'])}"
        raise UserError(f"{file} must hold images and annotations, got {counts}; give the ground truth of the split")
    box_table(document, file, allow_empty=True)
    annotations = []
    for each in document["annotations"]:
        area = each["bbox"][2] * each["bbox"][3] if each.get("area") is None else each["area"]
        annotations.append({**each, "iscrowd": each.get("iscrowd") or 0, "area": area})
    return {"images": document["images"], "categories": document["categories"], "annotations": annotations}


def check_ids(detections: list[dict], ground_truth: dict, name: str) -> None:
    """Raise a UserError if a detection has an image or a category that the ground truth does not have."""
    images, categories = ({each["id"] for each in ground_truth[part]} for part in ("images", "categories"))
    unknown = {each["image_id"] for each in detections} - images
    if unknown:
        raise UserError(
            f"{name} must be of the {len(images)} images of the ground truth, got {len(unknown)} other image ids, "
            f"the first {min(unknown)}; run both sides on the images of one file of ground truth"
        )
    unknown = {each["category_id"] for each in detections} - categories
    if unknown:
        raise UserError(
            f"{name} must have category ids among {short_repr(sorted(categories))}, got {short_repr(sorted(unknown))}; "
            "write the ids of the ground truth, not the network's labels"
        )


def comparison_of_files(a: Sequence[Path], b: Sequence[Path], truth: Path | None = None) -> ComparisonInputs:
    """The k-th path of A against the k-th of B: folders of finished runs, or files of detections with ground truth.

    Raises:
        UserError: unequal numbers, a wrong path, runs on different images, files without ground truth.
    """
    if len(a) != len(b):
        raise UserError(f"both sides must have as many runs, got {len(a)} and {len(b)}; name them seed by seed")
    names = [str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more" for paths in (a, b)]
    if truth is None:
        files = [str(path) for path in (*a, *b) if path.is_file()]
        if files:
            raise UserError(f"{files[0]} must come with its ground truth, got none; add --truth ANNOTATIONS.json")
        return comparison_of_runs(a, b, *names)
    files_a, files_b = ([path / "detections.json" if path.is_dir() else path for path in paths] for paths in (a, b))
    ground_truth = read_ground_truth(truth)
    labels = [str(number) for number in range(1, len(a) + 1)] if len(a) > 1 else ["one pair"]
    image_ids = [each["id"] for each in ground_truth["images"]]
    pairs, notes = read_pairs(labels, files_a, files_b, ground_truth, image_ids)
    return ComparisonInputs(*names, pairs, ground_truth, image_ids, f"{truth.name}, {len(image_ids)} images", notes)


def read_pairs(
    labels: list[str], files_a: list[Path], files_b: list[Path], ground_truth: dict, image_ids: list[int],
) -> tuple[list[ComparisonPair], list[str]]:
    """The pairs, and a note if some images have no detection."""
    pairs, seen = [], set()
    for label, *files in zip(labels, files_a, files_b, strict=True):
        sides = [read_detections(file) for file in files]
        for detections, file in zip(sides, files, strict=True):
            check_ids(detections, ground_truth, str(file))
        images_a, images_b = ({each["image_id"] for each in detections} for detections in sides)
        if not images_a & images_b:
            raise UserError(
                f"{files[0]} and {files[1]} must be of the same images, got {len(images_a)} and {len(images_b)} images "
                "and none in both; run both on one split"
            )
        seen |= images_a | images_b
        pairs.append(ComparisonPair(label, *sides))
    empty = len(set(image_ids) - seen)
    note = (
        f"{empty} of {len(image_ids)} images have no detection of either side, and are evaluated so. "
        "If no detector saw them, remove them from the ground truth."
    )
    return pairs, [note] if empty else []


def comparison_of_runs(a: Sequence[Path], b: Sequence[Path], name_a: str, name_b: str) -> ComparisonInputs:
    """Finished runs against finished runs, paired by seed; the ground truth is read from the data of the runs."""
    results_a, results_b = ([finished(folder) for folder in folders] for folders in (a, b))
    first = results_a[0]
    for folder, result in zip((*a, *b), (*results_a, *results_b), strict=True):
        if result["data_hashes"]["eval"] != first["data_hashes"]["eval"]:
            raise UserError(
                f"all runs must be evaluated on the same images, got {first['data_line']!r} in {a[0]} and "
                f"{result['data_line']!r} in {folder}; compare runs of one split and size"
            )
    seeds_a, seeds_b = ([result["settings"]["seed"] for result in results] for results in (results_a, results_b))
    if len(a) > 1 and (sorted(seeds_a) != sorted(seeds_b) or len(set(seeds_a)) < len(seeds_a)):
        raise UserError(
            f"each seed must have one run on both sides, got seeds {seeds_a} and {seeds_b}; name runs of the same seeds"
        )
    dataset = evaluation_set(a[0], first)
    ground_truth, notes = dataset.ground_truth(), []
    if seeds_a == seeds_b or len(a) > 1:
        labels = [f"seed {seed}" for seed in sorted(seeds_a)]
    else:
        labels = ["one pair"]
        notes.append(f"The two runs have different seeds, {seeds_a[0]} and {seeds_b[0]}; this adds seed variance.")
    files_a, files_b = (
        [folder / "detections.json" for _, folder in sorted(zip(seeds, folders, strict=True))]
        for seeds, folders in ((seeds_a, a), (seeds_b, b))
    )
    pairs, more = read_pairs(labels, files_a, files_b, ground_truth, dataset.image_ids)
    return ComparisonInputs(name_a, name_b, pairs, ground_truth, dataset.image_ids, first["data_line"], [*notes, *more])


def evaluation_set(folder: Path, result: dict) -> DetectionDataset:
    """The data set on which a finished run was evaluated, with the ``result`` of :func:`finished`.

    Raises:
        UserError: images or annotations have changed since.
    """
    config = RunConfig.of(result["settings"])
    dataset = open_split(config, config.eval_split)
    if dataset.content_hash() != result["data_hashes"]["eval"]:
        raise UserError(
            f"the data of {folder} must be those of its evaluation, got other images or annotations in "
            f"{config.data!r}; restore them, or run again"
        )
    return dataset


def finished(folder: Path) -> dict:
    """The result of a finished run."""
    if not folder.is_dir():
        problem = f"{folder} must be the folder of a finished run or a file of detections, got neither"
        raise UserError(f"{problem}; correct the path")
    if not RunFolder(folder).has("result.json") or not (folder / "detections.json").is_file():
        raise UserError(f"{folder} must hold result.json and detections.json of a finished run, got none; run it first")
    result = RunFolder(folder).result()
    with checked_read(folder / "result.json"):
        result["data_hashes"]["eval"], result["settings"]["seed"], result["data_line"]
    return result


def comparison_of_rows(sweep, a: str, b: str, scale: str, out: Path | None = None) -> ComparisonInputs:
    """Two rows of a sweep, over all seeds that are done in both.

    Raises: UserError: an unknown row, or no seed with runs of both rows in the folder (committed results have no
        detections).
    """
    from ..sweeps import plan, runs_folder

    for row in (a, b):
        if row not in sweep.rows:
            raise unknown_name("row", row, sweep.rows)
    folder = Path(out or runs_folder(sweep, scale))
    runs = [run for run in plan(sweep, folder, scale=scale) if run.row in (a, b) and run.state() == "done"]
    done = {(run.row, run.seed): run.folder for run in runs}
    seeds = [seed for seed in sweep.seeds if (a, seed) in done and (b, seed) in done]
    if not seeds:
        raise UserError(
            f"{folder} must hold finished runs of {a!r} and {b!r} with a common seed, got none; "
            f"run `fgdlab sweep {sweep.name}` first"
        )
    folders_a, folders_b = ([done[row, seed] for seed in seeds] for row in (a, b))
    return comparison_of_runs(folders_a, folders_b, sweep.rows[a].label, sweep.rows[b].label)
