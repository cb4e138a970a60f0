"""From the settings to the loss: FGD, FBKD, another method of the package, or a custom loss."""
import inspect
from dataclasses import replace

import torch
from torch import nn
from torchvision.models.detection import FCOS

from fgdlab.balance import Balance
from fgdlab.fgd import FGDLoss
from fgdlab.fused.dispatch import why_readable
from fgdlab.fused.loss import FusedFGDLoss
from fgdlab.methods import method_class
from fgdlab.methods.fbkd import FBKD_PRESETS, FBKDLoss

from ..config import RunConfig
from ..errors import UserError, check_name
from .custom_loss import custom_loss_class, custom_loss_file
from .precision import DTYPES

USUAL_ANCHOR = 32  # pixels: smallest anchor in the papers


def make_loss(
    config: RunConfig, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, device: str = "cpu",
) -> nn.Module:
    """The distillation loss that the settings name: ``loss(scene, teacher_maps) -> list[Term]``.

    Args:
        levels: pyramid levels that student and teacher share, e.g. ("P3", "P4", "P5").
        device: where the loss will be computed, "cpu" or "cuda".
    """
    channels = student.backbone.out_channels, teacher.backbone.out_channels
    if config.method == "fgd":
        used_parts(config, ())
        loss_class = FusedFGDLoss if runs_fused(config, device) else FGDLoss
        return loss_class(levels, *channels, config.fgd())
    if config.method == "fbkd":
        preset = FBKD_PRESETS["two_stage" if hasattr(student, "rpn") else "one_stage"]
        return FBKDLoss(levels, *channels, replace(preset, **unused_weights(config, FBKDLoss.PARTS)))
    method = custom_loss_class(config.method) if custom_loss_file(config.method) else method_class(config.method)
    settings = unused_weights(config, getattr(method, "PARTS", ())) | in_pixels(method, student)
    if config.method == "fgd_ld":
        settings["config"] = config.fgd()
    built_from = (student, teacher) if getattr(method, "built_from", "channels") == "detectors" else channels
    try:
        return method(levels, *built_from, **settings)
    except (TypeError, ValueError) as error:  # these detectors lack what the method needs
        raise UserError(f"method {config.method}: {error}") from error


def runs_fused(config: RunConfig, device: str) -> bool:
    """Whether FGD may run fused; on a GPU the first maps still decide."""
    if config.fused == "off":
        return False
    dtype = torch.float32 if config.precision == "fp32" else DTYPES[config.precision]
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    why = why_readable(config.fgd(), device, dtype, layout)
    if why and config.fused == "on":
        problem = f"fused=on must find a fused implementation that applies, but {why}"
        raise UserError(f"{problem}; fused=auto takes the readable one where it does not")
    return why is None


def fgd_implementation(loss: nn.Module | None) -> dict[str, str | float]:
    if not isinstance(loss, FGDLoss):
        return {}
    trial = getattr(loss, "trial", None) or {}
    fused = isinstance(loss, FusedFGDLoss) and trial.get("fused_speedup", 1.0) >= 1
    return {"fgd_sums": "fused" if fused else "readable", **trial}


def in_pixels(method: type, student: nn.Module) -> dict[str, float]:
    """A method's settings in pixels, published for a smallest anchor of 32 and scaled to this student's."""
    names = getattr(method, "PIXELS", ())
    generator = getattr(getattr(student, "rpn", student), "anchor_generator", None)
    anchored = generator is not None and not isinstance(student, FCOS)  # FCOS keeps strides in place of sizes
    smallest = min(size for sizes in generator.sizes for size in sizes) if anchored else USUAL_ANCHOR
    parameters = inspect.signature(method).parameters
    return {name: parameters[name].default * smallest / USUAL_ANCHOR for name in names}


def make_balance(config: RunConfig) -> Balance | None:
    if config.strength == 1 and config.loss_ratio == 0:
        return None
    return Balance(config.strength, config.loss_ratio, config.equal_terms)


def unused_weights(config: RunConfig, parts: tuple[str, ...]) -> dict[str, float]:
    used = used_parts(config, parts)
    return {f"{part}_weight": 0.0 for part in parts if part not in used}


def used_parts(config: RunConfig, parts: tuple[str, ...]) -> list[str]:
    named = [part.strip() for part in config.method_parts.split(",") if part.strip()]
    if named and not parts:
        problem = f"method_parts must be empty for method {config.method}, which has no parts to choose from"
        raise UserError(f"{problem}, got {config.method_parts!r}; leave it out")
    for part in named:
        check_name(f"part of {config.method}", part, parts)
    return named or list(parts)
