"""Compares the fused implementation with FGDLoss: on a small pyramid, then on the first maps of a training."""
import math
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor
from torch.utils.benchmark import Timer

from ...config import FGDConfig
from ...fgd import FGDLoss
from ...scene import Scene
from ...terms import Term
from . import algebra

GRIDS, IMAGES, CHANNELS = {"P3": (12, 21), "P4": (6, 11)}, 3, 80  # more than one tile of a kernel
Maps = dict[str, Tensor]


@cache
def failure(device: str, dtype: torch.dtype, layout: torch.memory_format, config: FGDConfig) -> str | None:
    """Why the fused implementation must not run on a device, for maps of that kind; None where it agrees."""
    try:
        with exact(device), torch.random.fork_rng(devices=[]):
            worst = difference(compiled_terms, *small_pyramid(device, dtype, layout, config), torch.float64)
    except Exception as error:  # of a compiler: any type
        reason = (str(error).strip() or "no message").splitlines()[0]
        return f"the fused implementation does not run on {device}: {type(error).__name__}: {reason}"
    if worst <= tolerance(dtype):
        return None
    return f"fused and readable implementation differ by {worst:.1e} of the largest value on {device}"


def trial(loss: Any, scene: Scene, teacher: Maps) -> dict[str, float]:
    """``fused_difference`` of the largest value; ``fused_speedup``, forward and backward, 0 where it is too large."""
    with exact(scene.pixels.device.type):
        found, speedup = difference(type(loss).fused, loss, scene, teacher, torch.float32), 0.0
        if found > tolerance(teacher[loss.levels[0]].dtype):
            warnings.warn(f"FusedFGDLoss runs the readable implementation: they differ by {found:.1e}", stacklevel=2)
        else:
            readable, fused = (seconds(form, loss, scene, teacher) for form in (FGDLoss.forward, type(loss).fused))
            speedup = readable / fused
    return {"fused_difference": found, "fused_speedup": speedup}


def tolerance(dtype: torch.dtype) -> float:
    return max(1e-4, torch.finfo(dtype).eps)  # rounding is about 1e-6 in float32


@contextmanager
def exact(device: str) -> Iterator[None]:
    """With gradients, without autocast and TF32."""
    with (
        torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False),
        torch.backends.cudnn.flags(enabled=True, allow_tf32=False),
    ):
        yield


def small_pyramid(
    device: str, dtype: torch.dtype, layout: torch.memory_format, config: FGDConfig,
) -> tuple[Any, Scene, Maps]:
    torch.manual_seed(0)
    loss = FGDLoss(tuple(GRIDS), CHANNELS, CHANNELS, config)
    for parameter in loss.parameters():
        parameter.data += 0.3 * torch.randn(parameter.shape)  # at the start R is the identity
    student, teacher = (
        {level: torch.randn(IMAGES, CHANNELS, *grid).to(device, dtype, memory_format=layout)
         for level, grid in GRIDS.items()} for _ in range(2))
    boxes = [torch.tensor([[8.0, 8.0, 60.0, 40.0]], device=device).expand(count, 4) for count in range(IMAGES)]
    scene = Scene(torch.zeros(1, device=device).expand(IMAGES, 3, 96, 168), boxes, [(96, 168)] * IMAGES, student)
    return loss.to(device, torch.promote_types(dtype, torch.float32)), scene, teacher


def compiled_terms(loss: FGDLoss, scene: Scene, teacher: Maps) -> list[Term]:
    maps = ([of[level] for level in GRIDS] for of in (scene.features, teacher))
    sums = algebra.sums_of_levels(*maps, scene, [*loss.relation.values()] or [None] * len(GRIDS), loss.config)
    return [Term(name, "", raw) for of_level in sums for name, raw in of_level.items()]


def difference(form: Callable, loss: Any, scene: Scene, teacher: Maps, precision: torch.dtype) -> float:
    """Of terms and gradients from FGDLoss in that precision, relative to the largest of a kind; infinite for NaN."""
    maps, taught = ({level: each.to(precision) for level, each in of.items()} for of in (scene.features, teacher))
    wide = deepcopy(loss).to(precision), replace(scene, features=maps), taught
    expected, scale = results(FGDLoss.forward, *wide)
    found, _ = results(form, loss, scene, teacher, scale)
    relative = [(a - b).abs().max() / b.abs().max().clamp(min=1e-12) for a, b in zip(found, expected, strict=True)]
    return torch.stack(relative).nan_to_num(nan=math.inf).max().item()


def results(
    form: Callable, loss: Any, scene: Scene, teacher: Maps, scale: Tensor | None = None,
) -> tuple[list[Tensor], Tensor]:
    """Terms, gradients of their sum, and the scale that makes them equal, so that each counts."""
    features = {level: scene.features[level].detach().clone().requires_grad_() for level in loss.levels}
    raws = torch.stack([term.raw for term in form(loss, replace(scene, features=features), teacher)])
    if scale is None:  # float16 must hold the gradients
        scale = math.sqrt(sum(each.numel() for each in features.values())) / raws.detach().clamp(min=1e-12)
    scaled = raws * scale.to(raws.dtype)
    gradients = torch.autograd.grad(scaled.sum(), [*features.values(), *loss.parameters()])
    of_layers = [each.flatten() for each in gradients[len(features):]]  # one kind: that of W_k is a small difference
    return [scaled.detach(), *gradients[:len(features)], *([torch.cat(of_layers)] if of_layers else [])], scale


def seconds(form: Callable, *pyramid: Any) -> float:
    return Timer("run()", globals={"run": partial(results, form, *pyramid)}).timeit(3).median
