"""RepPoints: moment boxes, both assigners, losses and detections."""
import math

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torchvision.ops import deform_conv2d

from fgdlab.lab.detectors import build
from fgdlab.lab.detectors.dense import STRIDES, grid_points
from fgdlab.lab.detectors.reppoints import PointConv, RepPoints, RepPointsHead, match_by_centre, match_by_iou
from fgdlab.scene import Tap, look

WIDTH = 8


class TinyPyramid(nn.Module):
    """P3..P7 of 8 channels, each by one strided convolution of the pixels."""

    out_channels = WIDTH

    def __init__(self):
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(3, WIDTH, 3, padding=1) for _ in STRIDES)

    def forward(self, pixels):
        return {
            str(i): conv(nn.functional.adaptive_avg_pool2d(pixels, [-(-side // stride) for side in pixels.shape[-2:]]))
            for i, (conv, stride) in enumerate(zip(self.levels, STRIDES, strict=True))
        }


def tiny(classes=3, **options):
    head = RepPointsHead(WIDTH, classes, norm=lambda channels: nn.GroupNorm(2, channels))
    return RepPoints(TinyPyramid(), classes, head=head, min_size=64, max_size=96, **options)


@pytest.fixture
def levels():
    """Random outputs of a head on 64 x 96 pixels, one image: logits, init points, refined points a level."""
    draw = torch.Generator().manual_seed(3)
    grids = [(-(-64 // stride), -(-96 // stride)) for stride in STRIDES]
    return [
        (torch.randn(1, 3, *grid, generator=draw), *(2 * torch.randn(1, 18, *grid, generator=draw) for _ in range(2)))
        for grid in grids
    ]


# ---- moment boxes ---

def test_a_moment_box_is_mean_and_deviation_of_the_points_as_written():
    head, points = RepPointsHead(WIDTH, 3, norm=nn.Identity), torch.randn(18, dtype=torch.float64)
    head.double().moment.data = torch.tensor([0.3, -0.2], dtype=torch.float64)
    ys, xs = points[0::2].tolist(), points[1::2].tolist()
    expected = []
    for sign in (-1, 1):
        for values, factor in ((xs, math.exp(0.3)), (ys, math.exp(-0.2))):
            mean = sum(values) / 9
            expected.append(mean + sign * factor * math.sqrt(sum((each - mean) ** 2 for each in values) / 8))
    assert_close(head.moment_box(points).detach(), torch.tensor(expected, dtype=torch.float64))


def test_the_moment_factors_learn_at_a_hundredth_of_the_rate():
    head, points = RepPointsHead(WIDTH, 3, norm=nn.Identity), torch.randn(18)
    head.moment_box(points)[2].backward()                            # x2 = mean + deviation * exp(moment_x)
    assert_close(head.moment.grad, torch.tensor([0.01 * float(points[1::2].std()), 0.0]))


def test_a_tenth_of_the_refinements_gradient_reaches_the_init_points():
    torch.manual_seed(5)
    head, features = RepPointsHead(WIDTH, 3, norm=nn.Identity), torch.randn(1, WIDTH, 4, 4)
    for module in (head.init_out, head.class_out, head.class_conv):
        nn.init.normal_(module.weight, std=0.3)
    logits, init, _ = head.forward_level(features)
    (slow,) = torch.autograd.grad(logits.square().sum(), head.init_out.bias, retain_graph=True)
    points = init.detach().requires_grad_()
    full = head.class_out(head.class_conv(head.class_tower(features), points).relu()).square().sum()
    assert_close(slow, 0.1 * torch.autograd.grad(full, points)[0].sum(dim=(0, 2, 3)), rtol=1e-4, atol=1e-7)
    assert slow.any()


def test_offsets_of_zero_points_collapse_the_taps_on_the_cell():
    """Init points of 0 put all nine taps on the cell itself, where an ordinary convolution would look around it."""
    head, features = RepPointsHead(WIDTH, 3, norm=nn.Identity), torch.randn(1, WIDTH, 5, 5)
    nn.init.zeros_(head.init_out.weight)
    towered = head.class_tower(features)
    expected = head.class_out(
        nn.functional.conv2d(towered, head.class_conv.weight.sum(dim=(2, 3), keepdim=True)).relu()
    )
    assert_close(head.forward_level(features)[0], expected)


@torch.no_grad()
def test_the_small_head_has_norms_where_the_papers_has_none():
    """A norm takes the scale out of the weights before it."""
    torch.manual_seed(5)
    small, features = build("reppoints", "small_s", 3).head, torch.randn(1, 64, 6, 6)
    for head, normed in ((small, True), (RepPointsHead(64, 3), False)):
        before = head.forward_level(features)
        head.class_conv.weight *= 100.0
        after = head.forward_level(features)
        changed = float((after[0] - before[0]).abs().max() / (before[0] - before[0].mean()).abs().max())
        assert (changed < 0.05) == normed, changed
        assert_close(after[1:], before[1:])


# ---- the convolution at points ---

@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 6)])
def test_a_convolution_at_points_is_torchvisions_deformable_one_with_its_gradients(size):
    torch.manual_seed(2)
    conv = PointConv(4, 6, 3, bias=False).double()
    features = torch.randn(2, 4, *size, dtype=torch.float64, requires_grad=True)
    points = (3 * torch.randn(2, 18, *size, dtype=torch.float64)).requires_grad_()  # many lie outside the map
    taps = torch.cartesian_prod(torch.arange(-1, 2), torch.arange(-1, 2)).reshape(1, 18, 1, 1)
    inputs = (features, points, conv.weight)
    ours, theirs = conv(features, points), deform_conv2d(features, points - taps, conv.weight, padding=1)
    assert_close(ours, theirs)
    back = torch.randn_like(ours)
    for mine, other in zip(*(torch.autograd.grad(out, inputs, back) for out in (ours, theirs)), strict=True):
        assert_close(mine, other)


def test_points_on_the_3x3_grid_make_an_ordinary_convolution():
    conv, features = PointConv(4, 6, 3, bias=False), torch.randn(1, 4, 6, 5)
    grid = torch.cartesian_prod(torch.arange(-1.0, 2), torch.arange(-1.0, 2)).reshape(1, 18, 1, 1)
    assert_close(conv(features, grid.expand(1, 18, 6, 5)), nn.functional.conv2d(features, conv.weight, padding=1))


def test_points_keep_their_place_between_cells_under_bfloat16():
    """Half precision has no place between cell 256 and 258."""
    conv, features = PointConv(4, 6, 3, bias=False), torch.randn(1, 4, 1, 300)
    points = torch.full((1, 18, 1, 300), 0.25)
    with torch.autocast("cpu", torch.bfloat16):
        assert_close(conv(features, points.bfloat16()).float(), conv(features, points).float())


# ---- who is matched ---

def grid(side=128):
    return grid_points([torch.zeros(1, 1, -(-side // stride), -(-side // stride)) for stride in STRIDES])


def test_the_grid_has_the_corners_of_the_cells_row_by_row():
    corners, strides = grid_points([torch.zeros(1, 1, 2, 3)], (16,))
    assert corners.tolist() == [[0, 0], [16, 0], [32, 0], [0, 16], [16, 16], [32, 16]] and strides.tolist() == [16] * 6


@pytest.mark.parametrize(
    ("side", "stride"), [(8, 8), (33, 8), (63.9, 8), (64.1, 16), (200, 32), (513, 128), (5000, 128)]
)
def test_an_object_goes_to_the_level_of_a_quarter_of_its_side(side, stride):
    corners, strides = grid()
    low, high = 60 - side / 2, 60 + side / 2
    matched = match_by_centre(corners, strides, torch.tensor([[low, low, high, high]]))
    assert strides[matched == 0].tolist() == [stride]
    assert (corners[matched == 0] - 60).abs().max() <= stride / 2 or stride == 128


def test_every_object_gets_one_point_and_a_contested_point_goes_to_the_nearest():
    corners, strides = grid()
    # middles 29 and 32.5: the point (32, 32) is nearest to both
    far, near = [9.0, 9.0, 49.0, 49.0], [12.5, 12.5, 52.5, 52.5]
    both = match_by_centre(corners, strides, torch.tensor([far, near]))
    assert both.unique(return_counts=True)[1].tolist() == [len(corners) - 1, 1]
    for order, owner in (([far, near], 1), ([near, far], 0)):
        matched = match_by_centre(corners, strides, torch.tensor(order))
        assert matched[matched >= 0].tolist() == [owner] and corners[matched >= 0].tolist() == [[32, 32]]


def test_overlap_thresholds_and_the_best_box_of_each_object():
    gt_boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [100.0, 100.0, 110.0, 110.0], [300.0, 300.0, 310.0, 310.0]])
    boxes = torch.tensor([
        [0.0, 0, 10, 10], [0, 0, 10, 5.1], [0, 0, 10, 4.5], [0, 0, 10, 3.9], [100, 100, 110, 101], [200, 200, 210, 210],
    ])
    # the last object is touched by none and takes none
    assert match_by_iou(boxes, gt_boxes).tolist() == [0, 0, -2, -1, 1, -1]


def test_without_objects_nothing_is_matched():
    corners, strides = grid()
    none = torch.zeros(0, 4)
    assert (match_by_centre(corners, strides, none) == -1).all() and (match_by_iou(torch.rand(5, 4), none) == -1).all()


# ---- losses ---

def test_losses_are_what_the_paper_writes(levels):
    """One image, two objects, by loops over the points."""
    detector = tiny()
    gt_boxes, labels = torch.tensor([[8.0, 8.0, 44.0, 40.0], [10.0, 4.0, 90.0, 60.0]]), torch.tensor([1, 3])
    losses = detector.losses(levels, [{"boxes": gt_boxes, "labels": labels}])
    corners, strides = grid_points([each for each, _, _ in levels])
    flat = [torch.cat([maps[0].flatten(1).T for maps in kind]) for kind in zip(*levels, strict=True)]
    init, refined = (
        detector.head.moment_box(points).detach() * strides[:, None] + corners.repeat(1, 2) for points in flat[1:]
    )
    first, then = match_by_centre(corners, strides, gt_boxes), match_by_iou(init, gt_boxes)
    assert (first >= 0).sum() == 2 and (then >= 0).any() and (then == -1).any()

    def smooth(error):
        return 4.5 * error ** 2 if error < 1 / 9 else error - 1 / 18

    sums = [0.0, 0.0, 0.0]
    for a in range(len(corners)):
        for k, (boxes, matched) in enumerate(((init, first), (refined, then))):
            if matched[a] >= 0:
                sums[k] += sum(smooth(abs(float(x)) / (4 * float(strides[a]))) for x in boxes[a] - gt_boxes[matched[a]])
        for c in range(3):
            p = 1 / (1 + math.exp(-float(flat[0][a, c])))
            if then[a] >= 0 and int(labels[then[a]]) == c + 1:
                sums[2] -= 0.25 * (1 - p) ** 2 * math.log(p)
            elif then[a] > -2:
                sums[2] -= 0.75 * p ** 2 * math.log(1 - p)
    positives = int((then >= 0).sum())
    expected = {"init_boxes": 0.5 * sums[0] / 2, "boxes": sums[1] / positives, "classification": sums[2] / positives}
    for name, value in expected.items():
        assert float(losses[name].detach()) == pytest.approx(value, rel=1e-4), name


def test_a_batch_divides_the_sums_of_its_images_by_their_common_count(levels):
    detector = tiny()
    boxes = torch.tensor([[8.0, 8.0, 44.0, 40.0], [10.0, 4.0, 90.0, 60.0], [60.0, 20.0, 70.0, 33.0]])
    targets = [
        {"boxes": boxes[k], "labels": torch.tensor(labels, dtype=torch.int64)}
        for k, labels in (([0, 1], [1, 3]), ([], []), ([2], [2]))
    ]
    three = [[torch.cat([maps, maps.flip(-1), 0.5 * maps]) for maps in level] for level in levels]
    together = detector.losses(three, targets)
    alone = [
        detector.losses([[maps[i:i + 1] for maps in level] for level in three], targets[i:i + 1]) for i in range(3)
    ]
    corners, strides = grid_points([each for each, _, _ in three])
    init = torch.cat([each.flatten(2).mT for _, each, _ in three], dim=1)
    init = detector.head.moment_box(init) * strides[:, None] + corners.repeat(1, 2)
    counts = {"init_boxes": [2, 1, 1], "boxes": [
        max(int((match_by_iou(init[i], targets[i]["boxes"]) >= 0).sum()), 1) for i in range(3)]}
    counts["classification"] = counts["boxes"]
    for name, loss in together.items():
        expected = sum(count * each[name] for count, each in zip(counts[name], alone, strict=True)) / sum(counts[name])
        assert_close(loss, expected)


def test_training_gives_finite_losses_and_reaches_every_parameter(batch):
    detector = tiny()
    losses = detector(*batch)
    assert losses.keys() == {"classification", "init_boxes", "boxes"}
    assert all(torch.isfinite(each) for each in losses.values())
    sum(losses.values()).backward()
    assert [name for name, each in detector.named_parameters() if each.grad is None] == []


def test_a_batch_without_any_object_has_losses_of_the_background_alone(batch):
    images, targets = batch
    losses = tiny()(images, [{**targets[1]}, {**targets[1]}])
    assert float(losses["classification"].detach()) > 0 and not losses["boxes"].detach().any()
    assert not losses["init_boxes"].detach().any()


def test_a_box_without_area_is_refused(batch):
    images, targets = batch
    with pytest.raises(ValueError, match="positive width and height"):
        tiny()(images, [{"boxes": torch.tensor([[5.0, 5.0, 5.0, 9.0]]), "labels": torch.tensor([1])}, targets[1]])
    with pytest.raises(ValueError, match="targets must be given"):
        tiny()(images)


def test_some_steps_find_an_object():
    """An optimiser brings the losses of one image down, and its box up to an overlap of 0.6 with the object."""
    torch.manual_seed(2)
    detector = tiny(classes=1, score_thresh=0.0)
    image = torch.zeros(3, 64, 64)
    image[:, 16:48, 8:48] = 1.0
    targets = [{"boxes": torch.tensor([[8.0, 16.0, 48.0, 48.0]]), "labels": torch.tensor([1])}]
    optimizer = torch.optim.AdamW(detector.parameters(), 5e-3)
    totals = []
    for _ in range(80):
        loss = sum(detector([image], targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        totals.append(float(loss.detach()))
    assert totals[-1] < 0.5 * totals[0]
    with torch.no_grad():
        (found,) = detector.eval()([image])
    x1, y1, x2, y2 = found["boxes"][0].tolist()
    inside = max(min(x2, 48) - max(x1, 8), 0) * max(min(y2, 48) - max(y1, 16), 0)
    assert inside / ((x2 - x1) * (y2 - y1) + 40 * 32 - inside) > 0.6


# ---- detections ---

def test_detections_are_the_moment_boxes_of_the_best_points(levels):
    """The best-scored detection of every class is the box of the point that scores so, clipped to the image."""
    detector = tiny(nms_thresh=1.0, detections_per_img=10 ** 6)
    (found,) = detector.detections(levels, [(60, 90)])
    assert (found["scores"].diff() <= 0).all() and (found["scores"] > 0.05).all()
    corners, strides = grid_points([each for each, _, _ in levels])
    logits, _, refined = (torch.cat([maps[0].flatten(1).T for maps in kind]) for kind in zip(*levels, strict=True))
    assert len(found["scores"]) == int((logits.sigmoid() > 0.05).sum())
    for label in (1, 2, 3):
        a = int(logits[:, label - 1].argmax())
        box = detector.head.moment_box(refined[a]).detach() * strides[a] + corners[a].repeat(2)
        first = int((found["labels"] == label).nonzero()[0])
        assert_close(
            found["boxes"][first].detach(),
            torch.stack([box[0].clamp(0, 90), box[1].clamp(0, 60), box[2].clamp(0, 90), box[3].clamp(0, 60)]),
        )
        assert float(found["scores"][first]) == pytest.approx(float(logits[a, label - 1].sigmoid()))


def test_where_nothing_scores_nothing_is_found_without_a_warning(recwarn):
    detector = tiny(score_thresh=0.999).eval()
    with torch.no_grad():
        (found,) = detector([torch.rand(3, 64, 64)])
    assert (found["boxes"].shape, found["scores"].shape, found["labels"].shape, found["labels"].dtype) == (
        (0, 4), (0,), (0,), torch.int64,
    )
    assert not len(recwarn)


def test_detections_come_back_in_pixels_of_the_input(batch):
    detector = tiny(score_thresh=0.0, detections_per_img=7).eval()
    images = [torch.rand(3, 128, 128), torch.rand(3, 32, 45)]        # halved and doubled by the transform
    with torch.no_grad():
        found = detector(images)
    for each, image in zip(found, images, strict=True):
        assert each["boxes"].shape == (7, 4) and each["labels"].min() >= 1 and each["labels"].max() <= 3
        assert (each["boxes"] >= 0).all() and (each["boxes"][:, 0::2] <= image.shape[2]).all()
        assert (each["boxes"][:, 1::2] <= image.shape[1]).all()
    assert found[0]["boxes"].max() > 64


# ---- the seam ---

def test_tap_and_look_read_its_scene_unchanged(batch):
    detector = tiny()
    alone = detector(*batch)
    with Tap(detector) as tap:
        tapped = detector(*batch)
    assert all(torch.equal(tapped[name], alone[name]) for name in alone)
    looked = look(detector, *batch)
    assert list(tap.scene.features) == ["P3", "P4", "P5", "P6", "P7"]
    assert [len(each) for each in tap.scene.boxes] == [3, 0]
    assert all(torch.equal(each, looked.features[level]) for level, each in tap.scene.features.items())
