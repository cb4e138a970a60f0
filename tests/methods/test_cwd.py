"""CWD: the divergence between two distributions over the cells of a channel."""
from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.cwd import CWD
from tests.helpers.method_maps import LEVELS, aligned, raws, teacher_of, two_images


def phi(channel, temperature):
    """exp(F_i / tau) / sum_j exp(F_j / tau) over the cells of one channel"""
    powers = [exp(value / temperature) for row in channel for value in row]
    return [power / sum(powers) for power in powers]


def naive(student, teacher, temperature):
    """tau^2 / (C N) of the sum of phi_t log(phi_t / phi_s)"""
    N, C = len(teacher), len(teacher[0])
    whole = sum(
        p_t * log(p_t / p_s)
        for n in range(N) for c in range(C)
        for p_s, p_t in zip(phi(student[n][c], temperature), phi(teacher[n][c], temperature), strict=True)
    )
    return temperature**2 / (C * N) * whole


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, temperature, agree):
    for seed in range(3):
        torch.manual_seed(seed)
        scene = two_images(channels, seed=seed)
        teacher, loss = teacher_of(scene), CWD(LEVELS, channels, 4, temperature=temperature).double()
        slow = [naive(aligned(loss, scene, level), teacher[level].tolist(), temperature) for level in LEVELS]
        agree(torch.stack([term.raw for term in loss(scene, teacher)]), slow, seed)


def test_a_map_has_no_divergence_from_itself():
    scene = two_images()
    assert set(raws(CWD(LEVELS, 4, 4)(scene, scene.features)).values()) == {0.0}


def test_a_constant_on_a_channel_changes_nothing_and_a_factor_does():
    scene = two_images()
    teacher, loss = teacher_of(scene), CWD(LEVELS, 4, 4)
    shift = torch.tensor([3.0, -7.0, 0.5, 100.0])[:, None, None]
    shifted = {level: each + shift for level, each in teacher.items()}
    for key, before in raws(loss(scene, teacher)).items():
        assert_close(raws(loss(scene, shifted))[key], before, rtol=1e-9, atol=0)
    assert raws(loss(scene, {level: 2 * each for level, each in teacher.items()})) != raws(loss(scene, teacher))


def test_a_flat_student_of_a_peaked_teacher_loses_the_log_of_the_cells():
    """sum phi_t log(phi_t / phi_s) = log(H W) where phi_t is 1 in one cell and phi_s is 1 / (H W)."""
    scene = two_images()
    flat = {level: torch.zeros_like(each) for level, each in scene.features.items()}
    peak = {level: each.clone() for level, each in flat.items()}
    for each in peak.values():
        each[..., 1, 1] = 60.0
    for term, count in zip(CWD(LEVELS, 4, 4)(replace(scene, features=flat), peak), (48, 12), strict=True):
        assert_close(term.raw.item(), log(count))
    for term, count in zip(CWD(LEVELS, 4, 4)(replace(scene, features=peak), flat), (48, 12), strict=True):
        assert_close(term.raw.item(), 60 * (count - 1) / count - log(count))


def test_maps_of_large_values_stay_finite():
    scene = two_images(scale=1e4)
    teacher = teacher_of(scene, scale=1e4)
    maps = {level: each.requires_grad_() for level, each in scene.features.items()}
    term, _ = CWD(LEVELS, 4, 4)(scene, teacher)
    term.raw.backward()
    assert term.raw.isfinite() and maps["P3"].grad.isfinite().all()


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan"), float("inf")])
def test_a_temperature_that_is_not_positive_is_refused(temperature):
    with pytest.raises(ValueError, match=f"temperature must be a finite number > 0, got {temperature}"):
        CWD(LEVELS, 4, 4, temperature=temperature)
