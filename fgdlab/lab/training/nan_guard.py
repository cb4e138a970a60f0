"""NaN and infinity stop a run before they are saved: in loss terms, in the gradient, in weights."""
import math

import torch
from torch import Tensor, nn

from fgdlab.terms import Term, check_finite


class NanGuard:
    """Holds terms and gradient norm of every step since the last check, which names the first that is not finite.

    Nothing is copied to the host before the check, so a step on CUDA waits for nothing.
    """

    def __init__(self):
        self.steps: list[tuple[int, list[Term], Tensor, Tensor]] = []

    def record(self, step: int, terms: list[Term], loss: Tensor, norm: Tensor) -> None:
        """Remember a step, counted from 1. loss, norm: scalars, the total and the L2 norm of its gradient."""
        terms = [term._replace(raw=term.raw.detach()) for term in terms]
        self.steps.append((step, terms, loss.detach(), norm.detach()))

    def check(self) -> None:
        """FloatingPointError with name, level, step and value of the first term, or the norm, that is not finite."""
        steps, self.steps = self.steps, []
        sums = torch.stack([loss + norm for _, _, loss, norm in steps]).tolist() if steps else []
        for (step, terms, _, norm), value in zip(steps, sums, strict=True):
            if not math.isfinite(value):
                check_finite(step, terms)
                problem = f"the gradient's norm must be finite, got {float(norm)} at step {step}"
                raise FloatingPointError(f"{problem}; lower the learning rate or clip harder")


def check_weights(step: int, module: nn.Module) -> None:
    """Refuse weights that are not finite: a large learning rate makes them so even with a finite gradient."""
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):  # a balance's state is no tensor
        if not tensor.isfinite().all():
            problem = f"weights must be finite, got NaN or infinity in {name!r} after step {step}"
            raise FloatingPointError(f"{problem}; lower the learning rate")
