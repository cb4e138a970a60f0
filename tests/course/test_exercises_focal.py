"""Checkers of notebook 04: the solution is right, near misses are not."""
import pytest
import torch

from fgdlab.attention import attention
from fgdlab.lab.course.exercises import focal as check


def feature(student, teacher, mask, spatial, channel):
    error = (teacher - student).square() * channel[:, :, None, None]
    return (error.sum(dim=1) * spatial * mask).sum() / len(student)


def l1(student, teacher, temperature):
    s, t = attention(student, temperature), attention(teacher, temperature)
    return ((s.spatial - t.spatial).abs().sum() + (s.channel - t.channel).abs().sum()) / len(student)


def parts(student, teacher, temperature):
    s, t = attention(student, temperature), attention(teacher, temperature)
    return s.spatial - t.spatial, s.channel - t.channel


def weights(sums, own):
    return own / sum(fg for fg, _ in sums.values()), own / sum(bg for _, bg in sums.values())


def mean_over_levels(sums, own):
    alpha, beta = weights(sums, own)
    return alpha * len(sums), beta * len(sums)


def masked_first(student, teacher, mask, spatial, channel):
    """Mask and attention on both features, without the square root: every factor comes in squared."""
    weight = (mask * spatial)[:, None] * channel[:, :, None, None]
    return (weight * (teacher - student)).square().sum() / len(student)


RIGHT = {"feature_sum": feature, "attention_l1": l1, "weights_by_size": weights}
WRONG = {
    "no mean over the batch": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) * len(s)),
    "mean in place of sum": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) / s[0].numel()),
    "mean over channels": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) / s.shape[1]),
    "absolute error": ("feature_sum", lambda s, t, m, sp, ch: feature((s - t).abs().sqrt(), 0 * t, m, sp, ch)),
    "mask forgotten": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, torch.ones_like(m), sp, ch)),
    "mask made binary": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, (m > 0).float(), sp, ch)),
    "A^S forgotten": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, torch.ones_like(sp), ch)),
    "A^C forgotten": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, sp, torch.ones_like(ch))),
    "factors squared": ("feature_sum", masked_first),
    "A^S of one image for all": ("feature_sum", lambda s, t, m, sp, ch: feature(s, t, m, sp[:1].expand_as(sp), ch)),
    "square in place of absolute value": ("attention_l1", lambda s, t, T: sum(each.square().sum() for each in parts(s, t, T)) / len(s)),
    "sign kept": ("attention_l1", lambda s, t, T: sum(each.sum() for each in parts(s, t, T)) / len(s)),
    "mean in place of sum of both": ("attention_l1", lambda s, t, T: sum(each.abs().mean() for each in parts(s, t, T))),
    "channel part forgotten": ("attention_l1", lambda s, t, T: parts(s, t, T)[0].abs().sum() / len(s)),
    "spatial part forgotten": ("attention_l1", lambda s, t, T: parts(s, t, T)[1].abs().sum() / len(s)),
    "not averaged over the batch": ("attention_l1", lambda s, t, T: sum(each.abs().sum() for each in parts(s, t, T))),
    "temperature ignored": ("attention_l1", lambda s, t, T: l1(s, t, 0.5)),
    "L1 of the maps": ("attention_l1", lambda s, t, T: (s - t).abs().sum() / len(s)),
    "mean over the levels": ("weights_by_size", mean_over_levels),
    "finest level alone": ("weights_by_size", lambda sums, own: weights({"P3": sums["P3"]}, own)),
    "alpha and beta swapped": ("weights_by_size", lambda sums, own: weights(sums, own)[::-1]),
    "both together weigh as much as own": ("weights_by_size", lambda sums, own: weights(sums, own / 2)),
    "upside down": ("weights_by_size", lambda sums, own: tuple(1 / each for each in weights(sums, own))),
    "alpha alone": ("weights_by_size", lambda sums, own: weights(sums, own)[0]),
}


@pytest.mark.parametrize("name", RIGHT)
def test_solution_is_right(name):
    assert getattr(check, name)(RIGHT[name]).right


@pytest.mark.parametrize("mistake", WRONG)
def test_near_miss_is_not_right(mistake):
    name, answer = WRONG[mistake]
    verdict = getattr(check, name)(answer)
    assert not verdict.right and verdict.written and "Error" not in verdict.message


def test_the_three_numbers_of_the_first_checker_are_those_of_equation_9():
    """27 = 3^2 x 1/2 x 4 x 3/2."""
    draw = check.random_case(2, 3, 2, 4)
    assert check.sum_of(*draw) == feature(*draw)
