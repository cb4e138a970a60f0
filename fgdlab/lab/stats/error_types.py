"""What a detector loses AP by: COCO's analysis of errors, as in Fig. 6 of the paper.

AP is the mean precision over 101 recalls. It is computed seven times, each time with one more type of error forgiven:

    C75 --IoU 0.5--> C50 --IoU 0.1--> Loc --similar class--> Sim --any class--> Oth --background--> BG --misses--> FN

The share of an error type is the gain of its step. With C75 the seven shares of a class sum to 100 %.
"""
import contextlib
import io
from collections import defaultdict

import numpy as np
import pandas as pd

from .resampling import Metric, evaluated

ERROR_TYPES = {
    "C75": "correct at IoU 0.75", "C50": "correct at IoU 0.5 only", "Loc": "badly placed, IoU 0.1 to 0.5",
    "Sim": "taken for a class of the same supercategory", "Oth": "taken for another class",
    "BG": "detections on background", "FN": "missed objects",
}


NOTHING, EVERYWHERE = "(nothing)", (0, 1e10)  # no class; a range of areas in square pixels


def error_levels(
    ground_truth: dict, detections: list[dict], image_ids: list[int] | None = None,
    area: tuple[float, float] = EVERYWHERE,
) -> pd.DataFrame:
    """Mean precision of each class (rows, by name) at each step of :data:`ERROR_TYPES` (columns), in 0..1.

    Args:
        ground_truth, detections: in COCO's format, and its result format. A class without a supercategory is one alone.
        image_ids: images to evaluate, default all of ``ground_truth``.
        area: range of the objects' areas in square pixels.
    Returns:
        As MMDetection's ``coco_error_analysis``: at most 100 detections per image; a class without objects has 0.
    """
    images = image_ids if image_ids is not None else [image["id"] for image in ground_truth["images"]]
    categories = sorted(ground_truth["categories"], key=lambda each: each["id"])
    groups = {each["id"]: each.get("supercategory") or each["id"] for each in categories}
    annotations, found = ground_truth["annotations"], defaultdict(set)
    for each in detections:
        found[each["image_id"]].add(each["category_id"])

    def precision(objects: list[dict], *thresholds: float) -> np.ndarray:  # (T, 101, K)
        truth = {**ground_truth, "annotations": objects}
        return precision_curves(truth, detections, images, thresholds, area).clip(min=0)

    def forgiving(similar: bool) -> np.ndarray:  # (101, K)
        """An object of another class is ignored by a class that was detected in its image."""
        others = [
            {**each, "category_id": other, "iscrowd": 1} for each in annotations for other in found[each["image_id"]]
            if other != each["category_id"] and (not similar or groups[other] == groups[each["category_id"]])
        ]
        return precision([*annotations, *others], 0.1)[0] if others else strict[2]

    strict = precision(annotations, 0.75, 0.5, 0.1)
    other = forgiving(similar=False)
    levels = [*strict, forgiving(similar=True), other, other > 0, np.ones_like(other)]
    values = {name: level.mean(axis=0) for name, level in zip(ERROR_TYPES, levels, strict=True)}
    return pd.DataFrame(values, index=[each["name"] for each in categories])


def precision_curves(
    ground_truth: dict, detections: list[dict], image_ids: list[int], thresholds: tuple[float, ...],
    area: tuple[float, float] = EVERYWHERE,
) -> np.ndarray:
    """(T, 101, K) precision at 101 recalls from 0 to 1, by IoU threshold and class; -1 for a class without objects."""
    evaluation = evaluated(ground_truth, detections, image_ids, Metric(False, thresholds, area, 100))
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation.accumulate()
    return evaluation.eval["precision"][..., 0, 0]


def confusion_matrix(
    ground_truth: dict, detections: list[dict], image_ids: list[int], threshold: float = 0.3,
) -> pd.DataFrame:
    """Numbers of objects by their class (rows) and by the class of the detection that found them (columns).

    Of detections with score ``threshold`` or more, the best first, each finds the object that it overlaps most, at IoU
    0.5 or more. Last column: missed objects. Last row: detections of no object. Crowds count neither way.
    """
    names = {each["id"]: each["name"] for each in sorted(ground_truth["categories"], key=lambda each: each["id"])}
    kept, metric = [each for each in detections if each["score"] >= threshold], Metric(False, (0.5,), EVERYWHERE, 100)
    evaluation = evaluated(ground_truth, kept, image_ids, metric, by_class=False)
    objects, found = (
        {0: NOTHING} | {id_: names[each["category_id"]] for id_, each in coco.anns.items()}
        for coco in (evaluation.cocoGt, evaluation.cocoDt))
    classes = [*names.values(), NOTHING]
    counts = pd.DataFrame(0, classes, classes)
    for image in filter(None, evaluation.evalImgs):
        for id_, match, ignored in zip(image["gtIds"], image["gtMatches"][0], image["gtIgnore"], strict=True):
            counts.loc[objects[id_], found[match]] += not ignored
        for id_, match, ignored in zip(image["dtIds"], image["dtMatches"][0], image["dtIgnore"][0], strict=True):
            counts.loc[NOTHING, found[id_]] += not (ignored or match)
    return counts


def error_shares(ground_truth: dict, detections: list[dict], image_ids: list[int] | None = None) -> dict[str, float]:
    """{error type: its share in percent}, means over the classes that have objects; they sum to 100."""
    present = {each["category_id"] for each in ground_truth["annotations"] if not each.get("iscrowd")}
    names = [each["name"] for each in ground_truth["categories"] if each["id"] in present]
    levels = error_levels(ground_truth, detections, image_ids).loc[names].mean()
    return (100 * levels.diff().fillna(levels)).to_dict()
