"""Exercises of notebook 05: the context of eq. 13, a lower bound of the global term, maps at equal distance."""
from collections.abc import Callable

import torch
from torch import Tensor

from fgdlab.relation import RelationTerm

from .answers import Case, Verdict, check_answer


def context(answer) -> Verdict:
    """answer(features, key): sum_j softmax_j(key . F_j) F_j of eq. 13, one vector (C,) per image."""
    doubling = torch.log(torch.tensor([2.0, 1.0, 1.0]))  # W_k reads channel 0; a 1 there doubles a pixel's weight
    features = torch.zeros(1, 3, 2, 2)
    features[0, 0, 1, 0], features[0, 1, 1, 0], features[0, 2, 0, 1] = 2.0, 7.0, 7.0
    generator = torch.Generator().manual_seed(13)
    batch, key = torch.randn(2, 3, 3, 5, generator=generator), torch.randn(3, generator=generator)
    return check_answer(answer, [
        Case("a key of zeros", (features, torch.zeros(3)), torch.tensor([[0.5, 1.75, 1.75]]),
             hint="a softmax of zeros is uniform: the context is the mean over the four pixels."),
        Case("a key that reads channel 0", (features, doubling), torch.tensor([[8 / 7, 4.0, 1.0]]),
             hint="pixel weights 4/7, 1/7, 1/7, 1/7, from a softmax over the pixels."),
        Case("two images of 3 channels on a 3 x 5 grid", (batch, key), expected_context(batch, key),
             hint="each image has its own softmax and its own vector: shape (N, C)."),
    ])


def expected_context(features: Tensor, key: Tensor) -> Tensor:
    weights = torch.softmax(torch.einsum("nchw,c->nhw", features, key).flatten(1), dim=1)
    return torch.einsum("ncp,np->nc", features.flatten(2), weights)


def lower_bound(answer) -> Verdict:
    """answer(student, teacher): a lower bound of sum (R_s(S) - R_t(T))^2 / N that holds for any two GcBlocks."""
    student, teacher = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    student[0, 0] = torch.tensor([[3.0, 1.0]])  # mean 2, and 1 away from it twice
    student[1, 1] = torch.tensor([[5.0, 5.0]])  # all of it is mean
    generator = torch.Generator().manual_seed(12)
    first, second = torch.randn(2, 3, 4, 3, 5, generator=generator)
    second = second + torch.randn(3, 4, 1, 1, generator=generator)
    return check_answer(answer, [
        Case("two images, one off by 3 and 1, one by 5 and 5", (student, teacher), 1.0,
             hint="subtract the mean over pixels from the difference, in each image and channel: "
                  "1, -1 and 0, 0 are left; then divide by N = 2."),
        Case("three images of 4 channels on a 3 x 5 grid", (first, second), RelationTerm(4, "centred")(first, second),
             hint="the mean is over H and W only."),
    ])


def equal_distance(answer) -> Verdict:
    """answer(student, teacher): another map with the same squared distance from the teacher."""
    generator = torch.Generator().manual_seed(3)
    cases = []
    for name, shape in {"one image": (1, 2, 3, 4), "two images": (2, 3, 2, 5)}.items():
        student, teacher = torch.randn(2, *shape, generator=generator)
        expected = ["another map", "of shape", str(shape), RelationTerm(shape[1], "mse")(student, teacher)]
        hint = "mirror the student at its teacher, or move errors to other pixels."
        cases.append(Case(name, (student, teacher), expected, rtol=1e-4, hint=hint))
    return check_answer(facts_of(answer), cases)


def facts_of(answer: Callable) -> Callable:
    """The answer's map as facts: does it differ from the student, its shape, its distance from the teacher."""
    def facts(student: Tensor, teacher: Tensor) -> list | None:
        result = answer(student.clone(), teacher.clone())
        if result is None:
            return None
        if result.shape != student.shape:
            return ["another map", "of shape", str(tuple(result.shape)), torch.tensor(0.0)]
        which = "the same map" if torch.allclose(result, student, atol=1e-3) else "another map"
        return [which, "of shape", str(tuple(result.shape)), (result - teacher).square().sum() / len(teacher)]

    return facts
