"""Eqs. 9-11: the focal terms."""
import pytest
import torch
from torch.testing import assert_close

from fgdlab.attention import Attention, attention
from fgdlab.focal import attention_term, feature_terms
from fgdlab.masks import FocalMasks, focal_masks
from tests.helpers import naive


def pair(random_scene, seed):
    """Student, teacher (N, C, H, W) and the masks of one level."""
    torch.manual_seed(seed)
    scene = random_scene(seed)
    student = scene.features["P3"]
    teacher = torch.randn_like(student)
    masks = focal_masks(scene.boxes, scene.frame_sizes(), tuple(student.shape[-2:]), dtype=torch.float64)
    return student, teacher, masks


def test_feature_terms_equal_the_loops(random_scene, agree):
    for seed in range(200):
        student, teacher, masks = pair(random_scene, seed)
        fast = feature_terms(student, teacher, masks, attention(teacher, 0.5))
        slow = [0.0, 0.0]
        for n, F in enumerate(teacher.tolist()):
            weights = naive.a_spatial(F, 0.5), naive.a_channel(F, 0.5)
            slow[0] += naive.feature_sum(student[n].tolist(), F, masks.fg[n].tolist(), *weights) / 2
            slow[1] += naive.feature_sum(student[n].tolist(), F, masks.bg[n].tolist(), *weights) / 2
        agree(torch.stack(fast), slow, seed)


def test_attention_term_equals_the_loops(random_scene, agree):
    for seed in range(200):
        student, teacher, _ = pair(random_scene, seed)
        fast = attention_term(attention(student, 0.8), attention(teacher, 0.8))
        agree(
            fast,
            sum(naive.attention_sum(S, F, 0.8) for S, F in zip(student.tolist(), teacher.tolist(), strict=True)) / 2,
            seed,
        )


# ---- one fact each ----

def plain(n=1, c=2, h=3, w=3):
    """Everything 1: masks and attention that change nothing."""
    return FocalMasks(fg=torch.ones(n, h, w), bg=torch.ones(n, h, w)), Attention(torch.ones(n, h, w), torch.ones(n, c))


def test_with_all_weights_one_the_term_is_the_squared_distance_over_the_batch():
    student, teacher = torch.randn(2, 2, 3, 3), torch.randn(2, 2, 3, 3)
    fg, bg = feature_terms(student, teacher, *plain(n=2))
    assert_close(fg, (student - teacher).square().sum() / 2)
    assert fg == bg


def test_a_perfect_student_has_no_loss():
    teacher = torch.randn(1, 2, 3, 3)
    assert feature_terms(teacher, teacher, *plain()) == (0, 0)
    assert attention_term(attention(teacher), attention(teacher)) == 0


def test_each_weight_multiplies_its_own_pixel_and_channel():
    student, teacher = torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 3)
    teacher[0, 1, 2, 0] = 2  # the only error: 4 at channel 1, row 2, column 0
    masks, weights = plain()
    masks.fg[0, 2, 0], weights.spatial[0, 2, 0], weights.channel[0, 1] = 3, 5, 7
    assert feature_terms(student, teacher, masks, weights) == (4 * 3 * 5 * 7, 4 * 5 * 7)


def test_the_attention_term_adds_both_distances():
    student = Attention(torch.tensor([[[1.0, 1.0]]]), torch.tensor([[1.0, 1.0]]))
    teacher = Attention(torch.tensor([[[0.5, 1.5]]]), torch.tensor([[1.25, 0.75]]))
    assert attention_term(student, teacher) == 1.0 + 0.5


@pytest.mark.parametrize("which", ["fg", "bg"])
def test_gradcheck_of_the_feature_terms(which, random_scene):
    student, teacher, masks = pair(random_scene, 1)
    assert masks.fg.any() and masks.bg.any()
    student = student[:, :, :4, :4].clone().requires_grad_()
    teacher, masks = teacher[:, :, :4, :4], FocalMasks(masks.fg[:, :4, :4], masks.bg[:, :4, :4])
    index = ("fg", "bg").index(which)
    assert torch.autograd.gradcheck(lambda s: feature_terms(s, teacher, masks, attention(teacher))[index], student)


def test_gradcheck_of_the_attention_term():
    student, teacher = torch.randn(2, 1, 3, 3, 3, dtype=torch.float64)
    assert torch.autograd.gradcheck(
        lambda s: attention_term(attention(s), attention(teacher)), student.requires_grad_()
    )


def test_a_permutation_of_channels_changes_nothing(random_scene):
    student, teacher, masks = pair(random_scene, 3)
    order = torch.tensor([2, 0, 3, 1])
    there = feature_terms(student, teacher, masks, attention(teacher))
    permuted = feature_terms(student[:, order], teacher[:, order], masks, attention(teacher[:, order]))
    assert_close(there, permuted)


def test_maps_of_different_shape_are_refused_with_both_shapes():
    with pytest.raises(ValueError, match=r"\(1, 2, 3, 3\) and teacher map \(1, 2, 3, 4\)"):
        feature_terms(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 3, 4), *plain())
