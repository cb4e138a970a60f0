"""Checkers of notebook 00: the solution is right, near misses are not."""
import pytest

from fgdlab.lab.course.exercises import start as check


def plain(student, teacher):
    return (teacher - student).square().mean()


def overlap(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (area - width * height)


def no_cut(first, second):
    width, height = min(first[2], second[2]) - max(first[0], second[0]), min(first[3], second[3]) - max(first[1], second[1])
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return width * height / (area - width * height)


def cut_after_the_product(first, second):
    width, height = min(first[2], second[2]) - max(first[0], second[0]), min(first[3], second[3]) - max(first[1], second[1])
    area = sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))
    return max(0.0, width * height) / (area - max(0.0, width * height))


def shared_counted_twice(first, second):
    width = max(0.0, min(first[2], second[2]) - max(first[0], second[0]))
    height = max(0.0, min(first[3], second[3]) - max(first[1], second[1]))
    return width * height / sum((box[2] - box[0]) * (box[3] - box[1]) for box in (first, second))


def share(baseline, distilled, teacher):
    return (distilled - baseline) / (teacher - baseline)


RIGHT = {"plain_feature_loss": plain, "iou": overlap, "gap_closed": share}
WRONG = {
    "sum in place of mean": ("plain_feature_loss", lambda s, t: (t - s).square().sum()),
    "absolute in place of square": ("plain_feature_loss", lambda s, t: (t - s).abs().mean()),
    "mean over pixels, sum over channels": ("plain_feature_loss", lambda s, t: (t - s).square().sum(0).mean()),
    "mean over channels, sum over pixels": ("plain_feature_loss", lambda s, t: (t - s).square().mean(0).sum()),
    "square of the mean difference": ("plain_feature_loss", lambda s, t: (t - s).mean().square()),
    "half of the square": ("plain_feature_loss", lambda s, t: 0.5 * (t - s).square().mean()),
    "a map of losses": ("plain_feature_loss", lambda s, t: (t - s).square()),
    "negative sides kept": ("iou", no_cut),
    "product of two negative sides": ("iou", cut_after_the_product),
    "shared area counted twice": ("iou", shared_counted_twice),
    "share of the first box": ("iou", lambda a, b: overlap(a, b) * 2 / (1 + overlap(a, b))),
    "gain over the student": ("gap_closed", lambda u, d, t: (d - u) / u),
    "student over teacher": ("gap_closed", lambda u, d, t: d / t),
    "in percent": ("gap_closed", lambda u, d, t: 100 * share(u, d, t)),
    "what is left": ("gap_closed", lambda u, d, t: (t - d) / (t - u)),
    "cut at 1": ("gap_closed", lambda u, d, t: min(share(u, d, t), 1.0)),
    "cut at 0": ("gap_closed", lambda u, d, t: max(share(u, d, t), 0.0)),
    "absolute gain": ("gap_closed", lambda u, d, t: abs(share(u, d, t))),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and verdict.message
