"""The batched losses of RetinaNet and FCOS against torchvision's loop over images; kept anchors; precision."""
import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from fgdlab.lab.detectors import batched
from fgdlab.lab.detectors.anchors import CachedAnchors
from fgdlab.lab.detectors.batched import BatchedFCOS, BatchedRetinaNet, check_targets
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.detectors.compact import PlanarGroupNorm

SIZE = 64
KINDS = {"retinanet": (BatchedRetinaNet, RetinaNet), "fcos": (BatchedFCOS, FCOS)}


def maps_of(detector, size, dtype=torch.float64):
    strides = (8, 16, 32, 64, 128)[:len(detector.levels)]
    return [torch.zeros(1, 1, -(-size // stride), -(-size // stride), dtype=dtype) for stride in strides]


@pytest.fixture(scope="module", params=KINDS)
def small(request):
    """(detector with its kind, anchors of a 64 px image, anchors per level)."""
    detector = build(request.param, "compact_s" if request.param == "retinanet" else "small_s", 4).double()
    maps = maps_of(detector, SIZE)
    pixels = ImageList(torch.zeros(1, 3, SIZE, SIZE, dtype=torch.float64), [(SIZE, SIZE)])
    return request.param, detector, detector.anchor_generator(pixels, maps)[0], [each[0, 0].numel() for each in maps]


def random_targets(draw, size):
    """1 to 4 images with 0 to 6 boxes: ordinary, duplicated, tiny, as large as the image, outside of all anchors."""

    def number(low, high):
        return int(torch.randint(low, high, (), generator=draw))

    targets = []
    for _ in range(number(1, 5)):
        corner = torch.rand(number(0, 7), 2, generator=draw, dtype=torch.float64) * size
        kinds = torch.randint(0, 4, (len(corner), 1), generator=draw)
        sides = (
            torch.rand(len(corner), 2, generator=draw, dtype=torch.float64)
            * torch.tensor([2.0, 12.0, 40.0, float(size)])[kinds]
            + 1e-3
        )
        boxes = torch.cat([corner, corner + sides], dim=1)
        if len(boxes) and number(0, 2):
            boxes = torch.cat([boxes, boxes[:1]])  # twice the same box: which label an anchor gets must agree too
        if number(0, 6) == 0:
            boxes = torch.cat([boxes, torch.tensor([[900.0, 900.0, 910.0, 915.0]], dtype=torch.float64)])
        targets.append({"boxes": boxes, "labels": torch.randint(1, 5, (len(boxes),), generator=draw)})
    return targets


def both_losses(small, targets, seed):
    """[(values, gradients of the head's outputs)] of the batched loss and of torchvision's."""
    kind, detector, anchors, per_level = small
    draw = torch.Generator().manual_seed(seed)
    widths = {"cls_logits": 5, "bbox_regression": 4} | ({"bbox_ctrness": 1} if kind == "fcos" else {})
    values = {
        name: torch.randn(len(targets), len(anchors), width, generator=draw, dtype=torch.float64)
        for name, width in widths.items()
    }
    values["cls_logits"] *= 3
    found = []
    for of_class in KINDS[kind]:
        outputs = {name: each.clone().requires_grad_() for name, each in values.items()}
        sizes = [per_level] if kind == "fcos" else []
        losses = of_class.compute_loss(detector, targets, outputs, [anchors] * len(targets), *sizes)
        assert losses.keys() >= {"classification", "bbox_regression"}
        loss = sum(factor * each for factor, each in zip((1, 3, 7), losses.values(), strict=False))
        gradients = torch.autograd.grad(loss, list(outputs.values()), allow_unused=True, materialize_grads=True)
        found.append([*(each.detach() for each in losses.values()), *gradients])
    return found


def agree(small, targets, seed=0):
    ours, theirs = both_losses(small, targets, seed)
    assert_close(ours, theirs, rtol=1e-6, atol=1e-9, check_dtype=False, msg=lambda text: f"seed {seed}: {text}")
    return theirs


@pytest.mark.parametrize("seed", range(40))
def test_the_batched_loss_is_torchvisions_in_value_and_gradient(small, seed):
    agree(small, random_targets(torch.Generator().manual_seed(seed), SIZE), seed)


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("pairs", [1, 2000])
def test_comparing_boxes_in_chunks_changes_nothing(small, seed, pairs, monkeypatch):
    targets = random_targets(torch.Generator().manual_seed(seed), SIZE)
    whole = both_losses(small, targets, seed)[0]
    monkeypatch.setattr(batched, "MAX_PAIRS", pairs)
    for ours, expected in zip(both_losses(small, targets, seed)[0], whole, strict=True):
        assert torch.equal(ours, expected)


def test_chunks_hold_no_more_pairs_than_the_bound(monkeypatch):
    monkeypatch.setattr(batched, "MAX_PAIRS", 100)
    boxes, labels = torch.rand(2, 7, 4), torch.tensor([[1] * 7, [1] * 3 + [-1] * 4])
    parts = list(batched.chunks(boxes, labels, 20))
    assert [first for first, _, _ in parts] == [0, 2, 4, 6]
    assert torch.equal(torch.cat([part for _, part, _ in parts], dim=1), boxes)
    assert torch.cat([real for _, _, real in parts], dim=1)[..., 0].sum(dim=1).tolist() == [7, 3]


def target(*boxes):
    return {"boxes": torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4), "labels": torch.arange(1, len(boxes) + 1)}


def test_the_batched_loss_agrees_on_a_batch_without_any_box(small):
    classification, regression, *_ = agree(small, [target(), target(), target()])
    assert classification > 0 and regression == 0


def test_the_batched_loss_agrees_where_only_some_images_have_boxes(small):
    agree(small, [target(), target((4, 4, 20, 24), (30, 30, 60, 60)), target(), target((0, 0, 64, 64))])


def test_the_batched_loss_agrees_on_a_box_that_fits_no_anchor(small):
    """RetinaNet takes the best anchor although it is below both thresholds; FCOS takes no point."""
    _, regression, *_ = agree(small, [target((32.5, 32.5, 34, 35))])
    assert bool(regression > 0) == (small[0] == "retinanet")


def test_the_batched_loss_agrees_on_boxes_that_share_anchors(small):
    agree(small, [target((10, 10, 30, 37), (10, 10, 30, 37), (11, 10, 31, 37), (12, 12, 28, 34))])


@pytest.mark.parametrize("kind", KINDS)
def test_the_whole_detector_gives_torchvisions_losses_and_gradients(kind):
    """Through the heads, in float32, on a padded batch of two sizes."""
    detector = build(kind, "compact_s" if kind == "retinanet" else "small_s", 4)
    images = [torch.rand(3, 64, 64), torch.rand(3, 50, 90)]
    targets = [
        {"boxes": torch.tensor([[4.0, 4.0, 20.0, 24.0], [30.0, 10.0, 60.0, 60.0]]), "labels": torch.tensor([1, 4])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    found = []
    for of_class in KINDS[kind]:
        detector.__class__ = of_class
        losses = detector(images, targets)
        gradients = torch.autograd.grad(sum(losses.values()), list(detector.parameters()), allow_unused=True)
        found.append([*losses.values(), *(each for each in gradients if each is not None)])
    assert_close(found[0], found[1], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_every_torchvision_one_stage_detector_is_built_with_the_batched_loss(kind):
    for backbone, flavour in (("resnet18", "torchvision"), ("resnet18", "mmdet"), ("small_s", "torchvision")):
        detector = build(kind, backbone, 4, flavour=flavour)
        assert isinstance(detector, KINDS[kind][0]) and isinstance(detector.anchor_generator, CachedAnchors)


# ---- precision ---

@pytest.mark.parametrize("kind", KINDS)
def test_under_autocast_boxes_and_sums_are_not_rounded(kind):
    """The losses are those of the head's rounded outputs in float32, at positions that bfloat16 does not hold."""
    torch.manual_seed(0)
    detector = build(kind, "compact_s" if kind == "retinanet" else "small_s", 4)
    outputs, head = [], detector.head
    head.register_forward_hook(lambda module, args, output: outputs.append(output))
    images = [torch.rand(3, 320, 320)]
    targets = [{"boxes": torch.tensor([[257.3, 261.7, 301.3, 313.7]]), "labels": torch.tensor([1])}]
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector(images, targets)
    (rounded,) = outputs
    assert rounded["cls_logits"].dtype == torch.bfloat16
    maps = maps_of(detector, 320, torch.bfloat16)
    pixels = ImageList(torch.zeros(1, 3, 320, 320), [(320, 320)])
    made = AnchorGenerator(detector.anchor_generator.sizes, detector.anchor_generator.aspect_ratios)
    anchors = made(pixels, [each.float() for each in maps])
    sizes = [[each[0, 0].numel() for each in maps]] if kind == "fcos" else []
    exact = KINDS[kind][1].compute_loss(
        detector, targets, {name: each.detach().float() for name, each in rounded.items()}, anchors, *sizes)
    assert_close({name: each.detach() for name, each in losses.items()}, exact, check_dtype=False)


@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_planar_group_norm_is_group_norm_in_the_format_of_its_input(dtype, order):
    torch.manual_seed(0)
    ours, torchs = PlanarGroupNorm(2, 8), nn.GroupNorm(2, 8)
    torchs.load_state_dict(ours.state_dict())
    maps = torch.randn(2, 8, 6, 5).to(dtype, memory_format=order)
    found = []
    for norm in (ours, torchs):
        student = maps.clone(memory_format=torch.preserve_format).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype != torch.float32):
            normed = norm(student)
        assert normed.is_contiguous(memory_format=order) and normed.dtype == dtype
        found.append((normed, *torch.autograd.grad(normed.float().square().sum(), [student, norm.weight, norm.bias])))
    assert_close(*found, rtol=2e-2 if dtype == torch.bfloat16 else 1e-5, atol=2e-2 if dtype == torch.bfloat16 else 1e-5)


# ---- anchors and targets ---

def test_anchors_are_made_again_only_for_another_size_precision_or_grid():
    generator = CachedAnchors(((16,), (32,)), ((1.0, 2.0),) * 2)
    plain = AnchorGenerator(((16,), (32,)), ((1.0, 2.0),) * 2)

    def anchors(side, dtype=torch.float32, maps_dtype=None):
        maps = [torch.zeros(1, 1, side // stride, side // stride, dtype=maps_dtype or dtype) for stride in (8, 16)]
        pixels = ImageList(torch.zeros(3, 3, side, side, dtype=dtype), [(side, side)] * 3)
        found = generator(pixels, maps)
        assert len(found) == 3 and all(each is found[0] for each in found) and found[0].dtype == dtype
        assert_close(found, plain(pixels, [each.to(dtype) for each in maps]))
        return found[0]

    first = anchors(64)
    assert anchors(64) is first and anchors(64, maps_dtype=torch.bfloat16) is first
    assert anchors(64, torch.float64) is not first and anchors(96).shape != first.shape


@pytest.mark.parametrize(("targets", "message"), [
    (None, "targets must be given in train mode"),
    ([{"boxes": torch.rand(2, 4).cumsum(1)}, {"boxes": torch.tensor([[5.0, 5.0, 9.0, 5.0]])}],
     r"positive width and height, got \[5.0, 5.0, 9.0, 5.0\] for target 1"),
    ([{"boxes": torch.tensor([[1.0, 1.0, 2.0, 2.0], [5.0, 5.0, 5.0, 9.0]])}, {"boxes": torch.rand(2, 4).cumsum(1)}],
     "for target 0"),
    ([{"boxes": torch.rand(4)}], r"shape \(K, 4\), got \(4,\) for target 0"),
])
def test_targets_that_cannot_be_trained_on_are_refused(targets, message):
    with pytest.raises(ValueError, match=message):
        check_targets(targets)


def test_targets_without_boxes_are_fine():
    check_targets([{"boxes": torch.zeros(0, 4)}, {"boxes": torch.rand(2, 4).cumsum(1)}])
