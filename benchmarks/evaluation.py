"""COCO's scores by the package that counts them here, against pycocotools on the same detections in the same run.

    python -m benchmarks.evaluation            about a minute and a half on a quiet core

Digit scenes: the laptop scale's 400, as the shipped teacher detects them. COCO-sized: drawn at random with COCO's 80 classes, nine objects an image, and
the hundred detections an image that a detector may give; masks: the same with the objects' inner ellipses as run lengths. Both sides must agree on every
number, or nothing is written. What finding costs beside counting is told as well: a student's detections of the same 400 scenes.
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
    """A data set of COCO's proportions and detections of it: most objects found, a few pixels off, among strangers."""
    rng = np.random.default_rng(0)
    truth = {
        "images": [{"id": 3 * i + 1, "file_name": f"{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in range(images)],
        "categories": [{"id": k + 1 + k // 9, "name": str(k)} for k in range(80)], "annotations": [],
    }
    found, kinds = [], [each["id"] for each in truth["categories"]]

    def box() -> np.ndarray:
        sides = np.exp(rng.uniform(2.3, 5.7, 2))                     # 10 to 300 pixels
        return np.concatenate([rng.uniform(0, [WIDTH, HEIGHT] - sides), sides])

    def shape(each: np.ndarray) -> dict:
        return {"segmentation": ellipse(each)} if masks else {}

    for image in truth["images"]:
        for _ in range(detections):
            own, kind = box(), int(rng.choice(kinds))
            if rng.random() < 9 / detections:
                number = len(truth["annotations"]) + 1
                truth["annotations"].append({
                    "id": number, "image_id": image["id"], "category_id": kind, "bbox": own.tolist(), "area": float(own[2] * own[3]), "iscrowd": 0, **shape(own)})
                own = own + rng.normal(0, 2, 4)
            found.append({"image_id": image["id"], "category_id": kind, "bbox": own.tolist(), "score": float(rng.random()), **shape(own)})
    return truth, found


def ellipse(box: np.ndarray) -> dict:
    """The ellipse that touches a box's sides, as run lengths."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    (x, y), (half_width, half_height) = box[:2], box[2:] / 2
    outline = np.stack([x + half_width * (1 + np.cos(turn)), y + half_height * (1 + np.sin(turn))], axis=1).flatten().tolist()
    packed = coco_mask.merge(coco_mask.frPyObjects([outline], HEIGHT, WIDTH))
    return {"size": [HEIGHT, WIDTH], "counts": packed["counts"].decode("ascii")}


def against_pycocotools(what: str, truth: dict, found: list[dict], of: str = "bbox", turns: int = TURNS) -> dict:
    """Seconds of both, CPU time, and the median of the ratios; both must give the same scores."""
    scores: dict[str, dict] = {}

    def by(evaluation) -> Callable[[], None]:
        def once() -> None:
            scores[evaluation.package] = coco_scores(truth, found, of=of, by=evaluation)
        return once

    here = evaluation_here()
    times = in_turns({here.package: by(here), "pycocotools, again" if here is PYCOCOTOOLS else "pycocotools": by(PYCOCOTOOLS)}, turns, time.process_time)
    (ours, mine), (method_class, theirs) = times.items()
    apart = max(abs(scores[here.package][name] - scores["pycocotools"][name]) for name in SCORES)
    if not apart <= 1e-12:
        raise ValueError(f"both packages must give the same scores of {what}, got {scores}")
    return {
        "what": what, "images": len(truth["images"]), "objects": len(truth["annotations"]), "detections": len(found), "AP": round(scores["pycocotools"]["AP"], 2),
        "ours": ours, "ours_seconds": round(statistics.median(mine) / 1000, 3), "rival": method_class, "rival_seconds": round(statistics.median(theirs) / 1000, 3),
        "rival_over_ours": round(ratio(times, method_class, ours), 2), "largest_difference": apart,
    }


def main() -> None:
    torch.set_num_threads(1)
    judged = open_split(RunConfig(), "val").cache_pixels()
    started = time.process_time()
    detections(pretrained_detector("distilled"), judged)
    finding = time.process_time() - started
    rows = [against_pycocotools("boxes of the digit scenes", judged.ground_truth(), detections(pretrained_detector("teacher"), judged))]
    rows.append(against_pycocotools("boxes, COCO-sized", *coco_sized(391, 100)))
    rows.append(against_pycocotools("masks, COCO-sized", *coco_sized(100, 100, masks=True), of="segm"))
    for row in rows:
        print(f"{row['what']:28} {row['ours']} {row['ours_seconds']:.2f} s; {row['rival']} {row['rival_seconds']:.2f} s; rival / ours = {row['rival_over_ours']}")
    print(f"a student's detections of the digit scenes: {finding:.2f} s")
    write_json(PATH, {
        "what": "COCO's twelve scores and AP a class, CPU seconds of one thread, medians of turns", "turns": TURNS, "results": rows,
        "detections_of_the_digit_scenes_seconds": round(finding, 2), "machine": provenance(),
    })
    print(f"written to {PATH}")


if __name__ == "__main__":
    main()
