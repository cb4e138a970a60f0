"""The explorer's students, each with one or more checkpoints.

    detector | folder of checkpoints | {name: either} --named_detectors--> {name: NamedDetector}
"""
import json
import re
from collections.abc import Mapping
from pathlib import Path

from safetensors import safe_open
from torch import nn

from ..checkpoints import load_weights, read_facts
from ..config import RunConfig
from ..detectors import build, build_settings
from ..errors import UserError

LAST_LAYERS = ("head.classification_head.cls_logits.weight", "head.regression_head.bbox_reg.weight")


class NamedDetector:
    """A detector with its checkpoints.

    checkpoints: their labels, oldest first; [""] for a detector without files.
    All checkpoints share ``module``, so only the latest one asked for is in memory.
    """

    def __init__(self, name: str, module: nn.Module, files: list[Path] = ()):
        self.name, self.module, self.files = name, module, list(files)
        self.checkpoints = [checkpoint_label(file) for file in self.files] or [""]
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
        classes: of the data, for checkpoints whose files do not say their classes.
        like: a detector of the checkpoints' architecture, for files that do not say their settings.
        device: where checkpoints are loaded; a detector stays on its device.
    """
    students = dict(student) if isinstance(student, Mapping) else {"student": student}
    if not students:
        raise UserError('student must be a detector or {"baseline": detector, ...}, got an empty dict; name one')
    result = {}
    for name, value in students.items():
        name = str(name)
        if isinstance(value, (str, Path)):
            result[name] = load_checkpoints(name, Path(value).expanduser(), classes, like, device)
        else:
            result[name] = NamedDetector(name, check_detector(f"student {name!r}", value))
    return result


def check_detector(label: str, detector) -> nn.Module:
    """The detector if it follows the contract of fgdlab/scene.py; else an error that names what is missing."""
    missing = [part for part in ("transform", "backbone") if not hasattr(detector, part)]
    if not isinstance(detector, nn.Module) or missing:
        got = type(detector).__name__ + (f" without {' and '.join(missing)}" if isinstance(detector, nn.Module) else "")
        raise UserError(
            f"{label} must be a detector with transform and backbone (see fgdlab/scene.py), got {got}; "
            "build one with fgdlab.lab.detectors.build"
        )
    return detector


def load_checkpoints(name: str, folder: Path, classes: int, like: nn.Module | None, device) -> NamedDetector:
    """The .safetensors files of a folder, sorted by the last number in their names, as checkpoints of one detector."""
    if not folder.is_dir():
        raise UserError(
            f"student {name!r} must be a detector or a folder of checkpoints, got {str(folder)!r}, which is no folder; "
            "correct the path"
        )
    if (folder / "snapshots").is_dir():
        folder = folder / "snapshots"
    files = sorted(folder.glob("*.safetensors"), key=lambda file: (step_number(file), file.name))
    if not files:
        raise UserError(
            f"{folder} must hold checkpoints named like step_000150.safetensors, got none; "
            "run with snapshot_every, or give the folder that holds them"
        )
    module = check_detector("like", like) if like is not None else build_from_settings(files[0], folder, classes)
    return NamedDetector(name, module if device is None else module.to(device), files)


def build_from_settings(file: Path, folder: Path, classes: int) -> nn.Module:
    """An untrained detector by the settings in the file's header or in the run's params.json."""
    facts = read_facts(file)
    settings = facts.get("settings")
    if settings is None and (folder.parent / "params.json").is_file():
        settings = json.loads((folder.parent / "params.json").read_text())
    if settings is None:
        raise UserError(
            f"{file} must say its settings, got none in its header and no params.json in {folder.parent}; "
            "give like=a detector of that architecture"
        )
    config = RunConfig.of(settings)
    classes = len(facts.get("classes") or ()) or classes_of(file) or classes
    return build(**build_settings(config, config.student, classes))


def classes_of(file: Path) -> int | None:
    """The number of classes C from the shapes of a RetinaNet's last layers; None for other heads.

    With A anchors per cell the layers have A * (C + 1) and A * 4 outputs.
    """
    with safe_open(file, "pt") as weights:
        names = weights.keys()
        outputs = [weights.get_slice(name).get_shape()[0] for name in LAST_LAYERS if name in names]
    return 4 * outputs[0] // outputs[1] - 1 if len(outputs) == 2 else None


def step_number(file: Path) -> int:
    """The last number in a file's name; -1 without one."""
    numbers = re.findall(r"\d+", file.stem)
    return int(numbers[-1]) if numbers else -1


def checkpoint_label(file: Path) -> str:
    return f"step {step_number(file)}" if step_number(file) >= 0 else file.stem
