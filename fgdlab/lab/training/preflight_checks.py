"""Checks before the first step of every run. They take at most a second and change nothing."""
import math
from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fgdlab.balance import state_restored
from fgdlab.distill import Distiller
from fgdlab.terms import Term, rows

from ..checkpoints import changed_tensors
from ..errors import UserError, listed
from .precision import Precision
from .step import ONE_VALUE

IMAGES = 4  # at most so many are checked
LEAST, MOST = 0.01, 100.0  # usual loss ratios of the whole distillation


class CheckResult(NamedTuple):
    """``passed`` is None where the user should look: at something unusual or unknown. ``hint``: what to do about it."""

    name: str
    passed: bool | None
    detail: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.name}: {self.detail}" + (f"; {self.hint}" if self.hint else "")


def refuse(results: Iterable[CheckResult]) -> None:
    for result in results:
        if result.passed is False:
            raise UserError(f"before the first step, {result}")


def preflight(
    distiller: Distiller, train_set, precision: str = "fp32", device: str = "cpu", batch_size: int = IMAGES,
) -> list[CheckResult]:
    """Check a distiller on the first few images of its training set, before it is trained.

    It uses the teacher's ``checksum`` (checkpoints/checksums.py) and the student's ``inherited`` if they are set.
    """
    results = [optimised_parameters(distiller)]
    if distiller.teacher is not None:
        results += [teacher_is_frozen(distiller.teacher), teacher_as_loaded(distiller.teacher)]
    if getattr(distiller.student, "inherited", ()):
        results.append(still_inherited(distiller))
    count = min(IMAGES, max(batch_size, 2), len(train_set))
    if count and all(result.passed is not False for result in results):
        images, targets = zip(*(train_set[i] for i in range(count)), strict=True)
        images = [image.to(device) for image in images]
        targets = [{name: value.to(device) for name, value in target.items()} for target in targets]
        results.append(in_pixels(images, targets))
        if results[-1].passed:
            results += first_batch(distiller, images, targets, Precision(precision, device))
    return results


def optimised_parameters(distiller: Distiller) -> CheckResult:
    """It gets all parameters of the distiller that require a gradient, those of the loss among them."""
    of_loss = dict(distiller.loss.named_parameters()) if distiller.loss is not None else {}
    idle = [name for name, parameter in of_loss.items() if not parameter.requires_grad]
    if idle:
        problem = "the distillation's own layers must be trained"
        return CheckResult(problem, False, f"{listed(idle)} do not require a gradient", "give them requires_grad")
    count = sum(parameter.numel() for parameter in distiller.student.parameters() if parameter.requires_grad)
    detail = f"{count:,} of the student"
    if of_loss:
        detail += f", {sum(parameter.numel() for parameter in of_loss.values()):,} of the distillation's layers"
    return CheckResult("parameters in the optimiser", True, detail)


def teacher_is_frozen(teacher: nn.Module) -> CheckResult:
    training = [name or type(teacher).__name__ for name, module in teacher.named_modules() if module.training]
    trainable = [name for name, parameter in teacher.named_parameters() if parameter.requires_grad]
    if training or trainable:
        detail = f"{listed(training)} in train mode" if training else f"{listed(trainable)} require a gradient"
        problem = "the teacher must be frozen and in eval mode"
        return CheckResult(problem, False, detail, "leave it as Distiller made it")
    return CheckResult("the teacher", True, "frozen, in eval mode")


def teacher_as_loaded(teacher: nn.Module) -> CheckResult:
    name, state, checksum = "the teacher's weights", teacher.state_dict(), getattr(teacher, "checksum", None)
    bad = [key for key, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad:
        hint = "take a checkpoint from before its training broke"
        return CheckResult(f"{name} must be finite", False, f"NaN or infinity in {listed(bad)}", hint)
    if checksum is None:
        hint = "set teacher.checksum = checksum(teacher) after loading"
        return CheckResult(name, None, "finite, but without a checksum from loading", hint)
    if changed := sorted(changed_tensors(checksum, teacher)):
        detail = f"{len(changed)} tensors have changed since ({listed(changed)})"
        problem = f"{name} must be those that were loaded"
        return CheckResult(problem, False, detail, "look for what initialises or trains it")
    return CheckResult(name, True, f"{len(checksum)} tensors as they were loaded")


def still_inherited(distiller: Distiller) -> CheckResult:
    ours, names = distiller.student.state_dict(), distiller.student.inherited
    theirs = distiller.teacher.state_dict() if distiller.teacher is not None else ours
    changed = [name for name in names if not torch.equal(ours[name], theirs[name])]
    if changed:
        detail = f"{len(changed)} of {len(names)} tensors differ ({listed(changed)})"
        problem = "what the student inherited must be the teacher's"
        return CheckResult(problem, False, detail, "inherit after initialising")
    return CheckResult("inherited", True, f"{len(names)} tensors of the teacher's neck and head")


def in_pixels(images: list[Tensor], targets: list[dict]) -> CheckResult:
    """Normalised boxes are a common mistake of data that did not come through the package's data sets."""
    pairs = [(image, target["boxes"]) for image, target in zip(images, targets, strict=True) if len(target["boxes"])]
    if pairs and all(float(boxes.max()) <= 1 for _, boxes in pairs):
        detail = f"all of {len(pairs)} images lie within 0..1"
        return CheckResult("boxes must be in pixels", False, detail, "multiply them by width and height")
    outside = [
        boxes for image, boxes in pairs
        if (boxes[:, 2:].amax(dim=0) > boxes.new_tensor([image.shape[-1], image.shape[-2]]) + 1).any()
    ]
    if outside:
        detail = f"those of {len(outside)} of the first {len(images)} images do not"
        return CheckResult("boxes must lie within their images", False, detail, "give pixels of the loaded image")
    count = sum(len(boxes) for _, boxes in pairs)
    return CheckResult("boxes", True, f"{count} in the first {len(images)} images, in pixels")


def first_batch(
    distiller: Distiller, images: list[Tensor], targets: list[dict], precision: Precision,
) -> list[CheckResult]:
    seen = {}

    def keep(module, arguments) -> None:
        seen["scene"], seen["maps"] = arguments[:2]

    hooked = distiller.loss if distiller.loss is not None else nn.Identity()
    handle = hooked.register_forward_pre_hook(keep)
    try:
        with state_restored(distiller), precision.autocast(), torch.no_grad():
            terms = distiller.train()(images, targets)
    except ValueError as error:
        if ONE_VALUE in str(error):  # one small image: explained by training/step.py
            return []
        return [CheckResult("student, teacher and loss must fit", False, str(error))]
    finally:
        handle.remove()
    return [*pyramid_shapes(distiller, seen), finite_terms(terms), *loss_ratios(terms)]


def pyramid_shapes(distiller: Distiller, seen: dict) -> list[CheckResult]:
    pyramids = {"student": seen["scene"].features, "teacher": seen["maps"]} if seen else {}
    return [
        CheckResult(level, True, ", ".join(f"{who} {tuple(maps[level].shape)}" for who, maps in pyramids.items()))
        for level in getattr(distiller.loss, "levels", ()) if pyramids
    ]


def finite_terms(terms: list[Term]) -> CheckResult:
    for row in rows(0, terms):
        if not math.isfinite(row["raw"]):
            detail = f"{row['name']!r} on {row['level']} is {row['raw']}"
            hint = "lower its weight, or check the teacher's weights"
            return CheckResult("every loss term must be finite", False, detail, hint)
    return CheckResult("loss terms", True, f"{len(terms)}, all finite")


def loss_ratios(terms: list[Term]) -> list[CheckResult]:
    logged = rows(0, terms)
    task_loss = sum(row["weighted"] for row in logged if row["level"] == "all")
    ratios: dict[str, dict[str, float]] = {}
    for row in logged:
        if row["level"] != "all":
            ratio = row["weighted"] / task_loss if task_loss else math.inf
            ratios.setdefault(row["name"], {})[row["level"]] = ratio
    if not ratios:
        return []
    results = []
    for name, levels in ratios.items():
        detail = ", ".join(f"{level} {ratio:.3g}" for level, ratio in levels.items())
        results.append(CheckResult(f"loss ratio of {name!r}", True, detail))
    total = sum(sum(levels.values()) for levels in ratios.values())
    usual = LEAST <= total <= MOST
    detail, hint = f"{total:.3g} of the task loss", "" if usual else "change it by strength or loss_ratio"
    return [*results, CheckResult("loss ratio of the distillation", True if usual else None, detail, hint)]
