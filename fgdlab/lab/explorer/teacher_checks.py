"""Checks of the teacher: were its weights loaded, and does it detect objects?"""
import numpy as np
import torch
from torchvision.ops import box_iou

from .inference import DetectorInference, Predictions, Sample

MAX_SCALE_RATIO = 5.0  # of feature scales, without a warning


def count_detected(sample: Sample, predictions: Predictions) -> tuple[int, int]:
    """(objects that a detection of the right class covers with IoU >= 0.5, detections that cover none)."""
    covers = box_iou(sample.boxes[0].cpu().double(), torch.from_numpy(predictions.boxes).double()).numpy() >= 0.5
    covers &= sample.labels[:, None] == predictions.labels[None]
    return int(covers.any(axis=1).sum()), int((~covers.any(axis=0)).sum())


def check_teacher(
    inference: DetectorInference, sample: Sample, predictions: dict[str, Predictions], ap: dict[str, float],
) -> tuple[list[dict], list[str]]:
    """One row per detector of ``predictions``, the teacher first, and warnings."""
    rows, levels, teacher, objects = [], inference.levels, predictions["teacher"], len(sample.boxes[0])
    lines = teacher_warnings(teacher, levels)
    for name, each in predictions.items():
        detected, false = count_detected(sample, each)
        rows.append({
            "name": name, "AP": ap.get(name), "detections": len(each.scores), "detected": detected, "false": false,
            "objects": objects, "scale": {level: each.scale[level] for level in levels},
        })
        if name != "teacher":
            lines += student_warnings(name, each, teacher, ap, levels)
        elif objects and not detected:
            lines.append(f"the teacher detects none of the {objects} objects of this image; check more images")
    return rows, lines


def teacher_warnings(teacher: Predictions, levels: tuple[str, ...]) -> list[str]:
    broken = [level for level in levels if not np.isfinite(teacher.scale[level])]
    constant = [level for level in levels if level not in broken and teacher.spread[level] < 1e-6]
    problems = {"holds NaN or infinity": broken, "is constant": constant}
    return [f"the teacher's map on {', '.join(each)} {problem}" for problem, each in problems.items() if each]


def student_warnings(
    name: str, student: Predictions, teacher: Predictions, ap: dict[str, float], levels: tuple[str, ...],
) -> list[str]:
    lines = [f"the teacher's AP is not above that of {name}"] if ap.get(name, -1) >= ap.get("teacher", 101) else []
    ratios = {
        level: teacher.scale[level] / student.scale[level] for level in levels
        if np.isfinite(teacher.scale[level]) and teacher.spread[level] >= 1e-6 and student.scale[level] > 0
    }
    large = ", ".join(
        f"{ratio:.3g} times on {level}" for level, ratio in ratios.items()
        if not 1 / MAX_SCALE_RATIO <= ratio <= MAX_SCALE_RATIO
    )
    if large:
        lines.append(
            f"the teacher's features are larger than those of {name} by {large}; the loss is unbalanced in the same way"
        )
    return lines
