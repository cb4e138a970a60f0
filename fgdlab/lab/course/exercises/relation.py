"""Exercises of notebook 05: the least global term with one vector for all images, and a map that learns under it."""
import torch
from torch import Tensor

from fgdlab.relation import RelationTerm

from .answers import Case, Verdict, check_answer, random_maps


def one_vector_for_all(answer) -> Verdict:
    """answer(student, teacher): least sum (S - T - v)^2 / N over all vectors v (C,)."""
    student, teacher = torch.zeros(2, 2, 1, 2), torch.zeros(2, 2, 1, 2)
    student[0, 0], student[1, 0] = torch.tensor([[3.0, 1.0]]), torch.tensor([[2.0, 2.0]])
    first, second = random_maps(1, 3, 4, 3, 5), random_maps(2, 3, 4, 3, 5) + random_maps(3, 1, 4, 1, 1)
    least = (first - second - (first - second).mean(dim=(0, 2, 3), keepdim=True)).square().sum() / 3
    return check_answer(answer, [
        Case("two images, off by 3 and 1, and by 2 and 2", (student, teacher), 1.0,
             hint="one number per channel, 2 here, is subtracted from both images; then divide by N = 2."),
        Case("three images of 4 channels on a 3 x 5 grid", (first, second), least,
             hint="the vector that leaves least is the mean of the difference over images and pixels."),
    ])


def distance_left(answer) -> Verdict:
    """answer(relation, student, teacher, steps, rate): |map - T|^2 after / before Adam on map and layers."""
    def answered(kind: str, *rest):
        return answer(drawn(kind), *rest)

    maps = random_maps(4, 2, 4, 3, 5), random_maps(5, 2, 4, 3, 5)
    hints = {
        "mse": "one Adam, with this rate, on the copy of the map.",
        "gc": "the layers of the relation are trained in the same step, by the same optimizer.",
        "nonlocal": "compare the copy itself with the teacher, not what the layers make of it.",
    }
    return check_answer(answered, [
        Case(f"{kind}, {steps} steps", (kind, *maps, steps, 0.1), left(drawn(kind), *maps, steps, 0.1), rtol=1e-4,
             hint=hint)
        for (kind, hint), steps in zip(hints.items(), (3, 5, 4), strict=True)
    ])


def drawn(kind: str) -> RelationTerm:
    """A term on 4 channels whose layers are not at their start."""
    torch.manual_seed(3)
    relation = RelationTerm(4, kind)
    for each in relation.parameters():
        torch.nn.init.normal_(each, std=0.3)
    return relation


def left(relation: RelationTerm, student: Tensor, teacher: Tensor, steps: int, rate: float) -> Tensor:
    own = student.clone().requires_grad_()
    optimizer = torch.optim.Adam([own, *relation.parameters()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        relation(own, teacher).backward()
        optimizer.step()
    return (own.detach() - teacher).square().sum() / (student - teacher).square().sum()
