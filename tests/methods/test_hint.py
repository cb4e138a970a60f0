"""Hint: half the mean squared distance."""
import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.hint import Hint
from tests.helpers.method_maps import LEVELS, aligned, cells, raws, teacher_of, two_images


def naive(student, teacher):
    """1/2 of the mean of (F_t - r(F_s))^2"""
    squares = [(teacher[n][c][y][x] - student[n][c][y][x]) ** 2 for n, c, y, x in cells(teacher)]
    return sum(squares) / len(squares) / 2


@pytest.mark.parametrize(
    ("channels", "settings"), [(4, {}), (3, {}), (3, {"kernel": 3}), (4, {"kernel": 5, "always": True})]
)
def test_the_loss_equals_the_loops(channels, settings, agree):
    for seed in range(5):
        torch.manual_seed(seed)
        scene = two_images(channels, seed=seed)
        teacher, loss = teacher_of(scene), Hint(LEVELS, channels, 4, **settings).double()
        terms = loss(scene, teacher)
        slow = [naive(aligned(loss, scene, level), teacher[level].tolist()) for level in LEVELS]
        agree(torch.stack([term.raw for term in terms]), slow, seed)


def test_a_constant_error_of_3_costs_4_and_a_half():
    scene = two_images()
    terms = Hint(LEVELS, 4, 4)(scene, {level: each + 3 for level, each in scene.features.items()})
    assert_close(torch.stack([term.raw for term in terms]), torch.full((2,), 4.5, dtype=torch.float64))


def test_the_regressor_exists_where_channels_differ_or_always():
    assert not Hint(LEVELS, 4, 4).align
    assert {level: tuple(layer.weight.shape) for level, layer in Hint(LEVELS, 3, 4).align.items()} == {
        "P3": (4, 3, 1, 1),
        "P4": (4, 3, 1, 1),
    }
    assert {tuple(layer.weight.shape) for layer in Hint(LEVELS, 4, 4, kernel=3, always=True).align.values()} == {
        (4, 4, 3, 3)
    }


def test_the_error_of_a_level_counts_alike_whatever_its_size():
    scene = two_images()
    teacher = {level: each + 1 for level, each in scene.features.items()}
    values = raws(Hint(LEVELS, 4, 4)(scene, teacher))
    assert_close(values["hint", "P3"], values["hint", "P4"])


@pytest.mark.parametrize("kernel", [0, 2, -1, 1.5])
def test_a_kernel_that_would_change_the_size_is_refused(kernel):
    with pytest.raises(ValueError, match=f"kernel must be an odd number >= 1, got {kernel}"):
        Hint(LEVELS, 4, 4, kernel=kernel)
