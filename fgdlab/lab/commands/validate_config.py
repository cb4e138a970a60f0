"""Checks of this machine, and of a run's settings before it starts: data, schedule, teacher, and the first batch.

    RunConfig --validate_config--> CheckResults, one after the other, until one of them is bad
"""
import os
import platform
import shutil
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import nn

from fgdlab.config import FGDConfig
from fgdlab.fused.dispatch import why_readable

from ..checkpoints import checksum, head_is_loaded
from ..config import RunConfig, distils, has_teacher
from ..datasets import DetectionDataset
from ..detectors import build, build_settings
from ..errors import UserError
from ..io import cache_root, make_folder
from ..provenance import device_name, packages
from ..run import RunInputs, check_settings, device_of, findings, make_distiller, open_data
from ..sweeps import LEAST_AP
from ..teachers import Teacher, cache_refusal, load_teacher, teacher_needs_training, training_length
from ..training import CheckResult, ProcessGroup, coco_scores, detections, early_stopping, preflight, train

LEAST_FREE, USUAL_FREE = 1.0, 20.0  # GB: enough to write anything; enough for the teacher's maps
SAMPLE = 64  # images on which the teacher is evaluated
MOST_RATIO = 50.0  # of the mean squares of the teacher's maps on the worst image and on the median image


def check_machine() -> Iterator[CheckResult]:
    versions = [f"python {platform.python_version()}", *(f"{name} {version}" for name, version in packages().items())]
    yield CheckResult("python and packages", True, ", ".join(versions))
    yield CheckResult("processor", True, f"{device_name('cpu')}, {os.cpu_count()} cores")
    if not torch.cuda.is_available():
        hint = "to use one, install its driver and a torch built for it"
        yield CheckResult("GPUs", None, "none that torch can use; runs go to the CPU", hint)
    for index in range(torch.cuda.device_count()):
        free, total = torch.cuda.mem_get_info(index)
        found = f"{torch.cuda.get_device_name(index)}, {free / 1e9:.0f} of {total / 1e9:.0f} GB free"
        good = free > 0.2 * total
        yield CheckResult(f"GPU {index}", good, found, "" if good else "nvidia-smi shows what uses it")
    for device in ("cpu", *(("cuda",) if torch.cuda.is_available() else ())):
        why = why_readable(FGDConfig(), device)
        found = "applies; FGD runs use it" if why is None else f"does not apply: {why}"
        yield CheckResult(f"fused FGD loss on {device}", True if why is None else None, found)
    yield from check_folders()


def check_folders() -> Iterator[CheckResult]:
    root, hint = cache_root(), "set FGDLAB_HOME to a writable folder"
    try:
        make_folder(root)
        files = (path for path in root.rglob("*") if path.is_file() and not path.is_symlink())
        size, writable = sum(path.stat().st_size for path in files) / 1e9, os.access(root, os.W_OK)
        yield CheckResult("cache", writable, f"{root}, {size:.2f} GB", "" if writable else hint)
    except UserError as error:
        yield CheckResult("cache", False, str(error), hint)
        root = Path.cwd()
    for name, folder in (("the cache", root), ("runs/", Path.cwd())):
        free = shutil.disk_usage(folder).free / 1e9
        good = False if free < LEAST_FREE else True if free > USUAL_FREE else None
        hint = "free some, or write elsewhere: a teacher's maps of COCO take over 1000 GB, a checkpoint 0.5"
        yield CheckResult(f"disk for {name}", good, f"{free:.0f} GB free", "" if good else hint)


def validate_config(config: RunConfig) -> Iterator[CheckResult]:
    """All checks of a run that need no training; one step is run. A UserError becomes the last result."""
    try:
        yield from all_checks(config)
    except UserError as error:
        found, _, do = str(error).rpartition("; ")
        yield CheckResult("settings", False, found or do, do if found else "")


def all_checks(config: RunConfig) -> Iterator[CheckResult]:
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
        detector.checksum = checksum(detector)
        teacher = Teacher(Path(), detector, "not trained", None)
        found = f"{config.teacher} is not there yet; the first run trains it for {training_length(config)}"
        yield CheckResult("teacher", None, found, "`fgdlab teacher` with these settings does it now")
    else:
        detector, path, origin = load_teacher(config, train_set, eval_set, device=device, progress=False)
        teacher = Teacher(path, detector, origin, None)
        yield CheckResult("teacher", True, f"{config.teacher} ({origin}), {path.name}")
        yield from check_teacher(detector, eval_set, config, device)
    distiller = make_distiller(config, RunInputs(train_set, eval_set, teacher, None)).to(device)
    if distils(config):
        yield from preflight(distiller, train_set, config.precision, device, config.batch_size)
        refused = config.teacher_cache == "on" and cache_refusal(config, train_set, teacher.detector)
        if refused:
            yield CheckResult("teacher_cache=on", False, f"not possible: {refused}", "use teacher_cache=auto")
    early_stopping(config, train_set, device, ProcessGroup())
    train(distiller, train_set, config.but(train_steps=1, patience=0, schedule="cosine"), device=device, progress="off")
    yield CheckResult("one step", True, "done, with finite losses and gradients")


def check_teacher(
    detector: nn.Module, eval_set: DetectionDataset, config: RunConfig, device: str,
) -> Iterator[CheckResult]:
    """Its AP on a sample, and whether its maps are of one size: squared errors of a few larger ones hide all others."""
    if not head_is_loaded(detector):
        yield CheckResult("teacher's AP", None, "unknown: its head has other classes; only its pyramid is used")
        return
    sample = DetectionDataset(eval_set.annotations, eval_set.long_side, min(SAMPLE, len(eval_set)))
    squares = []  # per batch: mean square of each image's maps, (levels, images)

    def keep(module, inputs, maps) -> None:
        squares.append(torch.stack([each.float().square().mean(dim=(1, 2, 3)).cpu() for each in maps.values()]))

    hook = detector.backbone.register_forward_hook(keep)
    try:
        boxes = detections(detector, sample, device=device, batch_size=4)
    finally:
        hook.remove()
    ap = coco_scores(sample.ground_truth(), boxes, sample.image_ids)["AP"]
    good = ap >= max(config.teacher_floor / 2, LEAST_AP)  # a sample is noisy; a run checks the floor on the whole split
    hint = "" if good else "check its checkpoint, its classes and the size of images (min_size)"
    yield CheckResult("teacher's AP", good, f"{ap:.1f} on {len(sample)} images of {config.eval_split}", hint)
    whole = torch.cat(squares, dim=1)
    ratio = float((whole.amax(dim=1) / whole.median(dim=1).values.clamp(min=1e-12)).max())
    good = True if ratio <= MOST_RATIO else None
    hint = "" if good else "take another checkpoint, or train the teacher with a lower teacher_lr"
    yield CheckResult("teacher's maps", good, f"mean square at most {ratio:.1f} times that of the median image", hint)
