"""COCO scores on resampled images. pycocotools matches detections once; each resample only counts again.

    ground truth, detections --match (pycocotools, once)--> Matches --scores(image weights)--> one score per resample

A resample is a vector of integer weights, how often each image is drawn. R resamples are one matrix (R, I).
"""
import contextlib
import io
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from pycocotools.cocoeval import COCOeval

from ..errors import check_name
from ..training import SCORES, in_coco

RECALLS = np.linspace(0, 1, 101)
MAX_WEIGHTS = 4_000_000  # weights of detections held at a time, 8 bytes each


class Metric(NamedTuple):
    """One of COCO's twelve scores. ``area``: range in square pixels; ``detections``: most per image and class."""

    recall: bool
    thresholds: tuple[float, ...]
    area: tuple[float, float]
    detections: int


def metric_of(name: str) -> Metric:
    """The definition of a name in ``SCORES``, such as AP, AP75, AP_S or AR_10; a UserError for another name."""
    check_name("metric", name, SCORES)
    kind, _, part = name.partition("_")
    areas = {"S": (0, 32**2), "M": (32**2, 96**2), "L": (96**2, 1e10)}
    thresholds = (int(kind[2:]) / 100,) if kind[2:] else tuple(np.linspace(0.5, 0.95, 10))
    return Metric(kind == "AR", thresholds, areas.get(part, (0, 1e10)), int(part) if part.isdigit() else 100)


@dataclass(frozen=True)
class ClassMatches:
    """The D detections of one class, highest score first, and its objects in I images.

    hits: (T, D) whether a detection matched an object at each of the T IoU thresholds.
    counted: (T, D) False if a detection counts neither way, because it lies on a crowd or outside the area range.
    image: (D,) index of its image. objects: (I,) number of objects per image.
    """

    hits: np.ndarray
    counted: np.ndarray
    image: np.ndarray
    objects: np.ndarray


@dataclass(frozen=True)
class Matches:
    """The matches of one detector, class by class. ``images`` is I, the number of weights per resample."""

    classes: list[ClassMatches]
    images: int
    metric: Metric

    def scores(self, weights: np.ndarray) -> np.ndarray:
        """The scores of R data sets that hold image i ``weights[r, i]`` times.

        Args:
            weights: (R, I) integers from 0 up; (I,) for a single data set.
        Returns:
            (R,) in 0..100, NaN if no object is left. With all weights 1 it is the number of pycocotools.
        Differs: pycocotools takes equal scores copy by copy of an image, here they come detection by detection. The
            scores differ only if two detections of one class have equal scores.
        """
        weights = np.atleast_2d(weights)
        class_score = average_recall if self.metric.recall else average_precision
        total, classes = np.zeros(len(weights)), np.zeros(len(weights))
        for matches in self.classes:
            rows = max(MAX_WEIGHTS // max(len(matches.image), 1), 1)
            objects = weights @ matches.objects  # (R,)
            starts = range(0, len(weights), rows)
            parts = [class_score(matches, weights[i:i + rows], objects[i:i + rows]) for i in starts]
            total += np.where(objects > 0, np.concatenate(parts), 0)
            classes += objects > 0
        return np.where(classes > 0, 100 * total / np.maximum(classes, 1), np.nan)


def average_recall(matches: ClassMatches, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) recall of one class, averaged over IoU thresholds; ``weights`` (R, I), ``objects`` (R,)."""
    hits = np.zeros((weights.shape[1], len(matches.hits)))  # (I, T)
    np.add.at(hits, matches.image, (matches.hits & matches.counted).T)
    return (weights @ hits / np.maximum(objects, 1)[:, None]).mean(axis=1)


def average_precision(matches: ClassMatches, weights: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """(R,) precision of one class, averaged over IoU thresholds and 101 recalls; ``weights`` (R, I), ``objects`` (R,).

    At each recall, the best precision at this or a higher recall counts. Recall changes only at hits, so only hits are
    visited: precision is hits so far over detections so far. It counts for the recalls that this hit reaches first.
    """
    means = np.zeros(len(weights))
    copies, before, seen = weights[:, matches.image], None, None  # (R, D)
    for hits, counted in zip(matches.hits, matches.counted, strict=True):
        if before is None or not np.array_equal(counted, before):
            before, seen = counted, (copies if counted.all() else copies * counted).cumsum(axis=1)
        at = np.flatnonzero(hits & counted)  # (P,)
        true = copies[:, at].cumsum(axis=1)  # (R, P)
        precision = true / (seen[:, at] + np.spacing(1))
        best = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        reached = np.searchsorted(RECALLS, true / np.maximum(objects, 1)[:, None], side="right")
        means += (best * np.diff(reached, axis=1, prepend=0)).sum(axis=1) / len(RECALLS)
    return means / len(matches.hits)


def match(ground_truth: dict, detections: list[dict], image_ids: list[int], metric: str = "AP") -> Matches:
    """Match detections to objects with pycocotools. image_ids: the I images to evaluate, in the order of the weights.
    """
    definition, place = metric_of(metric), {image_id: index for index, image_id in enumerate(image_ids)}
    records, images = evaluated(ground_truth, detections, image_ids, definition).evalImgs, len(place)
    per_class = [[each for each in records[i:i + images] if each is not None] for i in range(0, len(records), images)]
    return Matches([class_matches(each, place, len(definition.thresholds)) for each in per_class], images, definition)


def evaluated(
    ground_truth: dict, detections: list[dict], image_ids: list[int], metric: Metric, by_class: bool = True,
) -> COCOeval:
    # pycocotools takes an annotation with id 0 for a miss, so ids start at 1
    annotations = [{**each, "id": number} for number, each in enumerate(ground_truth["annotations"], start=1)]
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = COCOeval(*in_coco({**ground_truth, "annotations": annotations}, detections), "bbox")
        evaluation.params.imgIds, evaluation.params.maxDets = sorted(image_ids), [metric.detections]
        evaluation.params.areaRng, evaluation.params.areaRngLbl = [list(metric.area)], ["wanted"]
        evaluation.params.iouThrs, evaluation.params.useCats = np.array(metric.thresholds), by_class
        evaluation.evaluate()
    return evaluation


def class_matches(records: list[dict], place: dict[int, int], thresholds: int) -> ClassMatches:
    """pycocotools' records of one class, one per image, as one table in order of score; ties in order of image id."""
    objects = np.zeros(len(place), dtype=np.int64)
    for each in records:
        objects[place[each["image_id"]]] = np.count_nonzero(np.asarray(each["gtIgnore"]) == 0)
    image = np.repeat([place[each["image_id"]] for each in records], [len(each["dtScores"]) for each in records])
    order = np.argsort(-np.concatenate([np.zeros(0), *(each["dtScores"] for each in records)]), kind="mergesort")

    def table(name: str) -> np.ndarray:  # (T, D)
        parts = [np.asarray(each[name]).reshape(thresholds, -1) for each in records]
        return np.concatenate([np.zeros((thresholds, 0)), *parts], axis=1)[:, order]

    return ClassMatches(table("dtMatches") > 0, table("dtIgnore") == 0, image.astype(np.int64)[order], objects)
