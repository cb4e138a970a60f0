"""Checks of the teacher: were its weights loaded, and does it detect objects?"""
import numpy as np
import torch
from torchvision.ops import box_iou

from .image_folder import ImageFolder
from .inference import DetectorInference, Predictions, Sample

MAX_SCALE_RATIO = 5.0  # of feature scales, without a warning


def count_detected(sample: Sample, predictions: Predictions, any_class: bool) -> int:
    """The number of objects that a detection of the right class covers with IoU >= 0.5."""
    detections = torch.from_numpy(predictions.boxes).double()
    covers = box_iou(sample.boxes[0].cpu().double(), detections).numpy() >= 0.5
    if not any_class:
        covers &= sample.labels[:, None] == predictions.labels[None]
    return int(covers.any(axis=1).sum())


def check_teacher(
    inference: DetectorInference, sample: Sample, predictions: dict[str, Predictions], ap: dict[str, float],
) -> tuple[list[dict], list[str]]:
    """One row per detector, and warnings about the teacher.

    Args:
        predictions: {name: Predictions} of the sample, the teacher first.
        ap: {name: AP in 0..100}, as far as known.
    Returns:
        rows of name, AP or None, detections, detected (objects), objects, scale {level: rms of the map}; warnings.
    """
    any_class = isinstance(inference.dataset, ImageFolder)
    rows = [
        {
            "name": name, "AP": ap.get(name), "detections": len(each.scores),
            "detected": count_detected(sample, each, any_class), "objects": len(sample.boxes[0]),
            "scale": {level: each.scale[level] for level in inference.levels},
        }
        for name, each in predictions.items()
    ]
    return rows, teacher_warnings(rows, predictions["teacher"], inference.levels)


def teacher_warnings(rows: list[dict], predictions: Predictions, levels: tuple[str, ...]) -> list[str]:
    teacher, students, lines = rows[0], rows[1:], []
    broken = [level for level in levels if not np.isfinite(teacher["scale"][level])]
    constant = [level for level in levels if level not in broken and predictions.spread[level] < 1e-6]
    if broken:
        lines.append(f"the teacher's map on {', '.join(broken)} holds NaN or infinity")
    if constant:
        lines.append(f"the teacher's map on {', '.join(constant)} is constant")
    if teacher["objects"] and not teacher["detected"]:
        lines.append(f"the teacher detects none of the {teacher['objects']} objects of this image; check more images")
    ap = teacher["AP"]
    stronger = [row["name"] for row in students if None not in (row["AP"], ap) and row["AP"] >= ap]
    if stronger:
        lines.append(f"the teacher's AP is not above that of {', '.join(stronger)}")
    for row in students:
        ratios = {
            level: teacher["scale"][level] / row["scale"][level]
            for level in levels if level not in broken + constant and row["scale"][level] > 0
        }
        large = [
            f"{ratio:.3g} times on {level}" for level, ratio in ratios.items()
            if not 1 / MAX_SCALE_RATIO <= ratio <= MAX_SCALE_RATIO
        ]
        if large:
            lines.append(
                f"the teacher's features are larger than those of {row['name']} by {', '.join(large)}; "
                "the loss is unbalanced in the same way"
            )
    return lines
