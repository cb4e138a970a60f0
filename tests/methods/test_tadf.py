"""TADF: a Gaussian on every object."""
from dataclasses import replace
from math import ceil, exp, floor

import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.hint import Hint
from fgdlab.methods.tadf import TADF, gaussians
from tests.helpers.method_maps import LEVELS, aligned, assigned_level, cells, raws, teacher_of, two_images


def gaussian(box, frame, grid, y, x):
    """exp(-1/2 ((x - x_r) / (w_r / 2))^2 - 1/2 ((y - y_r) / (h_r / 2))^2) at the middle of cell (y, x); 0 outside r"""
    left, right = floor(box[0] / frame[1] * grid[1]), ceil(box[2] / frame[1] * grid[1])
    top, bottom = floor(box[1] / frame[0] * grid[0]), ceil(box[3] / frame[0] * grid[0])
    if not (left <= x < right and top <= y < bottom):
        return 0.0
    x_r, y_r, w_r, h_r = (left + right) / 2, (top + bottom) / 2, right - left, bottom - top
    return exp(-0.5 * ((x + 0.5 - x_r) / (w_r / 2)) ** 2 - 0.5 * ((y + 0.5 - y_r) / (h_r / 2)) ** 2)


def naive_mask(boxes, frame, grid):
    """The largest of the boxes' values on every cell of every image"""
    def largest(of_image, y, x):
        return max([gaussian(box, frame, grid, y, x) for box in of_image], default=0.0)

    return [[[largest(of_image, y, x) for x in range(grid[1])] for y in range(grid[0])] for of_image in boxes]


def naive(student, teacher, mask):
    """sum M (F_t - f(F_s))^2 / (2 C sum M)"""
    whole = sum(mask[n][y][x] * (teacher[n][c][y][x] - student[n][c][y][x]) ** 2 for n, c, y, x in cells(teacher))
    weight = sum(m for of_image in mask for row in of_image for m in row)
    return whole / (2 * len(teacher[0]) * weight) if weight else 0.0


@pytest.mark.parametrize("finest_size", [16.0, None])
@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, finest_size, random_scene, agree):
    some = 0
    for seed in range(40):
        torch.manual_seed(seed)
        scene = random_scene(seed, channels)
        teacher, loss = teacher_of(scene), TADF(LEVELS, channels, 4, finest_size=finest_size).double()
        slow = []
        for index, level in enumerate(LEVELS):
            own = [
                [box for box in boxes.tolist() if finest_size is None or assigned_level(box, 2, finest_size) == index]
                for boxes in scene.boxes
            ]
            mask = naive_mask(own, scene.padded_size, tuple(teacher[level].shape[2:]))
            slow.append(naive(aligned(loss, scene, level), teacher[level].tolist(), mask))
        some += sum(value > 0 for value in slow)
        agree(torch.stack([term.raw for term in loss(scene, teacher)]), slow, seed)
    assert some > 30


def one(*boxes):
    return torch.tensor([boxes])


def test_the_centre_weighs_1_and_corners_of_a_large_box_about_exp_minus_1():
    mask = gaussians(one([0, 0, 101, 101]), (101, 101))[0]
    assert mask[50, 50] == 1 and mask.argmax() == 50 * 101 + 50
    assert_close(mask[0, 0].item(), exp(-1), rtol=0.03, atol=0)
    assert_close(mask[50, 0].item(), exp(-0.5), rtol=0.03, atol=0)


def test_a_box_of_one_cell_weighs_1_there_and_nothing_elsewhere():
    mask = gaussians(one([3, 2, 4, 3]), (6, 8))[0]
    assert mask[2, 3] == 1 and mask.sum() == 1


def test_the_mask_is_symmetric_and_0_outside():
    mask = gaussians(one([1, 2, 7, 5]), (6, 8))[0]
    assert torch.equal(mask > 0, torch.tensor([[2 <= y < 5 and 1 <= x < 7 for x in range(8)] for y in range(6)]))
    assert_close(mask[2:5, 1:7], mask[2:5, 1:7].flip(0))
    assert_close(mask[2:5, 1:7], mask[2:5, 1:7].flip(1))


def test_the_largest_wins_where_boxes_overlap():
    boxes = [[0, 0, 5, 5], [2, 2, 8, 6]]
    both, each = gaussians(one(*boxes), (6, 8))[0], [gaussians(one(box), (6, 8))[0] for box in boxes]
    assert torch.equal(both, torch.maximum(*each)) and (each[0] > each[1]).any() and (each[1] > each[0]).any()


def test_no_box_no_weight_and_no_loss():
    scene = replace(two_images(), boxes=[torch.zeros(0, 4)] * 2)
    maps = {level: each.requires_grad_() for level, each in scene.features.items()}
    terms = TADF(LEVELS, 4, 4)(scene, teacher_of(scene))
    assert raws(terms) == {("tadf", "P3"): 0.0, ("tadf", "P4"): 0.0}
    sum(term.raw for term in terms).backward()
    assert not any(each.grad.any() for each in maps.values())


def test_a_box_counts_on_its_own_level_only():
    scene, teacher = two_images(), teacher_of(two_images())
    values = {size: raws(TADF(LEVELS, 4, 4, finest_size=size)(scene, teacher)) for size in (56.0, 5.0, None)}
    assert values[56.0]["tadf", "P4"] == 0 < values[56.0]["tadf", "P3"]
    assert values[5.0]["tadf", "P3"] == 0 < values[5.0]["tadf", "P4"]
    assert values[None]["tadf", "P3"] == values[56.0]["tadf", "P3"]
    assert values[None]["tadf", "P4"] == values[5.0]["tadf", "P4"]


def test_a_box_of_one_cell_makes_it_the_hint_of_that_cell():
    scene = replace(two_images(), boxes=[torch.tensor([[9.0, 9.0, 15.0, 15.0]]), torch.zeros(0, 4)])
    teacher = teacher_of(scene)

    def cut(maps):
        return {"P3": maps["P3"][:1, :, 1:2, 1:2]}

    expected = raws(Hint(("P3",), 4, 4)(replace(scene, features=cut(scene.features)), cut(teacher)))["hint", "P3"]
    assert_close(raws(TADF(LEVELS, 4, 4)(scene, teacher))["tadf", "P3"], expected)


def test_the_loss_does_not_grow_with_the_number_of_boxes_where_the_error_is_the_same():
    scene = two_images()
    teacher = {level: each + 2 for level, each in scene.features.items()}
    crowd = torch.rand(20, 2).repeat(1, 2) * 20 + torch.tensor([0.0, 0.0, 20.0, 20.0])
    for boxes in (scene.boxes, [crowd, crowd]):
        assert_close(raws(TADF(LEVELS, 4, 4)(replace(scene, boxes=boxes), teacher))["tadf", "P3"], 2.0)
