"""Who is looked at: students, each with one or many checkpoints, and their teacher.

    detector | {name: detector or folder} | folder of checkpoints --contestants--> {name: Contestant}
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
NUMBER = re.compile(r"(\d+)\D*$")


class NamedDetector:
    """One network, at one or several stages of its training.

    stages: a label each, oldest first; [""] for a detector that was given as it is. ``detector(i)`` is the network at stage i;
    checkpoints share ``module``, so only the stage asked for last is in memory.
    """

    def __init__(self, name: str, module: nn.Module, files: list[Path] = ()):
        self.name, self.module, self.files = name, module, list(files)
        self.stages = [stage_name(each) for each in self.files] or [""]
        self._loaded: Path | None = None

    def detector(self, stage: int = -1) -> nn.Module:
        if self.files and self._loaded != self.files[stage]:
            load_weights(self.module, self.files[stage])
            self._loaded = self.files[stage]
        return self.module


def named_detectors(student, classes: int, *, like: nn.Module | None = None, device=None) -> dict[str, NamedDetector]:
    """Students by name.

    Args:
        student: a detector (named "student"), a folder of checkpoints, or {name: either}.
        classes: C of the data, with which a checkpoint's detector is built where its file does not say.
        like: a detector of the checkpoints' architecture, for files that do not say their settings.
        device: where checkpoints are put; a detector stays where it is.
    """
    given = dict(student) if isinstance(student, Mapping) and not isinstance(student, nn.Module) else {"student": student}
    if not given:
        raise UserError('student must be a detector or {"baseline": detector, ...}, got an empty dict; name at least one')
    found = {}
    for name, each in given.items():
        if isinstance(each, (str, Path)):
            found[str(name)] = timeline(str(name), Path(each).expanduser(), classes, like, device)
        else:
            found[str(name)] = NamedDetector(str(name), checked(f"student {name!r}", each))
    return found


def checked(who: str, detector) -> nn.Module:
    """A detector as fgdlab/scene.py asks for it, or an error that says what is missing."""
    missing = [part for part in ("transform", "backbone") if not hasattr(detector, part)]
    if not isinstance(detector, nn.Module) or missing:
        got = type(detector).__name__ + (f" without {' and '.join(missing)}" if isinstance(detector, nn.Module) else "")
        raise UserError(f"{who} must be a detector with transform and backbone (see fgdlab/scene.py), got {got}; build one with fgdlab.lab.detectors.build")
    return detector


def timeline(name: str, folder: Path, classes: int, like: nn.Module | None, device) -> NamedDetector:
    """The .safetensors files of a folder by the last number in their names, as the stages of one network."""
    if not folder.is_dir():
        raise UserError(f"student {name!r} must be a detector or a folder of checkpoints, got {str(folder)!r}, which is no folder; correct the path")
    folder = folder / "snapshots" if (folder / "snapshots").is_dir() else folder
    files = sorted(folder.glob("*.safetensors"), key=lambda each: (number(each), each.name))
    if not files:
        raise UserError(f"{folder} must hold checkpoints named like step_000150.safetensors, got none; run with snapshot_every, or give the folder that holds them")
    module = like if like is not None else architecture(files[0], folder, classes)
    return NamedDetector(name, checked(f"student {name!r}", module if device is None else module.to(device)), files)


def architecture(file: Path, folder: Path, classes: int) -> nn.Module:
    """An untrained detector of the kind that wrote a file, by the settings in its header or in the run's params.json."""
    facts = read_facts(file)
    settings = facts.get("settings")
    if settings is None and (folder.parent / "params.json").is_file():
        settings = json.loads((folder.parent / "params.json").read_text())
    if settings is None:
        raise UserError(f"{file} must say its settings, got none in its header and no params.json beside its folder; give like=a detector of that architecture")
    config = RunConfig.of(settings)
    return build(**build_settings(config, config.student, len(facts.get("classes") or ()) or classes_of(file) or classes))


def classes_of(file: Path) -> int | None:
    """C by the shapes of a RetinaNet's last layers, A * (C + 1) and A * 4 outputs for A anchors a cell; None for other heads."""
    with safe_open(file, "pt") as weights:
        outputs = [weights.get_slice(name).get_shape()[0] for name in LAST_LAYERS if name in weights.keys()]          # noqa: SIM118
    return 4 * outputs[0] // outputs[1] - 1 if len(outputs) == 2 else None


def number(file: Path) -> int:
    found = NUMBER.search(file.stem)
    return int(found[1]) if found else -1


def stage_name(file: Path) -> str:
    return f"step {number(file)}" if number(file) >= 0 else file.stem
