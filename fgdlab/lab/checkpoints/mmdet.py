"""Load MMDetection's checkpoints into detectors of the mmdet flavour, and Megvii's into YOLOX.

Files are read with ``weights_only=True``: a pickle with code is refused.
"""
import argparse
import os
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import UserError, listed
from ..io import user_path
from .mmdet_keys import NECK, OF_MEGVII, megvii_names, mmdet_names
from .safetensors_io import check_archive, not_safetensors

PARTS = ("all", "backbone+neck")
STUDENT = ("student.", "architecture.model.", "architecture.")  # the authors' distiller; MMRazor
WRAPPERS = ("state_dict", "model", "model_state_dict", "state_dict_ema", "ema", "net", "weights")  # of a state dict
OUTER = ("model.", "net.", "network.", "detector.", "ema_model.")  # a module that holds the detector, as in Lightning
# parts of names that DDP, torch.compile, FSDP and checkpointed activations add
WRAPPED = {"module", "_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}
OTHERS = ("teacher.", "distill_losses.", "distiller.", "architecture.model.distiller.", "architecture.teacher.")


class Report(NamedTuple):
    copied: list[str]  # in the detector's names
    skipped: list[str]  # in the checkpoint's
    missing: list[str]  # in the detector's

    def __str__(self) -> str:
        return f"copied {len(self.copied)}; skipped {counted(self.skipped)}; missing {counted(self.missing)}"


def counted(names: list[str], word: str = "") -> str:
    return f"{len(names)}{word}" + (f" ({listed(names)})" if names else "")


def load_mmdet(
    detector: nn.Module, source: Path | str | Mapping[str, Tensor], *, strict: bool = True, parts: str = "all",
) -> Report:
    """Copy a checkpoint in MMDetection's names into a detector of the mmdet flavour, or in Megvii's into a YOLOX.

    Args:
        source: a file, or a state dict; of a distiller's state only the student is used.
        strict: refuse, before anything is copied, names that differ from the detector's within ``parts``.
        parts: "backbone+neck" ignores the heads of both. A Cascade and a Faster R-CNN have these parts in common.
    """
    if parts not in PARTS:
        raise UserError(f"parts must be one of {', '.join(PARTS)}, got {parts!r}")
    state = student_of(source if isinstance(source, Mapping) else read_state(source))
    names_of = megvii_names if any(name.startswith(OF_MEGVII) for name in state) else mmdet_names
    names, own = names_of(detector), detector.state_dict()
    wanted = {ours: theirs for ours, theirs in names.items() if parts == "all" or ours.startswith("backbone.")}
    copies = {ours: state[theirs] for ours, theirs in wanted.items() if theirs in state}
    report = Report(
        copied=list(copies),
        skipped=[theirs for theirs in state if theirs not in set(wanted.values())],
        missing=[ours for ours in names if ours not in copies],
    )
    unequal = [
        f"{names[ours]} {tuple(tensor.shape)} for {tuple(own[ours].shape)}" for ours, tensor in copies.items()
        if tensor.shape != own[ours].shape
    ]
    if unequal:
        problem = "the checkpoint's tensors must have the detector's shapes"
        raise UserError(f"{problem}, got {counted(unequal, ' that differ')}; check backbone and classes")
    left = [theirs for theirs in report.skipped if parts == "all" or NECK.match(theirs)]
    lacking = [ours for ours in report.missing if ours in wanted]
    if strict and (left or lacking):
        got = f"{counted(left, ' too many')} and {counted(lacking, ' missing')}"
        raise UserError(
            f"the checkpoint must hold exactly this detector's tensors, got {got}; "
            f"check detector and backbone{hint(left, lacking)}, or load with strict=False (--no-strict)")
    if not report.copied:
        got = f"none that this detector has ({listed(report.skipped)})"
        raise UserError(f"the checkpoint must hold tensors in MMDetection's names, got {got}")
    with torch.no_grad():
        for ours, tensor in copies.items():
            own[ours].copy_(tensor)
    detector.not_loaded = tuple(report.missing)  # such a head cannot be inherited
    return report


def hint(left: list[str], lacking: list[str]) -> str:
    if any(".conv_offset." in name for name in (*left, *lacking)):
        return " (deformable convolutions: resnext101_32x4d_dconv)"
    if lacking and all("_head.conv." in name and name.endswith("bias") for name in lacking) and not left:
        return " (towers without bias: build FCOS with conv_bias=False, norm_on_bbox=False)"
    if any("roi_head.bbox_head.0." in name for name in left):
        return ' (a cascade: parts="backbone+neck")'
    return ""


def fcos_options(state: Mapping[str, Tensor]) -> dict:
    """Of one of the two kinds of FCOS: with biases in its towers, distances are in strides, else exponents."""
    return {} if "bbox_head.cls_convs.0.conv.bias" in state else {"conv_bias": False, "norm_on_bbox": False}


def student_of(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The student's state in a distiller's, the authors' or MMRazor's, without prefix; a plain detector's as it is."""
    state = {".".join(part for part in name.split(".") if part not in WRAPPED): each for name, each in state.items()}
    for prefix in OUTER:
        if f"{prefix}backbone." in {name[:len(prefix) + 9] for name in state}:  # what else is there is no detector's
            state = {name.removeprefix(prefix): each for name, each in state.items() if name.startswith(prefix)}
    for prefix in STUDENT:
        others = tuple(other for other in OTHERS if other.startswith(prefix))
        student = {
            name.removeprefix(prefix): tensor for name, tensor in state.items()
            if name.startswith(prefix) and not name.startswith(others)
        }
        if student:
            return student
    return state


def read_state(path: Path | str) -> dict[str, Tensor]:
    return read_checkpoint(path)[0]


def read_checkpoint(path: Path | str) -> tuple[dict[str, Tensor], list[str]]:
    """(state dict, classes that MMDetection noted, or []) of a .pth or .safetensors file, without executing code in it.

    UserError where that fails.
    """
    path = user_path(path)
    if not path.is_file():
        raise UserError(f"checkpoint must be a file, got {str(path)!r}, which is none; check the path")
    if path.suffix == ".safetensors":
        try:
            return load_file(path), []
        except SafetensorError as error:
            raise not_safetensors(path, error) from error
    try:
        if zipfile.is_zipfile(path):  # torch's format since 1.6; before, a plain pickle
            check_archive(path)
        # a Namespace of arguments runs no code
        with warnings.catch_warnings(), torch.serialization.safe_globals([argparse.Namespace]):
            warnings.simplefilter("ignore")  # about formats
            content = torch.load(path, weights_only=True, map_location="cpu")
    except UserError:
        raise
    except Exception as error:  # torch raises many types for broken bytes
        raise UserError(refusal(path, error)) from error
    content = content if isinstance(content, dict) else {}
    state = next((content[key] for key in WRAPPERS if isinstance(content.get(key), Mapping)), content)
    tensors = {name: value for name, value in state.items() if isinstance(value, Tensor)}
    if not tensors:
        raise UserError(f"{path} must hold a state dict of named tensors, got none; give the checkpoint of a detector")
    check_sizes(path, tensors)
    meta = content.get("meta")
    meta = meta if isinstance(meta, dict) else {}
    facts = meta["dataset_meta"] if isinstance(meta.get("dataset_meta"), dict) else meta
    names = facts.get("CLASSES") or facts.get("classes")
    listed_names = isinstance(names, (list, tuple)) and all(isinstance(name, str) for name in names)
    return tensors, [*names] if listed_names else []


def check_sizes(path: Path, tensors: dict[str, Tensor]) -> None:
    """Refuse tensors with more numbers than the file: a view of one number can claim any size."""
    size = os.path.getsize(path)
    for name, tensor in tensors.items():
        if tensor.layout is not torch.strided or tensor.is_quantized:
            got = f"{name!r}, which is sparse or quantized"
        elif tensor.numel() * tensor.element_size() > size:
            got = f"{name!r} of shape {tuple(tensor.shape)} in {size} bytes"
        else:
            continue
        hint = "export it anew from where it was trained"
        raise UserError(f"{path} must hold every number of its tensors, got {got}; {hint}")


def refusal(path: Path, error: Exception) -> str:
    function = re.search(r"GLOBAL ([\w.]+)", str(error))
    detail = re.search(r"WeightsUnpickler error:\s*(.+)", str(error))
    if function:
        reason = f"it is a pickle that would call {function[1]}"
    elif isinstance(error, KeyError):  # an unknown opcode; the error's text is a number
        reason = "it is no pickle"
    else:
        text = detail[1] if detail else str(error).strip() or type(error).__name__
        reason = f"torch says {text.splitlines()[0]!r}"
    return (
        f"{path} must be readable with weights_only=True, got a file that is not: {reason}. "
        "Loading such a file runs whatever code is in it; if you trust where it comes from, convert it once, best in a "
        f"container without network: python -c \"import torch; c = torch.load('{path}', map_location='cpu', "
        f"weights_only=False); c = c if isinstance(c, dict) else c.state_dict(); s = next((c[k] for k in {WRAPPERS} if "
        "k in c), c); s = s if isinstance(s, dict) else s.state_dict(); torch.save({k: v for k, v in s.items() if "
        "isinstance(v, torch.Tensor)}, 'plain.pth')\", then give plain.pth"
    )
