"""One run from settings to numbers: data, teacher, training, evaluation, result.json."""
import time
from pathlib import Path
from typing import NamedTuple

import torch

from fgdlab.distill import Distiller

from ..checkpoints import inherit, load_weights, save_weights, weights_hash
from ..config import RunConfig, distils, has_teacher
from ..datasets import DetectionDataset, open_split, refuse_data
from ..detectors import build, build_settings, is_pretrained
from ..errors import UserError, check_name
from ..io import atomic_write, make_folder, write_json
from ..provenance import peak_memory_gb, provenance
from ..teachers import Teacher, TeacherCache, get_cache, get_teacher
from ..training import (
    ProcessGroup,
    all_scores,
    check_batch_split,
    check_loggers,
    check_sizes,
    custom_loss_file,
    custom_loss_hash,
    custom_loss_source,
    detections,
    fgd_implementation,
    joined,
    log_scores,
    make_balance,
    make_loss,
    preflight,
    refuse,
    sync_batchnorm,
    train,
)
from .folder import RunFolder
from .inputs import Data, findings, identity, open_data


class RunInputs(NamedTuple):
    """Of a run; teacher and cache of its maps are None where the run has none."""

    train_set: DetectionDataset
    eval_set: DetectionDataset
    teacher: Teacher | None
    cache: TeacherCache | None


def run(config: RunConfig, folder: Path | str, *, progress: str = "bar") -> dict:
    """Train one student, evaluate it, and write everything into ``folder``; resume a run that was interrupted there.

    Processes of torchrun share every batch and all evaluation images. Rank 0 writes; all ranks return the result.

    Args:
        folder: gets the files of folder.py, metrics.jsonl, checkpoint.pt, student.safetensors and detections.json.
        progress: "bar", "lines" or "off".
    Returns:
        result.json: COCO scores in 0..100, teacher_AP, times, settings, provenance.
    Raises:
        UserError: the folder holds a run with other settings, or another process is running in it.
    """
    here, device = RunFolder(make_folder(Path(folder))), device_of(config)
    with joined(device) as group:
        if not group.is_rank0:
            return run_in_group(config, here, "off", device, group)
        with here.locked():
            return run_in_group(config, here, progress, device, group)


def run_in_group(config: RunConfig, here: RunFolder, progress: str, device: str, group: ProcessGroup) -> dict:
    """One process of a run. Rank 0 has locked the folder and prepares; the other ranks wait."""
    folder = here.path
    data = None
    if group.is_rank0:
        data = open_data(config, progress != "off") if config.data != "digits" else None
        here.begin(config.dict(), identity(config, data))
    if done := group.broadcast(here.result() if here.has("result.json") else None):
        if group.is_rank0 and progress != "off" and (files := here.stale_files()):
            print(f"this result is of older code; changed since then: {', '.join(files)}", flush=True)
        return done
    check_settings(config, group)
    if group.world_size > 1:
        sync_batchnorm(build(**build_settings(config, "student", 1)), group, device)
    started = time.perf_counter()
    torch.set_num_threads(config.threads)
    if group.is_rank0 and custom_loss_file(config.method):  # its file may change later; the run keeps a copy
        source = custom_loss_source(config.method)
        with atomic_write(folder / "method.py") as unfinished:
            unfinished.write_bytes(source)
    inputs = prepare(config, progress != "off", data) if group.is_rank0 else None
    group.broadcast("prepared")
    inputs = inputs or prepare(config, progress=False)
    distiller = make_distiller(config, inputs).to(device)
    checks = []
    if distils(config):
        checks = preflight(distiller, inputs.train_set, config.precision, device, config.batch_size)
    refuse(checks)
    inherited = getattr(distiller.student, "inheritance", None)
    if progress != "off":
        lines = [f"inherited: {inherited}"] if inherited is not None else []
        lines += [f"worth a look: {line}" for line in checks if line.passed is None]
        print(*lines, group.batch_line(config), sep="\n", flush=True)
    timing = train(distiller, inputs.train_set, config, folder, device=device, progress=progress, group=group)
    evaluation_started = time.perf_counter()
    student = distiller.student.eval()
    detected = detections(
        student, inputs.eval_set, device=device, workers=config.workers, progress=progress == "bar", group=group,
    )
    if not group.is_rank0:
        return group.broadcast(None)
    eval_set, teacher = inputs.eval_set, inputs.teacher
    scores = all_scores(eval_set.ground_truth(), detected, eval_set.image_ids, masks=config.detector == "mask_rcnn")
    timing["eval_seconds"] = time.perf_counter() - evaluation_started
    log_scores(folder, config, timing["steps"], scores)
    facts = {"settings": config.dict(), "classes": inputs.train_set.classes, "AP": scores["AP"]}
    save_weights(student, folder / "student.safetensors", **facts)
    write_json(folder / "detections.json", detected)
    result = {
        **scores,
        "teacher_AP": teacher.AP if teacher else None,
        **timing,
        "seconds": time.perf_counter() - started,
        "peak_memory_gb": peak_memory_gb(device),
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "data_line": data_line(config, inputs),
        "data_hashes": {"train": inputs.train_set.content_hash(), "eval": eval_set.content_hash()},
        "teacher": {"origin": teacher.origin, "weights": weights_hash(teacher.path)} if teacher else None,
        "inherited": inherited._asdict() if inherited else None,
        "settings": config.dict(),
        "provenance": (
            provenance(device) | {"code_hash": here.read("code.json")["hash"]}
            | custom_loss_hash(config) | fgd_implementation(distiller.loss) | group.provenance()
        ),
    }
    here.finish(result)
    return group.broadcast(here.result())


def device_of(config: RunConfig) -> str:
    """"cpu" or "cuda". Raises a UserError for ``device=cuda`` without a GPU, instead of using the CPU."""
    if config.device == "cuda" and not torch.cuda.is_available():
        hint = "use device=auto or device=cpu, or check the driver"
        raise UserError(f"device=cuda must find a CUDA GPU, got none; {hint}")
    return "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"


def prepare(config: RunConfig, progress: bool = True, data: Data | None = None) -> RunInputs:
    """What is missing is made, and data is examined. Several processes may call this at once."""
    device = device_of(config)
    data = data or open_data(config, progress)
    refuse_data(findings(config, data), print if progress else lambda line: None)
    train_set, eval_set = (dataset.cache_pixels(progress) for dataset in data)
    teacher = cache = None
    if has_teacher(config):
        teacher = get_teacher(config, train_set, eval_set, device=device, progress=progress)
    if distils(config):
        cache = get_cache(config, train_set, teacher.detector, teacher.hash, device=device, progress=progress)
    return RunInputs(train_set, eval_set, teacher, cache)


def make_distiller(config: RunConfig, inputs: RunInputs) -> Distiller:
    """Student, teacher and loss as one module. The student's initial weights depend on the seed alone."""
    torch.manual_seed(config.seed)
    settings = build_settings(config, "student", len(inputs.train_set.classes))
    student = build(**settings, pretrained=is_pretrained(config, "student"))
    if config.channels_last:
        student = student.to(memory_format=torch.channels_last)  # 10 % faster on the CPU, more on a GPU
    if config.inherit:
        student.inheritance = inherit(student, inputs.teacher.detector)
        student.inherited = student.inheritance.copied  # compared by preflight()
    if not distils(config):
        return Distiller(student)
    teacher = inputs.teacher.detector
    if config.channels_last and device_of(config) == "cuda":  # on the CPU its maps are cached
        teacher = teacher.to(memory_format=torch.channels_last)
    loss = make_loss(config, imitated(config, student, teacher), student, teacher, device_of(config))
    return Distiller(student, teacher, loss, recall=inputs.cache, balance=make_balance(config))


def check_settings(config: RunConfig, group: ProcessGroup = ProcessGroup()) -> None:
    check_batch_split(group, config.batch_size, config.accumulate)
    check_sizes(config)
    check_loggers(config)
    if distils(config) and config.levels.strip():
        detectors = (build(**build_settings(config, role, 1)) for role in ("student", "teacher"))
        imitated(config, *detectors)


def imitated(config: RunConfig, student: torch.nn.Module, teacher: torch.nn.Module) -> tuple[str, ...]:
    """The pyramid levels that the settings name, else all that both share; UserError where they lack one."""
    shared = tuple(level for level in student.levels if level in teacher.levels)
    if not shared:
        levels = f"{', '.join(student.levels)} and {', '.join(teacher.levels)}"
        hint = "choose detectors of one family"
        raise UserError(f"student and teacher must share a pyramid level, got {levels}; {hint}")
    named = [name.strip() for name in config.levels.split(",") if name.strip()]
    for name in named:
        check_name("level that student and teacher share", name, shared)
    return tuple(level for level in shared if level in named or not named)


def data_line(config: RunConfig, inputs: RunInputs) -> str:
    size = config.image_size
    if config.data == "digits":
        kind = f"digit scenes {'with' if config.lookalikes else 'without'} look-alikes, {size} px"
    else:
        kind = Path(config.data).name + (f", long side {size} px" if size else "")
    counts = f"{len(inputs.train_set)} training images, {len(inputs.eval_set)} evaluation images"
    return f"{kind}; {counts} of split {config.eval_split}"


def evaluation_set(folder: Path, result: dict) -> DetectionDataset:
    """The data set on which a finished run was evaluated; a UserError if its images or labels have changed."""
    config = RunConfig.of(result["settings"])
    dataset = open_split(config, config.eval_split, progress=False)
    if dataset.content_hash() != result["data_hashes"]["eval"]:
        problem = f"{config.data} must hold the images and labels that {folder} was evaluated on, got others"
        raise UserError(f"{problem}; bring them back, or run it again in another folder")
    return dataset


def load_run(folder: Path | str) -> tuple[RunConfig, dict, torch.nn.Module, DetectionDataset, Teacher | None]:
    """(settings, result, student, evaluation set, teacher or None) of a finished run."""
    here, folder = RunFolder(folder), Path(folder)
    if not here.has("result.json"):
        raise UserError(f"{folder} must hold a finished run, got no result.json; run it first")
    result = here.result()
    config = RunConfig.of(result["settings"])
    eval_set, teacher = evaluation_set(folder, result), None
    student = build(**build_settings(config, "student", len(eval_set.classes)))
    load_weights(student, folder / "student.safetensors")
    if result["teacher"]:
        train_set = open_split(config, config.train_split, progress=False)
        teacher = get_teacher(config, train_set, eval_set, progress=False)
    return config, result, student.eval(), eval_set, teacher
