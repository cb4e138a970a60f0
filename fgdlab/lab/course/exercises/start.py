"""Exercises of notebook 00: equation 1, IoU of boxes, and the part of the AP gap that a student closes."""
import torch

from .answers import Case, Verdict, check_answer

BOX = (10.0, 20.0, 50.0, 40.0)  # 40 x 20 pixels


def plain_feature_loss(answer) -> Verdict:
    """answer(student, teacher): eq. 1 for two maps (C, H, W), the mean of the squared differences."""
    student, teacher = torch.randn(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    return check_answer(answer, [
        Case("maps that differ by 2 everywhere", (teacher + 2, teacher), 4.0,
             hint="2 squared is 4, and the mean of equal values is that value."),
        Case("two random maps of 3 x 4 x 5", (student, teacher), (teacher - student).square().mean(),
             hint="square each difference, sum, divide by C times H times W."),
        Case("a student that equals its teacher", (teacher, teacher), 0.0),
    ])


def iou(answer) -> Verdict:
    """answer(first, second): IoU of two boxes x1, y1, x2, y2, in 0..1."""
    return check_answer(answer, [
        Case("a box with itself", (BOX, BOX), 1.0),
        Case("a box and the same box moved 10 pixels to the right", (BOX, (20.0, 20.0, 60.0, 40.0)), 0.6,
             hint="600 of the 800 + 800 - 600 pixels are shared."),
        Case("a small box inside a large one", ((0.0, 0.0, 40.0, 20.0), (10.0, 5.0, 20.0, 15.0)), 0.125),
        Case("two boxes side by side", (BOX, (70.0, 20.0, 90.0, 40.0)), 0.0,
             hint="a negative width means that there is no intersection."),
        Case("boxes apart in both directions", ((0.0, 0.0, 10.0, 10.0), (40.0, 30.0, 60.0, 50.0)), 0.0,
             hint="two negative sides have a positive product: clip each side at 0 first."),
    ])


def gap_closed(answer) -> Verdict:
    """answer(baseline, distilled, teacher): closed part of the AP gap to the teacher; 1 = all of it."""
    return check_answer(answer, [
        Case("from 20 to 30, teacher 40", (20.0, 30.0, 40.0), 0.5, hint="10 of the 20 points that were missing."),
        Case("from 10 to 16, teacher 40", (10.0, 16.0, 40.0), 0.2),
        Case("no gain", (20.0, 20.0, 40.0), 0.0),
        Case("a student better than its teacher", (38.0, 42.0, 40.0), 2.0),
        Case("a student that got worse", (20.0, 15.0, 40.0), -0.25),
    ])
