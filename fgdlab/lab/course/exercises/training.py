"""Exercises of notebook 06: the learning rate of a step, and the angle between two gradients."""
import torch
from torch import Tensor

from ...config import RunConfig
from ...training import learning_rate
from .answers import exercise


@exercise({
    "the first step of 100, 10 of them warm-up": (
        0, "steps count from 0: the first rate is a tenth of the peak, not 0."),
    "the last step of the warm-up": (9, "the warm-up ends at the peak."),
    "the first step of the cosine": (
        10, "the cosine begins at the peak: count its steps from the end of the warm-up."),
    "half-way down": (55, "peak x (1 + cos(pi x)) / 2, x from 0 to 1 between the end of the warm-up and `steps`."),
    "step 80": (80, ""),
    "the last step": (99, "close to 0, not below."),
}, lambda answer: lambda step: answer(step, 100, 0.005, 10), rtol=1e-4, atol=1e-9)
def rate(step):
    """answer(step, steps, peak, warm): linear from peak / warm to peak over warm steps, then half a cosine to 0."""
    return learning_rate(step, 100, RunConfig(lr=0.005, warmup=0.1))


def losses(same: float, extra: float, only: float) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Two losses on three parameters of different shapes; the first does not use the last parameter."""
    generator = torch.Generator().manual_seed(6)
    a, b, c = (torch.randn(*shape, generator=generator).requires_grad_() for shape in ((2, 3), (4,), (3,)))
    one = a.square().sum() + 3 * b.sum()
    return one, same * one + extra * a.sum() + only * (c ** 3).sum(), [a, b, c]


@exercise({
    "a loss and twice the loss": (2.0, 0.0, 0.0, "the same loss twice the size has the same direction."),
    "two losses that share some parameters": (
        0.3, 1.0, 2.0, "one vector of all parameters; a parameter that a loss does not use counts as 0."),
    "a loss and one against it": (-1.0, 0.2, 0.0, "keep the sign."),
}, lambda answer: lambda *weights: answer(*losses(*weights)), rtol=1e-4, atol=1e-5)
def gradient_cosine(*weights):
    """answer(one, other, parameters): cosine of the two losses' gradients, over all parameters as one vector."""
    *both, parameters = losses(*weights)
    options = {"retain_graph": True, "allow_unused": True, "materialize_grads": True}
    a, b = (torch.cat([each.flatten() for each in torch.autograd.grad(loss, parameters, **options)]) for loss in both)
    return a @ b / a.norm() / b.norm()
