"""The checkers of notebook 08 accept right answers and reject near misses."""
import pytest
import torch

from fgdlab.lab.course.exercises import methods as check


def attend(features, temperature, absolute=True, over=None):
    strength = (features.abs() if absolute else features).mean(dim=1)
    return strength[0].numel() * torch.softmax(strength.flatten(1) / temperature, dim=1).view_as(strength)


def mask_right(student, teacher, temperature):
    return 0.5 * attend(student, temperature) + 0.5 * attend(teacher, temperature)


def near_right(iou, psi):
    found = torch.zeros(iou.shape[1], dtype=torch.bool)
    for of_box in iou:
        found |= of_box > psi * of_box.max()
    return found


def correlation(student, teacher, dims=(0, 2, 3), correction=0):
    total = 0.0
    s, t = (each - each.mean(dim=dims, keepdim=True) for each in (student, teacher))
    s, t = (each / each.std(dim=dims, keepdim=True, correction=correction) for each in (s, t))
    total = (s * t).mean()
    return 1 - total


RIGHT = {"fbkd_mask": mask_right, "near": near_right, "pearson": correlation}


def sum_then_softmax(student, teacher, temperature):
    strength = student.abs().mean(dim=1) + teacher.abs().mean(dim=1)
    return strength[0].numel() * torch.softmax(strength.flatten(1) / temperature, dim=1).view_as(strength)


NEAR_MISSES = {
    "fbkd_mask": [
        sum_then_softmax,
        lambda s, t, T: attend(s, T) + attend(t, T),
        lambda s, t, T: attend(t, T),
        lambda s, t, T: mask_right(s, t, T) / s[0, 0].numel(),
        lambda s, t, T: (attend(s, T, absolute=False) + attend(t, T, absolute=False)) / 2,
        lambda s, t, T: (attend(s, 1 / T) + attend(t, 1 / T)) / 2,
        lambda s, t, T: mask_right(s, t, T)[:, None],
    ],
    "near": [
        lambda iou, psi: (iou >= psi * iou.amax(dim=1, keepdim=True)).any(dim=0),
        lambda iou, psi: (iou > psi).any(dim=0),
        lambda iou, psi: (iou > psi * iou.max()).any(dim=0),
        lambda iou, psi: (iou > psi * iou.amax(dim=1, keepdim=True)).all(dim=0),
        lambda iou, psi: (iou > psi * iou.amax(dim=0, keepdim=True)).any(dim=0),
        lambda iou, psi: near_right(iou, psi).float().mean(),
    ],
    "pearson": [
        lambda s, t: correlation(s, t, dims=(2, 3)),
        lambda s, t: correlation(s, t, dims=(0, 1, 2, 3)),
        lambda s, t: correlation(s, t, correction=1),
        lambda s, t: 1 - correlation(s, t),
        lambda s, t: 2 * correlation(s, t),
        lambda s, t: (s - t).square().mean() / 2,
    ],
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_is_right(name):
    verdict = getattr(check, name)(RIGHT[name])
    assert verdict.right, verdict.message


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, answers in NEAR_MISSES.items() for number in range(len(answers))])
def test_a_near_miss_is_not_right(name, number):
    verdict = getattr(check, name)(NEAR_MISSES[name][number])
    assert not verdict.right and verdict.written and "Error" not in verdict.message
