"""MMDetection's checkpoints into detectors of the mmdet flavour, with an account of every tensor.

    file --read_state--> {their name: tensor} --student_of--> plain student --load_mmdet--> detector, Report

Files are read with ``weights_only=True``: a pickle that wants to run code is refused.
"""
import os
import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ..errors import UserError
from .mmdet_keys import NECK, mmdet_names
from .safetensors_io import check_archive

PARTS = ("all", "backbone+neck")
STUDENT = ("student.", "architecture.model.", "architecture.")       # the authors' distiller; MMRazor 0.1 and later
OTHERS = ("teacher.", "distill_losses.", "distiller.", "architecture.model.distiller.", "architecture.teacher.")
FEW = 5                                                              # names that a message shows


@dataclass(frozen=True)
class Report:
    """What a load did. copied and missing in the detector's names, skipped in the checkpoint's."""

    copied: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)                 # in the checkpoint, not in the detector
    missing: list[str] = field(default_factory=list)                 # in the detector, not in the checkpoint: they keep their start

    def __str__(self) -> str:
        return "; ".join(f"{word} {len(names)}{shown(names) if word != 'copied' else ''}" for word, names in vars(self).items())


def shown(names: list[str]) -> str:
    return f" ({', '.join(names[:FEW])}{', ...' if len(names) > FEW else ''})" if names else ""


def load_mmdet(detector: nn.Module, source: Path | str | Mapping[str, Tensor], *, strict: bool = True, parts: str = "all") -> Report:
    """Copy a checkpoint in MMDetection's names into a detector of the mmdet flavour.

    Args:
        source: a file, or a state dict; that of a distiller is reduced to its student.
        strict: refuse a checkpoint that leaves any tensor of ``parts`` over or wanting; nothing is copied then.
        parts: "backbone+neck" leaves the heads alone, on both sides: what a Cascade Mask R-CNN has in common with a Faster R-CNN.
    Raises:
        UserError: a file that cannot be read safely, tensors of other shapes, or (strict) names that differ.
    """
    if parts not in PARTS:
        raise UserError(f"parts must be one of {', '.join(PARTS)}, got {parts!r}")
    state = student_of(source if isinstance(source, Mapping) else read_state(source))
    names, own = mmdet_names(detector), detector.state_dict()
    wanted = {ours: theirs for ours, theirs in names.items() if parts == "all" or NECK.match(theirs)}
    report = Report(
        [ours for ours, theirs in wanted.items() if theirs in state], [theirs for theirs in state if theirs not in set(wanted.values())],
        [ours for ours in names if ours not in wanted or names[ours] not in state],
    )
    unequal = [
        f"{names[ours]} {tuple(state[names[ours]].shape)} for {tuple(own[ours].shape)}" for ours in report.copied if state[names[ours]].shape != own[ours].shape
    ]
    if unequal:
        raise UserError(f"the checkpoint's tensors must have the detector's shapes, got {len(unequal)} that differ{shown(unequal)}; check backbone and classes")
    left = [theirs for theirs in report.skipped if parts == "all" or NECK.match(theirs)]
    lacking = [ours for ours in report.missing if ours in wanted]
    if strict and (left or lacking):
        raise UserError(
            f"the checkpoint must hold exactly this detector's tensors, got {len(left)} too many{shown(left)} and {len(lacking)} missing{shown(lacking)}; "
            f"check detector and backbone{hint(left, lacking)}, or load with strict=False"
        )
    if not report.copied:
        raise UserError(f"the checkpoint must hold tensors in MMDetection's names, got none that this detector has{shown(report.skipped)}")
    with torch.no_grad():
        for ours in report.copied:
            own[ours].copy_(state[names[ours]])
    detector.not_loaded = tuple(report.missing)                      # a head at its random start is nothing to inherit
    return report


def hint(left: list[str], lacking: list[str]) -> str:
    """What usually explains the first name that differs."""
    if any(".conv_offset." in name for name in (*left, *lacking)):
        return " (deformable convolutions: resnext101_32x4d_dconv)"
    if lacking and all("_head.conv." in name and name.endswith("bias") for name in lacking) and not left:
        return " (towers without bias: build FCOS with conv_bias=False, norm_on_bbox=False)"
    if any("roi_head.bbox_head.0." in name for name in left):
        return ' (a cascade: parts="backbone+neck")'
    return ""


def fcos_options(state: Mapping[str, Tensor]) -> dict:
    """FCOS comes in two kinds that only its towers' biases tell apart: with them its distances are in strides, without them exponents."""
    return {} if "bbox_head.cls_convs.0.conv.bias" in state else {"conv_bias": False, "norm_on_bbox": False}


def student_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A distiller's state -> its student's, without prefix; a plain detector's comes back as it is.

    The authors' checkpoints hold student, teacher, losses and the last features; MMRazor's hold the student as its architecture.
    """
    state = {name.removeprefix("module."): each for name, each in state.items()}       # DistributedDataParallel's
    for prefix in STUDENT:
        found = {
            name.removeprefix(prefix): each for name, each in state.items()
            if name.startswith(prefix) and not any(name.startswith(other) for other in OTHERS if other.startswith(prefix))
        }
        if found:
            return found
    return state


def read_state(path: Path | str) -> dict[str, Tensor]:
    """The state dict of a .pth or .safetensors file, without running any code that the file may hold.

    Raises:
        UserError: no such file, one that wants to run code, one that unpacks to more than it is, or one without tensors.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UserError(f"checkpoint must be a file, got {str(path)!r}, which is none; check the path")
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except SafetensorError as error:
            raise UserError(f"{path} must be a .safetensors file, got something else ({error}); export it anew") from error
    try:
        if zipfile.is_zipfile(path):                                 # as torch has written since 1.6; before, a plain pickle
            check_archive(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")                          # about formats; what matters is in the refusal
            found = torch.load(path, weights_only=True, map_location="cpu")
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, TypeError, KeyError, AttributeError, OSError, zipfile.BadZipFile) as error:
        raise UserError(refusal(path, error)) from error
    state = found.get("state_dict", found.get("model", found)) if isinstance(found, dict) else {}
    tensors = {name: each for name, each in state.items() if isinstance(each, Tensor)} if isinstance(state, Mapping) else {}
    if not tensors:
        raise UserError(f"{path} must hold a state dict of named tensors, got {type(found).__name__} without any; give the checkpoint of a detector")
    size = os.path.getsize(path)
    larger = [name for name, each in tensors.items() if each.layout is torch.strided and each.numel() * each.element_size() > size]
    odd = [name for name, each in tensors.items() if each.layout is not torch.strided or each.is_quantized]
    if larger or odd:                                                # a view of one number can claim any size
        what = f"{larger[0]!r} of shape {tuple(tensors[larger[0]].shape)} in {size} bytes" if larger else f"{odd[0]!r}, which is sparse or quantized"
        raise UserError(f"{path} must hold every number of its tensors, got {what}; export it anew from where it was trained")
    return tensors


def refusal(path: Path, error: Exception) -> str:
    """Why a file is not read, and a way that runs none of its code here."""
    wants, said = re.search(r"GLOBAL ([\w.]+)", str(error)), re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    if wants:
        reason = f"it is a pickle that would call {wants[1]}"
    elif isinstance(error, KeyError):                                # a byte that means nothing; its text is a bare number
        reason = "it is no pickle"
    else:
        reason = f"torch says {(said[1] if said else str(error).strip() or type(error).__name__).splitlines()[0]!r}"
    return (
        f"{path} must be readable with weights_only=True, got a file that is not: {reason}. Loading such a file runs whatever code is in it; if you trust "
        f"where it comes from, convert it once, best in a container without network: python -c \"import torch; c = torch.load('{path.name}', "
        "map_location='cpu', weights_only=False); torch.save({'state_dict': dict(c.get('state_dict', c))}, 'plain.pth')\", then give plain.pth"
    )
