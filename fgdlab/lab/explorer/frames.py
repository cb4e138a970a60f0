"""What the browser needs of an image, as JSON and one block of arrays; static/*.js computes every view from it.

    image, {student: checkpoint} --frame--> image, masks, G^S, G^C, errors of all levels; T and weights follow there
    what is too large to be sent  --detail--> errors at one T, the maps of one channel, the channels of one cell
"""
import math

import numpy as np
from PIL import Image

from fgdlab.config import ROUNDINGS

from .inference import DetectorInference
from .loss_maps import loss_maps
from .state import State
from .teacher_checks import student_warnings, teacher_warnings

MAX_IMAGE_SIDE = 800  # pixels of an image's longer side in the browser
MAX_FEATURES = 2_000_000  # bytes of one network's maps; larger ones stay in the kernel


class Block:
    """Arrays in one block of bytes, as uint8 or float32."""

    def __init__(self):
        self.parts: list[bytes] = []
        self.size = 0

    def add(self, values: np.ndarray) -> dict:
        """Append an array; returns its place in the block."""
        kind = "uint8" if values.dtype in (bool, np.uint8) else "float32"
        part = np.ascontiguousarray(values, kind).tobytes()
        place = {"at": self.size, "shape": values.shape, "type": kind}
        self.parts.append(part + bytes(-len(part) % 4))
        self.size += len(self.parts[-1])
        return place

    def add_all(self, arrays: dict[str, np.ndarray]) -> dict:
        return {name: self.add(each) for name, each in arrays.items()}


def frame(
    inference: DetectorInference, image: int, checkpoints: dict[str, int], ap: dict[str, float], base: bool = True,
) -> tuple[dict, bytes]:
    """One image, and students at checkpoints.

    Args:
        ap: {network: AP}, as far as known.
        base: whether the parts that depend on no student are wanted: image, boxes, masks, teacher.
    Returns:
        JSON types, with {"at", "shape", "type"} where an array lies in the block; the block.
    """
    block, levels, teacher = Block(), inference.levels, inference.teacher_predictions(image)
    message = {"image": image, "students": []}
    for name, checkpoint in checkpoints.items():
        pairs = inference.pairs(image, name, checkpoint)
        predictions = inference.student_predictions(image, name, checkpoint)
        message["students"].append({
            "name": name, "checkpoint": checkpoint, **network(inference, predictions, ap.get(name)),
            "warnings": student_warnings(name, predictions, teacher, ap, levels), "notes": inference.notes(name),
            "levels": {level: {
                "spatial": block.add(pair.spatial["student"]), "channel": block.add(pair.channel["student"]),
                "error_mean": block.add(pair.error_mean), "relation": block.add(pair.relation),
                "context": block.add_all(pair.context),
                **({"features": block.add(pair.student)} if sent(inference, image) else {}),
            } for level, pair in pairs.items()},
        })
    if base:
        sample = inference.sample(image)
        message["base"] = {
            "image_id": sample.image_id, "size": sample.padded_size, "rgb": block.add(shrunk(sample.rgb)),
            "boxes": sample.boxes[0].tolist(), "labels": sample.labels.tolist(),
            "teacher": network(inference, teacher, ap.get("teacher")), "warnings": teacher_warnings(teacher, levels),
            "levels": {level: {
                "spatial": block.add(pair.spatial["teacher"]), "channel": block.add(pair.channel["teacher"]),
                **({"features": block.add(pair.teacher)} if sent(inference, image) else {}),
                "masks": {each: block.add(np.stack(inference.masks(image, level, each))) for each in ROUNDINGS},
                "ranges": {each: inference.ranges(image, level, each).tolist() for each in ROUNDINGS},
            } for level, pair in pairs.items()},
        }
    return as_json(message), b"".join(block.parts)


def network(inference: DetectorInference, predictions, ap: float | None) -> dict:
    labels = getattr(inference.dataset, "classes", [])
    names = [labels[i - 1] if 0 < i <= len(labels) and labels != ["object"] else str(i) for i in predictions.labels]
    return {
        "AP": ap, "scale": {level: predictions.scale[level] for level in inference.levels},
        "detections": [
            {"box": box, "label": int(label), "class": name, "score": float(score)} for box, label, name, score
            in zip(predictions.boxes.tolist(), predictions.labels, names, predictions.scores, strict=True)
        ],
    }


def sent(inference: DetectorInference, image: int) -> bool:
    """Whether the maps of an image are small enough for the browser."""
    maps = inference.teacher_predictions(image).maps
    return sum(maps[level].numel() * 4 for level in inference.levels) <= MAX_FEATURES


def detail(inference: DetectorInference, state: State, checkpoints: dict[str, int]) -> tuple[dict, bytes]:
    """For maps that stay in the kernel: eq. 9 per cell at T, and the values of the state's channel and cell."""
    block, students = Block(), {}
    for name, checkpoint in checkpoints.items():
        pairs = inference.pairs(state.image, name, checkpoint)
        here, errors = pairs[state.level], {}
        for level, pair in pairs.items():
            fg, bg, _ = inference.masks(state.image, level, state.rounding)
            errors[level] = loss_maps(pair, fg, bg, state.temperature, inference.config).error
        students[name] = {"error": block.add_all(errors)}
        maps = {"student": here.student, "teacher": here.teacher}
        if state.quantity == "channel":
            students[name]["channel"] = block.add_all({each: values[state.channel] for each, values in maps.items()})
        if state.cell is not None:
            row, col = state.cell
            students[name]["cell"] = block.add_all({each: values[:, row, col] for each, values in maps.items()})
    return {"students": students}, b"".join(block.parts)


def shrunk(rgb: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 with at most MAX_IMAGE_SIDE pixels on the longer side."""
    image = Image.fromarray(rgb)
    scale = min(1.0, MAX_IMAGE_SIDE / max(image.size))
    if scale == 1:
        return rgb
    return np.asarray(image.resize([max(round(side * scale), 1) for side in image.size], Image.Resampling.BILINEAR))


def as_json(value):
    """The same with lists for tuples, and None for NaN and infinity, which JSON does not have."""
    if isinstance(value, dict):
        return {name: as_json(each) for name, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
