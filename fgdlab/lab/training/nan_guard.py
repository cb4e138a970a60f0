"""NaN and infinity stop a run before they are kept: in terms, in the gradient, in weights.

    terms, loss, gradient norm of a step --Watch.see--> ... --Watch.look--> FloatingPointError of the first bad step, or nothing
"""
import math

import torch
from torch import Tensor, nn

from fgdlab.terms import Term, check_finite


class Watch:
    """The terms and the gradient of every step since the last look. A look names the first of them that is not finite, by its own step.

    Nothing is copied to the host before the look, so that a step on CUDA waits for nobody.
    """

    def __init__(self):
        self.unseen: list[tuple[int, list[Term], Tensor, Tensor]] = []

    def see(self, step: int, terms: list[Term], loss: Tensor, norm: Tensor) -> None:
        """Remember a step, counted from 1. loss, norm: scalars, the sum that is optimised and the L2 norm of its gradient."""
        self.unseen.append((step, [term._replace(raw=term.raw.detach()) for term in terms], loss.detach(), norm.detach()))

    def look(self) -> None:
        """Raises:
            FloatingPointError: with name, level, step and value of the first term that is not finite, else with step and value of the norm.
        """
        unseen, self.unseen = self.unseen, []
        sums = torch.stack([loss + norm for _, _, loss, norm in unseen]).tolist() if unseen else []
        for (step, terms, _, norm), both in zip(unseen, sums, strict=True):
            if not math.isfinite(both):
                check_finite(step, terms)
                raise FloatingPointError(f"the gradient's norm must be finite, got {float(norm)} at step {step}; lower the learning rate or clip harder")


def check_weights(step: int, module: nn.Module) -> None:
    """Refuse weights that are not finite: a finite gradient times too large a learning rate is enough to make them so.

    Raises:
        FloatingPointError: with the name of the first such tensor and the step after which it was found.
    """
    for name, each in (*module.named_parameters(), *module.named_buffers()):       # not state_dict(): a balance keeps what it measured there, no tensor
        if not each.isfinite().all():
            raise FloatingPointError(f"weights must be finite, got NaN or infinity in {name!r} after step {step}; lower the learning rate")
