"""One run from settings to numbers: data, teacher, training, evaluation, result.json.

    RunConfig --open_split, get_teacher, make_loss, preflight, train, detections, all_scores--> result.json
"""
import json
import time
from collections import namedtuple
from pathlib import Path

import torch
from filelock import Timeout

from fgdlab.distill import Distiller

from .checkpoints import inherit, load_weights, save_weights, weights_hash
from .config import RunConfig, distils, has_teacher
from .datasets import DetectionDataset, open_split
from .detectors import build, build_settings
from .errors import UserError, unknown_name
from .io import atomic_write, checked_read, lock_file, make_folder, write_json
from .provenance import peak_memory_gb, provenance
from .teachers import Teacher, get_cache, get_teacher
from .training import (
    ProcessGroup,
    all_scores,
    check_batch_split,
    check_sizes,
    check_tensorboard,
    custom_loss_file,
    custom_loss_hash,
    custom_loss_source,
    detections,
    fgd_implementation,
    joined,
    make_balance,
    make_loss,
    preflight,
    refuse,
    train,
)

BEGUN = ("metrics.jsonl", "checkpoint.pt", "student.safetensors", "result.json")       # what a run leaves once it has trained a step
Parts = namedtuple("Parts", "scenes judged teacher cache")


def run(config: RunConfig, folder: Path | str, *, progress: str = "bar") -> dict:
    """Train one student, judge it, and write everything into ``folder``; go on where an interrupted run stopped.

    Started by torchrun, its processes share every batch and every image to judge; one of them writes, and all return the same result.

    Args:
        folder: gets params.json, metrics.jsonl, checkpoint.pt, student.safetensors, detections.json, and last of all result.json,
            the only sign that the run is done.
        progress: "bar", "lines" or "off".
    Returns:
        the result as in result.json: COCO scores 0..100, teacher_AP, times, settings, provenance.
    Raises:
        UserError: the folder holds a run with other settings, or another process is at work in it.
    """
    folder, device = make_folder(Path(folder)), device_of(config)
    with joined(device) as team:
        if not team.is_rank0:
            return shared_run(config, folder, "off", device, team)
        try:
            with lock_file(folder / "lock", timeout=30):             # a run whose runner was killed needs a moment to die
                return shared_run(config, folder, progress, device, team)
        except Timeout:
            raise UserError(f"{folder} must be free, but another process is running in it; wait for it, or choose another folder") from None


def shared_run(config: RunConfig, folder: Path, progress: str, device: str, team: ProcessGroup) -> dict:
    """The run in the folder that the leader has locked. Wherever the leader's word is taken, the others wait for what it has made."""
    if team.is_rank0:
        claim(config, folder)
    if done := team.broadcast(read_result(folder) if (folder / "result.json").exists() else None):
        return done
    check_batch_split(team, config.batch_size, config.accumulate)
    check_sizes(config)
    check_levels(config)
    check_tensorboard(config)
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    if team.is_rank0 and custom_loss_file(config.method):                       # a loss of one's own changes; the run keeps the text it ran with
        text = custom_loss_source(config.method)
        with atomic_write(folder / "method.py") as unfinished:
            unfinished.write_bytes(text)
    parts = prepare(config, progress=progress != "off") if team.is_rank0 else None
    team.broadcast("all is made")
    parts = parts or prepare(config, progress=False)
    distiller = make_distiller(config, parts).to(device)
    lines = preflight(distiller, parts.scenes, config.precision, device, config.batch_size) if distils(config) else []
    refuse(lines)
    inherited = getattr(distiller.student, "inheritance", None)
    if progress != "off":
        told = [f"inherited: {inherited}"] * (inherited is not None) + [f"worth a look: {line}" for line in lines if line.good is None]
        print(*told, team.say(config), sep="\n", flush=True)
    timing = train(distiller, parts.scenes, config, folder, device=device, progress=progress, team=team)
    evaluation = time.perf_counter()
    student = distiller.student.eval()
    found = detections(student, parts.judged, device=device, workers=config.workers, progress=progress == "bar", team=team)
    if not team.is_rank0:
        return team.broadcast(None)
    scores = all_scores(parts.judged.ground_truth(), found, parts.judged.image_ids, masks=config.detector == "mask_rcnn")
    timing["eval_seconds"] = time.perf_counter() - evaluation
    save_weights(student, folder / "student.safetensors", settings=config.dict(), classes=parts.scenes.classes, AP=scores["AP"])
    write_json(folder / "detections.json", found)
    result = {
        **scores, "teacher_AP": parts.teacher.AP if parts.teacher else None, **timing, "seconds": time.perf_counter() - started,
        "peak_memory_gb": peak_memory_gb(device), "parameters": sum(each.numel() for each in student.parameters()),
        "data_line": describe(config, parts), "data_hashes": {"train": parts.scenes.content_hash(), "eval": parts.judged.content_hash()},
        "teacher": {"origin": parts.teacher.origin, "weights": weights_hash(parts.teacher.path)} if parts.teacher else None,
        "inherited": inherited._asdict() if inherited else None,
        "settings": config.dict(), "provenance": provenance(device) | custom_loss_hash(config) | fgd_implementation(distiller.loss) | team.mark(),
    }
    write_json(folder / "result.json", result)
    return team.broadcast(read_result(folder))


def read_result(folder: Path) -> dict:
    """result.json of a finished run."""
    with checked_read(folder / "result.json"):
        return {**json.loads((folder / "result.json").read_text(encoding="utf-8"))}


def claim(config: RunConfig, folder: Path) -> None:
    """Note the settings in the folder, or check that it holds these very settings; those of a run that was refused before it began do not count."""
    path = folder / "params.json"
    if path.exists() and any((folder / name).exists() for name in BEGUN):
        with checked_read(path):
            before = {**json.loads(path.read_text(encoding="utf-8"))}
        changed = [name for name, value in config.dict().items() if before.get(name, value) != value]
        if changed:
            raise UserError(
                f"{folder} must hold a run with the same settings, got other values for {', '.join(changed)}; choose another folder or delete this one"
            )
    write_json(path, config.dict())


def device_of(config: RunConfig) -> str:
    """"cpu" or "cuda", and an error rather than a silent CPU where CUDA was asked for."""
    if config.device == "cuda" and not torch.cuda.is_available():
        raise UserError("device=cuda must find a CUDA card, got none; use device=auto or device=cpu, or check the driver")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def prepare(config: RunConfig, progress: bool = True) -> Parts:
    """Data, teacher and teacher cache of a run; whatever is missing is made here, with bars. Safe to call from many processes."""
    device = device_of(config)
    scenes, judged = (open_split(config, split, progress).cache_pixels(progress) for split in (config.train_split, config.eval_split))
    if not has_teacher(config):
        return Parts(scenes, judged, None, None)
    teacher = get_teacher(config, device=device, progress=progress)
    if not distils(config):
        return Parts(scenes, judged, teacher, None)
    cache = get_cache(config, scenes, teacher.detector, teacher.key, device=device, progress=progress)
    return Parts(scenes, judged, teacher, cache)


def make_distiller(config: RunConfig, parts: Parts) -> Distiller:
    """Student, teacher and loss as one module. The student's first weights depend on the seed alone, so rows of a sweep start equal."""
    torch.manual_seed(config.seed)
    student = build(**build_settings(config, config.student, len(parts.scenes.classes)), pretrained=config.pretrained)
    if config.channels_last:
        student = student.to(memory_format=torch.channels_last)      # a tenth faster on the CPU, more on a GPU; same numbers to rounding
    if config.inherit:
        student.inheritance = inherit(student, parts.teacher.detector)
        student.inherited = student.inheritance.copied               # what the preflight compares
    if not distils(config):
        return Distiller(student)
    teacher = parts.teacher.detector
    if config.channels_last and device_of(config) == "cuda":         # on the CPU its maps are cached, and those that were stay what they are
        teacher = teacher.to(memory_format=torch.channels_last)
    loss = make_loss(config, imitated(config, student, teacher), student, teacher, device_of(config))
    return Distiller(student, teacher, loss, recall=parts.cache, balance=make_balance(config))


def check_levels(config: RunConfig) -> None:
    """Named levels, before a teacher is trained for them."""
    if distils(config) and config.levels.strip():
        imitated(config, *(build(**build_settings(config, backbone, 1)) for backbone in (config.student, config.teacher)))


def imitated(config: RunConfig, student: torch.nn.Module, teacher: torch.nn.Module) -> tuple[str, ...]:
    """The pyramid levels that a run imitates: those that its settings name, else all that student and teacher share.

    Raises:
        UserError: a named level that one of them lacks, or none in common.
    """
    shared = tuple(level for level in student.levels if level in teacher.levels)
    if not shared:
        raise UserError(f"student and teacher must share a pyramid level, got {', '.join(student.levels)} and {', '.join(teacher.levels)}; choose detectors of one family")
    named = [each.strip() for each in config.levels.split(",") if each.strip()]
    for each in named:
        if each not in shared:
            raise unknown_name("level that student and teacher share", each, shared)
    return tuple(level for level in shared if level in named or not named)


def describe(config: RunConfig, parts: Parts) -> str:
    """The data of a run in words, as tables print it."""
    train_images, judged, size = len(parts.scenes), len(parts.judged), config.image_size
    if config.data == "digits":
        kind = f"digit scenes {'with' if config.lookalikes else 'without'} look-alikes, {size} px"
    else:
        kind = Path(config.data).name + (f", long side {size} px" if size else "")
    return f"{kind}; {train_images} images to learn from, {judged} of split {config.eval_split} to judge"


def load_run(folder: Path | str) -> tuple[RunConfig, dict, torch.nn.Module, DetectionDataset, Teacher | None]:
    """A finished run again, for figures: settings, result, student, the scenes it was judged on, teacher if it had one."""
    folder = Path(folder)
    if not (folder / "result.json").exists():
        raise UserError(f"{folder} must hold a finished run, got no result.json; run it first")
    result = read_result(folder)
    config = RunConfig.of(result["settings"])
    judged = open_split(config, config.eval_split, progress=False)
    student = build(**build_settings(config, config.student, len(judged.classes)))
    load_weights(student, folder / "student.safetensors")
    teacher = get_teacher(config, progress=False) if result["teacher"] else None
    return config, result, student.eval(), judged, teacher
