"""The teacher of a run: given, shipped with the package, cached, or trained on first use; and its AP."""
import json
import time
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn

from fgdlab.distill import Distiller

from ..checkpoints import checksum, head_is_loaded, load_weights, save_weights, teacher_from_checkpoint, weights_hash
from ..config import METADATA, RunConfig
from ..datasets import DetectionDataset, open_split
from ..detectors import build, build_settings, is_pretrained
from ..errors import UserError
from ..io import cache_root, checked_read, create_once, short_hash, write_json
from ..training import coco_scores, detections, train

SHIPPED = Path(__file__).parents[1] / "weights"

# Settings that a teacher's weights depend on.
TEACHER_DECIDES = tuple(name for name, about in METADATA.items() if about["decides_teacher"])


class Teacher(NamedTuple):
    path: Path
    detector: nn.Module  # in eval mode
    origin: str  # "given", "shipped", "cached" or "trained now"
    AP: float | None  # on the evaluation set, 0..100; None without a head for this data
    hash: str = ""  # of weights and image size


def get_teacher(
    config: RunConfig, train_set: DetectionDataset, eval_set: DetectionDataset, *, device: str = "cpu",
    progress: bool = True,
) -> Teacher:
    """The teacher that the settings name, with its AP on the evaluation set; UserError where that is below
    ``config.teacher_floor``."""
    detector, path, origin = load_teacher(config, train_set, eval_set, device=device, progress=progress)
    hash_ = weights_and_size_hash(config, path)
    if not head_is_loaded(detector):
        if config.teacher_floor:
            problem = "teacher_floor must be 0 for a teacher without a head for this data"
            raise UserError(f"{problem}, got {config.teacher_floor:g}: it detects nothing that could be measured")
        return Teacher(path, detector, origin, None, hash_)
    ap = teacher_scores(hash_, detector, eval_set, device=device, workers=config.workers, progress=progress)["AP"]
    problem = f"the teacher's AP on {config.eval_split!r} must be"
    if ap is None or ap != ap:
        raise UserError(f"{problem} a number, but that split holds no object; choose another eval_split")
    if not ap >= config.teacher_floor:
        got = f"{ap:.1f} ({path.name}, {origin})"
        hint = "train it longer (teacher_epochs) or give another (teacher_checkpoint)"
        raise UserError(f"{problem} at least {config.teacher_floor:g}, got {got}; {hint}")
    return Teacher(path, detector, origin, ap, hash_)


def load_teacher(
    config: RunConfig, train_set: DetectionDataset, eval_set: DetectionDataset, *, device: str = "cpu",
    progress: bool = True,
) -> tuple[nn.Module, Path, str]:
    """(detector in eval mode, weights file, origin), without the AP."""
    classes = train_set.classes
    if config.teacher_checkpoint:
        origin = "given"
        detector, path = teacher_from_checkpoint(config, classes, progress)
    else:
        path, origin = teacher_file(config, train_set, eval_set, device=device, progress=progress)
        detector = build(**build_settings(config, "teacher", len(classes)))
        try:
            load_weights(detector, path)
        except UserError as error:
            if origin != "cached":
                raise
            raise UserError(f"{error}; or delete it, and it is made again") from error
    detector.checksum = checksum(detector)  # compared by training/preflight_checks.py
    return detector.eval().to(device), path, origin


def ap_text(ap: float | None) -> str:
    return "AP unknown (its head is of other classes)" if ap is None else f"AP {ap:.1f}"


def weights_and_size_hash(config: RunConfig, path: Path) -> str:
    sizes = {name: value for name, value in config.identity().items() if name in ("min_size", "max_size")}
    return weights_hash(path) + (f"-{short_hash(sizes)}" if sizes else "")


def teacher_hash(config: RunConfig, train_set: DetectionDataset | None = None) -> str:
    """A hash of all that a trained teacher's weights depend on. train_set: opened here if not given."""
    from ..datasets import RECIPE_VERSION

    if config.data == "digits":
        data = f"digits-v{RECIPE_VERSION}"
    else:
        data = (train_set or open_split(config, config.train_split)).content_hash()
    settings = {name: value for name, value in config.identity().items() if name in TEACHER_DECIDES}
    return short_hash({"data": data, **settings})


def trained_path(config: RunConfig, train_set: DetectionDataset | None = None) -> Path:
    name = f"{config.detector}-{config.teacher}-{teacher_hash(config, train_set)}.safetensors"
    return SHIPPED / name if (SHIPPED / name).exists() else cache_root() / "teachers" / name


def kept_teacher_hash(config: RunConfig) -> str | None:
    """Of the shipped or cached teacher; None where it is not yet trained."""
    path = trained_path(config)
    return weights_hash(path) if path.exists() else None


def teacher_needs_training(config: RunConfig, train_set: DetectionDataset | None = None) -> bool:
    return not config.teacher_checkpoint and not trained_path(config, train_set).exists()


def teacher_file(
    config: RunConfig, train_set: DetectionDataset, eval_set: DetectionDataset, **settings,
) -> tuple[Path, str]:
    path = trained_path(config, train_set)
    if path.parent == SHIPPED:
        return path, "shipped"
    origin = "cached" if path.exists() else "trained now"
    create_once(path, lambda unfinished: train_teacher(config, unfinished, train_set, eval_set, **settings))
    return path, origin


def train_teacher(
    config: RunConfig, path: Path, train_set: DetectionDataset, eval_set: DetectionDataset, *, device: str = "cpu",
    progress: bool = True,
) -> None:
    same = {name: getattr(config, name) for name in (*TEACHER_DECIDES, "data", "eval_images", "eval_split", "workers")}
    settings = RunConfig.of({
        **same, "method": "none", "student": config.teacher, "epochs": config.teacher_epochs, "lr": config.teacher_lr,
        "train_steps": config.teacher_steps, "batch_size": config.teacher_batch_size, "seed": config.teacher_seed,
        "init": config.teacher_init,
    })
    torch.manual_seed(settings.seed)
    architecture = build_settings(settings, "student", len(train_set.classes))
    detector = build(**architecture, pretrained=is_pretrained(settings, "student")).to(device)
    if progress:
        amount = f"for {training_length(config)} on {len(train_set)} images"
        print(f"training the teacher {config.teacher} once, {amount}; it is kept for later runs", flush=True)
    started = time.perf_counter()
    bar = "bar" if progress else "off"
    steps = train(Distiller(detector), train_set, settings, device=device, progress=bar)["steps"]
    scores = evaluated(detector, eval_set, device=device, workers=config.workers, progress=progress)
    save_weights(
        detector, path, settings={name: getattr(config, name) for name in TEACHER_DECIDES},
        classes=train_set.classes, data=config.data if config.data == "digits" else "folder",
        seed=settings.seed, threads=torch.get_num_threads(),
        torch=torch.__version__, seconds=round(time.perf_counter() - started), steps=steps,
        eval_split=settings.eval_split, AP=round(scores["AP"], 2), AR=round(scores["AR"], 2), command="fgdlab teacher",
    )
    hash_ = weights_and_size_hash(config, path)
    create_once(scores_path(hash_, eval_set), lambda unfinished: write_json(unfinished, scores))


def training_length(config: RunConfig) -> str:
    return f"{config.teacher_steps} steps" if config.teacher_steps else f"{config.teacher_epochs} epochs"


def teacher_scores(hash_: str, detector: nn.Module, eval_set: DetectionDataset, **settings) -> dict:
    """On the evaluation set, computed once per hash of weights and data."""
    path = scores_path(hash_, eval_set)
    create_once(path, lambda unfinished: write_json(unfinished, evaluated(detector, eval_set, **settings)))
    with checked_read(path):
        return {**json.loads(path.read_text())}


def scores_path(hash_: str, eval_set: DetectionDataset) -> Path:
    return cache_root() / "teachers" / f"scores-{hash_}-{eval_set.content_hash()}.json"


def evaluated(detector: nn.Module, eval_set: DetectionDataset, **settings) -> dict:
    detected = detections(detector, eval_set, **settings)
    return coco_scores(eval_set.ground_truth(), detected, eval_set.image_ids)
