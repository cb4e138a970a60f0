"""Exercises of notebook 09: a slope by central differences, a loss weighted by both lengths, a test of a loss."""
import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .answers import exercise, random_maps

VALUES = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)
MOVE = "move one entry up, then the same entry down, by step each; divide by 2 step; work on a clone."
COMPARE = "use several images of different magnitude, with uneven cells, and compare with loops."


def cube(x):
    return (x ** 3).sum() + x[0] * x[2]


def without_change(answer):
    """The slope of ``cube`` at VALUES; something else if the answer changes them."""
    def slope_of_cube(index: int, step: float):
        copy = VALUES.clone()
        result = answer(cube, copy, index, step)
        return result if torch.equal(copy, VALUES) else {"values were changed": result}

    return slope_of_cube


@exercise({
    f"x^3 and a product, entry {index}, step {step}": (index, step, MOVE)
    for index, step in ((0, 0.1), (2, 0.1), (1, 0.25))
}, without_change, rtol=1e-6)
def slope(index, step):
    """answer(function, values, index, step): (f(x + step e_i) - f(x - step e_i)) / (2 step).

    values: (n,), must be left unchanged. function: maps such a tensor to a scalar.
    """
    move = step * torch.eye(3, dtype=torch.float64)[index]
    return float((cube(VALUES + move) - cube(VALUES - move)) / (2 * step))


def direction(student: Tensor, teacher: Tensor, weight: Tensor, dims: tuple[int, ...] = (1, 2)) -> Tensor:
    """Mean over images of sum w (1 - cos), w = weight (N, H, W) over its sum."""
    angle = 1 - cosine_similarity(student, teacher, dim=1)
    return ((weight * angle).sum(dim=(1, 2)) / weight.sum(dim=dims)).mean()


def uneven_maps(seed: int) -> tuple[Tensor, Tensor]:
    factors = torch.tensor([1.0, 2.0, 6.0])[:, None, None, None]
    return random_maps(seed, 3, 4, 2, 3), random_maps(seed + 1, 3, 4, 2, 3) * factors


def value_and_gradient(loss):
    def of(student: Tensor, teacher: Tensor):
        own = student.clone().requires_grad_()
        value = loss(own, teacher)
        if value is None:
            return None
        slopes = torch.autograd.grad(value, own)[0] if isinstance(value, Tensor) and value.requires_grad else "none"
        return {"the loss": value, "the gradient": slopes}

    return of


@exercise({
    f"three images, {number}": (*uneven_maps(seed), "each image sums to 1; detach the weight.")
    for number, seed in (("first maps", 1), ("other maps", 5))
}, value_and_gradient, rtol=1e-3, atol=1e-6)
def weighted_by_both(student, teacher):
    """answer(student, teacher): the loss with w = |F^S| |F^T| over its sum per image, a constant for the gradient."""
    return value_and_gradient(
        lambda s, t: direction(s, t, (s.norm(dim=1) * t.norm(dim=1)).detach()))(student, teacher)


LOSSES = {
    "the right loss": lambda s, t: direction(s, t, t.norm(dim=1)),
    "the same in float64": lambda s, t: direction(s.double(), t.double(), t.double().norm(dim=1)),
    "all cells alike": lambda s, t: direction(s, t, torch.ones_like(t[:, 0])),
    "the student's length": lambda s, t: direction(s, t, s.norm(dim=1)),
    "weights over the batch": lambda s, t: len(s) * direction(s, t, t.norm(dim=1), (0, 1, 2)),
    "lengths over half of the channels": lambda s, t: direction(s, t, t[:, ::2].norm(dim=1)),
    "squared lengths": lambda s, t: direction(s, t, t.norm(dim=1).square()),
    "the sum over images": lambda s, t: len(s) * direction(s, t, t.norm(dim=1)),
}


@exercise({name: (loss, COMPARE) for name, loss in LOSSES.items()})
def passes(loss):
    """Whether loss(student, teacher) is the mean over images of sum w (1 - cos), w = |F^T| / sum."""
    student, teacher = uneven_maps(1)
    return bool(torch.isclose(loss(student, teacher).float(), LOSSES["the right loss"](student, teacher), rtol=1e-4))
