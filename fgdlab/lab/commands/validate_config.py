"""A run's settings looked at in full, before it is started: data, teacher with its AP on a sample, and the preflight.

    RunConfig --examine--> Lines, one after the other, until one of them is bad
"""
from collections.abc import Iterator

import torch
from torch import nn

from ..checkpoints import head_is_loaded
from ..config import RunConfig, distils, has_teacher
from ..datasets import DetectionDataset
from ..errors import UserError
from ..run import RunInputs, device_of, make_distiller, open_data
from ..teachers import Teacher, load_teacher, teacher_needs_training
from ..training import CheckResult, coco_scores, detections, preflight

SAMPLE = 64                                                          # images that the teacher is tried on
LEAST_AP = 1.0                                                       # below this on any sample a teacher has learned nothing, or is not what it seems


def validate_config(config: RunConfig) -> Iterator[CheckResult]:
    """Everything that can be known without training. A user's mistake becomes a bad line, the last one."""
    try:
        yield from looked_at(config)
    except UserError as error:
        found, _, do = str(error).rpartition("; ")
        yield CheckResult("settings", False, found or do, do if found else "")


def looked_at(config: RunConfig) -> Iterator[CheckResult]:
    device = device_of(config)
    scenes, judged = open_data(config, progress=False)
    for split, each in ((config.train_split, scenes), (config.eval_split, judged)):
        boxes = sum(len(each.annotations.boxes[image_id]) for image_id in each.image_ids)
        yield CheckResult(
            f"data, split {split}", bool(len(each) and boxes),
            f"{len(each)} images, {boxes} boxes, {len(each.classes)} classes", "" if boxes else "give a split with objects",
        )
    yield CheckResult(
        "schedule", True,
        f"{config.epochs} epochs of {len(scenes) // config.batch_size} steps of {config.batch_size} images, {config.optimizer}, lr {config.lr:g}, {device}",
    )
    if not has_teacher(config):
        yield CheckResult("teacher", None, "none is asked for", "say --method fgd")
        return
    if teacher_needs_training(config, scenes):
        yield CheckResult(
            "teacher", None, f"{config.teacher} is not there yet; the first run trains it for {config.teacher_epochs} epochs",
            "`fgdlab teacher` with these settings does it now",
        )
        return
    detector, path, origin = load_teacher(config, scenes, judged, device=device, progress=False)
    yield CheckResult("teacher", True, f"{config.teacher} ({origin}), {path.name}")
    yield ap_on_a_sample(detector, judged, config, device)
    if distils(config):
        distiller = make_distiller(config, RunInputs(scenes, judged, Teacher(path, detector, origin, None), None)).to(device)
        yield from preflight(distiller, scenes, config.precision, device, config.batch_size)


def ap_on_a_sample(detector: nn.Module, judged: DetectionDataset, config: RunConfig, device: str) -> CheckResult:
    if not head_is_loaded(detector):
        return CheckResult("teacher's AP", None, "unknown: its head is not for this data, only its pyramid is learned from")
    some = DetectionDataset(judged.annotations, judged.long_side, min(SAMPLE, len(judged)))
    with torch.no_grad():
        ap = coco_scores(some.ground_truth(), detections(detector, some, device=device, batch_size=4), some.image_ids)["AP"]
    least = max(config.teacher_floor / 2, LEAST_AP)                  # a sample is noisy; the floor itself is held on the whole split
    good = ap >= least
    return CheckResult(
        "teacher's AP", good, f"{ap:.1f} on {len(some)} images of {config.eval_split}",
        "" if good else "check its checkpoint, its classes and the size of images (min_size)",
    )
