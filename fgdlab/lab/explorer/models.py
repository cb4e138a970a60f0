"""The explorer's students, each with one or more checkpoints; and all arguments of a run's folder."""
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import nn

from ..checkpoints import load_weights, outputs_of, read_facts
from ..config import RunConfig
from ..detectors import build, build_settings
from ..errors import UserError
from ..io import user_path
from ..run import imitated, load_run
from ..training import make_loss


class NamedDetector:
    """A detector and the labels of its checkpoints, oldest first; [""] without files. They share ``module``."""

    def __init__(self, module: nn.Module, files: list[Path] = ()):
        self.module, self.files = module, files
        self.checkpoints = [checkpoint_label(file) for file in files] or [""]
        self._loaded: Path | None = None

    def detector(self, checkpoint: int = -1) -> nn.Module:
        if self.files and self._loaded != self.files[checkpoint]:
            load_weights(self.module, self.files[checkpoint])
            self._loaded = self.files[checkpoint]
        return self.module


def named_detectors(student, classes: int, device=None) -> dict[str, NamedDetector]:
    """Students by name; ``classes`` (of the data) and ``device`` are for checkpoints that do not show theirs."""
    students = dict(student) if isinstance(student, Mapping) else {"student": student}
    if not students:
        raise UserError('student must be a detector or {"baseline": detector, ...}, got an empty dict; name one')
    named = {}
    for name, value in students.items():
        if isinstance(value, (str, Path)):
            value = open_checkpoints(name, user_path(value), classes, device)
        elif not isinstance(value, NamedDetector):
            value = NamedDetector(check_detector(f"student {name!r}", value))
        named[str(name)] = value
    return named


def check_detector(label: str, detector) -> nn.Module:
    if not (isinstance(detector, nn.Module) and hasattr(detector, "transform") and hasattr(detector, "backbone")):
        problem = f"{label} must be a detector with transform and backbone, got {type(detector).__name__}"
        raise UserError(f"{problem}; build one with fgdlab.lab.detectors.build")
    return detector


def open_checkpoints(name: str, folder: Path, classes: int, device) -> NamedDetector:
    folder = folder / "snapshots" if (folder / "snapshots").is_dir() else folder
    files = sorted(folder.glob("*.safetensors"), key=lambda file: (step_number(file), file.name))
    if not files:
        problem = f"student {name!r} must be a detector or a folder of checkpoints like step_000150.safetensors"
        raise UserError(f"{problem}, got {str(folder)!r}, which is no folder or holds none; run with snapshot_every")
    facts = read_facts(files[0])
    if "settings" not in facts:
        raise UserError(f"{files[0]} must say its settings in its header, got none; load it, and give the detector")
    known = len(facts.get("classes") or ()) or (outputs_of(load_file(files[0])) or 1 + classes) - 1
    module = build(**build_settings(RunConfig.of(facts["settings"]), "student", known))
    return NamedDetector(module.to(device or "cpu"), files)


def step_number(file: Path) -> int:
    return int(([-1] + re.findall(r"\d+", file.stem))[-1])


def checkpoint_label(file: Path) -> str:
    return f"step {step_number(file)}" if step_number(file) >= 0 else file.stem


def of_run(folder: Path | str) -> dict:
    """student (with its snapshots), teacher, data, config, ap, and loss: f and R of FGD's last checkpoint, else {}."""
    folder = user_path(folder)
    config, result, student, eval_set, teacher = load_run(folder)
    if teacher is None:
        raise UserError(f"{folder} must hold a run with a teacher, got none; give one: explore(folder, teacher, data)")
    loss, checkpoint = {}, folder / "checkpoint.pt"
    if config.method == "fgd" and checkpoint.is_file():
        weights = torch.load(checkpoint, weights_only=True, map_location="cpu")["distiller"]
        trained = make_loss(config, imitated(config, student, teacher.detector), student, teacher.detector, "cpu")
        trained.load_state_dict({key[5:]: value for key, value in weights.items() if key.startswith("loss.")})
        loss = {"student": trained}
    return {
        "student": folder if (folder / "snapshots").is_dir() else student, "teacher": teacher, "data": eval_set,
        "config": config.fgd(), "loss": loss, "ap": {"student": result["AP"]},
    }
