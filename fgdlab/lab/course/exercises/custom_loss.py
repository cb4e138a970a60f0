"""Exercises of notebook 09: a slope by central differences, a loss weighted by both lengths, a test of a loss."""
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cosine_similarity

from .answers import Case, Verdict, check_answer, random_maps


def slope(answer) -> Verdict:
    """answer(function, values, index, step): (f(x + step e_i) - f(x - step e_i)) / (2 step).

    values: (n,), must be left unchanged. function: maps such a tensor to a scalar.
    """
    values = torch.tensor([0.5, -1.0, 2.0], dtype=torch.float64)

    def cube(x):
        return (x ** 3).sum() + x[0] * x[2]

    def expected(index: int, step: float) -> float:
        unit = torch.zeros(3, dtype=torch.float64)
        unit[index] = step
        return float((cube(values + unit) - cube(values - unit)) / (2 * step))

    def checked(index: int, step: float):
        copy = values.clone()
        result = answer(cube, copy, index, step)
        return result if torch.equal(copy, values) else {"values were changed": result}

    return check_answer(checked, [
        Case(f"x^3 and a product, entry {index}, step {step}", (index, step), expected(index, step), rtol=1e-6,
             hint="move one entry up, then the same entry down, by step each; divide by 2 step; work on a clone.")
        for index, step in ((0, 0.1), (2, 0.1), (1, 0.25))
    ])


def direction(student: Tensor, teacher: Tensor, weight: Tensor, dims: tuple[int, ...] = (1, 2)) -> Tensor:
    """Mean over images of sum w (1 - cos), w = weight (N, H, W) over its sum."""
    angle = 1 - cosine_similarity(student, teacher, dim=1)
    return ((weight * angle).sum(dim=(1, 2)) / weight.sum(dim=dims)).mean()


def uneven_maps(seed: int) -> tuple[Tensor, Tensor]:
    return random_maps(seed, 3, 4, 2, 3), random_maps(seed + 1, 3, 4, 2, 3) * torch.tensor([1.0, 2.0, 6.0])[
        :, None, None, None]


def weighted_by_both(answer) -> Verdict:
    """answer(student, teacher): the loss with w = |F^S| |F^T| over its sum per image, a constant for the gradient."""
    def expected(student: Tensor, teacher: Tensor) -> Tensor:
        return direction(student, teacher, (student.norm(dim=1) * teacher.norm(dim=1)).detach())

    def gradient(loss: Callable) -> Callable:
        def of(student: Tensor, teacher: Tensor):
            own = student.clone().requires_grad_()
            value = loss(own, teacher)
            return torch.autograd.grad(value, own)[0] if isinstance(value, Tensor) and value.requires_grad else value
        return of

    one, two = uneven_maps(1), uneven_maps(5)
    value = check_answer(answer, [Case("three images", one, expected(*one), rtol=1e-4, hint="each image sums to 1.")])
    return value if not value else check_answer(gradient(answer), [
        Case("the gradient, three images", each, gradient(expected)(*each), rtol=1e-3, atol=1e-6,
             hint="detach the weight.") for each in (one, two)
    ])


def passes(answer) -> Verdict:
    """answer(loss): whether loss(student, teacher) is the mean over images of sum w (1 - cos), w = |F^T| / sum."""
    losses = {
        "the right loss": lambda s, t: direction(s, t, t.norm(dim=1)),
        "the same in float64": lambda s, t: direction(s.double(), t.double(), t.double().norm(dim=1)),
        "all cells alike": lambda s, t: direction(s, t, torch.ones_like(t[:, 0])),
        "the student's length": lambda s, t: direction(s, t, s.norm(dim=1)),
        "weights over the batch": lambda s, t: len(s) * direction(s, t, t.norm(dim=1), (0, 1, 2)),
        "lengths over half of the channels": lambda s, t: direction(s, t, t[:, ::2].norm(dim=1)),
        "squared lengths": lambda s, t: direction(s, t, t.norm(dim=1).square()),
        "the sum over images": lambda s, t: len(s) * direction(s, t, t.norm(dim=1)),
    }
    return check_answer(answer, [
        Case(name, (loss,), i < 2, hint="use several images of different magnitude, with uneven cells, and compare "
             "with loops.") for i, (name, loss) in enumerate(losses.items())
    ])
