"""Checkers of notebook 00: equation 1, overlap of boxes, and how much of the way to its teacher a student has come."""
import torch

from .judge import Case, Verdict, judge

BOX = (10.0, 20.0, 50.0, 40.0)                                       # 40 x 20 pixels


def plain_feature_loss(answer) -> Verdict:
    """answer(student, teacher): eq. 1 for one image, two maps (C, H, W) -> the mean over all values of the squared difference."""
    draw = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(3, 4, 5, generator=draw), torch.randn(3, 4, 5, generator=draw)
    off_by_two = teacher + 2
    return judge(answer, [
        Case("maps that differ by 2 everywhere", (off_by_two, teacher), 4.0, hint="2 squared is 4, and a mean over equal values is that value."),
        Case("two random maps of 3 x 4 x 5", (student, teacher), (teacher - student).square().mean(), hint="square each difference, sum, divide by C times H times W."),
        Case("a student that equals its teacher", (teacher, teacher), 0.0),
    ])


def iou(answer) -> Verdict:
    """answer(first, second): two boxes x1, y1, x2, y2 -> area of their intersection over area of their union, in 0..1."""
    return judge(answer, [
        Case("a box with itself", (BOX, BOX), 1.0),
        Case("a box and the same, 10 pixels to the right", (BOX, (20.0, 20.0, 60.0, 40.0)), 0.6, hint="600 of the 800 + 800 - 600 pixels are shared."),
        Case("a small box inside a large one", ((0.0, 0.0, 40.0, 20.0), (10.0, 5.0, 20.0, 15.0)), 0.125),
        Case("boxes beside each other, left and right", (BOX, (70.0, 20.0, 90.0, 40.0)), 0.0, hint="a negative width of the intersection means that there is none."),
        Case("boxes apart in both directions", ((0.0, 0.0, 10.0, 10.0), (40.0, 30.0, 60.0, 50.0)), 0.0, hint="two negative sides make a positive product: cut each side at 0 first."),
    ])


def gap_closed(answer) -> Verdict:
    """answer(baseline, distilled, teacher): three APs -> the share of the way from the baseline student to the teacher, 1 = all of it."""
    return judge(answer, [
        Case("from 20 to 30, teacher 40", (20.0, 30.0, 40.0), 0.5, hint="10 of the 20 points that were missing."),
        Case("from 10 to 16, teacher 40", (10.0, 16.0, 40.0), 0.2),
        Case("no gain", (20.0, 20.0, 40.0), 0.0),
        Case("a student better than its teacher", (38.0, 42.0, 40.0), 2.0),
        Case("a student that got worse", (20.0, 15.0, 40.0), -0.25),
    ])
