"""Compares COCO scores of fgdlab with those that pycocotools computes from the folder's own files.

    annotations --read_split, DetectionDataset--> boxes, labels --detections, coco_scores--> 12 numbers, AP per class -+
    annotations, results.json --COCO, loadRes, COCOeval--> 12 numbers, AP per class -----------------------------------+
                                                                                        the largest difference <-------+

    python -m tests.robustness.compare_scores FOLDER                              random detections near the objects
    python -m tests.robustness.compare_scores FOLDER --detections results.json    stored detections in COCO's format
"""
import argparse
import contextlib
import io
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from fgdlab.lab.datasets.annotations import read_split
from fgdlab.lab.datasets.dataset import DetectionDataset
from fgdlab.lab.datasets.splits import sources
from fgdlab.lab.training.evaluate import PYCOCOTOOLS, SCORES, Evaluation, coco_scores, detections, evaluation_here

MOST = 100                                                           # detections an image that COCO counts
SAME = 1e-9                                                          # of 100


def random_detections(document: dict, ids: set[int], seed: int = 0) -> list[dict]:
    """Random detections for an annotation file: jittered objects, one in seven with another class, and as many random
    boxes."""
    rng, found = np.random.default_rng(seed), []
    categories, sizes = [each["id"] for each in document["categories"]], {
        each["id"]: (each["width"], each["height"]) for each in document["images"]
    }
    held: dict[int, int] = {}
    for each in document["annotations"]:
        image_id = each["image_id"]
        if image_id not in ids or held.get(image_id, 0) > MOST - 2:
            continue
        held[image_id] = held.get(image_id, 0) + 2
        x, y, width, height = each["bbox"]
        near = [
            x + width * rng.normal(0, 0.1), y + height * rng.normal(0, 0.1), width * rng.uniform(0.8, 1.25),
            height * rng.uniform(0.8, 1.25),
        ]
        category = each["category_id"] if rng.random() > 1 / 7 else int(rng.choice(categories))
        found.append({"image_id": image_id, "category_id": category, "bbox": near, "score": float(rng.uniform(0.2, 1))})
        stray = [*(rng.uniform(0, 0.7, 2) * sizes[image_id]), *(rng.uniform(0.05, 0.3, 2) * sizes[image_id])]
        found.append(
            {
                "image_id": image_id, "category_id": int(rng.choice(categories)), "bbox": [float(v) for v in stray],
                "score": float(rng.uniform(0, 0.6)),
            }
        )
    return found


class StoredDetections(nn.Module):
    """A detector that returns the stored detections, image by image.

    Boxes are in pixels of the loaded image; labels are 1..C in the order of the category ids.
    """

    def __init__(self, dataset: DetectionDataset, found: list[dict], category_ids: list[int]):
        super().__init__()
        of_image: dict[int, list[dict]] = {}
        for each in found:
            of_image.setdefault(each["image_id"], []).append(each)
        label_of = {number: label for label, number in enumerate(sorted(category_ids), start=1)}
        self.stored = iter(
            [
                (dataset.loaded_size(i), entry, of_image.get(entry["id"], []), label_of)
                for i, entry in enumerate(dataset.entries)
            ]
        )

    def forward(self, images: list) -> list[dict]:
        return [self.one(*next(self.stored)) for _ in images]

    @staticmethod
    def one(loaded: tuple[int, int], entry: dict, found: list[dict], label_of: dict[int, int]) -> dict:
        scale = torch.tensor([loaded[1] / entry["width"], loaded[0] / entry["height"]] * 2, dtype=torch.float64)
        boxes = torch.tensor([each["bbox"] for each in found], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]                                 # xywh -> xyxy
        return {
            "boxes": boxes * scale,
            "labels": torch.tensor([label_of[each["category_id"]] for each in found], dtype=torch.int64),
            "scores": torch.tensor([each["score"] for each in found], dtype=torch.float64),
        }


def fgdlab_scores(
    folder: Path, split: str, found: list[dict], category_ids: list[int], by: Evaluation, long_side: int = 0,
) -> dict:
    """Scores as a run computes them."""
    dataset = DetectionDataset(read_split(folder, split), long_side=long_side)
    return coco_scores(
        dataset.ground_truth(), detections(StoredDetections(dataset, found, category_ids), dataset), dataset.image_ids,
        by=by,
    )


def pycocotools_scores(file: Path, results: Path, ids: list[int]) -> dict:
    """Scores from two files, as in pycocotools' demo; NaN for its -1."""
    with contextlib.redirect_stdout(io.StringIO()):
        ground_truth = COCO(str(file))
        evaluation = COCOeval(ground_truth, ground_truth.loadRes(str(results)), "bbox")
        evaluation.params.imgIds = sorted(ids)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = dict(zip(SCORES, evaluation.stats, strict=True))
    for k, category_id in enumerate(evaluation.params.catIds):
        precision = evaluation.eval["precision"][:, :, k, 0, 2]
        scores[
            ground_truth.cats[category_id]["name"]
        ] = np.mean(precision[precision > -1]) if (precision > -1).any() else -1
    return {name: float("nan") if value == -1 else 100 * float(value) for name, value in scores.items()}


def compare(
    folder: Path, split: str, stored: Path | None = None, long_side: int = 0, by: Evaluation | None = None,
) -> tuple[dict, dict, int]:
    """(scores of fgdlab, of pycocotools, number of detections); scores are {name of a score or of a class: 0..100 or
    NaN}."""
    source = sources(folder)[split]
    document = json.loads(source.file.read_text(encoding="utf-8-sig"))
    ids = source.choose(sorted(each["id"] for each in document["images"]))
    here = set(ids)
    found = [
        each for each in json.loads(stored.read_text(encoding="utf-8")) if each["image_id"] in here
    ] if stored else random_detections(document, here)
    with tempfile.TemporaryDirectory() as place:
        results = Path(place, "results.json")
        results.write_text(json.dumps(found))
        theirs = pycocotools_scores(source.file, results, ids)
    mine = fgdlab_scores(
        folder, split, found, [each["id"] for each in document["categories"]], by or evaluation_here(), long_side,
    )
    return {**{name: mine[name] for name in SCORES}, **mine["AP_per_class"]}, theirs, len(found)


def differences(mine: dict, theirs: dict) -> dict[str, float]:
    """Absolute differences by name; infinity where only one side has a number."""
    apart = {}
    for name in mine.keys() | theirs.keys():
        pair = [scores.get(name, float("inf")) for scores in (mine, theirs)]
        none = [value != value for value in pair]
        apart[name] = 0.0 if all(none) else float("inf") if any(none) or float("inf") in pair else abs(
            pair[0] - pair[1]
        )
    return apart


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.robustness.compare_scores", description=__doc__.splitlines()[0],
    )
    parser.add_argument("folder", type=Path, help="a COCO-format folder")
    parser.add_argument("--split", default="val")
    parser.add_argument(
        "--detections", type=Path, default=None,
        help="stored detections in COCO's result format; default: drawn around the objects",
    )
    parser.add_argument(
        "--long-side", type=int, default=0, help="shrink images as a run would; boxes go there and back",
    )
    asked = parser.parse_args()
    print(
        "\n".join(
            f"note: {note}" for note in read_split(asked.folder, asked.split).notes
        ) or "no note on reading"
    )
    worst = 0.0
    for by in dict.fromkeys((evaluation_here(), PYCOCOTOOLS)):
        mine, theirs, count = compare(asked.folder, asked.split, asked.detections, asked.long_side, by)
        apart = differences(mine, theirs)
        if not worst:
            print(
                f"{asked.folder.name}, split {asked.split}, {count} detections",
                *(f"{name:>5} {mine[name]:9.5f}  pycocotools {theirs[name]:9.5f}" for name in SCORES), sep="\n",
            )
        classes = apart.keys() - set(SCORES)
        print(
            f"largest difference, of 100, with {by.package}: 12 numbers {max(apart[name] for name in SCORES):.1e}, AP "
            f"of {len(classes)} classes {max(apart[name] for name in classes):.1e}"
        )
        worst = max(worst, *apart.values())
    return 0 if worst <= SAME else 1


if __name__ == "__main__":
    sys.exit(main())
