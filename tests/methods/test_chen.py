"""Chen et al. (NeurIPS 2017): hint, weighted class scores, bounded boxes."""
from dataclasses import replace
from math import log

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from fgdlab.methods import method_class
from fgdlab.methods.chen import Chen, bounded_error, weighted_cross_entropy
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers.small_retinanets import (
    GRIDS,
    LEVELS,
    NoBackbone,
    gradients,
    naive_anchors,
    naive_match,
    one_step,
    raws,
    small_retinanet,
    small_scene,
    teacher_maps,
)


def pair(channels=4, seed=1):
    return small_retinanet(), small_retinanet(channels, depth=2, seed=seed)


def naive_encode(box, anchor):
    """Shift of the centre over the anchor's size; logarithm of the sizes' ratio."""
    sizes = [(b[2] - b[0], b[3] - b[1]) for b in (box, anchor)]
    centres = [((b[0] + b[2]) / 2, (b[1] + b[3]) / 2) for b in (box, anchor)]
    shift = [(centres[0][i] - centres[1][i]) / sizes[1][i] for i in (0, 1)]
    return shift + [log(sizes[0][i] / sizes[1][i]) for i in (0, 1)]


def naive_chen(loss, scene, teacher):
    """hint, class and box of every level, element by element."""
    sums, first = {}, 0
    matches = [
        naive_match(boxes.tolist(), [a for level in LEVELS for a in naive_anchors(level)]) for boxes in scene.boxes
    ]
    num_foreground = sum(max(1, sum(i >= 0 for i in of)) for of in matches)
    for level in LEVELS:
        adapted, target = loss.align[level](scene.features[level]), teacher[level]
        zero = torch.zeros((), dtype=torch.float64)
        sums["hint", level] = (
            sum((t - s) ** 2 for t, s in zip(target.flatten(), adapted.flatten(), strict=True)) / target.numel()
        )
        heads = [(loss.student.head, scene.features[level]), (loss.teacher.head, target)]
        scores = [head.classification_head.cls_logits(head.classification_head.conv(f)).sigmoid() for head, f in heads]
        deltas = [head.regression_head.bbox_reg(head.regression_head.conv(f)) for head, f in heads]
        sums["class", level] = sums["box", level] = zero
        for n in range(2):
            for a, anchor in enumerate(naive_anchors(level)):
                (i, j), k, box = divmod(a // 2, GRIDS[level][1]), a % 2, matches[n][first + a]
                if box == -2:
                    continue
                for c in range(3):
                    s, t = (of[n, k * 3 + c, i, j] for of in scores)
                    sums["class", level] = (
                        sums["class", level]
                        - (t * s.log() + loss.background * (1 - t) * (1 - s).log()) / num_foreground
                    )
                if box >= 0:
                    y = naive_encode(scene.boxes[n][box].tolist(), anchor)
                    error, bound = (sum((of[n, k * 4 + d, i, j] - y[d]) ** 2 for d in range(4)) for of in deltas)
                    sums["box", level] = sums["box", level] + (
                        error / num_foreground if error + loss.margin > bound else zero
                    )
        first += len(naive_anchors(level))
    return sums


@pytest.mark.parametrize(
    "seed, channels, settings",
    [(0, 4, {}), (1, 6, {"background": 2.5}), (2, 4, {"margin": 0.0}), (3, 4, {"margin": 1.0})],
)
def test_chen_equals_the_loops(seed, channels, settings):
    loss = Chen(LEVELS, *pair(channels), **settings).double()
    scene, teacher = small_scene(seed=seed, grad=True), teacher_maps(channels, seed)
    found, wanted = raws(loss(scene, teacher)), naive_chen(loss, scene, teacher)
    assert list(found) == [(part, level) for level in LEVELS for part in ("hint", "class", "box")]
    for key in found:
        assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    assert_close(
        gradients(sum(found.values()), scene.features),
        gradients(sum(wanted.values()), scene.features),
        rtol=1e-8,
        atol=1e-12,
    )


# ---- one fact each ----

def test_with_background_1_the_class_term_is_cross_entropy_and_has_no_gradient_at_the_teacher():
    target = torch.rand(5).double()
    logits = target.logit().requires_grad_()
    loss = weighted_cross_entropy(logits, target, 1.0)
    assert_close(loss, nn.functional.binary_cross_entropy_with_logits(logits, target, reduction="none"))
    assert_close(torch.autograd.grad(loss.sum(), logits)[0], torch.zeros(5).double())


def test_a_heavier_background_moves_the_best_score_as_documented():
    target = torch.tensor([0.2, 0.5, 0.9]).double()
    best = (target / (target + 1.5 * (1 - target))).logit().requires_grad_()
    assert_close(
        torch.autograd.grad(weighted_cross_entropy(best, target, 1.5).sum(), best)[0],
        torch.zeros(3).double(),
        rtol=0,
        atol=1e-12,
    )


def test_a_student_that_beats_the_teacher_by_the_margin_is_left_alone():
    wanted, teacher = torch.zeros(3, 4), torch.full((3, 4), 0.5)  # the bound is 1
    student = torch.tensor([[0.7, 0, 0, 0], [0.9, 0, 0, 0], [2.0, 0, 0, 0]])
    assert_close(bounded_error(student, teacher, wanted, 0.0), torch.tensor([0.0, 0.0, 4.0]))
    assert_close(bounded_error(student, teacher, wanted, 0.3), torch.tensor([0.0, 0.81, 4.0]))


def test_a_student_that_is_its_teacher_has_a_finite_gradient():
    loss, scene = Chen(LEVELS, small_retinanet(), small_retinanet()).double(), small_scene(grad=True)
    terms = loss(scene, {level: each.detach().clone() for level, each in scene.features.items()})
    assert all(each.isfinite().all() for each in gradients(total(terms), scene.features))


def test_without_boxes_the_box_term_is_0_and_all_is_finite():
    loss, scene = Chen(LEVELS, *pair()).double(), small_scene(boxes=[torch.zeros(0, 4).double()] * 2, grad=True)
    teacher = teacher_maps()
    found, wanted = raws(loss(scene, teacher)), naive_chen(loss, scene, teacher)
    for key in found:
        assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    assert all(found["box", level] == 0 for level in LEVELS)
    assert all(each.isfinite().all() for each in gradients(sum(found.values()), scene.features))


def test_a_level_that_is_not_imitated_still_has_anchors():
    scene, teacher, detectors = small_scene(), teacher_maps(), pair()
    both, coarse = (raws(Chen(levels, *detectors, hint_weight=0)(scene, teacher)) for levels in (LEVELS, ("P4",)))
    assert list(coarse) == [("class", "P4"), ("box", "P4")]
    assert all(torch.equal(coarse[key], both[key]) for key in coarse)


def test_weight_0_removes_a_term_and_its_layer():
    scene, teacher = small_scene(), teacher_maps()
    for left in ("hint", "class", "box"):
        loss = Chen(LEVELS, *pair(), **{f"{part}_weight": 0 for part in Chen.PARTS if part != left}).double()
        assert {term.name for term in loss(scene, teacher)} == {left} and bool(loss.align) == (left == "hint")
    assert Chen(LEVELS, *pair(), hint_weight=0, class_weight=0, box_weight=0)(scene, teacher) == []


def test_every_setting_changes_the_terms():
    scene, teacher = small_scene(), teacher_maps()

    def terms(**settings):
        torch.manual_seed(0)
        return Chen(LEVELS, *pair(), **settings).double()(scene, teacher)

    for part in Chen.PARTS:
        assert {(term.name, term.weight) for term in terms(**{f"{part}_weight": 2})} == {
            (each, 2 if each == part else 0.5) for each in Chen.PARTS
        }
    plain = raws(terms(hint_weight=0))
    assert raws(terms(hint_weight=0, background=1))["class", "P3"] < plain["class", "P3"]
    assert raws(terms(hint_weight=0, margin=50))["box", "P3"] > raws(terms(hint_weight=0, margin=0))["box", "P3"]


def test_half_precision_is_summed_in_float32():
    loss = Chen(LEVELS, *(detector.float() for detector in pair()))
    scene = small_scene()
    halves = Scene(
        scene.pixels,
        [boxes.float() for boxes in scene.boxes],
        scene.image_sizes,
        {k: 300 * f.half() for k, f in scene.features.items()},
    )
    found = raws(loss(halves, {k: -300 * f.half() for k, f in teacher_maps().items()}))
    assert all(each.dtype == torch.float32 and each.isfinite() for each in found.values())
    assert found["hint", "P3"] > 65504  # half's largest


def test_the_hint_alone_works_on_any_detector():
    class Plain(nn.Module):
        def __init__(self):
            super().__init__()
            self.backbone = NoBackbone(4)

    terms = Chen(LEVELS, Plain(), Plain(), class_weight=0, box_weight=0).double()(small_scene(), teacher_maps())
    assert [term.name for term in terms] == ["hint", "hint"]
    with pytest.raises(
        ValueError,
        match=r"student of Chen must be a RetinaNet .*set class_weight=0 and box_weight=0\), got Plain without anchor",
    ):
        Chen(LEVELS, Plain(), Plain())


def test_heads_that_differ_in_classes_are_refused():
    with pytest.raises(ValueError, match="same classes, got 3 and 4"):
        Chen(LEVELS, small_retinanet(), small_retinanet(classes=4))


def test_boxes_of_another_count_of_images_are_refused():
    scene = replace(small_scene(), boxes=[torch.zeros(0, 4).double()])
    with pytest.raises(ValueError, match="each of the 2 images, got boxes for 1"):
        Chen(LEVELS, *pair()).double()(scene, teacher_maps())


def test_one_step_under_distiller_reaches_the_student():
    terms, student, distiller = one_step(Chen)
    assert [(term.name, term.level) for term in terms] == [
        (part, level) for level in ("P3", "P4", "P5") for part in ("hint", "class", "box")
    ]
    assert all(term.raw.isfinite() for term in terms) and student.backbone.stem[0].weight.grad.abs().sum() > 0
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "loss"}


def test_the_name_leads_to_the_class():
    assert method_class("chen") is Chen and Chen.built_from == "detectors" and Chen.PARTS == ("hint", "class", "box")
