"""Parts of MMDetection's detectors, compared with torchvision's where they must agree."""
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.retinanet import RetinaNetHead
from torchvision.ops import roi_align

from fgdlab.lab.detectors import mmdet_modules as mm
from fgdlab.lab.detectors.builder import build


def maps_of(height, width, strides, channels=1):
    return [torch.zeros(1, channels, math.ceil(height / stride), math.ceil(width / stride)) for stride in strides]


def anchors_of(generator, height, width, strides):
    return generator(
        ImageList(torch.zeros(2, 3, height, width), [(height, width)] * 2), maps_of(height, width, strides)
    )


# ---- anchors ---

def test_exact_anchors_are_torchvisions_before_rounding():
    """Where every stride divides the image, and the sides of 32 * 2^(i/3) are not rounded."""
    ours = anchors_of(mm.retinanet_anchors(), 256, 384, mm.ONE_STAGE_STRIDES)
    sizes = tuple((x, int(x * 2 ** (1 / 3)), int(x * 2 ** (2 / 3))) for x in (32, 64, 128, 256, 512))
    theirs = anchors_of(AnchorGenerator(sizes, ((0.5, 1.0, 2.0),) * 5), 256, 384, mm.ONE_STAGE_STRIDES)
    assert len(ours) == 2 and ours[0].shape == theirs[0].shape and 0 < (ours[0] - theirs[0]).abs().max() < 1.5
    sides = ours[0][:9, 2:] - ours[0][:9, :2]
    assert_close(sides.prod(dim=1).sqrt(), 32 * 2 ** (torch.tensor([0.0, 1, 2] * 3) / 3))
    assert_close(sides[:, 1] / sides[:, 0], torch.tensor([0.5] * 3 + [1.0] * 3 + [2.0] * 3))


def test_the_step_is_the_stride_where_it_does_not_divide_the_image():
    """800 pixels make 7 cells on P7: steps of 128 pixels, where torchvision takes 800 // 7 = 114."""
    last = anchors_of(mm.retinanet_anchors(), 800, 800, mm.ONE_STAGE_STRIDES)[0][-9 * 49:].view(7, 7, 9, 4)
    middles = (last[..., :2] + last[..., 2:]) / 2
    assert_close(middles[:, 0, 0, 1], 128.0 * torch.arange(7))


def test_points_of_fcos_sit_in_the_middle_of_their_cells():
    first = anchors_of(mm.fcos_points(), 64, 96, mm.ONE_STAGE_STRIDES)[0]
    assert first[:2].tolist() == [[0, 0, 8, 8], [8, 0, 16, 8]] and first[-1].tolist() == [0, 0, 128, 128]


def test_region_proposals_have_three_anchors_of_eight_strides():
    first = anchors_of(mm.rpn_anchors(), 64, 64, mm.TWO_STAGE_STRIDES)[0][:3]
    assert_close((first[:, 2:] - first[:, :2]).prod(dim=1).sqrt(), torch.tensor([32.0] * 3))


# ---- extra levels ---

@pytest.mark.parametrize(("source", "relu"), [("input", False), ("output", True)])
def test_extra_convolutions_read_what_they_say(source, relu):
    block = mm.ExtraConvs(source, 4, 4, relu=relu)
    c5, p5 = torch.randn(1, 4, 8, 8), torch.randn(1, 4, 8, 8)
    results, names = block([p5], [c5], ["2"])
    p6 = block.p6(c5 if source == "input" else p5)
    assert names == ["2", "p6", "p7"] and torch.equal(results[0], p5) and torch.equal(results[1], p6)
    assert torch.equal(results[2], block.p7(p6.relu() if relu else p6))
    assert not torch.equal(block.p7(p6.relu()), block.p7(p6))


def test_a_norm_takes_the_place_of_the_bias():
    block = mm.ExtraConvs("input", 4, 8, norm=lambda channels: nn.GroupNorm(2, channels))
    assert {name for name, _ in block.named_parameters()} == {
        f"p{level}.{part}" for level in (6, 7) for part in ("0.weight", "1.weight", "1.bias")
    }


# ---- classes ---

def twins(kind):
    """A detector without channel 0, and torchvision's with the same weights and a channel 0 that never scores."""
    torch.manual_seed(4)
    few = build(kind, "resnet18", 3, flavour="mmdet", score_thresh=0.0, detections_per_img=50)
    wider = {"retinanet": RetinaNetHead(256, 9, 4), "fcos": mm.ScaledFCOSHead(256, 4)}[kind]
    state, anchors = few.head.state_dict(), 9 if kind == "retinanet" else 1
    for name, rest in (("weight", (256, 3, 3)), ("bias", ())):
        channels = state[f"classification_head.cls_logits.{name}"].view(anchors, 3, *rest)
        idle = torch.full((anchors, 1, *rest), -50.0 if name == "bias" else 0.0)
        state[f"classification_head.cls_logits.{name}"] = torch.cat([idle, channels], dim=1).flatten(0, 1)
    wider.load_state_dict(state)
    options = {"center_sampling_radius": 1.5, "nms_thresh": 0.6} if kind == "fcos" else {}
    many = {"retinanet": RetinaNet, "fcos": FCOS}[kind](
        few.backbone, 4, anchor_generator=few.anchor_generator, head=wider, score_thresh=0.0, detections_per_img=50,
        **options,
    )
    many.transform = few.transform
    return few, many


@pytest.mark.parametrize("kind", ["retinanet", "fcos"])
def test_classes_from_zero_are_torchvisions_without_the_idle_channel(kind):
    few, many = twins(kind)
    images = [torch.rand(3, 64, 64), torch.rand(3, 64, 96)]
    boxes = torch.tensor([[4.0, 4.0, 40.0, 44.0], [10.0, 12.0, 60.0, 60.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 3])},
        {"boxes": boxes[:0], "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    ours, theirs = few(images, targets), many(images, targets)
    assert ours.keys() == theirs.keys()
    assert_close({name: ours[name] for name in ours}, {name: theirs[name] for name in ours})
    assert targets[0]["labels"].tolist() == [1, 3]
    with torch.no_grad():
        found, wanted = few.eval()(images), many.eval()(images)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a["boxes"], b["boxes"])
        assert_close(a["scores"], b["scores"])
        assert torch.equal(a["labels"], b["labels"]) and set(a["labels"].tolist()) <= {1, 2, 3}
        assert len(a["labels"]) == 50


def test_background_last_gives_torchvisions_order():
    ours, theirs = mm.BackgroundLast(6, 3), FastRCNNPredictor(6, 4)
    with torch.no_grad():
        theirs.cls_score.weight.copy_(ours.cls_score.weight[[3, 0, 1, 2]])
        theirs.cls_score.bias.copy_(ours.cls_score.bias[[3, 0, 1, 2]])
        theirs.bbox_pred.weight.copy_(torch.cat([torch.zeros(4, 6), ours.bbox_pred.weight]))
        theirs.bbox_pred.bias.copy_(torch.cat([torch.zeros(4), ours.bbox_pred.bias]))
    features = torch.randn(5, 6)
    for a, b in zip(ours(features), theirs(features), strict=True):
        assert_close(a, b)


def test_masks_have_an_idle_channel_for_the_background():
    predictor = mm.NoBackgroundMask(4, 4, 3)
    found = predictor(torch.randn(2, 4, 7, 7))
    assert found.shape == (2, 4, 14, 14) and not found[:, 0].any() and found[:, 1:].any(dim=(2, 3)).all()


# ---- RoI align ---

def test_a_box_is_read_off_the_level_of_its_size_half_cell_aligned():
    maps = {str(i): torch.randn(2, 3, 256 >> (i + 2), 256 >> (i + 2)) for i in range(4)}
    sides = [20.0, 111.9, 112.1, 223.9, 224.1, 447.9, 448.1, 2000.0]
    levels = [0, 0, 1, 1, 2, 2, 3, 3]
    boxes = [torch.tensor([[3.0, 5.0, 3 + side, 5 + side] for side in sides]), torch.tensor([[10.0, 20.0, 60.0, 90.0]])]
    found = mm.AlignedRoIAlign(7)(maps, boxes, [(256, 256)] * 2)
    for i, (image, box, level) in enumerate(
        [*((0, box, level) for box, level in zip(boxes[0], levels, strict=True)), (1, boxes[1][0], 0)]
    ):
        roi = torch.tensor([[float(image), *box.tolist()]])
        assert_close(
            found[i : i + 1], roi_align(maps[str(level)], roi, 7, 1 / (4 << level), sampling_ratio=-1, aligned=True)
        )


def test_no_box_is_no_feature():
    maps = {str(i): torch.randn(1, 3, 8, 8) for i in range(4)}
    assert mm.AlignedRoIAlign(7)(maps, [torch.zeros(0, 4)], [(32, 32)]).shape == (0, 3, 7, 7)


# ---- FCOS's head ---

def test_each_choice_of_the_fcos_head_changes_its_outputs_as_told():
    torch.manual_seed(6)
    head, maps = mm.ScaledFCOSHead(64, 2), [torch.randn(1, 64, 4, 4)] + [torch.randn(1, 64, 1, 1)] * 4
    with torch.no_grad():
        nn.init.normal_(head.regression_head.bbox_reg.weight, std=0.1)
        head.scales[0].fill_(2.0)
        plain = head.regression_head.bbox_reg(head.regression_head.conv(maps[0])).flatten(2).mT
        normed = head(maps)
        assert_close(normed["bbox_regression"][:, :16], (2 * plain).relu())
        head.norm_on_bbox, head.centerness_on_reg = False, True
        other = head(maps)
        assert_close(other["bbox_regression"][:, :16], (2 * plain).exp() / 8)
        assert torch.equal(other["cls_logits"], normed["cls_logits"])
        assert not torch.equal(other["bbox_ctrness"], normed["bbox_ctrness"])
    assert {
        name for name in head.state_dict() if name not in mm.ScaledFCOSHead(64, 2, conv_bias=False).state_dict()
    } == {f"{tower}_head.conv.{i}.bias" for tower in ("classification", "regression") for i in (0, 3, 6, 9)}
