"""FGFI (CVPR 2019): near-object anchors choose the cells."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.detectors.builder import build
from fgdlab.methods import method_class
from fgdlab.methods.fgfi import FGFI, near_anchors
from fgdlab.pyramid import PyramidLoss
from fgdlab.scene import Scene
from tests.helpers.small_retinanets import (
    GRIDS,
    LEVELS,
    gradients,
    naive_anchors,
    naive_iou,
    one_step,
    raws,
    small_retinanet,
    small_scene,
    teacher_maps,
)


def naive_fgfi(scene, adapted, teacher, psi):
    """1/(2 N_p) sum_ij M_ij sum_c (T - S)^2, as written, level by level."""
    anchors = {level: naive_anchors(level) for level in LEVELS}
    mask = {
        level: [[[False] * GRIDS[level][1] for _ in range(GRIDS[level][0])] for _ in scene.boxes] for level in LEVELS
    }
    for n, boxes in enumerate(scene.boxes):
        for box in boxes.tolist():
            best = max(naive_iou(box, anchor) for level in LEVELS for anchor in anchors[level])
            for level in LEVELS:
                for a, anchor in enumerate(anchors[level]):
                    if naive_iou(box, anchor) > psi * best:
                        cell = a // 2
                        mask[level][n][cell // GRIDS[level][1]][cell % GRIDS[level][1]] = True
    count = sum(m for of_level in mask.values() for of_image in of_level for row in of_image for m in row)
    sums = {}
    for level in LEVELS:
        s, t = adapted[level], teacher[level]
        sums[level] = sum(
            (
                (t[n, c, i, j] - s[n, c, i, j]) ** 2 / (2 * count)
                for n in range(2)
                for c in range(t.shape[1])
                for i in range(GRIDS[level][0])
                for j in range(GRIDS[level][1])
                if mask[level][n][i][j]
            ),
            torch.zeros((), dtype=torch.float64),
        )
    return sums


def make(channels=4, **settings):
    return FGFI(LEVELS, small_retinanet(), small_retinanet(channels), **settings).double()


@pytest.fixture
def shaken(shake):
    return lambda *args, **settings: shake(make(*args, **settings))


@pytest.mark.parametrize("channels", [4, 6])
def test_fgfi_equals_the_loops(channels, shaken):
    for seed in range(8):
        torch.manual_seed(seed)
        loss, scene = shaken(channels, psi=0.3 + 0.05 * seed), small_scene(seed=seed, grad=True)
        teacher = teacher_maps(channels, seed)
        found = raws(loss(scene, teacher))
        f = {level: (loss.align[level].weight, loss.align[level].bias) for level in LEVELS}
        adapted = {
            level: torch.nn.functional.conv2d(scene.features[level], *f[level], padding=1).clamp(min=0)
            for level in LEVELS
        }
        wanted = naive_fgfi(scene, adapted, teacher, loss.psi)
        for level in LEVELS:
            assert_close(found["fgfi", level], wanted[level], rtol=1e-9, atol=1e-15)
        assert_close(
            gradients(sum(found.values()), scene.features),
            gradients(sum(wanted.values()), scene.features),
            rtol=1e-9,
            atol=1e-15,
        )


def test_a_box_on_an_anchor_marks_its_cell_and_its_near_neighbours_only():
    anchors = make().anchors(small_scene())
    box = anchors["P3"][2 * 5:2 * 5 + 1]  # the smaller anchor of row 1, column 1
    masks = (
        FGFI(LEVELS, small_retinanet(), small_retinanet(), psi=0.99).double().masks(small_scene(boxes=[box, box[:0]]))
    )
    assert masks["P3"][0].nonzero().tolist() == [[1, 1]] and masks["P3"][1].sum() == 0 and masks["P4"].sum() == 0


def test_with_psi_0_every_anchor_that_touches_a_box_is_near():
    scene, loss = small_scene(), make(psi=0)
    anchors = torch.cat([*loss.anchors(scene).values()])
    near = near_anchors(scene.boxes, anchors, 0.0)
    assert near[0].tolist() == [
        any(naive_iou(box, anchor) > 0 for box in scene.boxes[0].tolist()) for anchor in anchors.tolist()
    ]


def test_a_mask_of_everything_makes_it_half_the_mean_squared_distance_a_cell(shaken):
    loss, teacher = shaken(psi=0), teacher_maps()
    scene = small_scene(boxes=[torch.tensor([[-50.0, -50.0, 90.0, 90.0]]).double()] * 2)
    cells = 2 * (16 + 4)
    squares = sum((teacher[level] - loss.aligned(scene, level).relu()).square().sum() for level in LEVELS)
    assert_close(sum(raws(loss(scene, teacher)).values()), squares / (2 * cells))


def test_the_order_of_boxes_changes_nothing(shaken):
    loss, scene, teacher = shaken(), small_scene(), teacher_maps()
    other = replace(scene, boxes=[each.flip(0) for each in scene.boxes])
    assert raws(loss(scene, teacher)) == raws(loss(other, teacher))


def test_without_boxes_it_is_0_and_so_is_its_gradient(shaken):
    none = [torch.zeros(0, 4).double()] * 2
    loss, scene = shaken(), small_scene(boxes=none, grad=True)
    found = raws(loss(scene, teacher_maps()))
    assert all(each == 0 for each in found.values())
    assert all(torch.equal(each, torch.zeros_like(each)) for each in gradients(sum(found.values()), scene.features))


def test_a_box_far_from_every_anchor_marks_nothing():
    far = torch.tensor([[500.0, 500.0, 510.0, 510.0]]).double()
    assert all(mask.sum() == 0 for mask in make().masks(small_scene(boxes=[far, far])).values())


def test_f_starts_small_with_a_convolution_of_3_and_is_always_there():
    f = FGFI(LEVELS, small_retinanet(), small_retinanet()).align["P3"]
    assert f.kernel_size == (3, 3) and f.weight.abs().amax() <= 2e-4
    assert 7e-5 < f.weight.std() < 1.03e-4  # N(0, 1e-4) cut at two deviations: 0.88e-4; uniform would be 1.15e-4


def test_weight_0_leaves_nothing():
    loss = make(weight=0)
    assert loss(small_scene(), teacher_maps()) == [] and list(loss.parameters()) == []


def test_every_setting_changes_the_terms(shaken):
    scene, teacher = small_scene(), teacher_maps()
    plain = shaken()
    state = plain.state_dict()
    other = make(psi=0.05)
    other.load_state_dict(state)
    assert raws(plain(scene, teacher)) != raws(other(scene, teacher))
    assert {term.weight for term in plain(scene, teacher)} == {0.01}
    assert {term.weight for term in make(weight=0.5)(scene, teacher)} == {0.5}


def test_half_precision_is_summed_in_float32():
    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)
    loss = FGFI(("P3", "P4", "P5"), student, teacher)
    maps = {f"P{i}": 60 * torch.randn(1, 48, 64 >> i, 64 >> i) for i in (3, 4, 5)}
    scene = Scene(
        torch.zeros(1, 3, 64, 64),
        [torch.tensor([[20.0, 20.0, 34.0, 40.0]])],
        [(64, 64)],
        {level: f.half() for level, f in maps.items()},
    )
    found = raws(loss(scene, {level: (f + 90).half() for level, f in maps.items()}))
    assert all(each.dtype == torch.float32 and each.isfinite() for each in found.values())
    assert found["fgfi", "P3"] > 65504  # half's largest


def test_one_step_under_distiller_reaches_the_student():
    terms, student, distiller = one_step(FGFI)
    assert [(term.name, term.level) for term in terms] == [("fgfi", level) for level in ("P3", "P4", "P5")]
    assert all(term.raw.isfinite() for term in terms) and student.backbone.stem[0].weight.grad.abs().sum() > 0
    assert not any("_detectors" in name or "teacher" in name for name in distiller.state_dict())


def test_a_detector_without_anchors_is_refused():
    class Plain(torch.nn.Module):
        backbone = small_retinanet().backbone

    with pytest.raises(
        ValueError,
        match="FGFI must be a detector with an anchor generator, got Plain without anchor_generator or rpn.anc",
    ):
        FGFI(LEVELS, Plain(), small_retinanet())


def test_the_name_leads_to_the_class():
    assert method_class("fgfi") is FGFI and issubclass(FGFI, PyramidLoss) and FGFI.built_from == "detectors"
