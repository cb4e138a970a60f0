"""AP over and over on resampled images, for the notebook on reading tables: matching is done once, each resample only counts.

    truth, found --match (pycocotools)--> hits of every detection --average_precision(weights of images)--> AP
"""
import contextlib
import io
from dataclasses import dataclass

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval


@dataclass(frozen=True)
class ClassMatches:
    """One class: its D detections, highest score first, and its objects.

    hits: (T, D) whether a detection matched an object at each of the T IoU thresholds. counted: (T, D) False where it matched a crowd.
    image: (D,) index of its image. objects: (I,) how many objects of the class each image has.
    """

    hits: np.ndarray
    counted: np.ndarray
    image: np.ndarray
    objects: np.ndarray


def match(truth: dict, found: list[dict], image_ids: list[int]) -> list[ClassMatches]:
    """Which detections hit, by pycocotools' matching: 100 detections an image and class, objects of every size.

    Args:
        truth: a data set in COCO format. found: detections in COCO's result format, at least one. image_ids: I images, in the order of the weights.
    """
    with contextlib.redirect_stdout(io.StringIO()):                  # pycocotools prints its progress
        coco = COCO()
        coco.dataset = {**truth, "annotations": [dict(each) for each in truth["annotations"]]}
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes([dict(each) for each in found]), "bbox")
        evaluation.params.imgIds, evaluation.params.maxDets = sorted(image_ids), [100]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluation.evaluate()
    place = {image_id: index for index, image_id in enumerate(image_ids)}
    per_class = np.array(evaluation.evalImgs, dtype=object).reshape(len(evaluation.params.catIds), -1)
    return [class_matches([each for each in images if each is not None], place) for images in per_class]


def class_matches(images: list[dict], place: dict[int, int]) -> ClassMatches:
    """pycocotools' notes of one class on every image, as one table in order of score."""
    objects = np.zeros(len(place))
    for each in images:
        objects[place[each["image_id"]]] = (np.asarray(each["gtIgnore"]) == 0).sum()
    if not images:
        return ClassMatches(*(np.zeros((10, 0), dtype=bool),) * 2, np.zeros(0, dtype=int), objects)
    order = np.argsort(-np.concatenate([each["dtScores"] for each in images]), kind="mergesort")
    hits, ignored = (np.concatenate([np.asarray(each[name]) for each in images], axis=1)[:, order] for name in ("dtMatches", "dtIgnore"))
    image = np.concatenate([np.full(len(each["dtScores"]), place[each["image_id"]]) for each in images])[order]
    return ClassMatches(hits > 0, ~ignored.astype(bool), image, objects)


def average_precision(classes: list[ClassMatches], weights: np.ndarray) -> float:
    """COCO's AP, 0..100, of a data set that holds image i ``weights[i]`` times; NaN where it has no object.

    Mean over classes with an object, ten IoU thresholds and 101 recalls of the best precision at that recall or a higher one.
    """
    means = []
    for each in classes:
        objects = float(each.objects @ weights)
        if not objects:
            continue
        copies = weights[each.image]
        true = (each.hits & each.counted) * copies
        false = ~each.hits * copies                                  # what matched a crowd is a hit, and counts neither way
        true, false = true.cumsum(axis=1), false.cumsum(axis=1)
        precision = true / np.maximum(true + false, np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        for recall, values in zip(true / objects, best, strict=True):
            at = np.searchsorted(recall, np.linspace(0, 1, 101), side="left")
            means.append(np.append(values, 0.0)[at].mean())
    return 100 * float(np.mean(means)) if means else float("nan")
