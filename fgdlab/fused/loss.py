"""FGDLoss in its fused implementation: the same parameters and the same results, computed faster."""
import warnings
from typing import Any

import torch
from torch import Tensor

from ..fgd import FGDLoss
from ..scene import Scene, full_precision
from ..terms import Term
from .dispatch import TRIED, maps_agree, sums_of_levels, why_readable


class FusedFGDLoss(FGDLoss):
    """FGDLoss with few reads of the maps. ``state_dict`` is that of FGDLoss; results are equal up to rounding.

    Sums of maps in half precision are in float32. Only first derivatives exist.
    Where the fused implementation does not apply (see :func:`why_readable`), FGDLoss runs, after one warning.
    On a GPU both get the first maps that need gradients, and the faster one stays (``trial``).

    >>> FusedFGDLoss(("P3",), 8, 8).load_state_dict(FGDLoss(("P3",), 8, 8).state_dict())
    <All keys matched successfully>
    """

    warned = False
    trial: dict[str, float] | None = None  # fused_difference and fused_speedup

    def forward(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        """As ``PyramidLoss.forward``."""
        if not self.weights:
            return super().forward(scene, teacher)
        self.check_input(scene, teacher)
        finest = teacher[self.levels[0]]
        layout = torch.contiguous_format if finest.is_contiguous() else torch.channels_last
        why = why_readable(self.config, finest.device.type, finest.dtype, layout)
        if len(set(self.teacher_channels.values())) > 1:
            why = "the fused implementation needs the same teacher_channels on all levels"
        if why:
            if not (self.warned or torch.compiler.is_compiling()):
                self.warned = True
                warnings.warn(f"FusedFGDLoss runs the readable implementation: {why}", stacklevel=2)
            return super().forward(scene, teacher)
        if finest.device.type in TRIED:
            if self.trial is None and torch.is_grad_enabled():
                from .cuda.self_check import trial

                self.trial = trial(self, scene, teacher)
            if self.trial is None or self.trial["fused_speedup"] < 1:
                return super().forward(scene, teacher)
        return self.fused(scene, teacher)

    def fused(self, scene: Scene, teacher: dict[str, Tensor]) -> list[Term]:
        with torch.autocast(scene.pixels.device.type, enabled=False):
            if self.align:  # f needs float32
                scene, teacher = scene.float(), full_precision(teacher)
            students = [self.aligned(scene, level) for level in self.levels]
            teachers = [teacher[level].detach() for level in self.levels]
            if not maps_agree(students + teachers):
                return super().forward(scene, teacher)  # FGDLoss takes them, or raises
            relations: list[Any] = list(self.relation.values()) or [None] * len(teachers)
            sums = sums_of_levels(students, teachers, scene, relations, self.config)
        return [
            Term(name, level, of_level[name], weight)
            for level, of_level in zip(self.levels, sums, strict=True) for name, weight in self.weights.items()
        ]
