"""Detectors by name and torchvision's contract."""
from hashlib import sha256

import pytest
import torch
import torchvision
from safetensors.torch import load_file
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d

from fgdlab.lab.checkpoints.safetensors_io import load_weights, save_weights
from fgdlab.lab.detectors.backbones import RESNETS
from fgdlab.lab.detectors.builder import BACKBONES, NoResize, build
from fgdlab.lab.detectors.compact import COMPACT, GLYPHS, WEIGHTS
from fgdlab.lab.detectors.small import SMALL
from fgdlab.lab.detectors.yolox import DEPTH_AND_WIDTH
from fgdlab.scene import look

# ---- by name ---

@pytest.mark.parametrize(
    "backbone",
    [
        pytest.param(each, marks=pytest.mark.slow if "101" in each else ())
        for each in BACKBONES if each not in DEPTH_AND_WIDTH
    ],
)
def test_every_backbone_builds_with_its_levels(backbone):
    detector = build("retinanet", backbone, 7)
    assert detector.levels == (("P3", "P4", "P5") if backbone in COMPACT else ("P3", "P4", "P5", "P6", "P7"))
    assert detector.backbone.out_channels == (48 if backbone in COMPACT else 64 if backbone in SMALL else 256)
    assert detector.training  # finding the levels leaves it as torchvision builds it
    with torch.no_grad():
        maps = look(detector.eval(), [torch.rand(3, 64, 96)]).features
    assert tuple(maps) == detector.levels
    for level, each in maps.items():
        stride = 2 ** int(level[1])
        assert each.shape == (1, detector.backbone.out_channels, -(-64 // stride), -(-96 // stride))


def test_finding_the_levels_leaves_the_norms_as_they_start():
    for name, value in build("retinanet", "compact_t", 7).state_dict().items():
        if name.endswith("num_batches_tracked"):
            assert value == 0


def test_the_same_seed_builds_the_same_weights(same_bits):
    for backbone in ("compact_s", "compact_t"):
        torch.manual_seed(3)
        one = build("retinanet", backbone, 7)
        torch.manual_seed(3)
        same_bits(one, build("retinanet", backbone, 7))


def test_one_seed_gives_the_weights_that_torchvisions_own_builder_draws(same_bits):
    """In the order in which it draws them, so that runs of earlier versions start from the same weights."""
    torch.manual_seed(3)
    ours = build("retinanet", "resnet18", 7)
    torch.manual_seed(3)
    pyramid = resnet_fpn_backbone(
        backbone_name="resnet18", weights=None, norm_layer=nn.BatchNorm2d, trainable_layers=5,
        returned_layers=[2, 3, 4], extra_blocks=LastLevelP6P7(256, 256),
    )
    same_bits(ours, RetinaNet(pyramid, 8, anchor_generator=ours.anchor_generator))


def test_an_unknown_name_is_refused_with_the_nearest_known_one(refusal):
    assert "unknown backbone 'resnet19'; did you mean 'resnet1" in refusal(build, "retinanet", "resnet19", 7)
    assert "unknown backbone 'compacts'; did you mean 'compact_s'?" in refusal(build, "retinanet", "compacts", 7)
    assert "unknown backbone 'efficientnet_b9'; did you mean 'efficientnet_b" in refusal(
        build, "retinanet", "efficientnet_b9", 7
    )
    assert "unknown detector 'retinenet'; did you mean 'retinanet'?" in refusal(build, "retinenet", "resnet18", 7)
    assert "unknown flavour 'mmdt'; did you mean 'mmdet'?" in refusal(build, "retinanet", "resnet18", 7, flavour="mmdt")


def test_labels_run_from_1_to_the_number_of_classes():
    detector = build("retinanet", "compact_s", 7)
    images = [torch.rand(3, 64, 64)]
    losses = detector(images, [{"boxes": torch.tensor([[5.0, 5.0, 25.0, 30.0]]), "labels": torch.tensor([7])}])
    assert losses.keys() == {"classification", "bbox_regression"}
    assert all(torch.isfinite(each) and each > 0 for each in losses.values())
    with pytest.raises((IndexError, RuntimeError)):
        detector(images, [{"boxes": torch.tensor([[5.0, 5.0, 25.0, 30.0]]), "labels": torch.tensor([8])}])


def test_a_compact_backbone_is_for_torchvisions_retinanet(refusal):
    assert "detector must be 'retinanet' in torchvision's flavour on 'compact_s', got 'fcos'" in refusal(
        build, "fcos", "compact_s", 7
    )
    assert "got 'retinanet' in 'mmdet'" in refusal(build, "retinanet", "compact_s", 7, flavour="mmdet")


def test_options_reach_torchvision():
    detector = build("retinanet", "compact_s", 7, score_thresh=0.25, detections_per_img=3)
    assert (detector.score_thresh, detector.detections_per_img, detector.topk_candidates) == (0.25, 3, 300)


# ---- ImageNet weights ---

@pytest.fixture
def imagenet(monkeypatch):
    """Random numbers in place of the download of ResNet-18's ImageNet weights."""
    torch.manual_seed(11)
    state = torchvision.models.resnet18().state_dict()
    monkeypatch.setattr(torchvision.models._api, "load_state_dict_from_url", lambda *args, **settings: state)
    return state


@pytest.mark.parametrize("backbone", GLYPHS)
def test_a_pretrained_compact_backbone_has_the_weights_that_classified_glyphs_and_trains_all_of_them(backbone):
    weights = load_file(WEIGHTS / GLYPHS[backbone])
    detector = build("retinanet", backbone, 7, pretrained=True)
    state = detector.backbone.state_dict()
    assert {name for name in state if not name.startswith("fpn.")} == weights.keys()
    assert all(torch.equal(state[name], weights[name]) for name in weights)
    assert all(parameter.requires_grad for parameter in detector.parameters())


@pytest.mark.parametrize("file", sorted({*GLYPHS.values()}))
def test_the_name_of_a_glyph_backbone_ends_in_the_hash_of_its_bytes(file):
    """So the code names other weights when they change, and runs that started from the old ones are stale."""
    assert f"-{sha256((WEIGHTS / file).read_bytes()).hexdigest()[:8]}." in file


def test_pretrained_starts_the_backbone_from_imagenet_with_frozen_statistics(imagenet):
    detector = build("retinanet", "resnet18", 7, pretrained=True)
    assert torch.equal(detector.backbone.body.layer2[0].conv1.weight, imagenet["layer2.0.conv1.weight"])
    assert any(isinstance(module, FrozenBatchNorm2d) for module in detector.modules())
    assert not any(isinstance(module, FrozenBatchNorm2d) for module in build("retinanet", "resnet18", 7).modules())


def test_from_scratch_every_parameter_is_trained():
    assert all(parameter.requires_grad for parameter in build("retinanet", "resnet18", 7).parameters())


def test_weights_of_a_pretrained_detector_load_without_another_download(imagenet, tmp_path, monkeypatch, same_bits):
    """As get_teacher and load_run load what a run with pretrained=True wrote: they build without ImageNet weights."""
    trained = build("retinanet", "resnet18", 7, pretrained=True)
    save_weights(trained, tmp_path / "w.safetensors")
    monkeypatch.setattr(
        torchvision.models._api, "load_state_dict_from_url", lambda *args, **settings: pytest.fail("downloaded again")
    )
    loaded = build("retinanet", "resnet18", 7, frozen_norms=True)
    load_weights(loaded, tmp_path / "w.safetensors")
    images = [torch.rand(3, 64, 64)]
    with torch.no_grad():
        assert_close(look(loaded.eval(), images).features["P3"], look(trained.eval(), images).features["P3"])


# ---- images as they come ---

def test_by_default_images_and_boxes_keep_their_size():
    detector = build("retinanet", "compact_s", 4)
    images = [torch.rand(3, 40, 70), torch.rand(3, 64, 33)]
    boxes = torch.tensor([[1.5, 2.0, 30.0, 31.25]])
    scene = look(detector, images, [{"boxes": boxes, "labels": torch.tensor([1])}] * 2)
    assert scene.image_sizes == [(40, 70), (64, 33)] and scene.padded_size == (64, 96)
    mean, std = (
        torch.tensor(each)[:, None, None] for each in (detector.transform.image_mean, detector.transform.image_std)
    )
    for i, image in enumerate(images):
        assert torch.equal(scene.boxes[i], boxes)
        assert_close(scene.pixels[i, :, :image.shape[1], :image.shape[2]], (image - mean) / std)
        assert not scene.pixels[i, :, image.shape[1]:].any() and not scene.pixels[i, :, :, image.shape[2]:].any()


@pytest.mark.parametrize("sizes", [[(64, 96)] * 3, [(64, 96), (96, 64)], [(60, 96)] * 2])
def test_a_batch_is_normalised_to_the_bit_as_torchvision_does(sizes):
    transform = build("retinanet", "compact_s", 4).transform
    images = [torch.rand(3, *size) for size in sizes]
    targets = [{"boxes": torch.tensor([[10.0, 8.0, 25.0, 38.0]]), "labels": torch.tensor([1])} for _ in sizes]
    (ours, our_targets), (theirs, their_targets) = (
        transform(images, targets), GeneralizedRCNNTransform.forward(transform, images, targets),
    )
    assert torch.equal(ours.tensors, theirs.tensors) and ours.image_sizes == theirs.image_sizes == sizes
    for mine, other, given in zip(our_targets, their_targets, targets, strict=True):
        assert mine.keys() == other.keys() and mine is not given     # a detector may write into what it gets
    assert transform(images)[1] is None


def test_anchors_are_torchvisions_and_follow_a_change_of_size():
    ours = build("retinanet", "compact_s", 4).anchor_generator
    theirs = AnchorGenerator(ours.sizes, ours.aspect_ratios)
    for count, side in ((2, 64), (3, 96), (1, 96), (2, 64)):
        batch, maps = (
            ImageList(torch.zeros(count, 3, side, side), [(side, side)] * count),
            [torch.zeros(count, 4, side // stride, side // stride) for stride in (8, 16, 32)],
        )
        found = ours(batch, maps)
        assert len(found) == count
        for each, other in zip(found, theirs(batch, maps), strict=True):
            assert torch.equal(each, other)


def test_detections_come_back_in_input_pixels_unchanged():
    transform = build("retinanet", "compact_s", 4).eval().transform
    assert isinstance(transform, NoResize)
    images = [torch.rand(3, 40, 70), torch.rand(3, 64, 33)]
    batch, _ = transform(images, None)
    boxes = [torch.rand(5, 4) * 40, torch.rand(3, 4) * 40]
    back = transform.postprocess(
        [{"boxes": each} for each in boxes], batch.image_sizes, [tuple(image.shape[-2:]) for image in images]
    )
    for given, returned in zip(boxes, back, strict=True):
        assert torch.equal(given, returned["boxes"])


def test_min_size_resizes_as_torchvision_does():
    scene = look(
        build("retinanet", "compact_s", 4, min_size=64, max_size=100), [torch.rand(3, 32, 40), torch.rand(3, 32, 64)]
    )
    assert scene.image_sizes == [(64, 80), (50, 100)]


def test_in_eval_a_detector_gives_boxes_labels_and_scores():
    torch.manual_seed(1)
    detector = build("retinanet", "compact_s", 4, score_thresh=0.0, detections_per_img=20).eval()
    sizes = [(40, 70), (64, 33)]
    with torch.no_grad():
        found = detector([torch.rand(3, *size) for size in sizes])
    assert len(found) == 2
    for each, (height, width) in zip(found, sizes, strict=True):
        assert each.keys() == {"boxes", "labels", "scores"}
        count = len(each["scores"])
        assert 0 < count <= 20 and each["boxes"].shape == (count, 4) and each["labels"].shape == (count,)
        assert each["labels"].dtype == torch.int64
        x1, y1, x2, y2 = each["boxes"].unbind(1)
        assert (x1 >= 0).all() and (y1 >= 0).all() and (x2 <= width).all() and (y2 <= height).all() and (x2 >= x1).all()
        assert (y2 >= y1).all()
        assert ((each["scores"] >= 0) & (each["scores"] <= 1)).all() and (each["labels"] >= 0).all()
        assert (each["labels"] <= 4).all()
        assert (each["scores"].diff() <= 0).all()


def test_a_heavier_teacher_than_student():
    def count(backbone):
        return sum(each.numel() for each in build("retinanet", backbone, 10).parameters())

    assert count("compact_t") > 3 * count("compact_s") and len(RESNETS) == 4
