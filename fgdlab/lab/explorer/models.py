"""The explorer's students, each with one or more checkpoints.

    detector | folder of checkpoints | {name: either} --named_detectors--> {name: NamedDetector}
"""
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors.torch import load_file
from torch import nn

from ..checkpoints import load_weights, outputs_of, read_facts
from ..config import RunConfig
from ..detectors import build, build_settings
from ..errors import UserError


class NamedDetector:
    """A detector with its checkpoints.

    checkpoints: their labels, oldest first; [""] for a detector without files.
    All checkpoints share ``module``, so only the latest one asked for is in memory.
    """

    def __init__(self, module: nn.Module, files: list[Path] = ()):
        self.module, self.files = module, files
        self.checkpoints = [checkpoint_label(file) for file in files] or [""]
        self._loaded: Path | None = None

    def detector(self, checkpoint: int = -1) -> nn.Module:
        """The detector at a checkpoint."""
        if self.files and self._loaded != self.files[checkpoint]:
            load_weights(self.module, self.files[checkpoint])
            self._loaded = self.files[checkpoint]
        return self.module


def named_detectors(student, classes: int, *, like: nn.Module | None = None, device=None) -> dict[str, NamedDetector]:
    """Students by name.

    Args:
        student: a detector (named "student"), a folder of checkpoints, or {name: either}.
        classes: of the data, for checkpoints whose files do not show their classes.
        like: a detector of the checkpoints' architecture, for files that do not say their settings.
        device: where checkpoints are loaded; a detector stays on its device.
    """
    students = dict(student) if isinstance(student, Mapping) else {"student": student}
    if not students:
        raise UserError('student must be a detector or {"baseline": detector, ...}, got an empty dict; name one')
    return {
        str(name): open_checkpoints(name, Path(value).expanduser(), classes, like, device)
        if isinstance(value, (str, Path)) else NamedDetector(check_detector(f"student {name!r}", value))
        for name, value in students.items()
    }


def check_detector(label: str, detector) -> nn.Module:
    """The detector if it has the interface of fgdlab/scene.py, else UserError."""
    if not (isinstance(detector, nn.Module) and hasattr(detector, "transform") and hasattr(detector, "backbone")):
        problem = f"{label} must be a detector with transform and backbone, got {type(detector).__name__}"
        raise UserError(f"{problem}; build one with fgdlab.lab.detectors.build")
    return detector


def open_checkpoints(name: str, folder: Path, classes: int, like: nn.Module | None, device) -> NamedDetector:
    """The .safetensors files of a folder, sorted by the last number in their names, as checkpoints of one detector."""
    if not folder.is_dir():
        problem = f"student {name!r} must be a detector or a folder of checkpoints, got {str(folder)!r}"
        raise UserError(f"{problem}, which is no folder; correct the path")
    if (folder / "snapshots").is_dir():
        folder = folder / "snapshots"
    files = sorted(folder.glob("*.safetensors"), key=lambda file: (step_number(file), file.name))
    if not files:
        problem = f"{folder} must hold checkpoints named like step_000150.safetensors, got none"
        raise UserError(f"{problem}; run with snapshot_every, or give the folder that holds them")
    module = check_detector("like", like) if like is not None else build_from_header(files[0], classes)
    return NamedDetector(module if device is None else module.to(device), files)


def build_from_header(file: Path, classes: int) -> nn.Module:
    """An untrained detector by the settings in a checkpoint's header."""
    facts = read_facts(file)
    if "settings" not in facts:
        problem = f"{file} must say its settings in its header, got none"
        raise UserError(f"{problem}; give like=a detector of that architecture")
    config = RunConfig.of(facts["settings"])
    outputs = outputs_of(load_file(file)) or 1 + classes
    return build(**build_settings(config, "student", len(facts.get("classes") or ()) or outputs - 1))


def step_number(file: Path) -> int:
    """The last number in a file's name; -1 without one."""
    numbers = re.findall(r"\d+", file.stem)
    return int(numbers[-1]) if numbers else -1


def checkpoint_label(file: Path) -> str:
    return f"step {step_number(file)}" if step_number(file) >= 0 else file.stem
