"""Exercises of notebook 08: FGFI's anchors near an object, PKD's correlation, and the gradient at a doubled map."""
from collections.abc import Callable

import torch
from torch import Tensor

from fgdlab.methods.pkd import normalised

from .answers import Case, Verdict, check_answer, random_maps


def near_anchors(answer) -> Verdict:
    """answer(iou, psi): which anchors FGFI imitates; IoU (K, A) of every box with every anchor -> (A,) bool."""
    iou = torch.tensor([[0.90, 0.44, 0.45, 0.46, 0.00, 0.10], [0.00, 0.05, 0.02, 0.00, 0.10, 0.049]])
    cases = [
        ("one box", iou[:1], 0.5,
         "the threshold is psi times the best IoU of the box, 0.45 here; IoU must be above it."),
        ("two boxes, one large and one small", iou, 0.5,
         "each box has its own threshold; an anchor that is near to any box counts."),
        ("psi = 0", iou, 0.0, "an anchor that touches a box has IoU above 0; one that touches none has not."),
    ]
    return check_answer(answer, [
        Case(name, (values, psi), (values > psi * values.amax(dim=1, keepdim=True)).any(dim=0), hint=hint)
        for name, values, psi, hint in cases
    ])


def pearson(answer) -> Verdict:
    """answer(student, teacher): 1 - r averaged over channels; r is Pearson's correlation over images and cells."""
    def expected(student, teacher):
        return (normalised(student) - normalised(teacher)).square().mean() / 2

    one = (random_maps(1, 1, 3, 4, 5), random_maps(2, 1, 3, 4, 5))
    batch = (random_maps(3, 3, 4, 2, 3) + torch.arange(3.0)[:, None, None, None], random_maps(4, 3, 4, 2, 3))
    same = random_maps(5, 2, 3, 4, 4)
    return check_answer(answer, [
        Case("one image, three channels", one, expected(*one), rtol=1e-4,
             hint="r = mean(s t) of maps with mean 0 and std 1 per channel; the std divides by n, not n - 1."),
        Case("three images that differ in brightness", batch, expected(*batch), rtol=1e-4,
             hint="mean and std go over images and cells together, dims 0, 2 and 3."),
        Case("the teacher's map, doubled and shifted", (2 * same + 3, same), torch.tensor(0.0), atol=1e-4,
             hint="a positive factor and an offset change nothing."),
        Case("the teacher's map, negated", (-same, same), torch.tensor(2.0), rtol=1e-4),
    ])


def when_doubled(answer) -> Verdict:
    """answer(loss, features): |gradient at 2 F| / |gradient at F|, and the cosine of gradient and F."""
    def expected(loss: Callable[[Tensor], Tensor], features: Tensor) -> list[Tensor]:
        one, two = (torch.func.grad(loss)(x).flatten() for x in (features, 2 * features))
        return [two.norm() / one.norm(), (one @ features.flatten()) / one.norm() / features.norm()]

    maps, target = random_maps(8, 2, 3, 2, 4), random_maps(9, 2, 3, 2, 4)
    return check_answer(answer, [
        Case(name, (loss, maps), expected(loss, maps), rtol=1e-3, atol=1e-5, hint=hint) for name, loss, hint in (
            ("a squared distance", lambda F: (F - target).square().sum(), "two gradients, at F and at 2 F."),
            ("a loss that ignores the scale", lambda F: (F / F.norm() * target).sum(), "take the cosine at F."),
            ("a cube", lambda F: F.pow(3).sum() - F.sum(), "lengths over all numbers together."))
    ])
