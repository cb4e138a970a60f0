"""The base classes of methods that need anchors and heads: detectors, anchors, IoU, matching, refusals."""
import pytest
import torch
from torch.testing import assert_close
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou as torchvision_iou

from fgdlab.methods.detector_loss import DetectorLoss, RetinaNetLoss, box_iou, has_attribute, match_anchors
from tests.helpers.small_retinanets import (
    LEVELS,
    SIZES,
    naive_anchors,
    naive_iou,
    naive_match,
    small_retinanet,
    small_scene,
)


def random_boxes(*shape):
    near = torch.rand(*shape, 2, dtype=torch.float64) * 30 - 5
    return torch.cat([near, near + torch.rand(*shape, 2, dtype=torch.float64) * 20], dim=-1)


def test_iou_equals_torchvisions():
    for seed in range(20):
        torch.manual_seed(seed)
        boxes, others = random_boxes(7), random_boxes(11)
        assert_close(box_iou(boxes, others), torchvision_iou(boxes, others), rtol=1e-12, atol=0)


def test_iou_of_a_batch_is_that_of_its_images():
    boxes, others = random_boxes(3, 5), random_boxes(9)
    assert_close(box_iou(boxes, others), torch.stack([box_iou(each, others) for each in boxes]))


def test_iou_of_boxes_without_area_is_0():
    assert torch.equal(box_iou(torch.zeros(1, 4), torch.zeros(2, 4)), torch.zeros(1, 2))


def test_anchors_are_the_detectors_own_split_by_level():
    student, scene = small_retinanet(), small_scene()
    anchors = DetectorLoss(LEVELS, student, small_retinanet()).anchors(scene)
    whole = student.anchor_generator(ImageList(scene.pixels, scene.image_sizes), list(scene.features.values()))[0]
    assert {level: len(each) for level, each in anchors.items()} == {"P3": 32, "P4": 8}
    assert torch.equal(torch.cat([*anchors.values()]), whole)
    for level in LEVELS:
        assert anchors[level].tolist() == naive_anchors(level)


def test_matching_equals_the_loops():
    matcher = small_retinanet().proposal_matcher
    for seed in range(40):
        torch.manual_seed(seed)
        anchors, boxes = random_boxes(30), [random_boxes(seed % 4), random_boxes(2)]
        found = match_anchors(boxes, anchors, matcher)
        index = torch.tensor([naive_match(of.tolist(), anchors.tolist()) for of in boxes])
        assert torch.equal(found.foreground, index >= 0) and torch.equal(found.counted, index != -2)
        for n, of in enumerate(boxes):
            wanted = torch.stack([of[i] if i >= 0 else anchors[a] for a, i in enumerate(index[n].tolist())])
            assert torch.equal(found.boxes[n], wanted)
        assert found.num_foreground == sum(max(1, (row >= 0).sum()) for row in index)


def test_the_loops_of_these_tests_know_iou():
    assert naive_iou([0, 0, 2, 2], [1, 1, 3, 3]) == pytest.approx(1 / 7)


def test_neither_detector_is_a_submodule_and_the_teacher_is_frozen():
    student, teacher = small_retinanet(), small_retinanet(channels=6).train()
    loss = DetectorLoss(LEVELS, student, teacher)
    assert (loss.student, loss.teacher) == (student, teacher)
    assert {name.split(".")[0] for name in loss.state_dict()} == {"align"} and len(list(loss.parameters())) == 4
    assert not teacher.training and not any(p.requires_grad for p in teacher.parameters())
    assert student.training and all(p.requires_grad for p in student.parameters())


def test_has_attribute_follows_dots_and_alternatives():
    detector = small_retinanet()
    assert has_attribute(detector, "head.classification_head.conv") and not has_attribute(detector, "head.nothing.conv")
    assert has_attribute(detector, "rpn.head or anchor_generator")
    assert not has_attribute(detector, "rpn.head or roi_heads")


@pytest.mark.parametrize("which", ["student", "teacher"])
def test_a_detector_without_what_is_needed_is_refused(which):
    pair = [small_retinanet(), small_retinanet()]
    broken = pair[which == "teacher"]
    del broken.head.classification_head.cls_logits
    words = (
        f"the {which} of RetinaNetLoss must be a RetinaNet .* got RetinaNet without head.classification_head.cls_logits"
    )
    with pytest.raises(ValueError, match=words):
        RetinaNetLoss(LEVELS, *pair)


@pytest.mark.parametrize("change, words", [
    ({"classes": 4}, "the same classes, got 3 and 4"), ({"sizes": ((9, 13), (20, 26))}, "the same anchor sizes"),
])
def test_heads_that_differ_are_refused(change, words):
    with pytest.raises(ValueError, match=words):
        RetinaNetLoss(LEVELS, small_retinanet(), small_retinanet(**change))


def test_anchors_of_another_shape_are_refused():
    teacher = small_retinanet()
    teacher.anchor_generator.aspect_ratios = ((2.0,), (2.0,))
    with pytest.raises(
        ValueError, match=r"the same anchor ratios, got \(\(1.0,\), \(1.0,\)\) and \(\(2.0,\), \(2.0,\)\)"
    ):
        RetinaNetLoss(LEVELS, small_retinanet(), teacher)


def test_decoding_is_the_detectors_own():
    student = small_retinanet()
    deltas, anchors = torch.randn(2, 5, 4).double(), random_boxes(5)
    decoded = RetinaNetLoss(LEVELS, student, small_retinanet()).decode(deltas, anchors)
    assert_close(decoded, student.box_coder.decode(deltas.flatten(0, 1), [anchors, anchors]).view(2, 5, 4))


def test_sizes_of_these_tests_give_two_anchors_a_cell():
    assert {len(each) for each in SIZES} == {2}
