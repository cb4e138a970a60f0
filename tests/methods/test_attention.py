"""Attention transfer: only the normalised power over cells counts."""
from dataclasses import replace
from math import sqrt

import pytest
import torch
from torch.testing import assert_close

from fgdlab.distill import Distiller
from fgdlab.lab.detectors.builder import build
from fgdlab.methods import method_class
from fgdlab.methods.attention_transfer import AttentionTransfer, pattern
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers.method_maps import LEVELS, leaves, raws, teacher_of, two_images


def naive(student, teacher, p):
    """mean over n, y, x of (A(F_s) - A(F_t))^2,  A = Q / |Q| per image,  Q_yx = mean_c |F_cyx|^p"""
    def attention(F):
        Q = [
            [sum(abs(F[c][y][x]) ** p for c in range(len(F))) / len(F) for x in range(len(F[0][0]))]
            for y in range(len(F[0]))
        ]
        length = sqrt(sum(q * q for row in Q for q in row))
        return [q / length for row in Q for q in row]

    errors = [
        (s - t) ** 2
        for F_s, F_t in zip(student, teacher, strict=True)
        for s, t in zip(attention(F_s), attention(F_t), strict=True)
    ]
    return sum(errors) / len(errors)


def change(maps, function):
    return {level: function(each) for level, each in maps.items()}


def close(first, second, **tolerance):
    assert first.keys() == second.keys() and first
    for key in first:
        assert_close(first[key], second[key], **{"rtol": 1e-9, "atol": 0} | tolerance)


# ---- the definition ----

@pytest.mark.parametrize("power", [2.0, 1.0, 3.0])
@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, power, agree):
    for seed in range(5):
        scene = two_images(channels, seed=seed)
        teacher = teacher_of(scene, seed=seed + 50)
        terms = AttentionTransfer(LEVELS, channels, 4, power=power)(scene, teacher)
        slow = [naive(scene.features[level].tolist(), teacher[level].tolist(), power) for level in LEVELS]
        agree(torch.stack([term.raw for term in terms]), slow, seed)


@pytest.mark.parametrize("power", [2.0, 1.0])
def test_gradcheck(power):
    student = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = {"P3": torch.randn(2, 2, 3, 4, dtype=torch.float64)}
    loss = AttentionTransfer(("P3",), 3, 2, power=power)
    assert torch.autograd.gradcheck(
        lambda maps: loss(replace(two_images(), features={"P3": maps}), teacher)[0].raw, student
    )


def test_the_name_leads_to_the_class_and_its_rows():
    scene = two_images()
    assert method_class("attention") is AttentionTransfer and AttentionTransfer.built_from == "channels"
    assert AttentionTransfer.PARTS == ()
    terms = AttentionTransfer(("P4", "P3"), 4, 4, weight=0.25)(scene, teacher_of(scene))
    assert [(term.name, term.level, term.weight) for term in terms] == [
        ("attention", "P4", 0.25),
        ("attention", "P3", 0.25),
    ]


# ---- what it does not see ----

@pytest.mark.parametrize("blind", ["size", "sign", "order of channels", "rotation of channels", "channels twice"])
def test_only_the_pattern_counts(blind):
    scene = two_images()
    rotation = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64)).Q
    same = {
        "size": lambda each: each * torch.tensor([3.0, 0.01])[:, None, None, None],  # another one for each image
        "sign": lambda each: each * torch.randn_like(each).sign(),
        "order of channels": lambda each: each[:, [2, 0, 3, 1]],
        "rotation of channels": lambda each: torch.einsum("oc,nchw->nohw", rotation, each),
        "channels twice": lambda each: torch.cat([each, each], dim=1),
    }[blind]
    loss, teacher = AttentionTransfer(LEVELS, 4, 4), teacher_of(scene)
    before = raws(loss(scene, teacher))
    changed = change(scene.features, same), change(teacher, same)
    channels = changed[0]["P3"].shape[1]
    close(raws(AttentionTransfer(LEVELS, channels, 4)(replace(scene, features=changed[0]), teacher)), before)
    close(raws(AttentionTransfer(LEVELS, 4, channels)(scene, changed[1])), before)


def test_the_order_of_cells_does_count():
    scene = two_images()
    teacher, loss = teacher_of(scene), AttentionTransfer(LEVELS, 4, 4)
    turned = raws(loss(replace(scene, features=change(scene.features, lambda each: each.flip(-1))), teacher))
    assert all(abs(turned[key] - value) > 1e-3 * value for key, value in raws(loss(scene, teacher)).items())


def test_a_map_against_itself_costs_nothing_and_has_no_gradient():
    scene = two_images()
    maps = leaves(scene)
    terms = AttentionTransfer(LEVELS, 4, 4)(scene, change(maps, lambda each: each.detach().clone()))
    total(terms).backward()
    assert set(raws(terms).values()) == {0.0} and all((each.grad == 0).all() for each in maps.values())


def test_the_most_it_costs_is_2_over_the_cells():
    """One active cell each, at different places: two orthogonal unit vectors."""
    student, teacher = torch.zeros(1, 4, 3, 5), torch.zeros(1, 2, 3, 5)
    student[0, :, 0, 0], teacher[0, 1, 2, 4] = 7.0, -0.1
    (term,) = AttentionTransfer(("P3",), 4, 2)(replace(two_images(), features={"P3": student}), {"P3": teacher})
    assert_close(term.raw.item(), 2 / 15)


def test_a_pattern_has_length_1_per_image_and_is_never_negative():
    found = pattern(two_images().features["P3"])
    assert found.shape == (2, 48) and (found >= 0).all()
    assert_close(found.norm(dim=1), torch.ones(2, dtype=torch.float64))


def test_the_batch_is_averaged():
    scene = two_images()
    teacher, loss = teacher_of(scene), AttentionTransfer(LEVELS, 4, 4)

    def twice(each):
        return each.repeat(2, 1, 1, 1)

    doubled = loss(replace(scene, features=change(scene.features, twice)), change(teacher, twice))
    close(raws(doubled), raws(loss(scene, teacher)))


# ---- settings and refusals ----

def test_every_setting_changes_the_total():
    scene = two_images()
    values = [
        total(AttentionTransfer(LEVELS, 4, 4, **setting)(scene, teacher_of(scene))).item()
        for setting in ({}, {"weight": 500.0}, {"power": 4.0})
    ]
    assert_close(values[1], values[0] / 2)
    assert abs(values[2] - values[0]) > 1e-3 * values[0]


def test_the_defaults_are_the_authors():
    loss = AttentionTransfer(LEVELS, 4, 4)
    assert (loss.weight, loss.power) == (1e3, 2.0)


def test_weight_0_leaves_no_term_and_there_never_is_a_layer():
    scene = two_images(3)
    assert AttentionTransfer(LEVELS, 3, 4, weight=0)(scene, teacher_of(scene)) == []
    assert not list(AttentionTransfer(LEVELS, 3, 4).parameters())


@pytest.mark.parametrize(("settings", "message"), [
    ({"weight": -1.0}, "weight must be a finite number >= 0, got -1.0"),
    ({"power": 0.5}, "power must be a finite number >= 1, got 0.5; 2 is the authors'"),
    ({"power": float("inf")}, "power must be a finite number >= 1, got inf"),
])
def test_a_wrong_setting_is_refused_with_what_is_right(settings, message):
    with pytest.raises(ValueError, match=message):
        AttentionTransfer(LEVELS, 4, 4, **settings)


def test_another_grid_is_refused():
    scene = two_images()
    with pytest.raises(ValueError, match="must have the same shape"):
        AttentionTransfer(LEVELS, 4, 4)(scene, change(teacher_of(scene), lambda each: each.flip(-1).transpose(2, 3)))


# ---- degenerate maps, precision, a training step ----

@pytest.mark.parametrize("grid", [(3, 4), (1, 1)])
@pytest.mark.parametrize("power", [2.0, 1.0])
def test_a_map_of_zeros_has_a_finite_loss_and_gradient(grid, power):
    student = torch.zeros(1, 4, *grid, requires_grad=True)
    scene = Scene(torch.zeros(1, 3, 32, 32), [torch.zeros(0, 4)], [(32, 32)], {"P3": student})
    for teacher in (torch.zeros(1, 4, *grid), torch.randn(1, 4, *grid)):
        (term,) = AttentionTransfer(("P3",), 4, 4, power=power)(scene, {"P3": teacher})
        student.grad = None
        term.raw.backward()
        assert term.raw.isfinite() and student.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32(dtype):
    scene = two_images(dtype=dtype, scale=300.0)  # squares above 65504, the largest float16
    assert scene.features["P3"].square().amax().isinf() or dtype == torch.bfloat16
    teacher, loss = teacher_of(scene, scale=300.0), AttentionTransfer(LEVELS, 4, 4)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(scene, teacher)
    assert {term.raw.dtype for term in terms} == {torch.float32}
    assert raws(terms) == raws(loss(scene.float(), change(teacher, torch.Tensor.float)))


def test_one_training_step_of_the_compact_pair(batch):
    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)
    loss = AttentionTransfer(student.levels, student.backbone.out_channels, teacher.backbone.out_channels)
    terms = [term for term in Distiller(student, teacher, loss).train()(*batch) if term.level != "all"]
    total(terms).backward()
    assert len(terms) == 3 and all(term.raw.isfinite() and term.raw > 0 for term in terms)
    grad = student.backbone.stem[0].weight.grad
    assert grad.isfinite().all() and grad.abs().amax() > 0
