"""Is the teacher one? Most failed reproductions learned from weights that had silently not been loaded."""
import numpy as np
import torch
from torchvision.ops import box_iou

from .image_folder import ImageFolder
from .inference import DetectorInference, Predictions, Sample

SCALES_APART = 5.0                                                   # ratio of feature scales from which a reader is warned


def found_objects(place: Sample, sight: Predictions, threshold: float, any_class: bool) -> tuple[int, int]:
    """(detections of at least this score, objects that one of them covers with IoU 0.5 or more and names rightly)."""
    good = sight.scores >= threshold
    if not good.any() or not len(place.boxes):
        return int(good.sum()), 0
    overlap = box_iou(place.boxes.cpu().double(), torch.from_numpy(sight.boxes[good]).double()).numpy() >= 0.5
    if not any_class:
        overlap &= place.labels[:, None] == sight.labels[good][None]
    return int(good.sum()), int(overlap.any(axis=1).sum())


def sanity(inference: DetectorInference, image: int, stages: dict[str, int], ap: dict[str, float], threshold: float) -> tuple[list[dict], list[str]]:
    """One row a network, the teacher first, and what looks wrong with the teacher, a line each.

    Args:
        stages: {student: which checkpoint}. ap: {name: AP in 0..100} as far as known. threshold: least score that counts as a detection.
    Returns:
        rows of name, AP or None, detections, found, objects, scale {level: rms of the map}; warnings, [] where nothing looks wrong.
    """
    place, any_class = inference.place(image), isinstance(inference.scenes, ImageFolder)
    sights = {"teacher": inference.teacher_sight(image), **{name: inference.student_sight(image, name, stage) for name, stage in stages.items()}}
    rows = []
    for name, sight in sights.items():
        detections, found = found_objects(place, sight, threshold, any_class)
        rows.append({
            "name": name, "AP": ap.get(name), "detections": detections, "found": found, "objects": len(place.boxes),
            "scale": {level: sight.scale[level] for level in inference.levels},
        })
    return rows, warnings(rows, sights["teacher"], inference.levels)


def warnings(rows: list[dict], teacher_sight: Predictions, levels: tuple[str, ...]) -> list[str]:
    teacher, students, lines = rows[0], rows[1:], []
    broken = [level for level in levels if not np.isfinite(teacher["scale"][level])]
    flat = [level for level in levels if level not in broken and teacher_sight.spread[level] < 1e-6]
    if broken:
        lines.append(f"the teacher's map on {', '.join(broken)} holds NaN or infinity")
    if flat:
        lines.append(f"the teacher's map on {', '.join(flat)} is one value everywhere")
    if teacher["objects"] and not teacher["found"]:
        lines.append(f"the teacher finds none of the {teacher['objects']} objects of this image; look at others before you trust it")
    stronger = [row["name"] for row in students if None not in (row["AP"], teacher["AP"]) and row["AP"] >= teacher["AP"]]
    if stronger:
        lines.append(f"the teacher's AP is not above that of {', '.join(stronger)}")
    for row in students:
        apart = [
            f"{ratio:.3g} times on {level}" for level in levels if level not in broken + flat and row["scale"][level] > 0
            and not 1 / SCALES_APART <= (ratio := teacher["scale"][level] / row["scale"][level]) <= SCALES_APART
        ]
        if apart:
            lines.append(f"the teacher's features are larger than those of {row['name']} by {', '.join(apart)}: the sums of the loss are as lopsided")
    return lines
