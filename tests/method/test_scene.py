"""The seam: Scene, Tap, look and the names of levels."""
import pytest
import torch
from torch import nn
from torchvision.models.detection import fasterrcnn_resnet50_fpn, retinanet_resnet50_fpn

from fgdlab.scene import Scene, Tap, full_precision, level_names, look

SCENE = Scene(torch.zeros(2, 3, 64, 96), [torch.zeros(0, 4)] * 2, [(60, 90), (64, 80)], {})


def hooks(detector):
    return [
        hook
        for module in detector.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    ]


# ---- Tap ----

def test_tap_leaves_losses_bit_equal_and_no_hook_behind(retinanet, batch):
    detector, (images, targets) = retinanet(), batch
    alone = detector(images, targets)
    with Tap(detector):
        assert len(hooks(detector)) == 2
        tapped = detector(images, targets)
    assert tapped.keys() == alone.keys() and all(torch.equal(tapped[name], alone[name]) for name in alone)
    assert hooks(detector) == []


def test_tap_leaves_gradients_bit_equal(retinanet, batch):
    detector, (images, targets) = retinanet(), batch
    sum(detector(images, targets).values()).backward()
    alone = [p.grad.clone() for p in detector.parameters()]
    detector.zero_grad()
    with Tap(detector):
        sum(detector(images, targets).values()).backward()
    assert all(torch.equal(p.grad, before) for p, before in zip(detector.parameters(), alone, strict=True))


def test_tap_leaves_no_hook_behind_after_an_exception(retinanet, batch):
    detector = retinanet()
    with pytest.raises(ZeroDivisionError), Tap(detector):
        detector(*batch)
        _ = 1 / 0
    assert hooks(detector) == []


def test_tap_leaves_no_hook_on_what_is_no_detector():
    module = nn.Module()
    module.transform = nn.Identity()
    with pytest.raises(AttributeError, match="backbone"), Tap(module):
        pass
    assert hooks(module) == []


def test_tap_keeps_the_tensors_of_the_forward_themselves(retinanet, batch):
    detector, seen = retinanet(), {}
    detector.backbone.register_forward_hook(lambda module, args, output: seen.update(pixels=args[0], maps=output))
    with Tap(detector) as tap:
        detector(*batch)
    assert tap.scene.pixels is seen["pixels"]
    assert all(ours is theirs for ours, theirs in zip(tap.scene.features.values(), seen["maps"].values(), strict=True))


def test_tapped_boxes_are_in_pixels_of_the_resized_batch(retinanet, batch):
    detector, (images, targets) = retinanet(), batch
    detector.transform.min_size, detector.transform.max_size = (128,), 999
    with Tap(detector) as tap:
        detector(images, targets)
    assert tap.scene.image_sizes == [(128, 128), (128, 180)] and tap.scene.padded_size == (128, 192)
    assert torch.equal(tap.scene.boxes[0], targets[0]["boxes"] * 2) and len(tap.scene.boxes[1]) == 0


def test_tapped_maps_carry_gradient(retinanet, batch):
    detector = retinanet()
    with Tap(detector) as tap:
        detector(*batch)
    tap.scene.features["P3"].sum().backward()
    assert detector.backbone.body.stem[0].weight.grad.any()


def test_tap_reads_detection_too(retinanet, batch):
    detector = retinanet().eval()
    with Tap(detector) as tap:
        detector(batch[0])
    assert [len(boxes) for boxes in tap.scene.boxes] == [0, 0] and list(tap.scene.features) == [
        "P3",
        "P4",
        "P5",
        "P6",
        "P7",
    ]


def test_a_scene_before_the_forward_is_refused(retinanet):
    with Tap(retinanet()) as tap, pytest.raises(RuntimeError, match="must run inside"):
        _ = tap.scene


# ---- look ----

def test_look_sees_what_tap_sees(retinanet, batch):
    detector = retinanet().eval()
    images, targets = batch
    looked = look(detector, images, targets)
    with Tap(detector) as tap:
        detector(images, targets)
    assert torch.equal(looked.pixels, tap.scene.pixels) and looked.image_sizes == tap.scene.image_sizes
    assert all(torch.equal(a, b) for a, b in zip(looked.boxes, tap.scene.boxes, strict=True))
    assert all(torch.equal(looked.features[level], each) for level, each in tap.scene.features.items())


def test_look_without_targets_has_no_boxes(retinanet, batch):
    assert [tuple(boxes.shape) for boxes in look(retinanet(), batch[0]).boxes] == [(0, 4), (0, 4)]


# ---- names of levels ----

@pytest.mark.parametrize(("build", "names"), [
    (retinanet_resnet50_fpn, ["P3", "P4", "P5", "P6", "P7"]),
    (fasterrcnn_resnet50_fpn, ["P2", "P3", "P4", "P5", "P6"]),
])
def test_torchvisions_key_0_gets_the_name_of_its_stride(build, names):
    backbone = build(weights=None, weights_backbone=None).backbone.eval()
    with torch.no_grad():
        raw = backbone(torch.zeros(1, 3, 64, 64))
    named = level_names(raw, 64)
    assert next(iter(raw)) == "0" and list(named) == names
    assert all(named[level].shape[-2] == max(64 >> int(level[1:]), 1) for level in names)


def test_a_height_that_the_stride_does_not_divide_rounds_to_the_level():
    assert list(level_names({"0": torch.zeros(1, 1, 13, 13)}, 100)) == ["P3"]


# ---- Scene ----

def test_boxes_are_divided_by_the_canvas_or_by_the_image():
    assert SCENE.frame_sizes() == SCENE.frame_sizes("canvas") == [(64, 96), (64, 96)]
    assert SCENE.frame_sizes("image") == [(60, 90), (64, 80)]


def test_an_unknown_frame_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match="canvas, image, got 'padded'"):
        SCENE.frame_sizes("padded")


def test_only_half_precision_is_cast():
    dtypes = {"P3": torch.float16, "P4": torch.bfloat16, "P5": torch.float32, "P6": torch.float64}
    cast = full_precision({level: torch.zeros(1, dtype=dtype) for level, dtype in dtypes.items()})
    assert [each.dtype for each in cast.values()] == [torch.float32] * 3 + [torch.float64]
