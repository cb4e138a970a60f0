"""COCO's scores by the package that is used here, against pycocotools on the same detections in the same run.

    python -m benchmarks.evaluation            about a minute and a half on a quiet core

Digit scenes: the laptop scale's 400, as the shipped teacher detects them. COCO-sized: drawn at random with COCO's 80
classes, nine objects and a hundred detections per image. Masks: the same, with ellipses inside the boxes as run
lengths. Both packages must agree on every score, or nothing is written. The time of a student's detections of the same
400 scenes is measured too.
"""
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pycocotools import mask as coco_mask

from benchmarks.timing import in_turns, ratio
from fgdlab.lab.config import RunConfig
from fgdlab.lab.course import pretrained_detector
from fgdlab.lab.datasets import open_split
from fgdlab.lab.io import write_json
from fgdlab.lab.provenance import provenance
from fgdlab.lab.training import PYCOCOTOOLS, SCORES, coco_scores, detections, evaluation_here

PATH = Path("benchmarks/results/evaluation.json")
TURNS = 5
WIDTH, HEIGHT = 640, 480


def coco_sized(images: int, detections: int, masks: bool = False) -> tuple[dict, list[dict]]:
    """A data set of COCO's size and detections of it: most objects, a few pixels off, and false positives."""
    rng = np.random.default_rng(0)
    ground_truth = {
        "images": [{"id": 3 * i + 1, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "categories": [{"id": k + 1 + k // 9, "name": str(k)} for k in range(80)], "annotations": [],
    }
    found, classes = [], [category["id"] for category in ground_truth["categories"]]

    def box() -> np.ndarray:
        sides = np.exp(rng.uniform(2.3, 5.7, 2))                     # 10 to 300 pixels
        return np.concatenate([rng.uniform(0, [WIDTH, HEIGHT] - sides), sides])

    def entry(image: dict, class_id: int, bbox: np.ndarray) -> dict:
        mask = {"segmentation": ellipse(bbox)} if masks else {}
        return {"image_id": image["id"], "category_id": class_id, "bbox": bbox.tolist(), **mask}

    annotations = ground_truth["annotations"]
    for image in ground_truth["images"]:
        for _ in range(detections):
            bbox, class_id = box(), int(rng.choice(classes))
            if rng.random() < 9 / detections:
                area = float(bbox[2] * bbox[3])
                more = {"id": len(annotations) + 1, "area": area, "iscrowd": 0}
                annotations.append({**entry(image, class_id, bbox), **more})
                bbox = bbox + rng.normal(0, 2, 4)
            score = float(rng.random())
            found.append({**entry(image, class_id, bbox), "score": score})
    return ground_truth, found


def ellipse(box: np.ndarray) -> dict:
    """The ellipse that touches a box's sides, as run lengths."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    (x, y), (half_width, half_height) = box[:2], box[2:] / 2
    polygon = np.stack([x + half_width * (1 + np.cos(turn)), y + half_height * (1 + np.sin(turn))], axis=1)
    packed = coco_mask.merge(coco_mask.frPyObjects([polygon.flatten().tolist()], HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode("ascii")}


def against_pycocotools(
    what: str, ground_truth: dict, found: list[dict], iou_type: str = "bbox", turns: int = TURNS,
) -> dict:
    """CPU seconds of both packages and the median of the ratios. Both must give the same scores.

    Where pycocotools is the only package, it is timed against itself.
    """
    scores: dict[str, dict] = {}

    def by(evaluation) -> Callable[[], None]:
        def once() -> None:
            scores[evaluation.package] = coco_scores(ground_truth, found, iou_type=iou_type, by=evaluation)
        return once

    here = evaluation_here()
    ours, baseline = here.package, "pycocotools, again" if here is PYCOCOTOOLS else "pycocotools"
    times = in_turns({ours: by(here), baseline: by(PYCOCOTOOLS)}, turns, time.process_time)
    seconds = {name: round(statistics.median(values) / 1000, 3) for name, values in times.items()}
    difference = max(abs(scores[ours][name] - scores["pycocotools"][name]) for name in SCORES)
    if not difference <= 1e-12:
        raise ValueError(f"both packages must give the same scores of {what}, got {scores}")
    return {
        "what": what, "images": len(ground_truth["images"]), "objects": len(ground_truth["annotations"]),
        "detections": len(found), "AP": round(scores["pycocotools"]["AP"], 2),
        "ours": ours, "ours_seconds": seconds[ours], "baseline": baseline, "baseline_seconds": seconds[baseline],
        "baseline_over_ours": round(ratio(times, baseline, ours), 2), "largest_difference": difference,
    }


def main() -> None:
    torch.set_num_threads(1)
    eval_set = open_split(RunConfig(), "val").cache_pixels()
    started = time.process_time()
    detections(pretrained_detector("distilled"), eval_set)
    detecting = time.process_time() - started
    of_teacher = detections(pretrained_detector("teacher"), eval_set)
    rows = [
        against_pycocotools("boxes of the digit scenes", eval_set.ground_truth(), of_teacher),
        against_pycocotools("boxes, COCO-sized", *coco_sized(391, 100)),
        against_pycocotools("masks, COCO-sized", *coco_sized(100, 100, masks=True), iou_type="segm"),
    ]
    for row in rows:
        print(
            f"{row['what']:28} {row['ours']} {row['ours_seconds']:.2f} s; {row['baseline']} "
            f"{row['baseline_seconds']:.2f} s; baseline / ours = {row['baseline_over_ours']}"
        )
    print(f"a student's detections of the digit scenes: {detecting:.2f} s")
    write_json(PATH, {
        "what": "COCO's twelve scores and AP per class, CPU seconds of one thread, medians of turns", "turns": TURNS,
        "results": rows, "detections_of_the_digit_scenes_seconds": round(detecting, 2), "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
