"""DeFeat: object cells and background cells apart."""
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fgdlab.methods.defeat import DeFeat
from fgdlab.methods.hint import Hint
from fgdlab.terms import total
from tests.helpers.method_maps import LEVELS, aligned, assigned_level, cells, raws, teacher_of, two_images
from tests.methods.test_boxes import authors_slices


def naive_mask(boxes, stride, grid):
    """M as the authors' slices draw it"""
    mask = [[0.0] * grid[1] for _ in range(grid[0])]
    for box in boxes:
        left, top, right, bottom = authors_slices(box, stride, grid)
        for y in range(top, min(bottom, grid[0])):
            for x in range(left, min(right, grid[1])):
                mask[y][x] = 1.0
    return mask


def naive(student, teacher, mask, levels):
    """1/L of the sum of M (F_t - f(F_s))^2 over 2 C sum M, and the same of 1 - M"""
    sums, counts = [0.0, 0.0], [0.0, 0.0]
    for n, c, y, x in cells(teacher):
        for part, share in enumerate((mask[n][y][x], 1 - mask[n][y][x])):
            sums[part] += share * (teacher[n][c][y][x] - student[n][c][y][x]) ** 2
            counts[part] += share
    return [whole / (2 * count) / levels if count else 0.0 for whole, count in zip(sums, counts, strict=True)]


@pytest.mark.parametrize("finest_size", [16.0, None])
@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, finest_size, random_scene, agree):
    some = 0
    for seed in range(20):
        torch.manual_seed(seed)
        scene = random_scene(seed, channels)
        teacher, loss = teacher_of(scene), DeFeat(LEVELS, channels, 4, finest_size=finest_size).double()
        for layer in loss.align.values():
            torch.nn.init.normal_(layer.weight, std=0.3)  # off its start near 0
        slow = []
        for index, (level, stride) in enumerate(zip(LEVELS, (8, 16), strict=True)):
            own = [
                [box for box in boxes.tolist() if finest_size is None or assigned_level(box, 2, finest_size) == index]
                for boxes in scene.boxes
            ]
            masks = [naive_mask(boxes, stride, tuple(teacher[level].shape[2:])) for boxes in own]
            slow += naive(aligned(loss, scene, level), teacher[level].tolist(), masks, levels=2)
        some += slow[0] > 0
        agree(torch.stack([term.raw for term in loss(scene, teacher)]), slow, seed)
    assert some > 8


WHOLE = torch.tensor([[0.0, 0.0, 64.0, 48.0]])


def hint_like(loss):
    """The hint whose regressor is this loss's f."""
    hint = Hint(LEVELS, 4, 4, kernel=3, always=True).double()
    hint.load_state_dict(loss.state_dict())
    return hint


def test_with_boxes_over_everything_fg_is_the_hint_over_the_levels_and_bg_is_0():
    scene = replace(two_images(), boxes=[WHOLE, WHOLE])
    teacher, loss = teacher_of(scene), DeFeat(LEVELS, 4, 4, fg_weight=1.0, bg_weight=1.0, finest_size=None).double()
    expected = raws(hint_like(loss)(scene, teacher))
    values = raws(loss(scene, teacher))
    for level in LEVELS:
        assert_close(values["fg", level], expected["hint", level] / len(LEVELS))
        assert values["bg", level] == 0
    assert_close(total(loss(scene, teacher)), total(hint_like(loss)(scene, teacher)) / len(LEVELS))


def test_without_boxes_bg_is_the_hint_and_fg_is_0():
    scene = replace(two_images(), boxes=[torch.zeros(0, 4)] * 2)
    teacher, loss = teacher_of(scene), DeFeat(LEVELS, 4, 4).double()
    expected, values = raws(hint_like(loss)(scene, teacher)), raws(loss(scene, teacher))
    for level in LEVELS:
        assert_close(values["bg", level], expected["hint", level] / len(LEVELS))
        assert values["fg", level] == 0


def test_fg_and_bg_weighed_by_their_cells_make_up_the_hint():
    scene = two_images()
    teacher, loss = teacher_of(scene), DeFeat(LEVELS, 4, 4).double()
    values = raws(loss(scene, teacher))
    for level in LEVELS:
        share = loss.mask(level, scene, teacher[level]).mean().item()
        expected = raws(hint_like(loss)(scene, teacher))["hint", level] / len(LEVELS)
        assert_close(values["fg", level] * share + values["bg", level] * (1 - share), expected)


@pytest.mark.parametrize(("part", "other"), [("fg", "bg"), ("bg", "fg")])
def test_a_weight_of_0_removes_its_term_and_leaves_the_other(part, other):
    scene = two_images()
    teacher, both = teacher_of(scene), DeFeat(LEVELS, 4, 4).double()
    one = DeFeat(LEVELS, 4, 4, **{f"{part}_weight": 0}).double()
    one.load_state_dict(both.state_dict())
    assert raws(one(scene, teacher)) == {
        key: value for key, value in raws(both(scene, teacher)).items() if key[0] == other
    }


def test_the_mask_covers_a_box_on_its_home_level_by_the_authors_rounding_or_exactly():
    scene = replace(two_images(), boxes=[torch.tensor([[9.0, 9.0, 31.0, 31.0]]), torch.zeros(0, 4)])
    teacher = teacher_of(scene)["P3"]

    def covered(level, **settings):
        return DeFeat(LEVELS, 4, 4, **settings).mask(level, scene, teacher)[0].nonzero().tolist()

    assert covered("P3") == [[y, x] for y in (1, 2) for x in (1, 2)]
    assert covered("P3", rounding="exact") == [[y, x] for y in (1, 2, 3) for x in (1, 2, 3)]
    assert covered("P4") == [] and covered("P4", finest_size=8.0) == covered("P3")
    assert covered("P3", finest_size=8.0) == []


def test_where_no_box_is_at_home_the_whole_level_is_background():
    scene = two_images()  # boxes of at most 45 x 34 pixels: all at home on the finest level
    teacher, loss = teacher_of(scene), DeFeat(LEVELS, 4, 4).double()
    assert loss.mask("P3", scene, teacher["P3"]).any() and not loss.mask("P4", scene, teacher["P4"]).any()
    assert raws(loss(scene, teacher))["fg", "P4"] == 0


def test_the_order_in_which_levels_are_named_does_not_matter():
    scene = two_images()
    teacher = teacher_of(scene)
    torch.manual_seed(0)
    first = DeFeat(LEVELS, 4, 4, finest_size=16.0).double()
    turned = DeFeat(LEVELS[::-1], 4, 4, finest_size=16.0).double()
    turned.load_state_dict(first.state_dict())
    assert raws(first(scene, teacher)) == raws(turned(scene, teacher))


def test_the_convolution_is_3x3_everywhere_and_starts_near_0():
    for channels in (3, 4):
        layers = list(DeFeat(LEVELS, channels, 64).align.values())
        assert [tuple(layer.weight.shape) for layer in layers] == [(64, channels, 3, 3)] * 2
        assert all(0.9e-4 < layer.weight.std().item() < 1.1e-4 for layer in layers)


def test_an_unknown_rounding_is_refused():
    with pytest.raises(ValueError, match="rounding must be one of authors, exact, got 'floor'"):
        DeFeat(LEVELS, 4, 4, rounding="floor")
