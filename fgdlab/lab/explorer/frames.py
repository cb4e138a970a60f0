"""What the browser needs of an image, as JSON and one block of arrays; static/*.js computes every view from it."""
import numpy as np

from fgdlab.config import ROUNDINGS

from ..io import nan_to_none
from .inference import DetectorInference, Predictions
from .loss_maps import loss_maps
from .state import State
from .teacher_checks import student_warnings, teacher_warnings

MAX_FEATURES = 2_000_000  # bytes of one network's maps; larger ones stay in the kernel


class Block:
    """Arrays in one block of bytes, as uint8 or float32."""

    def __init__(self):
        self.bytes = bytearray()

    def add(self, values: np.ndarray) -> dict:
        """Append an array; returns its place in the block."""
        kind = "uint8" if values.dtype in (bool, np.uint8) else "float32"
        place = {"at": len(self.bytes), "shape": values.shape, "type": kind}
        self.bytes += np.ascontiguousarray(values, kind).tobytes()
        self.bytes += bytes(-len(self.bytes) % 4)
        return place

    def add_all(self, arrays: dict[str, np.ndarray]) -> dict:
        return {name: self.add(each) for name, each in arrays.items()}


def frame(
    inference: DetectorInference, image: int, checkpoints: dict[str, int], ap: dict[str, float], base: bool = True,
) -> tuple[dict, bytes]:
    """One image, and students at checkpoints: JSON types, with {"at", "shape", "type"} for arrays, and the block.

    ap: {network: AP}, as far as known. base: whether the parts without a student are wanted: image, masks, teacher.
    """
    def network(name: str, predictions: Predictions) -> dict:
        return {"AP": ap.get(name), "scale": predictions.scale, "detections": predictions.detections(inference.dataset)}

    def masks(fg: np.ndarray, bg: np.ndarray, inside: np.ndarray) -> dict:
        return {"fg": block.add(fg), "inside": block.add(inside), "bg": float(bg.max())}  # one weight, where fg is 0

    inference.predict(image, checkpoints)
    block, levels, teacher = Block(), inference.levels, inference.teacher_predictions(image)
    message = {"image": image, "students": []}
    sent = sum(4 * teacher.maps[level].numel() for level in levels) <= MAX_FEATURES
    for name, checkpoint in checkpoints.items():
        pairs = inference.pairs(image, name, checkpoint)
        predictions = inference.student_predictions(image, name, checkpoint)
        message["students"].append({
            "name": name, "checkpoint": checkpoint, **network(name, predictions),
            "warnings": student_warnings(name, predictions, teacher, ap, levels), "notes": inference.notes(name),
            "levels": {level: {
                "spatial": block.add(pair.spatial["student"]), "channel": block.add(pair.channel["student"]),
                "error_mean": block.add(pair.error_mean), "relation": block.add(pair.relation),
                "context": block.add_all(pair.context),
                **({"features": block.add(pair.student)} if sent else {}),
            } for level, pair in pairs.items()},
        })
    if base:
        sample = inference.sample(image)
        message["base"] = {
            "image_id": sample.image_id, "size": sample.padded_size, "rgb": block.add(sample.small),
            "boxes": sample.boxes[0].tolist(), "labels": sample.labels.tolist(),
            "teacher": network("teacher", teacher), "warnings": teacher_warnings(teacher, levels),
            "levels": {level: {
                "spatial": block.add(pair.spatial["teacher"]), "channel": block.add(pair.channel["teacher"]),
                **({"features": block.add(pair.teacher)} if sent else {}),
                "masks": {each: masks(*inference.masks(image, level, each)) for each in ROUNDINGS},
                "ranges": {each: inference.ranges(image, level, each).tolist() for each in ROUNDINGS},
            } for level, pair in pairs.items()},
        }
    return nan_to_none(message), bytes(block.bytes)


def detail(inference: DetectorInference, state: State) -> tuple[dict, bytes]:
    """For maps that stay in the kernel: eq. 9 per cell at T, and the values of the state's channel and cell."""
    block, students = Block(), {}
    for name, checkpoint in inference.shown(state).items():
        pairs, places = inference.pairs(state.image, name, checkpoint), {}
        for level, pair in pairs.items():
            maps = loss_maps(pair, pair.relation, pair.relation, state.temperature, inference.config)  # no masks needed
            places[level] = block.add(maps.error)
        students[name] = {"error": places}
        here = {network: getattr(pairs[state.level], network) for network in ("student", "teacher")}
        if state.quantity == "channel":
            students[name]["channel"] = block.add_all({each: maps[state.channel] for each, maps in here.items()})
        if state.cell is not None:
            row, col = state.cell
            students[name]["cell"] = block.add_all({each: maps[:, row, col] for each, maps in here.items()})
    return {"students": students}, bytes(block.bytes)
