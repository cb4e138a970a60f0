"""A trained student out of the bench: a plain state dict, under torchvision's names or MMDetection's.

    run folder or weights file --header says how to build--> detector --export--> FILE.pth or FILE.safetensors
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..config import RunConfig
from ..datasets import MAX_CLASSES
from ..detectors import build, build_settings
from ..errors import UserError, short_repr, unknown_name
from ..io import atomic_write
from .mmdet_keys import mmdet_names
from .safetensors_io import load_weights, read_facts

NAMES = ("torchvision", "mmdet")
SUFFIXES = (".pth", ".pt", ".safetensors")
ASKED = {                                                            # what a header may say of a detector, and in which type
    "name": str, "backbone": str, "classes": int, "flavour": str, "frozen_norms": bool, "min_size": int, "max_size": int, "conv_bias": bool, "norm_on_bbox": bool,
}


def export_mmdet(detector: nn.Module) -> dict[str, Tensor]:
    """The detector's state under MMDetection's names, on the CPU; what MMDetection's ``load_checkpoint`` takes as it is.

    Raises:
        UserError: a detector of another flavour, or a backbone that MMDetection names otherwise.
    """
    names = mmdet_names(detector)
    return {names[ours]: each.detach().cpu().contiguous() for ours, each in detector.state_dict().items()}


def export_student(source: Path | str, out: Path | str, names: str = "torchvision") -> dict:
    """Write the plain state dict of a run's student, or of a weights file.

    Args:
        source: a run's folder, or a .safetensors file that a run or ``fgdlab import`` wrote.
        out: a .pth file (a dict of tensors, read by ``torch.load(weights_only=True)``) or a .safetensors file.
        names: "torchvision" loads into the very class that torchvision builds; "mmdet" needs a detector of the mmdet flavour.
    Returns:
        how the detector is built: {"name", "backbone", "classes", "flavour", ...}, the arguments of ``build``.
    Raises:
        UserError: no run, no such names, or a suffix that is none of those.
    """
    if names not in NAMES:
        raise unknown_name("kind of names", names, NAMES)
    out = Path(out)
    if out.suffix not in SUFFIXES:
        raise UserError(f"the exported file must end in one of {', '.join(SUFFIXES)}, got {str(out)!r}")
    detector, settings = detector_of(source)
    if names == "mmdet":
        state = export_mmdet(detector)
    else:
        state = {name: each.detach().contiguous() for name, each in detector.state_dict().items()}
    with atomic_write(out) as unfinished:
        if out.suffix == ".safetensors":
            save_file(state, unfinished)
        else:
            torch.save(state, unfinished)
    return settings


def detector_of(source: Path | str) -> tuple[nn.Module, dict]:
    """(the detector in eval mode, the arguments of ``build`` that made it) of a run's folder or of a weights file with such facts in its header."""
    path = Path(source).expanduser()
    if path.is_dir():
        if not (path / "student.safetensors").is_file():
            raise UserError(f"{path} must hold a finished run, got no student.safetensors; run it first")
        path = path / "student.safetensors"
    settings = built_by(path)
    detector = build(**settings)
    detector.not_loaded = tuple(load_weights(detector, path).get("missing", ()))
    return detector.eval(), settings


def untold(path: Path, got: str) -> UserError:
    return UserError(f"{path} must say in its header how its detector is built, got {got}; give a run's folder or a file that `fgdlab import` wrote")


def checked(build: dict, path: Path) -> dict:
    """Arguments of ``build`` that a header may name: none that downloads, allocates without bound, or is unknown. A file is not asked for more."""
    if not isinstance(build, dict):
        raise untold(path, short_repr(build))
    for name, value in build.items():
        if name not in ASKED or type(value) is not ASKED[name] or (ASKED[name] is int and not 0 <= value <= MAX_CLASSES):
            raise untold(path, f"{short_repr(value)} for {short_repr(name)}")
    if not {"name", "backbone", "classes"} <= build.keys() or not build["classes"]:
        raise untold(path, short_repr(build))
    return build


def built_by(path: Path) -> dict:
    """The arguments of ``build`` that a weights file's header holds."""
    facts = read_facts(path)
    if "build" in facts:
        return checked(facts["build"], path)
    settings, classes = facts.get("settings"), facts.get("classes")
    if not isinstance(settings, dict) or not {"detector", "student"} <= settings.keys() or not classes or not isinstance(classes, list):
        raise untold(path, "no such facts")
    return build_settings(RunConfig.of(settings), settings["student"], len(classes))
