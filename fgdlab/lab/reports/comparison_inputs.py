"""What is compared: the detections of two sides, run by run, and the truth that all of them are judged by.

    two run folders | two files of detections, a file of truth | two rows of a sweep --> Contest(name_a, name_b, rounds, truth, image_ids)
"""
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..config import RunConfig
from ..datasets import box_table, is_finite, is_integer, read_document, read_json
from ..errors import UserError, raise_first, short_repr, unknown_name
from ..io import checked_read
from ..sweeps import result_of

KEYS = ("image_id", "category_id", "bbox", "score")
EXPORT = "give a list in COCO's result format, as a run's detections.json"


@dataclass(frozen=True)
class ComparisonPair:
    """One detector of each side. ``label``: the seed of both, or what stands for it. found_a, found_b: detections in COCO's result format."""

    label: str
    found_a: list[dict]
    found_b: list[dict]


@dataclass(frozen=True)
class ComparisonInputs:
    """Two sides on the same images. truth: in COCO format. image_ids: the images to judge on. data: in words. notes: what the reader should know."""

    name_a: str
    name_b: str
    rounds: list[ComparisonPair]
    truth: dict
    image_ids: list[int]
    data: str
    notes: list[str]


def read_found(file: Path) -> list[dict]:
    """A file of detections, checked entry by entry.

    Raises:
        UserError: not JSON, no list, empty, or an entry that is no detection.
    """
    found = read_json(file)
    if not isinstance(found, list):
        raise UserError(f"{file} must hold a list of detections, got {short_repr(found)}; {EXPORT}")
    if not found:
        raise UserError(f"{file} must hold at least one detection, got an empty list; a detector that finds nothing has AP 0 without resampling")
    named = [(f"{file}: detection {number}", each) for number, each in enumerate(found, start=1)]
    raise_first([f"{name} must be an object with {', '.join(KEYS)}, got {short_repr(each)}" for name, each in named
              if not isinstance(each, dict) or any(key not in each for key in KEYS)], EXPORT)
    for key in KEYS[:2]:
        raise_first([f"{name} must have a whole number as {key!r}, got {short_repr(each[key])}" for name, each in named if not is_integer(each[key])], EXPORT)
    raise_first([f"{name} must have x, y, width, height as 'bbox', got {short_repr(each['bbox'])}" for name, each in named
              if not isinstance(each["bbox"], list) or len(each["bbox"]) != 4 or not all(map(is_finite, each["bbox"])) or min(each["bbox"][2:]) < 0], EXPORT)
    raise_first([f"{name} must have a finite 'score', got {short_repr(each['score'])}" for name, each in named if not is_finite(each["score"])], EXPORT)
    return found


def read_truth(file: Path) -> dict:
    """A COCO file of ground truth, checked; missing ``iscrowd`` and ``area`` are filled in as pycocotools wants them."""
    document = read_document(file)
    if not document["images"] or not document["annotations"]:
        raise UserError(f"{file} must hold images and annotations to judge by, got {len(document['images'])} and {len(document['annotations'])}; give the split's ground truth")
    box_table(document, file, allow_flat=True)
    sizes = [each["bbox"][2] * each["bbox"][3] for each in document["annotations"]]
    annotations = [{**each, "iscrowd": each.get("iscrowd") or 0, "area": size if each.get("area") is None else each["area"]}
                   for each, size in zip(document["annotations"], sizes, strict=True)]
    return {"images": document["images"], "categories": document["categories"], "annotations": annotations}


def check_against(found: list[dict], truth: dict, name: str) -> None:
    """Raise a UserError where a detection is of an image or a category that the truth does not have."""
    images, categories = ({each["id"] for each in truth[part]} for part in ("images", "categories"))
    strange = {each["image_id"] for each in found} - images
    if strange:
        raise UserError(f"{name} must be of the {len(images)} images of the ground truth, got {len(strange)} other image ids, the first {min(strange)}; "
                        "both sides must have been run on the images of one file of truth")
    strange = {each["category_id"] for each in found} - categories
    if strange:
        raise UserError(f"{name} must have category ids among {short_repr(sorted(categories))}, got {short_repr(sorted(strange))}; write the ids of the ground truth, not the network's labels")


def comparison_of_files(a: Sequence[Path], b: Sequence[Path], truth: Path | None = None) -> ComparisonInputs:
    """The k-th path of A against the k-th of B: folders of finished runs, or files of detections beside a file of truth.

    Raises:
        UserError: unequal numbers, a path that is neither, runs that were judged on different images, files without truth.
    """
    if len(a) != len(b):
        raise UserError(f"both sides must have as many runs, got {len(a)} and {len(b)}; name them in pairs, seed by seed")
    name_a, name_b = (str(paths[0]) if len(paths) == 1 else f"{paths[0]} and {len(paths) - 1} more" for paths in (a, b))
    if truth is None:
        files = [str(path) for path in (*a, *b) if path.is_file()]
        if files:
            raise UserError(f"a file of detections must come with the truth it is judged by, got {files[0]} alone; add --truth ANNOTATIONS.json")
        return comparison_of_runs(a, b, name_a, name_b)
    files_a, files_b = ([path / "detections.json" if path.is_dir() else path for path in paths] for paths in (a, b))
    document = read_truth(truth)
    labels = [str(number) for number in range(1, len(a) + 1)] if len(a) > 1 else ["one pair"]
    return contest(name_a, name_b, labels, files_a, files_b, document, [each["id"] for each in document["images"]], f"{truth.name}, {len(document['images'])} images")


def contest(name_a: str, name_b: str, labels: list[str], files_a: list[Path], files_b: list[Path], truth: dict, image_ids: list[int], data: str, notes: Sequence[str] = ()) -> ComparisonInputs:
    rounds, seen = [], set()
    for label, *files in zip(labels, files_a, files_b, strict=True):
        sides = [read_found(file) for file in files]
        for found, file in zip(sides, files, strict=True):
            check_against(found, truth, str(file))
        of_a, of_b = ({each["image_id"] for each in found} for found in sides)
        if not of_a & of_b:
            raise UserError(f"{files[0]} and {files[1]} must be of the same images, got {len(of_a)} and {len(of_b)} images and none in both; run both on one split")
        seen |= of_a | of_b
        rounds.append(ComparisonPair(label, *sides))
    silent = len(set(image_ids) - seen)
    notes = [*notes, *([f"{silent} of {len(image_ids)} images have no detection of either side; they are judged as empty answers, so give the truth of the judged images only"] if silent else [])]
    return ComparisonInputs(name_a, name_b, rounds, truth, image_ids, data, notes)


def comparison_of_runs(a: Sequence[Path], b: Sequence[Path], name_a: str, name_b: str) -> ComparisonInputs:
    """Finished runs against finished runs, paired by seed; the truth is read from the data that they were judged on."""
    from ..datasets import open_split

    results_a, results_b = ([finished(folder) for folder in folders] for folders in (a, b))
    first = results_a[0]
    for folder, result in zip((*a, *b), (*results_a, *results_b), strict=True):
        if result["data_hashes"]["eval"] != first["data_hashes"]["eval"]:
            raise UserError(f"all runs must be judged on the same images, got {first['data_line']!r} in {a[0]} and {result['data_line']!r} in {folder}; compare runs of one split and size")
    seeds_a, seeds_b = ([result["settings"]["seed"] for result in results] for results in (results_a, results_b))
    notes = []
    if len(a) > 1 and (sorted(seeds_a) != sorted(seeds_b) or len(set(seeds_a)) < len(seeds_a)):
        raise UserError(f"runs must come in pairs of one seed each, got seeds {seeds_a} and {seeds_b}; name runs of the same seeds on both sides")
    if seeds_a != seeds_b and len(a) == 1:
        notes.append(f"The two runs have different seeds, {seeds_a[0]} and {seeds_b[0]}, so part of the difference is that of the seeds.")
    order_a, order_b = (sorted(range(len(seeds)), key=seeds.__getitem__) for seeds in (seeds_a, seeds_b))
    config = RunConfig.of(first["settings"])
    judged = open_split(config, config.eval_split)
    if judged.content_hash() != first["data_hashes"]["eval"]:
        raise UserError(f"the data of {a[0]} must be those that it was judged on, got other images or annotations in {config.data!r}; put them back, or run again")
    labels = [f"seed {seeds_a[i]}" if seeds_a[i] == seeds_b[j] else "one pair" for i, j in zip(order_a, order_b, strict=True)]
    return contest(
        name_a, name_b, labels, [a[i] / "detections.json" for i in order_a], [b[j] / "detections.json" for j in order_b], judged.ground_truth(), judged.image_ids, first["data_line"], notes,
    )


def finished(folder: Path) -> dict:
    """A finished run's result."""
    if not folder.is_dir():
        raise UserError(f"{folder} must be the folder of a finished run or a file of detections, got nothing there; correct the path")
    if not (folder / "result.json").is_file() or not (folder / "detections.json").is_file():
        raise UserError(f"{folder} must hold a finished run with result.json and detections.json, got one without; run it first")
    result = result_of(folder)
    with checked_read(folder / "result.json"):
        result["data_hashes"]["eval"], result["settings"]["seed"], result["data_line"]
    return result


def comparison_of_rows(sweep, a: str, b: str, scale: str, out: Path | None = None) -> ComparisonInputs:
    """Two rows of a sweep, over all seeds that are done in both.

    Raises:
        UserError: an unknown row, or no seed whose runs lie in the sweep's folder on both sides (published tables have no detections).
    """
    from ..sweeps import plan, runs_folder, state_of

    for row in (a, b):
        if row not in sweep.rows:
            raise unknown_name("row", row, sweep.rows)
    folder = Path(out or runs_folder(sweep, scale))
    done = {(run.row, run.seed): run.folder for run in plan(sweep, folder, scale=scale) if run.row in (a, b) and state_of(run.folder) == "done"}
    seeds = [seed for seed in sweep.seeds if (a, seed) in done and (b, seed) in done]
    if not seeds:
        raise UserError(f"{folder} must hold finished runs of {a!r} and {b!r} with a seed in common, got none; run `fgdlab sweep {sweep.name}` first")
    return comparison_of_runs([done[a, seed] for seed in seeds], [done[b, seed] for seed in seeds], sweep.rows[a].label, sweep.rows[b].label)
