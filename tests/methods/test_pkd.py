"""PKD: one minus Pearson's correlation, channel by channel."""
from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.pkd import EPSILON, PKD, normalised
from tests.helpers.method_maps import LEVELS, aligned, raws, teacher_of, two_images


def naive(student, teacher):
    """1/2 of the mean of (norm(F_s) - norm(F_t))^2, mean 0 and deviation 1 per channel over images and cells"""
    N, C, H, W = len(teacher), len(teacher[0]), len(teacher[0][0]), len(teacher[0][0][0])

    def norm(F, c):
        values = [F[n][c][y][x] for n in range(N) for y in range(H) for x in range(W)]
        mean = sum(values) / len(values)
        deviation = sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return [(value - mean) / (deviation + 1e-6) for value in values]

    return sum((s - t) ** 2 for c in range(C) for s, t in zip(norm(student, c), norm(teacher, c), strict=True)) / (
        2 * N * C * H * W
    )


@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, agree):
    for seed in range(5):
        torch.manual_seed(seed)
        scene = two_images(channels, seed=seed)
        teacher, loss = teacher_of(scene), PKD(LEVELS, channels, 4).double()
        slow = [naive(aligned(loss, scene, level), teacher[level].tolist()) for level in LEVELS]
        agree(torch.stack([term.raw for term in loss(scene, teacher)]), slow, seed)


def per_channel(scene, teacher, level):
    return [each[level].transpose(0, 1).flatten(1) for each in (scene.features, teacher)]  # each (C, N H W)


def test_the_loss_is_one_minus_the_correlation():
    scene = two_images()
    teacher = teacher_of(scene)
    for term in PKD(LEVELS, 4, 4)(scene, teacher):
        students, teachers = per_channel(scene, teacher, term.level)
        correlation = torch.stack(
            [torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(students, teachers, strict=True)]
        ).mean()
        assert_close(term.raw, 1 - correlation, rtol=1e-5, atol=0)  # to within EPSILON in the deviations


def test_the_sample_deviation_would_make_it_n_minus_1_over_n_of_that():
    scene = two_images()
    teacher = teacher_of(scene)
    students, teachers = per_channel(scene, teacher, "P4")
    count = students.shape[1]
    sample_s, sample_t = (
        (each - each.mean(1, keepdim=True)) / (each.std(1, keepdim=True) + EPSILON) for each in (students, teachers)
    )
    ours = raws(PKD(LEVELS, 4, 4)(scene, teacher))["pkd", "P4"]
    assert_close((sample_s - sample_t).square().mean().item() / 2, ours * (count - 1) / count, rtol=1e-5, atol=0)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_scale_and_shift_of_a_channel_change_nothing(who):
    scene = two_images()
    teacher, loss = teacher_of(scene), PKD(LEVELS, 4, 4)
    factor = torch.tensor([2.0, 0.5, 30.0, 1.0])[:, None, None]
    shift = torch.tensor([1.0, -5.0, 20.0, 0.0])[:, None, None]

    def change(maps):
        return {level: each * factor + shift for level, each in maps.items()}

    changed = (
        loss(replace(scene, features=change(scene.features)), teacher)
        if who == "student"
        else loss(scene, change(teacher))
    )
    for term, before in zip(changed, loss(scene, teacher), strict=True):
        assert_close(term.raw, before.raw, rtol=1e-4, atol=0)  # to within EPSILON in the deviations


def test_the_opposite_costs_2_and_an_affine_copy_nothing():
    scene = two_images()
    opposite, copy = ({level: sign * 3 * each - 7 for level, each in scene.features.items()} for sign in (-1, 1))
    for term in PKD(LEVELS, 4, 4)(scene, opposite):
        assert_close(term.raw.item(), 2.0, rtol=1e-5, atol=0)
    for term in PKD(LEVELS, 4, 4)(scene, copy):
        assert_close(term.raw.item(), 0.0, rtol=0, atol=1e-9)


def test_mean_0_and_deviation_1_over_images_and_cells():
    features = normalised(two_images(scale=100.0).features["P3"])
    assert_close(features.mean(dim=(0, 2, 3)), torch.zeros(4, dtype=torch.float64), rtol=0, atol=1e-12)
    assert_close(features.std(dim=(0, 2, 3), correction=0), torch.ones(4, dtype=torch.float64), rtol=1e-6, atol=0)
    assert (features.mean(dim=(2, 3)).abs() > 1e-3).any()  # over the batch, not image by image


def test_a_constant_channel_becomes_0_with_a_finite_gradient():
    features = two_images().features["P3"].clone()
    features[:, 1] = 5.0
    features.requires_grad_()
    out = normalised(features)
    out.pow(3).sum().backward()
    assert_close(out[:, 1], torch.zeros_like(out[:, 1]), rtol=0, atol=1e-8)
    assert features.grad.isfinite().all()
