"""Settings that follow from a user's own data: image size, anchors, steps, and their time (scale ``photos``)."""
import math
import time
from collections.abc import Collection
from pathlib import Path

import numpy as np
import torch

from ..config import RunConfig
from ..datasets import DetectionDataset, open_split, splits_of
from ..detectors import ANCHORED, build, build_settings, fit_anchors
from ..errors import UserError

MEDIAN_BOX = 32  # pixels: side of the median box, four cells of P3
SIDES = range(128, 321, 32)  # image sizes for two CPU cores
# For the number of steps: passes over the images, seconds of a core, seconds per pixel. Measured on compact detectors.
STUDENT, TEACHER, PER_LOGIT = (40, 120, 2e-7), (80, 600, 6.5e-7), 1e-7
LEAST = 250  # steps, unless they are more than 3 passes


def fit_to_data(config: RunConfig, given: Collection[str]) -> tuple[dict, list[str]]:
    """(settings that fit the training data, lines about the data and each setting). Equal data give equal settings.

    Args:
        config: the other settings; ``data`` must be a folder with a box to learn from.
        given: names of the settings that the user has chosen; they stay.
    """
    if config.data == "digits":
        raise UserError("scale photos must know your data, got no folder; give data=DIR")
    chosen, splits = {}, splits_of(config.data)

    def choose(name: str, value) -> None:
        nonlocal config
        if name not in given:
            chosen[name] = value
            config = config.but(**chosen)

    choose("eval_split", next((name for name in (config.eval_split, "valid", "test") if name in splits), "val"))
    whole = open_split(config.but(image_size=0), config.train_split)
    sides = np.array([max(entry["width"], entry["height"]) for entry in whole.entries])
    parts = [np.sqrt(sizes.prod(1)) / side for sizes, side in zip(box_sizes(whole), sides, strict=True)]
    if not sum(map(len, parts)):
        raise UserError(f"split {config.train_split!r} must have boxes to learn from, got none; correct the labels")
    median = float(np.median(np.concatenate(parts)))  # of the long side
    enough = next((side for side in SIDES if side * median >= MEDIAN_BOX), SIDES[-1])
    choose("image_size", int(min(enough, sides.max())))
    train_set = DetectionDataset(whole.annotations, config.image_size, config.train_images)
    sizes = np.concatenate(box_sizes(train_set))
    lines = [
        f"{Path(config.data).name}: {len(train_set)} training images, {len(sizes)} boxes, {len(train_set.classes)} "
        f"classes; evaluation on {config.eval_split}",
        f"image_size {config.image_size}: the median box is {np.median(np.sqrt(sizes.prod(1))):.0f} px",
    ]
    if config.detector in ANCHORED and config.flavour == "torchvision":
        levels = len(build(**build_settings(config.but(anchors=""), "student", 1)).levels)
        anchors, met = fit_anchors(sizes, levels)
        choose("anchors", anchors)
        lines.append(f"anchors {anchors}: {met:.1%} of the boxes meet one at IoU 0.5")
    pixels = math.prod(-(-side // 32) * 32 for side in train_set.canvas)
    logits = pixels / 48 * (config.anchors.split("/")[0].count("x") or 1) * len(train_set.classes)  # on P3 to P5
    for name, role, batch, (passes, seconds, per_pixel) in (
        ("train_steps", "student", config.batch_size, STUDENT),
        ("teacher_steps", "teacher", config.teacher_batch_size, TEACHER),
    ):
        images = min(passes * len(train_set), seconds / (pixels * per_pixel + logits * PER_LOGIT))
        choose(name, max(round(images / batch), min(3 * len(train_set) // batch, LEAST), 1))
        steps = getattr(config, name)
        minutes = steps * batch * seconds_per_image(config, role, train_set) / 60
        passes = steps * batch / len(train_set)
        passes = f"{passes:.{int(passes < 10)}f} passes"
        lines.append(f"{name} {steps}: {passes}, about {minutes:.1f} min of {getattr(config, role)} on one core")
    return chosen, lines


def box_sizes(dataset: DetectionDataset) -> list[np.ndarray]:
    sizes = []
    for i, entry in enumerate(dataset.entries):
        boxes = dataset.annotations.boxes[entry["id"]][~dataset.annotations.crowd[entry["id"]]]
        sizes.append((boxes[:, 2:] - boxes[:, :2]) * (dataset.loaded_size(i)[1] / entry["width"]))
    return sizes


def seconds_per_image(config: RunConfig, role: str, dataset: DetectionDataset) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng(devices=[]):
        detector = build(**build_settings(config, role, len(dataset.classes)))
        images, targets = zip(*(dataset[i % len(dataset)] for i in range(4)), strict=True)
        for _ in range(2):  # the first one is slow
            started = time.perf_counter()
            sum(detector(list(images), list(targets)).values()).backward()
    torch.set_num_threads(threads)
    return (time.perf_counter() - started) / len(images)
