"""MGD: the teacher's map generated from the student's, some cells set to 0."""
import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.mgd import MGD, random_mask
from tests.helpers.method_maps import LEVELS, aligned, cells, convolution, leaves, raws, teacher_of, two_images


def naive(student, teacher, mask, block):
    """1/N of the sum of (G(f(F_s) M) - F_t)^2"""
    masked = [
        [[[v * mask[n][0][y][x] for x, v in enumerate(row)] for y, row in enumerate(c)] for c in image]
        for n, image in enumerate(student)
    ]
    hidden = convolution(masked, block[0])
    hidden = [[[[max(v, 0.0) for v in row] for row in c] for c in image] for image in hidden]
    generated = convolution(hidden, block[2])
    return sum((generated[n][c][y][x] - teacher[n][c][y][x]) ** 2 for n, c, y, x in cells(teacher)) / len(teacher)


@pytest.mark.parametrize("masked_ratio", [0.65, 0.2])
@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, masked_ratio, agree):
    for seed in range(2):
        torch.manual_seed(seed)
        scene = two_images(channels, seed=seed)
        teacher, loss = teacher_of(scene), MGD(LEVELS, channels, 4, masked_ratio=masked_ratio).double()
        torch.manual_seed(seed)
        terms = loss(scene, teacher)
        torch.manual_seed(seed)
        draws = {level: torch.rand(2, 1, *teacher[level].shape[2:], dtype=torch.float64).tolist() for level in LEVELS}
        masks = {
            level: [[[[float(u >= masked_ratio) for u in row] for row in one]] for (one,) in images]
            for level, images in draws.items()
        }
        slow = [
            naive(aligned(loss, scene, level), teacher[level].tolist(), masks[level], loss.generate[level])
            for level in LEVELS
        ]
        agree(torch.stack([term.raw for term in terms]), slow, seed)


def test_the_mask_is_0_on_the_masked_ratio_of_cells_and_1_elsewhere_for_all_channels():
    mask = random_mask(torch.zeros(4, 7, 100, 100), 0.65)
    assert mask.shape == (4, 1, 100, 100) and set(mask.unique().tolist()) == {0.0, 1.0}
    share = 1 - mask.mean(dim=(1, 2, 3))
    assert ((share - 0.65).abs() < 4 * (0.65 * 0.35 / 1e4) ** 0.5).all()  # 4 standard deviations; the seed is fixed
    assert not torch.equal(mask[0], mask[1])


def test_nothing_is_masked_at_ratio_0():
    assert random_mask(torch.zeros(2, 3, 50, 50), 0.0).all()


def test_every_call_and_every_level_draws_anew():
    features = torch.zeros(1, 2, 30, 30)
    assert not torch.equal(random_mask(features, 0.5), random_mask(features, 0.5))
    scene = two_images()
    teacher, loss = teacher_of(scene), MGD(LEVELS, 4, 4).double()
    assert raws(loss(scene, teacher)) != raws(loss(scene, teacher))


def test_a_run_that_restores_the_generator_draws_what_it_would_have_drawn():
    scene = two_images()
    teacher, loss = teacher_of(scene), MGD(LEVELS, 4, 4).double()
    loss(scene, teacher)
    saved = torch.get_rng_state()
    expected = [raws(loss(scene, teacher)) for _ in range(3)]
    torch.manual_seed(99)
    torch.set_rng_state(saved)
    assert [raws(loss(scene, teacher)) for _ in range(3)] == expected


def as_identity(block):
    """G(F) = F on maps without negative values: both convolutions pass the middle cell of their own channel."""
    with torch.no_grad():
        for layer in (block[0], block[2]):
            layer.weight.zero_()
            layer.bias.zero_()
            layer.weight[range(len(layer.weight)), range(len(layer.weight)), 1, 1] = 1.0


def test_with_nothing_masked_and_g_the_identity_it_is_the_squared_distance_an_image():
    scene = two_images()
    scene.features.update({level: each.abs() for level, each in scene.features.items()})
    teacher, loss = teacher_of(scene), MGD(LEVELS, 4, 4, masked_ratio=0.0).double()
    for level in LEVELS:
        as_identity(loss.generate[level])
    for term in loss(scene, teacher):
        assert_close(term.raw, (scene.features[term.level] - teacher[term.level]).square().sum() / 2)


def test_a_masked_cell_of_the_student_gets_no_gradient_and_every_other_one_does():
    scene = two_images()
    maps, teacher, loss = leaves(scene), teacher_of(scene), MGD(("P3",), 4, 4).double()
    torch.manual_seed(11)
    (term,) = loss(scene, teacher)
    term.raw.backward()
    torch.manual_seed(11)
    mask = random_mask(scene.features["P3"], 0.65).bool().expand_as(maps["P3"])
    assert not maps["P3"].grad[~mask].any() and maps["P3"].grad[mask].all()


def test_every_level_has_a_generator_of_the_teachers_channels():
    loss = MGD(LEVELS, 3, 4)
    assert list(loss.generate) == list(LEVELS) and loss.generate["P3"] is not loss.generate["P4"]
    assert [tuple(p.shape) for p in loss.generate["P3"].parameters()] == [(4, 4, 3, 3), (4,), (4, 4, 3, 3), (4,)]


@pytest.mark.parametrize("ratio", [1.0, -0.1, float("nan")])
def test_a_ratio_outside_0_to_1_is_refused(ratio):
    with pytest.raises(ValueError, match=rf"masked_ratio must be in \[0, 1\), got {ratio}"):
        MGD(LEVELS, 4, 4, masked_ratio=ratio)
