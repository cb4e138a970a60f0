"""COCO's scores over and over on resampled images: what pycocotools matched once is only counted again.

    truth, found --match (pycocotools, once)--> hits of every detection --scores(weights of images)--> one score a resample

A resample draws images with replacement; as far as a score can tell, it says how many times each image is there. So it is a vector of
whole weights, one an image, and R resamples are scored together as a matrix (R, I).
"""
import contextlib
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from ..errors import unknown_name
from ..training import SCORES, in_coco

RECALLS = np.linspace(0, 1, 101)
AT_ONCE = 4_000_000         # weights of detections held at a time, 8 bytes each


class Metric(NamedTuple):
    """One of COCO's twelve numbers: recall or precision, IoU thresholds, range of areas in square pixels, detections an image and class."""

    recall: bool
    thresholds: tuple[float, ...]
    area: tuple[float, float]
    detections: int


def metric_of(name: str) -> Metric:
    """The definition behind a name of ``SCORES``, such as AP, AP75, AP_S or AR_10.

    Raises:
        UserError: a name that is none of them.
    """
    if name not in SCORES:
        raise unknown_name("metric", name, SCORES)
    kind, _, part = name.partition("_")
    sizes = {"S": (0, 32**2), "M": (32**2, 96**2), "L": (96**2, 1e10)}
    thresholds = (int(kind[2:]) / 100,) if kind[2:] else tuple(np.linspace(0.5, 0.95, 10))
    return Metric(kind == "AR", thresholds, sizes.get(part, (0, 1e10)), int(part) if part.isdigit() else 100)


@dataclass(frozen=True)
class ClassMatches:
    """One class: its D detections, highest score first, and its objects on I images.

    hits: (T, D) whether a detection matched an object at each of the T IoU thresholds. counted: (T, D) False where it counts neither way,
    for it lies on a crowd or outside of the range of areas. image: (D,) index of its image. objects: (I,) how many objects to find.
    """

    hits: np.ndarray
    counted: np.ndarray
    image: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Matches:
    """What a detector found of each class, ready to be counted; ``images`` is I, the number of weights of a resample."""

    classes: list[ClassMatches]
    images: int
    metric: Metric

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """The score of R data sets that hold image i ``weights[r, i]`` times.

        Args:
            weights: (R, I) whole numbers from 0 up; (I,) for a single one.
        Returns:
            (R,) in 0..100, NaN where no object is left. With all weights 1 it is pycocotools' number.
        Differs: copies of an image tie in every score. pycocotools would take tied detections copy by copy, here they come detection by
            detection. That is the same unless two detections of one class have equal scores.
        """
        weights = np.atleast_2d(weights)
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        for each in self.classes:
            rows = max(AT_ONCE // max(len(each.image), 1), 1)
            objects = weights @ each.objects                         # (R,)
            parts = [self._of_class(each, weights[start:start + rows], objects[start:start + rows]) for start in range(0, len(weights), rows)]
            total += np.where(objects > 0, np.concatenate(parts), 0)
            classes += objects > 0
        return np.where(classes > 0, 100 * total / np.maximum(classes, 1), np.nan)

    def _of_class(self, each: ClassMatches, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
        one = recalled if self.metric.recall else average_precision
        return one(each, weights, np.maximum(objects, 1)[:, None])


def recalled(each: ClassMatches, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) share of a class's objects that are found, averaged over IoU thresholds; ``objects`` (R, 1) is above 0."""
    found = np.zeros((weights.shape[1], len(each.hits)))                                         # (I, T)
    np.add.at(found, each.image, (each.hits & each.counted).T)
    return (weights @ found / objects).mean(axis=1)


def average_precision(each: ClassMatches, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) precision of a class averaged over IoU thresholds and 101 recalls, at each recall the best of that recall or a higher one.

    Only at a hit can a recall be reached, so only hits are looked at: with the c-th of them reached, precision is hits so far over
    detections so far, and its best counts for the recalls that this hit reaches and the one before did not.
    """
    means = np.zeros(len(weights))
    copies, before, seen = weights[:, each.image], None, None                                    # (R, D)
    for hits, counted in zip(each.hits, each.counted, strict=True):
        if before is None or not np.array_equal(counted, before):
            before, seen = counted, (copies if counted.all() else copies * counted).cumsum(axis=1)
        at = np.flatnonzero(hits & counted)                                                      # (P,)
        true = copies[:, at].cumsum(axis=1)                                                      # (R, P)
        precision = true / (seen[:, at] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, true / objects, side="right")
        means += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return means / len(each.hits)


def match(truth: dict, found: list[dict], image_ids: list[int], metric: str = "AP") -> Matches:
    """Which detections hit, by pycocotools' own matching.

    Args:
        truth: a data set in COCO format. found: detections in COCO's result format, none of them for an image outside of ``truth``.
        image_ids: I images, in the order of the weights; no other is looked at.
    """
    wanted, place = metric_of(metric), {image_id: index for index, image_id in enumerate(image_ids)}
    renumbered = [{**each, "id": number} for number, each in enumerate(truth["annotations"], start=1)]                # pycocotools takes id 0 for a miss
    with contextlib.redirect_stdout(io.StringIO()):                  # pycocotools prints its progress
        coco, result = in_coco({**truth, "annotations": renumbered}, found)
        evaluation = COCOeval(coco, result, "bbox")
        evaluation.params.imgIds, evaluation.params.maxDets = sorted(image_ids), [wanted.detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(wanted.area)], ["wanted"]
        evaluation.params.iouThrs = np.array(wanted.thresholds)
        evaluation.evaluate()
    count = len(wanted.thresholds)
    per_class = [evaluation.evalImgs[start:start + len(place)] for start in range(0, len(evaluation.evalImgs), len(place))]
    return Matches([class_matches([each for each in images if each is not None], place, count) for images in per_class], len(place), wanted)


def class_matches(images: list[dict], place: dict[int, int], thresholds: int) -> ClassMatches:
    """pycocotools' notes of one class, image by image, as one table in order of score; equal scores in order of image id, as it has them."""
    objects = np.zeros(len(place), dtype=np.int64)
    for each in images:
        objects[place[each["image_id"]]] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
    order = np.argsort(-np.concatenate([np.zeros(0), *(each["dtScores"] for each in images)]), kind="mergesort")

    def table(name: str) -> np.ndarray:                              # (T, D)
        return np.concatenate([np.zeros((thresholds, 0)), *(np.asarray(each[name]).reshape(thresholds, -1) for each in images)], axis=1)[:, order]

    image = np.concatenate([np.zeros(0, dtype=np.int64), *(np.full(len(each["dtScores"]), place[each["image_id"]]) for each in images)])[order]
    return ClassMatches(table("dtMatches") > 0, table("dtIgnore") == 0, image, objects)
