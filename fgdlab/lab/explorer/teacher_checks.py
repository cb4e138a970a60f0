"""Checks of the teacher: were its weights loaded, and does it detect objects?"""
import numpy as np
import torch
from torchvision.ops import box_iou

from .image_folder import ImageFolder
from .inference import DetectorInference, Predictions, Sample

MAX_SCALE_RATIO = 5.0  # of feature scales, without a warning


def count_detected(sample: Sample, predictions: Predictions, any_class: bool) -> tuple[int, int]:
    """(objects that a detection of the right class covers with IoU >= 0.5, detections that cover none)."""
    detections = torch.from_numpy(predictions.boxes).double()
    covers = box_iou(sample.boxes[0].cpu().double(), detections).numpy() >= 0.5
    if not any_class:
        covers &= sample.labels[:, None] == predictions.labels[None]
    return int(covers.any(axis=1).sum()), int((~covers.any(axis=0)).sum())


def check_teacher(
    inference: DetectorInference, sample: Sample, predictions: dict[str, Predictions], ap: dict[str, float],
) -> tuple[list[dict], list[str]]:
    """One row per detector, and warnings about the teacher.

    Args:
        predictions: {name: Predictions} of the sample, the teacher first.
        ap: {name: AP in 0..100}, as far as known.
    Returns:
        rows of name, AP or None, detections, detected (objects), false (detections), objects, scale {level: rms of the
        map}; warnings.
    """
    rows, teacher = [], predictions["teacher"]
    for name, each in predictions.items():
        detected, false = count_detected(sample, each, any_class(inference.dataset))
        rows.append({
            "name": name, "AP": ap.get(name), "detections": len(each.scores), "detected": detected, "false": false,
            "objects": len(sample.boxes[0]), "scale": {level: each.scale[level] for level in inference.levels},
        })
    lines = teacher_warnings(teacher, inference.levels)
    if rows[0]["objects"] and not rows[0]["detected"]:
        lines.append(f"the teacher detects none of the {rows[0]['objects']} objects of this image; check more images")
    for name in list(predictions)[1:]:
        lines += student_warnings(name, predictions[name], teacher, ap, inference.levels)
    return rows, lines


def any_class(dataset) -> bool:
    """Whether boxes have no classes of their own, so that a detection of any class is right."""
    return isinstance(getattr(dataset, "first", dataset), ImageFolder)


def teacher_warnings(teacher: Predictions, levels: tuple[str, ...]) -> list[str]:
    broken = [level for level in levels if not np.isfinite(teacher.scale[level])]
    constant = [level for level in levels if level not in broken and teacher.spread[level] < 1e-6]
    problems = {"holds NaN or infinity": broken, "is constant": constant}
    return [f"the teacher's map on {', '.join(each)} {problem}" for problem, each in problems.items() if each]


def student_warnings(
    name: str, student: Predictions, teacher: Predictions, ap: dict[str, float], levels: tuple[str, ...],
) -> list[str]:
    lines = []
    if name in ap and "teacher" in ap and ap[name] >= ap["teacher"]:
        lines.append(f"the teacher's AP is not above that of {name}")
    ratios = {
        level: teacher.scale[level] / student.scale[level] for level in levels
        if np.isfinite(teacher.scale[level]) and teacher.spread[level] >= 1e-6 and student.scale[level] > 0
    }
    large = [
        f"{ratio:.3g} times on {level}" for level, ratio in ratios.items()
        if not 1 / MAX_SCALE_RATIO <= ratio <= MAX_SCALE_RATIO
    ]
    if large:
        lines.append(
            f"the teacher's features are larger than those of {name} by {', '.join(large)}; "
            "the loss is unbalanced in the same way"
        )
    return lines
