"""Exercises of notebook 05: the least global term with one vector for all images, and a map that learns under it."""
import torch

from fgdlab.relation import RelationTerm

from .answers import exercise, random_maps

STUDENT = torch.tensor([[[3.0, 1.0], [0.0, 0.0]], [[2.0, 2.0], [0.0, 0.0]]])[:, :, None]  # (2, 2, 1, 2)
MAPS = random_maps(4, 2, 4, 3, 5), random_maps(5, 2, 4, 3, 5)


@exercise({
    "two images, off by 3 and 1, and by 2 and 2": (
        STUDENT, torch.zeros(2, 2, 1, 2),
        "one number per channel, 2 here, is subtracted from both images; then divide by N = 2."),
    "three images of 4 channels on a 3 x 5 grid": (
        random_maps(1, 3, 4, 3, 5), random_maps(2, 3, 4, 3, 5) + random_maps(3, 1, 4, 1, 1),
        "the vector that leaves least is the mean of the difference over images and pixels."),
})
def one_vector_for_all(student, teacher):
    """Least sum (S - T - v)^2 / N over all vectors v (C,)."""
    difference = student - teacher
    return (difference - difference.mean(dim=(0, 2, 3), keepdim=True)).square().sum() / len(student)


def drawn(kind: str) -> RelationTerm:
    """A term on 4 channels whose layers are not at their start."""
    torch.manual_seed(3)
    relation = RelationTerm(4, kind)
    for each in relation.parameters():
        torch.nn.init.normal_(each, std=0.3)
    return relation


@exercise({
    "mse, 3 steps": ("mse", *MAPS, 3, 0.1, "one Adam, with this rate, on the copy of the map."),
    "gc, 5 steps": (
        "gc", *MAPS, 5, 0.1, "the layers of the relation are trained in the same step, by the same optimizer."),
    "nonlocal, 4 steps": (
        "nonlocal", *MAPS, 4, 0.1, "compare the copy itself with the teacher, not what the layers make of it."),
}, lambda answer: lambda kind, *rest: answer(drawn(kind), *rest), rtol=1e-4)
def distance_left(kind, student, teacher, steps, rate):
    """answer(relation, student, teacher, steps, rate): |map - T|^2 after / before Adam on map and layers."""
    relation, own = drawn(kind), student.clone().requires_grad_()
    optimizer = torch.optim.Adam([own, *relation.parameters()], lr=rate)
    for _ in range(steps):
        optimizer.zero_grad()
        relation(own, teacher).backward()
        optimizer.step()
    return (own.detach() - teacher).square().sum() / (student - teacher).square().sum()
