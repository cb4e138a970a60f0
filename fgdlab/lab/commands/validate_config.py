"""Checks of a run's settings before it starts: data, schedule, teacher with its AP on a sample, and the first batch.

    RunConfig --validate_config--> CheckResults, one after the other, until one of them is bad
"""
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from ..checkpoints import head_is_loaded
from ..config import RunConfig, distils, has_teacher
from ..datasets import DetectionDataset
from ..detectors import build, build_settings
from ..errors import UserError
from ..run import RunInputs, check_settings, device_of, findings, make_distiller, open_data
from ..teachers import Teacher, cache_refusal, load_teacher, teacher_needs_training, training_length
from ..training import CheckResult, coco_scores, detections, preflight, train

SAMPLE = 64  # images on which the teacher is evaluated
LEAST_AP = 1.0  # below this on a sample, a teacher has learned nothing or did not load


def validate_config(config: RunConfig) -> Iterator[CheckResult]:
    """All checks that need no training. A UserError becomes a bad result, the last one."""
    try:
        yield from all_checks(config)
    except UserError as error:
        found, _, do = str(error).rpartition("; ")
        yield CheckResult("settings", False, found or do, do if found else "")


def all_checks(config: RunConfig) -> Iterator[CheckResult]:
    """What a run would build is built, and one step is run, so that what a run would refuse is refused here."""
    device = device_of(config)
    check_settings(config)
    data = train_set, eval_set = open_data(config, progress=False)
    for split, dataset in ((config.train_split, train_set), (config.eval_split, eval_set)):
        boxes = sum(len(dataset.annotations.boxes[image_id]) for image_id in dataset.image_ids)
        found = f"{len(dataset)} images, {boxes} boxes, {len(dataset.classes)} classes"
        yield CheckResult(f"data, split {split}", True, found)
    passed = {"refuse": False, "warn": None, "note": True}
    for found in findings(config, data):
        yield CheckResult(found.name, passed[found.level], found.sentence, found.remedy)
    length = f"{config.train_steps} steps" if config.train_steps else (
        f"{config.epochs} epochs of {len(train_set) // config.batch_size} steps")
    found = f"{length} of {config.batch_size} images, {config.optimizer}, lr {config.lr:g}, {device}"
    yield CheckResult("schedule", True, found)
    teacher = None
    if not has_teacher(config):
        yield CheckResult("teacher", None, "the settings need none", "to distil, say --method fgd")
    elif teacher_needs_training(config, train_set):
        detector = build(**build_settings(config, "teacher", len(train_set.classes))).eval().to(device)
        teacher = Teacher(Path(), detector, "not trained", None)
        found = f"{config.teacher} is not there yet; the first run trains it for {training_length(config)}"
        yield CheckResult("teacher", None, found, "`fgdlab teacher` with these settings does it now")
    else:
        detector, path, origin = load_teacher(config, train_set, eval_set, device=device, progress=False)
        teacher = Teacher(path, detector, origin, None)
        yield CheckResult("teacher", True, f"{config.teacher} ({origin}), {path.name}")
        yield check_teacher_ap(detector, eval_set, config, device)
    distiller = make_distiller(config, RunInputs(train_set, eval_set, teacher, None)).to(device)
    if distils(config):
        yield from preflight(distiller, train_set, config.precision, device, config.batch_size)
        refused = config.teacher_cache == "on" and cache_refusal(config, train_set, teacher.detector)
        if refused:
            yield CheckResult("teacher_cache=on", False, f"not possible: {refused}", "use teacher_cache=auto")
    train(distiller, train_set, config.but(train_steps=1, patience=0, schedule="cosine"), device=device, progress="off")
    yield CheckResult("one step", True, "done, with finite losses and gradients")


def check_teacher_ap(detector: nn.Module, eval_set: DetectionDataset, config: RunConfig, device: str) -> CheckResult:
    if not head_is_loaded(detector):
        return CheckResult("teacher's AP", None, "unknown: its head has other classes; only its pyramid is used")
    sample = DetectionDataset(eval_set.annotations, eval_set.long_side, min(SAMPLE, len(eval_set)))
    with torch.no_grad():
        boxes = detections(detector, sample, device=device, batch_size=4)
        ap = coco_scores(sample.ground_truth(), boxes, sample.image_ids)["AP"]
    good = ap >= max(config.teacher_floor / 2, LEAST_AP)  # a sample is noisy; a run checks the floor on the whole split
    hint = "" if good else "check its checkpoint, its classes and the size of images (min_size)"
    return CheckResult("teacher's AP", good, f"{ap:.1f} on {len(sample)} images of {config.eval_split}", hint)
