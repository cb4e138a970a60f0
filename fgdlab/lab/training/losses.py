"""From the word ``method`` to a loss: FGD, FBKD, a rival, or a class in a file of the reader's."""
import inspect
from dataclasses import replace

from torch import nn
from torchvision.models.detection import FCOS

from fgdlab.balance import Balance
from fgdlab.fgd import FGDLoss
from fgdlab.fused.dispatch import why_readable
from fgdlab.fused.loss import FusedFGDLoss
from fgdlab.methods import method_class
from fgdlab.methods.fbkd import FBKD_PRESETS, FBKDLoss

from ..config import RunConfig
from ..errors import UserError, unknown_name
from .custom_loss import custom_loss_class, custom_loss_file

USUAL_ANCHOR = 32                                                    # pixels: the smallest anchor of torchvision's and the papers' detectors


def make_loss(config: RunConfig, levels: tuple[str, ...], student: nn.Module, teacher: nn.Module, device: str = "cpu") -> nn.Module:
    """The distillation loss that a run's settings name: ``loss(scene, teacher_maps) -> list[Term]``.

    Args:
        levels: pyramid levels that student and teacher share, e.g. ("P3", "P4", "P5").
        student, teacher: the two detectors; most methods only want to know their channels.
        device: where the loss will be computed, "cpu" or "cuda".
    Raises:
        UserError: parts that the method does not have, a file without that class, detectors that the method cannot work on, or ``fused=on`` where
            the fused form does not apply.
    """
    channels = student.backbone.out_channels, teacher.backbone.out_channels
    if config.method == "fgd":
        only(config, ())
        loss_class = FusedFGDLoss if runs_fused(config, device) else FGDLoss
        return loss_class(levels, *channels, config.fgd())
    if config.method == "fbkd":
        preset = FBKD_PRESETS["two_stage" if hasattr(student, "rpn") else "one_stage"]
        return FBKDLoss(levels, *channels, replace(preset, **{f"{part}_weight": 0.0 for part in left_out(config, FBKDLoss.PARTS)}))
    method = custom_loss_class(config.method) if custom_loss_file(config.method) else method_class(config.method)
    settings = {f"{part}_weight": 0.0 for part in left_out(config, getattr(method, "PARTS", ()))} | in_pixels(method, student)
    try:
        return method(levels, *((student, teacher) if getattr(method, "built_from", "channels") == "detectors" else channels), **settings)
    except ValueError as error:                                      # a method that needs what these detectors lack says so
        raise UserError(f"method {config.method}: {error}") from error


def runs_fused(config: RunConfig, device: str) -> bool:
    """Whether FGD's sums are taken by the fused form; by itself on the CPU alone, until ``benchmarks/gpu.sh`` has measured it on a card."""
    if config.fused == "off" or (config.fused == "auto" and device != "cpu"):
        return False
    why = why_readable(config.fgd(), device)
    if why and config.fused == "on":
        raise UserError(f"fused=on must find a fused form that applies, but {why}; take fused=auto for the readable form where it does not")
    return why is None


def fgd_implementation(loss: nn.Module | None) -> dict[str, str]:
    """What a result says of how FGD's sums were taken; nothing of another loss."""
    return {"fgd_sums": "fused" if isinstance(loss, FusedFGDLoss) else "readable"} if isinstance(loss, FGDLoss) else {}


def in_pixels(method: type, student: nn.Module) -> dict[str, float]:
    """A method's sizes in pixels for this student: its authors' where the smallest anchor is 32 pixels, as on COCO, else in proportion."""
    names = getattr(method, "PIXELS", ())
    generator = getattr(getattr(student, "rpn", student), "anchor_generator", None)
    anchored = generator is not None and not isinstance(student, FCOS)           # FCOS keeps its strides where others keep sizes of anchors
    smallest = min(size for sizes in generator.sizes for size in sizes) if anchored else USUAL_ANCHOR
    return {name: inspect.signature(method).parameters[name].default * smallest / USUAL_ANCHOR for name in names}


def make_balance(config: RunConfig) -> Balance | None:
    """The factor on the method's weights; None where it would change nothing."""
    return None if config.strength == 1 and config.loss_ratio == 0 else Balance(config.strength, config.loss_ratio, config.equal_terms)


def left_out(config: RunConfig, parts: tuple[str, ...]) -> list[str]:
    return [part for part in parts if part not in only(config, parts)]


def only(config: RunConfig, parts: tuple[str, ...]) -> list[str]:
    """The parts that a run uses, all of them where it names none."""
    named = [part.strip() for part in config.method_parts.split(",") if part.strip()]
    if named and not parts:
        raise UserError(f"method_parts must be empty for method {config.method}, which has no parts to choose from, got {config.method_parts!r}; leave it out")
    for part in named:
        if part not in parts:
            raise unknown_name(f"part of {config.method}", part, parts)
    return named or list(parts)
