"""CrossKD (CVPR 2024): the student's head feature in the teacher's head."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods import method_class
from fgdlab.methods.crosskd import CrossKD, match_statistics, quality_focal
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers.small_retinanets import (
    GRIDS,
    LEVELS,
    gradients,
    naive_anchors,
    naive_match,
    one_step,
    raws,
    small_retinanet,
    small_scene,
    teacher_maps,
)

# ---- loops: every number is a 0-dim tensor, so that its gradient is known, too ----

def naive_head(conv, output, features, replaced=None):
    """A tower and its output layer; ``replaced`` = (feature before the ReLU, after how many convolutions)."""
    start = 0
    if replaced is not None:
        features, start = replaced
        features = features.clamp(min=0) if start else features
    before = []
    for block in list(conv)[start:]:
        before.append(block[1](block[0](features)))  # convolution, group norm
        features = before[-1].clamp(min=0)
    return output(features), before


def naive_match_statistics(features, target):
    """Channel by channel: subtract the mean, divide by the deviation, and back with the target's."""
    out = torch.empty_like(features)
    for c in range(features.shape[1]):
        t, s = target[:, c], features[:, c]
        mean_t, mean_s = sum(t.flatten()) / t.numel(), sum(s.flatten()) / s.numel()
        std_t, std_s = (
            sum((each - mean) ** 2 for each in of.flatten()) / of.numel() for of, mean in ((t, mean_t), (s, mean_s))
        )
        out[:, c] = (s - mean_s) / (std_s.sqrt() + 1e-6) * std_t.sqrt() + mean_t
    return out


def naive_decode(deltas, anchor):
    width, height = anchor[2] - anchor[0], anchor[3] - anchor[1]
    x, y = anchor[0] + width / 2 + deltas[0] * width, anchor[1] + height / 2 + deltas[1] * height
    width, height = width * deltas[2].exp(), height * deltas[3].exp()
    return [x - width / 2, y - height / 2, x + width / 2, y + height / 2]


def naive_giou(a, b):
    inter = max(min(a[2], b[2]) - max(a[0], b[0]), 0) * max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - inter
    hull = (max(a[2], b[2]) - min(a[0], b[0])) * (max(a[3], b[3]) - min(a[1], b[1]))
    return inter / (union + 1e-7) - (hull - union) / (hull + 1e-7)


def naive_crosskd(loss, scene, teacher):
    """class and box of every level; value d of an anchor is channel anchor-of-cell * D + d at the anchor's cell."""
    ours, theirs, sums = loss.student.head, loss.teacher.head, {}
    matches = [
        naive_match(boxes.tolist(), [a for level in LEVELS for a in naive_anchors(level)]) for boxes in scene.boxes
    ]
    num_foreground = sum(max(1, sum(i >= 0 for i in of)) for of in matches)
    first = 0
    for level in LEVELS:
        maps = {}
        for part, tower, output in (
            ("class", "classification_head", "cls_logits"),
            ("box", "regression_head", "bbox_reg"),
        ):
            ours_of, theirs_of = (
                (getattr(head, tower).conv, getattr(getattr(head, tower), output)) for head in (ours, theirs)
            )
            target, before_t = naive_head(*theirs_of, teacher[level])
            _, before_s = naive_head(*ours_of, scene.features[level])
            k = loss.crossing
            feature = before_s[min(k, len(before_s)) - 1] if k else scene.features[level]
            feature = loss.adapt[part](feature) if loss.adapt else feature
            feature = naive_match_statistics(feature, before_t[k - 1] if k else teacher[level])
            crossed, _ = naive_head(*theirs_of, None, (feature, k))
            maps[part] = crossed, target.detach()
        sums["class", level] = sums["box", level] = torch.zeros((), dtype=torch.float64)
        anchors, (_, cols) = naive_anchors(level), GRIDS[level]
        for n in range(2):
            for a, anchor in enumerate(anchors):
                if matches[n][first + a] == -2:
                    continue
                (i, j), k = divmod(a // 2, cols), a % 2
                p, p_t = (maps["class"][which][n, k * 3:k * 3 + 3, i, j] for which in (0, 1))
                for x, y in zip(p, p_t.sigmoid(), strict=True):
                    s = 1 / (1 + (-x).exp())
                    sums["class", level] = (
                        sums["class", level] - abs(s - y) * (y * s.log() + (1 - y) * (1 - s).log()) / num_foreground
                    )
                b, b_t = (naive_decode(maps["box"][which][n, k * 4:k * 4 + 4, i, j], anchor) for which in (0, 1))
                sums["box", level] = sums["box", level] + max(p_t.sigmoid()) * (1 - naive_giou(b, b_t)) / num_foreground
        first += len(anchors)
    return sums


@pytest.mark.parametrize(
    "seed, depths, crossing, channels",
    [
        (0, (1, 2), None, 4),
        (1, (2, 2), None, 6),
        (2, (1, 1), None, 4),
        (3, (2, 3), 0, 4),
        (4, (2, 4), 4, 4),
        (5, (4, 4), None, 4),
    ],
)
def test_crosskd_equals_the_loops(seed, depths, crossing, channels):
    loss = CrossKD(
        LEVELS, small_retinanet(depth=depths[0]), small_retinanet(channels, depth=depths[1], seed=1), crossing=crossing
    ).double()
    scene, teacher = small_scene(seed=seed, grad=True), teacher_maps(channels, seed)
    found, wanted = raws(loss(scene, teacher)), naive_crosskd(loss, scene, teacher)
    assert list(found) == [(part, level) for level in LEVELS for part in ("class", "box")]
    for key in found:
        assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    assert_close(
        gradients(sum(found.values()), scene.features),
        gradients(sum(wanted.values()), scene.features),
        rtol=1e-8,
        atol=1e-12,
    )


@pytest.mark.parametrize("depths, crossing", [((1, 2), 1), ((1, 1), 1), ((4, 4), 3), ((2, 4), 3), ((4, 2), 1)])
def test_all_but_the_teachers_last_convolution_are_replaced(depths, crossing):
    assert CrossKD(LEVELS, *(small_retinanet(depth=depth) for depth in depths)).crossing == crossing


# ---- one fact each ----

def twins(**settings):
    """A student that is its teacher: the same head, the same maps."""
    loss = CrossKD(LEVELS, small_retinanet(depth=2), small_retinanet(depth=2), **settings).double()
    scene = small_scene(grad=True)
    return loss, scene, {level: each.detach().clone() for level, each in scene.features.items()}


def test_a_student_that_is_its_teacher_has_next_to_no_loss_and_a_finite_gradient():
    loss, scene, teacher = twins()
    found = raws(loss(scene, teacher))
    assert all(0 <= each < 1e-4 for each in found.values())  # not 0: 1e-6 is added to the deviation
    assert all(each.isfinite().all() for each in gradients(sum(found.values()), scene.features))


def test_scale_and_shift_of_the_handed_over_channels_change_nothing():
    loss, scene, teacher = twins(crossing=0)[0], small_scene(seed=7), teacher_maps()
    factor, shift = torch.rand(1, 4, 1, 1).double() + 0.5, torch.randn(1, 4, 1, 1).double()
    moved = replace(scene, features={level: factor * each + shift for level, each in scene.features.items()})
    there, back = raws(loss(scene, teacher)), raws(loss(moved, teacher))
    for key in there:
        assert there[key] > 1e-3
        assert_close(there[key], back[key], rtol=1e-4, atol=0)


def test_the_aligned_feature_has_the_targets_mean_and_deviation():
    target, feature = 3 * torch.randn(2, 4, 5, 5).double() + 1, torch.randn(2, 4, 5, 5).double()
    aligned = match_statistics(feature, target)
    assert_close(aligned.mean(dim=(0, 2, 3)), target.mean(dim=(0, 2, 3)))
    assert_close(aligned.std(dim=(0, 2, 3)), target.std(dim=(0, 2, 3)), rtol=1e-4, atol=0)


def test_a_map_of_one_cell_and_one_image_is_finite_with_its_gradient():
    feature = torch.randn(1, 4, 1, 1).double().requires_grad_()
    aligned = match_statistics(feature, torch.randn(1, 4, 1, 1).double())
    aligned.sum().backward()
    assert aligned.isfinite().all() and feature.grad.isfinite().all()


def test_quality_focal_is_0_at_the_target_only():
    target = torch.tensor([0.1, 0.5, 0.9]).double()
    assert_close(quality_focal(target.logit(), target), torch.zeros(3).double(), rtol=0, atol=1e-12)
    assert (quality_focal(target.logit() + 0.5, target) > 0.01).all()


def test_gradient_reaches_the_student_and_leaves_the_teacher_alone():
    loss, scene = CrossKD(LEVELS, small_retinanet(), small_retinanet(depth=2, seed=1)), small_scene(grad=True)
    teacher = teacher_maps()
    total(loss(scene, teacher)).backward()
    head = loss.student.head
    assert all(
        p.grad.abs().sum() > 0
        for tower in (head.classification_head, head.regression_head)
        for p in tower.conv.parameters()
    )
    assert head.classification_head.cls_logits.weight.grad is None and head.regression_head.bbox_reg.weight.grad is None
    assert all(p.grad is None for p in loss.teacher.parameters())


def test_without_boxes_every_anchor_counts_and_each_image_counts_1():
    loss, none = CrossKD(LEVELS, small_retinanet(), small_retinanet(depth=2, seed=1)), [torch.zeros(0, 4).double()] * 2
    scene, teacher = small_scene(boxes=none, grad=True), teacher_maps()
    found, wanted = raws(loss(scene, teacher)), naive_crosskd(loss, scene, teacher)
    for key in found:
        assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    assert all(each.isfinite().all() for each in gradients(sum(found.values()), scene.features))


def test_weight_0_removes_a_term_and_its_layer():
    def make(**settings):
        return CrossKD(LEVELS, small_retinanet(), small_retinanet(6, depth=2), **settings).double()

    scene, teacher = small_scene(), teacher_maps(6)
    assert set(make().adapt) == {"class", "box"} and set(make(box_weight=0).adapt) == {"class"}
    assert {term.name for term in make(class_weight=0)(scene, teacher)} == {"box"}
    assert make(class_weight=0, box_weight=0)(scene, teacher) == []


def test_every_setting_changes_the_terms():
    def terms(**settings):
        return CrossKD(LEVELS, small_retinanet(depth=2), small_retinanet(depth=2, seed=1), **settings)(
            small_scene(), teacher_maps()
        )

    plain = terms()
    assert {term.weight for term in terms(class_weight=2)} == {1, 2}
    assert {term.weight for term in terms(box_weight=3)} == {1, 3}
    assert len({total(terms(crossing=crossing)).item() for crossing in (0, 1, 2)}) == 3
    assert total(terms(crossing=1)) == total(plain)


def test_half_precision_is_summed_in_float32():
    loss = CrossKD(LEVELS, small_retinanet().float(), small_retinanet(depth=2, seed=1).float())
    scene, teacher = small_scene(), teacher_maps()
    halves = Scene(
        scene.pixels,
        [boxes.float() for boxes in scene.boxes],
        scene.image_sizes,
        {k: f.half() for k, f in scene.features.items()},
    )
    floats = replace(halves, features={k: f.float() for k, f in halves.features.items()})
    there = raws(loss(halves, {k: f.half() for k, f in teacher.items()}))
    assert all(each.dtype == torch.float32 for each in there.values())
    assert there == raws(loss(floats, {k: f.half().float() for k, f in teacher.items()}))


def test_a_crossing_outside_the_tower_is_refused():
    with pytest.raises(ValueError, match="crossing must be 0 to 2, .* got 3"):
        CrossKD(LEVELS, small_retinanet(), small_retinanet(depth=2), crossing=3)


def test_one_step_under_distiller_reaches_the_student():
    terms, student, distiller = one_step(CrossKD)
    assert [(term.name, term.level) for term in terms] == [
        (part, level) for level in ("P3", "P4", "P5") for part in ("class", "box")
    ]
    assert all(term.raw.isfinite() and term.raw > 0 for term in terms)
    assert student.backbone.stem[0].weight.grad.abs().sum() > 0
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student"}


def test_the_name_leads_to_the_class():
    assert method_class("crosskd") is CrossKD and CrossKD.built_from == "detectors"
    assert CrossKD.PARTS == ("class", "box")
