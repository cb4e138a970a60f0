"""GID (CVPR 2021): general instances, and what they teach."""
from dataclasses import replace
from itertools import product

import pytest
import torch
from torch.testing import assert_close
from torchvision.ops import nms as torchvision_nms
from torchvision.ops import roi_align as torchvision_roi_align

from fgdlab.methods import method_class
from fgdlab.methods.gid import GID, nms_top_k, relation, roi_align
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers.small_retinanets import (
    GRIDS,
    LEVELS,
    gradients,
    naive_anchors,
    naive_iou,
    naive_match,
    one_step,
    raws,
    small_retinanet,
    small_scene,
    teacher_maps,
)
from tests.methods.test_crosskd import naive_decode

SMALL = {"min_side": 4.0, "pool": 2, "finest_size": 6.0, "instances": 4}


def pair(channels=4, **settings):
    return small_retinanet(**settings), small_retinanet(channels, depth=2, seed=1, **settings)


# ---- the whole as loops ----

def naive_sample(F, y, x):
    """Bilinear value of a map (C, H, W) at row y, column x; beyond the last pixel's centre the border's value."""
    H, W = F.shape[1:]
    y, x = min(max(y, 0), H - 1), min(max(x, 0), W - 1)
    top, left = min(int(y), H - 2), min(int(x), W - 2)
    v, u = y - top, x - left
    above, below = ((1 - u) * F[:, row, left] + u * F[:, row, left + 1] for row in (top, top + 1))
    return (1 - v) * above + v * below


def naive_roi(F, box, stride, size):
    """(C, size, size): each bin the mean of 2 x 2 points; pixel centres of the map lie at (index + 1/2) stride."""
    x1, y1, x2, y2 = (each / stride for each in box)
    high, wide = (y2 - y1) / size, (x2 - x1) / size
    out = torch.zeros(F.shape[0], size, size, dtype=F.dtype)
    for i, j in product(range(size), range(size)):
        out[:, i, j] = (
            sum(
                naive_sample(F, y1 + (i + b) * high - 0.5, x1 + (j + a) * wide - 0.5)
                for b in (0.25, 0.75)
                for a in (0.25, 0.75)
            )
            / 4
        )
    return out


def naive_heads(detector, features):
    """Per image and anchor of all levels: probabilities of classes 1.., logits of all, deltas."""
    out = [[] for _ in range(2)]
    for level in LEVELS:
        logits = detector.head.classification_head.cls_logits(detector.head.classification_head.conv(features[level]))
        deltas = detector.head.regression_head.bbox_reg(detector.head.regression_head.conv(features[level]))
        for n, a in product(range(2), range(len(naive_anchors(level)))):
            (i, j), k = divmod(a // 2, GRIDS[level][1]), a % 2
            C = logits.shape[1] // 2
            out[n].append((logits[n, k * C:k * C + C, i, j], deltas[n, k * 4:k * 4 + 4, i, j]))
    return out


def naive_instances(loss, scene, ours, theirs, anchors):
    """Boxes of the general instances of every image, best first."""
    found = []
    for n, (height, width) in enumerate(scene.image_sizes):
        candidates = []
        for anchor, (p_s, b_s), (p_t, b_t) in zip(anchors, ours[n], theirs[n], strict=True):
            s, t = p_s[1:].sigmoid(), p_t[1:].sigmoid()
            box = [each.item() for each in naive_decode(b_t if max(t) > max(s) else b_s, anchor)]
            box = [min(max(each, 0), (width, height)[d % 2]) for d, each in enumerate(box)]
            if min(box[2] - box[0], box[3] - box[1]) > loss.min_side:
                candidates.append((max(abs(a - b) for a, b in zip(t.tolist(), s.tolist(), strict=True)), box))
        candidates.sort(key=lambda each: -each[0])
        kept = []
        for _, box in candidates:
            if all(naive_iou(box, other) <= loss.nms for other in kept) and len(kept) < loss.instances:
                kept.append(box)
        found.append(kept)
    return found


def naive_gid(loss, scene, teacher):
    anchors = [a for level in LEVELS for a in naive_anchors(level)]
    counts = [len(naive_anchors(level)) for level in LEVELS]
    ours, theirs = naive_heads(loss.student, scene.features), naive_heads(loss.teacher, teacher)
    instances = naive_instances(loss, scene, ours, theirs, anchors)
    sums = {
        (part, level): torch.zeros((), dtype=torch.float64) for level in LEVELS for part in ("feature", "class", "box")
    }
    R, cut = sum(map(len, instances)), []
    for n, boxes in enumerate(instances):
        for box in boxes:
            side = ((box[2] - box[0]) * (box[3] - box[1])) ** 0.5
            level = "P4" if side >= 2 * loss.finest_size else "P3"
            f = loss.align[level](scene.features[level])[n] if loss.align else scene.features[level][n]
            s, t = (naive_roi(F, box, 2 ** int(level[1:]), loss.pool) for F in (f, teacher[level][n]))
            sums["feature", level] = sums["feature", level] + ((t - s) ** 2).sum() / (R * loss.pool**2)
            cut.append((s.flatten(), t.flatten()))
    students, teachers = zip(*cut, strict=True)
    distances = [
        [[((a - b) ** 2).sum().sqrt() if i != j else 0 for j, b in enumerate(of)] for i, a in enumerate(of)]
        for of in (students, teachers)
    ]
    means = [sum(sum(row) for row in of) / (R * R - R) for of in distances]
    gaps = [
        abs(distances[1][i][j] / means[1] - distances[0][i][j] / means[0]) for i in range(R) for j in range(R) if i != j
    ]
    sums["relation", "all"] = sum(gap**2 / 2 if gap < 1 else gap - 0.5 for gap in gaps) / (R * R - R)
    matches = [naive_match(boxes, anchors) for boxes in instances]
    A = sum(i >= 0 for of in matches for i in of)
    for n, a in product(range(2), range(len(anchors))):
        level = LEVELS[a >= counts[0]]
        if matches[n][a] >= 0:
            (p_s, b_s), (p_t, b_t) = ours[n][a], theirs[n][a]
            for x, y in zip(p_s.sigmoid(), p_t.sigmoid(), strict=True):
                sums["class", level] = sums["class", level] - (y * x.log() + (1 - y) * (1 - x).log()) / A
            sums["box", level] = sums["box", level] + sum(abs(x - y) for x, y in zip(b_s, b_t, strict=True)) / A
    return sums


@pytest.mark.parametrize("seed, channels", [(0, 4), (1, 6), (2, 4), (3, 4)])
def test_gid_equals_the_loops(seed, channels):
    loss = GID(LEVELS, *pair(channels), **SMALL).double()
    scene = small_scene(seed=seed, grad=True)
    teacher = {level: each.detach() for level, each in teacher_maps(channels, seed).items()}
    found, wanted = raws(loss(scene, teacher)), naive_gid(loss, scene, teacher)
    assert found.keys() == wanted.keys()
    for key in found:
        assert_close(found[key], wanted[key], rtol=1e-9, atol=1e-12)
    assert_close(
        gradients(sum(found.values()), scene.features),
        gradients(sum(wanted.values()), scene.features),
        rtol=1e-7,
        atol=1e-11,
    )
    assert found["feature", "P3"] > 0 and found["feature", "P4"] > 0


# ---- its parts against torchvision's ----

def test_roi_align_equals_torchvisions_with_its_gradient():
    features = torch.randn(2, 3, 6, 8, dtype=torch.float64, requires_grad=True)
    near = torch.rand(2, 5, 2, dtype=torch.float64) * torch.tensor([64, 48])
    boxes = torch.cat([near, near + (torch.tensor([64, 48]) - near) * torch.rand(2, 5, 2, dtype=torch.float64)], dim=2)
    rois = torch.cat([torch.arange(2).repeat_interleave(5)[:, None].double(), boxes.flatten(0, 1)], dim=1)
    ours = roi_align(features, boxes, (48, 64), 3)
    theirs = torchvision_roi_align(features, rois, 3, spatial_scale=1 / 8, sampling_ratio=2, aligned=True).view(
        2, 5, 3, 3, 3
    )
    assert_close(ours, theirs, rtol=1e-9, atol=1e-12)
    along = torch.randn_like(ours)
    assert_close(
        *(torch.autograd.grad((each * along).sum(), features)[0] for each in (ours, theirs)), rtol=1e-9, atol=1e-12
    )


def test_nms_top_k_gives_the_first_boxes_of_torchvisions_nms():
    for seed in range(20):
        torch.manual_seed(seed)
        near = torch.rand(3, 40, 2) * 20
        boxes, scores = torch.cat([near, near + torch.rand(3, 40, 2) * 20 + 1], dim=2), torch.rand(3, 40)
        kept, real = nms_top_k(boxes, scores, 0.3, 30)
        for n in range(3):
            wanted = boxes[n][torchvision_nms(boxes[n], scores[n], 0.3)][:30]
            assert torch.equal(kept[n][real[n]], wanted) and real[n].sum() < 30


def test_a_score_of_minus_infinity_is_never_chosen_and_boxes_without_area_come_once():
    boxes, scores = torch.zeros(1, 3, 4), torch.tensor([[1.0, 2.0, -torch.inf]])
    assert nms_top_k(boxes, scores, 0.3, 3)[1].tolist() == [[True, True, False]]


# ---- one fact each ----

def test_the_relation_does_not_see_scale_shift_or_rotation():
    student, real = torch.randn(6, 5).double(), torch.ones(6, dtype=torch.bool)
    rotation = torch.linalg.qr(torch.randn(5, 5).double())[0]
    assert_close(relation(student, 3 * student @ rotation + 2, real), torch.tensor(0.0).double(), rtol=0, atol=1e-12)
    assert relation(student, torch.randn(6, 5).double(), real) > 1e-3


def test_the_relation_leaves_out_what_is_not_real():
    student, teacher = torch.randn(2, 6, 5).double()
    real = torch.tensor([True, True, False, True, True, False])
    assert_close(
        relation(student * real[:, None], teacher * real[:, None], real),
        relation(student[real], teacher[real], real[real]),
    )


@pytest.mark.parametrize("alive", [0, 1, 2])
def test_the_relation_of_fewer_than_three_is_0_and_finite(alive):
    student = torch.randn(4, 5).double().requires_grad_()
    value = relation(student, torch.randn(4, 5).double(), torch.arange(4) < alive)
    value.backward()
    assert_close(value, torch.zeros_like(value), rtol=0, atol=1e-12) and student.grad.isfinite().all()


def test_the_head_with_the_higher_score_gives_the_box_and_class_0_does_not_count():
    loss, scene = GID(LEVELS, *pair(), **SMALL), small_scene()
    anchors = torch.cat([*loss.anchors(scene).values()])

    def heads(best, box, background=-5.0):
        """All anchors alike except anchor 10 of each image: logits (background, best, low), and one shift."""
        logits, deltas = torch.full((2, 40, 3), -5.0).double(), torch.zeros(2, 40, 4).double()
        logits[:, 10, 1], logits[:, 5, 0], deltas[:, 10, 0] = best, background, box
        return {"P3": (logits[:, :32], deltas[:, :32]), "P4": (logits[:, 32:], deltas[:, 32:])}

    for ours, theirs, shift in (((2.0, 0.25), (0.0, -0.25), 0.25), ((0.0, 0.25), (2.0, -0.25), -0.25)):
        boxes, real = loss.general_instances(scene, heads(*ours), heads(*theirs, background=5.0), anchors)
        wanted = anchors[10] + shift * (anchors[10, 2] - anchors[10, 0]) * torch.tensor([1, 0, 1, 0])
        assert real[:, 0].all() and torch.equal(boxes[0, 0], wanted)


def test_instances_lie_in_the_image_and_are_longer_than_min_side():
    loss, scene, teacher = GID(LEVELS, *pair(), **SMALL), small_scene(), teacher_maps()
    both = (loss.student, scene.features), (loss.teacher, teacher)
    heads = [{level: loss.predictions(detector, maps[level]) for level in LEVELS} for detector, maps in both]
    boxes, real = loss.general_instances(scene, *heads, torch.cat([*loss.anchors(scene).values()]))
    assert boxes.shape == (2, 4, 4) and real.any() and not boxes.requires_grad
    for of_image, alive, (height, width) in zip(boxes, real, scene.image_sizes, strict=True):
        kept = of_image[alive]
        assert (kept[:, 2:] - kept[:, :2] > 4).all() and (kept >= 0).all()
        assert (kept <= torch.tensor([width, height] * 2)).all()


def test_no_instance_at_all_is_0_with_a_finite_gradient():
    loss, scene = GID(LEVELS, *pair(), **SMALL | {"min_side": 1000.0}), small_scene(grad=True)
    found = raws(loss(scene, teacher_maps()))
    assert len(found) == 7 and all(each == 0 for each in found.values())
    assert all(torch.equal(each, torch.zeros_like(each)) for each in gradients(sum(found.values()), scene.features))


def test_a_student_that_is_its_teacher_has_no_loss_but_the_entropy_and_a_finite_gradient():
    loss, scene = GID(LEVELS, small_retinanet(), small_retinanet(), **SMALL), small_scene(grad=True)
    found = raws(loss(scene, {level: each.detach().clone() for level, each in scene.features.items()}))
    assert all(each == 0 for (part, _), each in found.items() if part != "class")
    assert all(
        each.abs().amax() < 1e-9
        for each in gradients(sum(found[key] for key in found if key[0] == "class"), scene.features)
    )
    assert all(each.isfinite().all() for each in gradients(sum(found.values()), scene.features))


def test_boxes_of_the_ground_truth_change_nothing():
    loss, scene, teacher = GID(LEVELS, *pair(), **SMALL), small_scene(), teacher_maps()
    assert raws(loss(scene, teacher)) == raws(loss(replace(scene, boxes=[torch.zeros(0, 4).double()] * 2), teacher))


def test_weight_0_removes_a_term_and_its_layer():
    scene, teacher = small_scene(), teacher_maps(6)
    for left in GID.PARTS:
        loss = GID(LEVELS, *pair(6), **{f"{part}_weight": 0 for part in GID.PARTS if part != left}, **SMALL).double()
        assert {term.name for term in loss(scene, teacher)} == {left}
        assert bool(loss.align) == (left in ("feature", "relation"))
    assert GID(LEVELS, *pair(6), **{f"{part}_weight": 0 for part in GID.PARTS})(scene, teacher) == []


def test_every_setting_changes_the_terms():
    scene, teacher = small_scene(), teacher_maps()

    def terms(**settings):
        return GID(LEVELS, *pair(), **SMALL | settings)(scene, teacher)

    plain = terms()
    assert {(term.name, term.weight) for term in plain} == {
        ("feature", 5e-4),
        ("relation", 40),
        ("class", 0.1),
        ("box", 1),
    }
    for part in GID.PARTS:
        assert {term.weight for term in terms(**{f"{part}_weight": 7}) if term.name == part} == {7}
    for change in ({"instances": 2}, {"nms": 0.05}, {"min_side": 12.0}, {"pool": 3}, {"finest_size": 1000.0}):
        assert total(terms(**change)) != total(plain), change


def test_half_precision_is_summed_in_float32():
    loss, scene = GID(LEVELS, *(detector.float() for detector in pair()), **SMALL), small_scene()
    halves = Scene(
        scene.pixels,
        [boxes.float() for boxes in scene.boxes],
        scene.image_sizes,
        {k: 300 * f.half() for k, f in scene.features.items()},
    )
    found = raws(loss(halves, {k: -300 * f.half() for k, f in teacher_maps().items()}))
    assert all(each.dtype == torch.float32 and each.isfinite() for each in found.values())
    assert found["feature", "P3"] > 65504  # half's largest


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"nms": 1.0}, r"nms must be an IoU in \[0, 1\), got 1.0"),
        ({"instances": 0}, "instances must be"),
        ({"box_weight": -1}, "box_weight must be"),
    ],
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        GID(LEVELS, *pair(), **settings)


def test_one_step_under_distiller_reaches_the_student():
    terms, student, distiller = one_step(GID)
    assert {(term.name, term.level) for term in terms} == {
        ("relation", "all"),
        *product(("feature", "class", "box"), ("P3", "P4", "P5")),
    }
    assert all(term.raw.isfinite() for term in terms) and student.backbone.stem[0].weight.grad.abs().sum() > 0
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student"}


def test_the_name_leads_to_the_class():
    assert method_class("gid") is GID and GID.built_from == "detectors"
    assert GID.PARTS == ("feature", "relation", "class", "box")
