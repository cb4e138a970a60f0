"""The level of a box, and the cells that it covers there."""
import pytest
import torch

from fgdlab.masks import cell_ranges
from fgdlab.methods.boxes import assigned_levels, cells_of_level, floored_cells, level_index
from tests.helpers.method_maps import LEVELS, assigned_level


def square(size, left=0.0):
    return [left, 0.0, left + size, size]


def test_a_level_has_the_boxes_of_one_doubling_in_size():
    sizes = [0, 10, 55.9, 56, 111.9, 112, 223.9, 224, 447, 448, 5000]
    assert assigned_levels(torch.tensor([square(size) for size in sizes]), 4).tolist() == [
        0,
        0,
        0,
        0,
        0,
        1,
        1,
        2,
        2,
        3,
        3,
    ]
    assert assigned_levels(torch.tensor([square(100.0)]), 4, finest_size=14.0).tolist() == [2]
    assert assigned_levels(torch.zeros(0, 4), 4).shape == (0,)


def test_size_is_the_root_of_the_area():
    assert assigned_levels(torch.tensor([[0.0, 0.0, 112.0 * 4, 112.0 / 4]]), 4).tolist() == [1]


def test_assigned_levels_equal_the_loops(random_scene):
    for seed in range(50):
        for boxes in random_scene(seed).boxes:
            assert assigned_levels(boxes, 3, 14.0).tolist() == [assigned_level(box, 3, 14.0) for box in boxes.tolist()]


def authors_slices(box, stride, grid):
    """The integer arithmetic of the authors' code: rows ly:ry and columns lx:rx, or the one cell (ly, lx)."""
    lx, rx = max(int(box[0] / stride), 0), min(int(box[2] / stride), grid[1])
    ly, ry = max(int(box[1] / stride), 0), min(int(box[3] / stride), grid[0])
    if lx == rx or ly == ry:
        return lx, ly, lx + 1, ly + 1
    return lx, ly, rx, ry


def test_floored_cells_are_the_authors_slices(random_scene):
    seen = 0
    for seed in range(100):
        scene = random_scene(seed)
        for level, stride in (("P3", 8), ("P4", 16)):
            grid = tuple(scene.features[level].shape[-2:])
            for boxes in scene.boxes:
                expected = [list(authors_slices(box, stride, grid)) for box in boxes.tolist()]
                assert floored_cells(boxes, scene.padded_size, grid).tolist() == expected
                seen += len(boxes)
    assert seen > 100


def test_the_last_partly_covered_cell_is_left_out_and_a_thin_box_keeps_one_cell():
    boxes = torch.tensor([[8.0, 8.0, 31.0, 31.0], [9.0, 9.0, 15.0, 60.0], [0.0, 0.0, 64.0, 48.0]])
    assert floored_cells(boxes, (48, 64), (6, 8)).tolist() == [[1, 1, 3, 3], [1, 1, 2, 2], [0, 0, 8, 6]]


def test_cells_of_a_level_are_those_of_its_own_boxes(random_scene):
    scene = random_scene(4)
    grid = tuple(scene.features["P3"].shape[-2:])
    for index, level in enumerate(LEVELS):
        cells = cells_of_level(scene, scene.features["P3"], level, LEVELS, 16.0, "exact")
        assert cells.shape == (2, max(len(boxes) for boxes in scene.boxes), 4)
        for of_image, boxes in zip(cells, scene.boxes, strict=True):
            everywhere = cell_ranges(boxes, scene.padded_size, grid, rounding="exact")
            on_level = torch.tensor([assigned_level(box, 2, 16.0) == index for box in boxes.tolist()])
            assert torch.equal(of_image[: len(boxes)], everywhere * on_level[:, None])
            assert not of_image[len(boxes):].any()
    assert torch.equal(
        cells_of_level(scene, scene.features["P3"], "P4", LEVELS, None, "exact")[0], all_cells(scene, grid)
    )


def all_cells(scene, grid):
    cells = [cell_ranges(boxes, scene.padded_size, grid, rounding="exact") for boxes in scene.boxes]
    return torch.nn.utils.rnn.pad_sequence(cells, batch_first=True)[0]


@pytest.mark.parametrize("order", [("P3", "P4", "P10"), ("P10", "P3", "P4")])
def test_the_finest_level_is_the_first_whatever_the_order(order):
    assert [level_index(level, order) for level in ("P3", "P4", "P10")] == [0, 1, 2]


def test_levels_without_numbers_are_in_the_order_that_they_are_given_in():
    assert [level_index(level, ("fine", "coarse")) for level in ("fine", "coarse")] == [0, 1]
    assert [level_index(level, ("P4", "P5", "P5b")) for level in ("P4", "P5", "P5b")] == [0, 1, 2]
