"""The teacher of a run: given, shipped with the project, cached, or trained on first use; and its AP before anyone learns from it."""
import json
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from fgdlab.distill import Distiller

from ..checkpoints import checksum, head_is_loaded, load_weights, save_weights, teacher_from_checkpoint, weights_hash
from ..config import RunConfig
from ..datasets import open_split
from ..detectors import build, build_settings
from ..errors import UserError
from ..io import cache_root, checked_read, create_once, short_hash, write_json
from ..training import coco_scores, detections, train

SHIPPED = Path(__file__).parents[1] / "weights"

# Settings that a teacher's weights depend on; the student's schedule is not among them, so it may change without training a teacher again.
TEACHER_DECIDES = (
    "lookalikes", "image_size", "train_images", "train_split", "flip", "detector", "flavour", "min_size", "max_size", "teacher", "pretrained", "precision",
    "teacher_epochs", "teacher_lr", "teacher_batch_size", "teacher_seed",
)


@dataclass(frozen=True)
class Teacher:
    """A trained teacher: its weights file, the detector in eval mode, where it came from, its AP on the eval split in 0..100.

    AP is None where the teacher has no head for this data: only its pyramid is learned from. ``key``: changes with the weights and with the size
    that images are read at.
    """

    path: Path
    detector: nn.Module
    origin: str
    AP: float | None
    key: str = ""


def get_teacher(config: RunConfig, *, device: str = "cpu", progress: bool = True) -> Teacher:
    """The teacher that a run's settings name, measured, ready to learn from.

    Raises:
        UserError: its AP on ``config.eval_split`` is below ``config.teacher_floor``; nothing can be learned from a broken teacher.
    """
    detector, path, origin = load_teacher(config, device=device, progress=progress)
    key = weights_and_size_hash(config, path)
    if not head_is_loaded(detector):
        if config.teacher_floor:
            raise UserError(f"teacher_floor must be 0 for a teacher without a head for this data, got {config.teacher_floor:g}: it detects nothing that could be measured")
        return Teacher(path, detector, origin, None, key)
    ap = teacher_scores(config, key, detector, device=device, progress=progress)["AP"]
    if ap is None or ap != ap:
        raise UserError(f"the teacher's AP on {config.eval_split!r} must be a number, but that split holds no object; choose another eval_split")
    if not ap >= config.teacher_floor:
        raise UserError(
            f"the teacher's AP on {config.eval_split!r} must be at least {config.teacher_floor:g}, got {ap:.1f} ({path.name}, {origin}); "
            "train it longer (teacher_epochs) or give another (teacher_checkpoint)"
        )
    return Teacher(path, detector, origin, ap, key)


def load_teacher(config: RunConfig, *, device: str = "cpu", progress: bool = True) -> tuple[nn.Module, Path, str]:
    """(detector in eval mode, weights file, origin) of a run's teacher, not yet measured."""
    classes = open_split(config, config.train_split, progress).classes
    if config.teacher_checkpoint:
        detector, path = teacher_from_checkpoint(config, classes, progress)
        return as_loaded(detector).to(device), path, "given"
    path, origin = teacher_file(config, device=device, progress=progress)
    detector = build(**build_settings(config, config.teacher, len(classes)))
    try:
        load_weights(detector, path)
    except UserError as error:
        if origin != "cached":
            raise
        raise UserError(f"{error}; or delete it, and it is made again") from error
    return as_loaded(detector).to(device), path, origin


def as_loaded(detector: nn.Module) -> nn.Module:
    """The same in eval mode, its weights noted, so that a run can tell whether they are still those."""
    detector.checksum = checksum(detector)
    return detector.eval()


def teacher_needs_training(config: RunConfig) -> bool:
    """Whether a run with these settings would have to train its teacher first."""
    name = teacher_name(config)
    return not (config.teacher_checkpoint or (SHIPPED / name).exists() or (cache_root() / "teachers" / name).exists())


def ap_text(ap: float | None) -> str:
    return "AP unknown, for its head is of other classes" if ap is None else f"AP {ap:.1f}"


def weights_and_size_hash(config: RunConfig, path: Path) -> str:
    """A hash of the weights, and of the size that images are read at where that is not the one they come in."""
    sizes = {name: value for name, value in config.identity().items() if name in ("min_size", "max_size")}
    return weights_hash(path) + (f"-{short_hash(sizes)}" if sizes else "")


def teacher_hash(config: RunConfig) -> str:
    """A hash of everything that decides a trained teacher's weights."""
    from ..datasets import RECIPE_VERSION

    data = f"digits-v{RECIPE_VERSION}" if config.data == "digits" else open_split(config, config.train_split).content_hash()
    return short_hash({"data": data, **{name: value for name, value in config.identity().items() if name in TEACHER_DECIDES}})


def teacher_name(config: RunConfig) -> str:
    return f"{config.detector}-{config.teacher}-{teacher_hash(config)}.safetensors"


def teacher_file(config: RunConfig, *, device: str = "cpu", progress: bool = True) -> tuple[Path, str]:
    """(weights file, origin): given, shipped, cached, or trained now, in this order."""
    if config.teacher_checkpoint:
        return Path(config.teacher_checkpoint).expanduser(), "given"
    name = teacher_name(config)
    if (SHIPPED / name).exists():
        return SHIPPED / name, "shipped"
    path = cache_root() / "teachers" / name
    origin = "cached" if path.exists() else "trained now"
    return create_once(path, lambda unfinished: train_teacher(config, unfinished, device=device, progress=progress)), origin


def train_teacher(config: RunConfig, path: Path, *, device: str = "cpu", progress: bool = True) -> None:
    """Train the teacher as a plain student of its own size and write its weights with the facts that made it."""
    settings = RunConfig.of({
        **{name: getattr(config, name) for name in (*TEACHER_DECIDES, "data", "eval_images", "eval_split", "workers")}, "method": "none", "student": config.teacher,
        "epochs": config.teacher_epochs, "lr": config.teacher_lr, "batch_size": config.teacher_batch_size, "seed": config.teacher_seed,
    })
    scenes = open_split(settings, settings.train_split, progress)
    torch.manual_seed(settings.seed)
    detector = build(**build_settings(settings, settings.student, len(scenes.classes)), pretrained=settings.pretrained).to(device)
    if progress:
        print(f"training the teacher {config.teacher} once, for {settings.epochs} epochs of {len(scenes)} images; it is kept for later runs", flush=True)
    started = time.perf_counter()
    done = train(Distiller(detector), scenes, settings, device=device, progress="bar" if progress else "off")
    judged = open_split(settings, settings.eval_split, progress)
    scores = coco_scores(judged.ground_truth(), detections(detector, judged, device=device, workers=config.workers, progress=progress), judged.image_ids)
    save_weights(
        detector, path, settings={name: getattr(config, name) for name in TEACHER_DECIDES}, data=config.data if config.data == "digits" else "folder",
        seed=settings.seed, threads=torch.get_num_threads(), torch=torch.__version__, seconds=round(time.perf_counter() - started),
        steps=done["steps"], eval_split=settings.eval_split, AP=round(scores["AP"], 2), AR=round(scores["AR"], 2), command="fgdlab teacher",
    )


def teacher_scores(config: RunConfig, key: str, detector: nn.Module, *, device: str = "cpu", progress: bool = True) -> dict:
    """The teacher's scores on the eval split, measured once for each ``weights_mark`` and data."""
    judged = open_split(config, config.eval_split, progress)
    kept = cache_root() / "teachers" / f"scores-{key}-{judged.content_hash()}.json"

    def measure(unfinished: Path) -> None:
        found = detections(detector, judged, device=device, workers=config.workers, progress=progress)
        write_json(unfinished, coco_scores(judged.ground_truth(), found, judged.image_ids))

    with checked_read(create_once(kept, measure)):
        return {**json.loads(kept.read_text())}
