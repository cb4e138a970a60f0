"""Export a trained student: a plain state dict, under torchvision's names, MMDetection's or Megvii's."""
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import RunConfig
from ..datasets import MAX_CLASSES
from ..detectors import build, build_settings
from ..errors import UserError, short_repr
from ..io import atomic_write, refuse_source, user_path
from .mmdet_keys import megvii_names, mmdet_names
from .safetensors_io import load_weights, read_facts

SUFFIXES = (".pth", ".pt", ".safetensors")
BUILD_SETTINGS = {  # arguments of ``build`` that a header may name
    "name": str, "backbone": str, "classes": int, "flavour": str, "frozen_norms": bool, "min_size": int,
    "max_size": int, "conv_bias": bool, "norm_on_bbox": bool, "anchors": str,
}


def export_mmdet(detector: nn.Module, names_of=mmdet_names) -> dict[str, Tensor]:
    names = names_of(detector)
    return {names[ours]: tensor.detach().cpu().contiguous() for ours, tensor in detector.state_dict().items()}


def export_student(source: Path | str, out: Path | str, names: str = "torchvision") -> dict:
    """Write the plain state dict of a run's student, or of a weights file. Returns its arguments of ``build``.

    Args:
        source: a run's folder, or a .safetensors file that a run or ``fgdlab import`` wrote.
        out: a .pth file (a dict of tensors) or a .safetensors file.
        names: "torchvision" loads into the class that torchvision builds; "mmdet" needs a detector of that flavour,
            "megvii" a YOLOX.
    """
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise UserError(f"the exported file must end in one of {', '.join(SUFFIXES)}, .onnx, got {str(out)!r}")
    refuse_source(out, weights_file(source))
    detector, settings = detector_of(source)
    if names == "torchvision":
        state = {name: tensor.detach().contiguous() for name, tensor in detector.state_dict().items()}
    else:
        state = export_mmdet(detector, mmdet_names if names == "mmdet" else megvii_names)
    with atomic_write(out) as unfinished:
        (save_file if out.suffix == ".safetensors" else torch.save)(state, unfinished)
    return settings


def weights_file(source: Path | str) -> Path:
    path = user_path(source)
    if path.is_dir():
        path = path / "student.safetensors"
        if not path.is_file():
            raise UserError(f"{path.parent} must hold a finished run, got no student.safetensors; run it first")
    return path


def described(source: Path | str) -> tuple[RunConfig | None, list[str]]:
    """(settings of the run that trained a student, its classes) by its weights file; None, [] if it has none."""
    facts = read_facts(weights_file(source))
    return RunConfig.of(facts["settings"]) if facts.get("settings") else None, facts.get("classes") or []


def detector_of(source: Path | str) -> tuple[nn.Module, dict]:
    path = weights_file(source)
    settings = header_settings(path)
    detector = build(**settings)
    detector.not_loaded = tuple(load_weights(detector, path).get("missing", ()))
    return detector.eval(), settings


def header_settings(path: Path) -> dict:
    facts = read_facts(path)
    if "build" in facts:
        return checked(facts["build"], path)
    settings, classes = facts.get("settings"), facts.get("classes")
    if not isinstance(settings, dict) or not {"detector", "student"} <= settings.keys() or not classes:
        raise not_described(path, "no such facts")
    return build_settings(RunConfig.of(settings), "student", len(classes))


def checked(build: dict, path: Path) -> dict:
    """Refuse arguments of ``build`` that download, allocate without bound, or are unknown."""
    if not isinstance(build, dict) or not {"name", "backbone", "classes"} <= build.keys() or not build["classes"]:
        raise not_described(path, short_repr(build))
    for name, value in build.items():
        kind = BUILD_SETTINGS.get(name)
        if type(value) is not kind or (kind is int and not 0 <= value <= MAX_CLASSES):
            raise not_described(path, f"{short_repr(value)} for {short_repr(name)}")
    return build


def not_described(path: Path, got: str) -> UserError:
    remedy = "give a run's folder or a file that `fgdlab import` wrote"
    return UserError(f"{path} must say in its header how its detector is built, got {got}; {remedy}")
