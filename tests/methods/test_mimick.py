"""Mimick (CVPR 2017): features of the student's proposals. On a tiny Faster R-CNN of torchvision."""
from collections import OrderedDict
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from fgdlab.distill import Distiller
from fgdlab.methods import method_class
from fgdlab.methods.fgfi import FGFI
from fgdlab.methods.mimick import Mimick
from fgdlab.scene import Scene, level_names, look
from fgdlab.terms import total
from tests.helpers.small_retinanets import gradients, small_retinanet

LEVELS = ("P3", "P4", "P5")  # of which the RoI pool cuts from P3 and P4; P5 is for the RPN


def tiny_faster_rcnn(width: int = 4, seed: int = 0) -> FasterRCNN:
    torch.manual_seed(seed)
    body = nn.Sequential(
        OrderedDict(
            stem=nn.Sequential(nn.Conv2d(3, width, 3, stride=4, padding=1), nn.ReLU()),
            c3=nn.Conv2d(width, width, 3, stride=2, padding=1),
            c4=nn.Conv2d(width, width, 3, stride=2, padding=1),
        )
    )
    backbone = BackboneWithFPN(body, {"c3": "0", "c4": "1"}, [width] * 2, width, LastLevelMaxPool())
    detector = FasterRCNN(
        backbone, min_size=64, max_size=96, rpn_anchor_generator=AnchorGenerator(((12,), (24,), (48,)), ((1.0,),) * 3),
        box_roi_pool=MultiScaleRoIAlign(["0", "1"], 3, 2, canonical_scale=24),
        box_head=TwoMLPHead(width * 9, 8), box_predictor=FastRCNNPredictor(8, 3),
    )
    with torch.no_grad():
        for parameter in detector.rpn.head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # off the start: boxes and scores vary
    return detector


def images_and_targets():
    boxes = torch.tensor([[4.0, 4.0, 30.0, 34.0], [20.0, 12.0, 60.0, 60.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    return [torch.rand(3, 64, 64), torch.rand(3, 64, 80)], targets


def case(width=4, double=True, **settings):
    """A loss, a scene whose maps take gradient, and the teacher's maps."""
    student, teacher = tiny_faster_rcnn(), tiny_faster_rcnn(width, seed=1)
    loss = Mimick(LEVELS, student, teacher, **settings)
    if double:
        loss, student, teacher = loss.double(), student.double(), teacher.double()
    scene = look(student.eval(), [image.to(next(student.parameters()).dtype) for image in images_and_targets()[0]])
    scene = replace(scene, features={level: each.detach().requires_grad_() for level, each in scene.features.items()})
    with torch.no_grad():
        maps = level_names(teacher.backbone(scene.pixels), scene.pixels.shape[-2])
    student.train()
    return loss, scene, maps


def naive_mimick(loss, scene, maps, count):
    """1/(2N) sum_i 1/m_i sum_elements (u - r(v))^2 over the first ``count`` proposals of the student's RPN."""
    detector = deepcopy(loss.student).eval()
    proposals = [boxes[:count] for boxes in detector.rpn(ImageList(scene.pixels, scene.image_sizes), scene.features)[0]]
    pool = detector.roi_heads.box_roi_pool
    v, u = (pool({"0": of["P3"], "1": of["P4"]}, proposals, scene.image_sizes) for of in (scene.features, maps))
    weight, bias = loss.r.weight[:, :, 0, 0], loss.r.bias
    value = torch.zeros((), dtype=torch.float64)
    for i in range(len(v)):
        for y in range(3):
            for x in range(3):
                for c in range(len(bias)):
                    r = sum(weight[c, k] * v[i, k, y, x] for k in range(v.shape[1])) + bias[c]
                    value = value + (u[i, c, y, x] - r) ** 2 / (u.shape[1] * 9)
    return value / (2 * len(v))


@pytest.mark.parametrize("width, count", [(4, 7), (6, 3)])
def test_mimick_equals_the_loops(width, count):
    loss, scene, maps = case(width, proposals=count)
    (term,) = loss(scene, maps)
    wanted = naive_mimick(loss, scene, maps, count)
    assert (term.name, term.level, term.weight) == ("mimick", "all", 1) and wanted > 0
    assert_close(term.raw, wanted, rtol=1e-9, atol=0)
    assert_close(gradients(term.raw, scene.features), gradients(wanted, scene.features), rtol=1e-9, atol=1e-15)


def test_with_the_identity_for_r_a_student_that_is_its_teacher_has_no_loss_and_a_finite_gradient():
    loss, scene, _ = case()
    with torch.no_grad():
        loss.r.weight.copy_(torch.eye(4)[:, :, None, None])
        loss.r.bias.zero_()
    (term,) = loss(scene, {level: each.detach().clone() for level, each in scene.features.items()})
    assert term.raw == 0 and all(each.isfinite().all() for each in gradients(term.raw, scene.features))


def test_proposals_are_the_best_of_the_rpn_and_it_stays_in_its_mode():
    loss, scene, _ = case(proposals=4)
    boxes = loss.best_proposals(scene)
    assert [of_image.shape for of_image in boxes] == [(4, 4), (4, 4)]
    assert not any(of_image.requires_grad for of_image in boxes)
    whole = deepcopy(loss.student).eval().rpn(ImageList(scene.pixels, scene.image_sizes), scene.features)[0]
    assert all(torch.equal(ours, theirs[:4]) and len(theirs) > 4 for ours, theirs in zip(boxes, whole, strict=True))
    assert all(module.training for module in loss.student.rpn.modules())


def test_the_rpn_stays_in_its_mode_also_after_an_error():
    loss, scene, _ = case()
    with pytest.raises(AttributeError):
        loss.best_proposals(replace(scene, features=None))
    assert loss.student.rpn.training


def test_the_rpn_learns_nothing_from_it():
    loss, scene, maps = case()
    loss(scene, maps)[0].raw.backward()
    assert all(p.grad is None for p in loss.student.rpn.parameters())
    assert all(p.grad is None for p in loss.teacher.parameters())
    assert scene.features["P5"].grad is None or scene.features["P5"].grad.abs().sum() == 0
    assert scene.features["P3"].grad.abs().sum() > 0 and scene.features["P4"].grad.abs().sum() > 0


def test_no_proposal_at_all_is_0_with_a_finite_gradient():
    loss, scene, maps = case()
    loss.student.rpn.score_thresh = 2.0
    (term,) = loss(scene, maps)
    assert term.raw == 0
    assert all(torch.equal(each, torch.zeros_like(each)) for each in gradients(term.raw, scene.features))


def test_boxes_of_the_ground_truth_change_nothing():
    loss, scene, maps = case()
    more = replace(scene, boxes=[torch.tensor([[1.0, 1.0, 30.0, 30.0]])] * 2)
    assert loss(scene, maps)[0].raw == loss(more, maps)[0].raw


def test_every_setting_changes_the_term_and_weight_0_leaves_none():
    (few,), (many,) = (loss(scene, maps) for loss, scene, maps in (case(proposals=2), case(proposals=20)))
    assert few.raw != many.raw
    loss, scene, maps = case(weight=0.5)
    assert loss(scene, maps)[0].weight == 0.5
    loss, scene, maps = case(weight=0)
    assert loss(scene, maps) == [] and list(loss.parameters()) == []


def test_half_precision_is_summed_in_float32():
    loss, scene, maps = case(double=False)
    halves = Scene(
        scene.pixels,
        scene.boxes,
        scene.image_sizes,
        {level: each.detach().half() for level, each in scene.features.items()},
    )
    (term,) = loss(halves, {level: (each + 600).half() for level, each in maps.items()})
    assert term.raw.dtype == torch.float32 and 65504 < term.raw < float("inf")  # half's largest is 65504


def test_a_retinanet_is_refused():
    with pytest.raises(
        ValueError, match="student of Mimick must be a two-stage detector .* got RetinaNet without rpn.head, roi_heads"
    ):
        Mimick(LEVELS, small_retinanet(), small_retinanet())
    with pytest.raises(ValueError, match="teacher of Mimick must be a two-stage detector"):
        Mimick(LEVELS, tiny_faster_rcnn(), small_retinanet())


def test_levels_that_the_pool_needs_must_be_there():
    _, scene, maps = case(double=False)
    with pytest.raises(
        ValueError, match="levels must hold all that the student's RoI pool cuts from, P3, P4, got P4, P5"
    ):
        Mimick(("P4", "P5"), tiny_faster_rcnn(), tiny_faster_rcnn(seed=1))(scene, maps)


@pytest.mark.parametrize(
    "settings, words", [({"weight": -1.0}, "weight must be"), ({"proposals": 0}, "proposals must be")]
)
def test_settings_out_of_range_are_refused(settings, words):
    with pytest.raises(ValueError, match=words):
        Mimick(LEVELS, tiny_faster_rcnn(), tiny_faster_rcnn(), **settings)


@pytest.mark.parametrize("method", [Mimick, FGFI])
def test_one_step_under_distiller_reaches_the_student(method):
    """FGFI, too, for it takes its anchors from the RPN here."""
    student, teacher = tiny_faster_rcnn(), tiny_faster_rcnn(6, seed=1)
    distiller = Distiller(student, teacher, method(LEVELS, student, teacher)).train()
    terms = distiller(*images_and_targets())
    ours = [term for term in terms if term.name == method.__name__.lower()]
    assert ours and len(terms) == 4 + len(ours) and all(term.raw.isfinite() for term in ours)
    assert sum(term.raw for term in ours) > 0
    total(ours).backward()
    assert student.backbone.body.stem[0].weight.grad.abs().sum() > 0
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "loss"}


def test_the_name_leads_to_the_class():
    assert method_class("mimick") is Mimick and Mimick.built_from == "detectors"
