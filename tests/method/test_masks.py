"""Eqs. 2-4: boxes to weights."""

import pytest
import torch
from torch.testing import assert_close

from fgdlab.masks import box_weights, cell_ranges, focal_masks, unsplit_masks
from tests.helpers import naive

CANVAS, GRID = (80, 80), (10, 10)  # stride 8


def masks_of(*boxes, rounding="exact", canvas=CANVAS, grid=GRID):
    """fg and bg, each (H, W), of one image."""
    masks = focal_masks(
        [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)],
        [canvas],
        grid,
        rounding=rounding,
        dtype=torch.float64,
    )
    return masks.fg[0], masks.bg[0]


def test_masks_equal_the_loops(random_scene, agree):
    for seed in range(200):
        scene, rounding, frame = random_scene(seed), ("authors", "exact")[seed % 2], ("canvas", "image")[seed // 2 % 2]
        frames, grid = scene.frame_sizes(frame), tuple(scene.features["P3"].shape[-2:])
        masks = focal_masks(scene.boxes, frames, grid, rounding=rounding, dtype=torch.float64)
        for n, boxes in enumerate(scene.boxes):
            ranges = [naive.cell_range(box, frames[n], grid, rounding) for box in boxes.tolist()]
            fg, bg = naive.focal_masks(boxes.tolist(), frames[n], grid, rounding)
            agree(masks.fg[n], fg, seed)
            agree(masks.bg[n], bg, seed)
            agree(masks.binary[n], naive.binary_mask(ranges, grid), seed)


def test_random_scenes_hold_every_hard_case(random_scene):
    scenes = [random_scene(seed) for seed in range(200)]
    assert any(len(boxes) == 0 for s in scenes for boxes in s.boxes)
    assert any(size != s.padded_size for s in scenes for size in s.image_sizes)
    assert any((boxes < 0).any() for s in scenes for boxes in s.boxes)
    assert any((boxes[:, 2] > s.padded_size[1]).any() for s in scenes for boxes in s.boxes)
    assert any((boxes % 8 == 0).any() for s in scenes for boxes in s.boxes)


# ---- one fact each ----

def test_a_box_of_one_cell_is_four_cells_to_the_authors():
    one_cell = torch.tensor([[8.0, 16.0, 16.0, 24.0]])
    assert cell_ranges(one_cell, CANVAS, GRID, rounding="exact").tolist() == [[1, 2, 2, 3]]
    assert cell_ranges(one_cell, CANVAS, GRID, rounding="authors").tolist() == [[1, 2, 3, 4]]


def test_a_cell_that_a_box_only_touches_belongs_to_it():
    fg, _ = masks_of((7.9, 7.9, 16.1, 8.1))
    assert fg.nonzero().tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]


def test_rows_come_from_y_and_columns_from_x():
    fg, _ = masks_of((0, 0, 24, 8), canvas=(80, 40), grid=(10, 5))
    assert fg.nonzero().tolist() == [[0, 0], [0, 1], [0, 2]]


@pytest.mark.parametrize("box", [(1, 1, 2, 2), (8, 8, 64, 40), (0, 0, 72, 72)])
@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_a_box_within_the_map_sums_to_one_whatever_its_size(box, rounding):
    fg, _ = masks_of(box, rounding=rounding)
    assert_close(fg.sum().item(), 1.0)


def test_smallest_box_wins_where_boxes_overlap():
    fg, _ = masks_of((0, 0, 64, 64), (8, 8, 16, 16))
    assert fg[1, 1] == 1 and fg[0, 0] == 1 / 64


def test_background_weights_sum_to_one():
    fg, bg = masks_of((8, 8, 40, 40))
    assert_close(bg.sum().item(), 1.0)
    assert bg[0, 0] == 1 / (100 - 16)
    assert not ((fg > 0) & (bg > 0)).any()


def test_a_box_over_the_border_keeps_its_own_area():
    fg, _ = masks_of((72, 72, 104, 104))
    assert fg.count_nonzero() == 1 and fg[9, 9] == 1 / 16


def test_a_box_left_of_the_map_does_not_wrap_round():
    fg, bg = masks_of((-16, 0, -8, 8))
    assert not fg.any() and (bg == 1 / 100).all()


def test_without_boxes_all_is_background():
    fg, bg = masks_of()
    assert not fg.any() and (bg == 1 / 100).all()


@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_a_box_that_covers_the_map_leaves_no_background_and_no_nan(rounding):
    fg, bg = masks_of((0, 0, 80, 80), rounding=rounding)
    assert (fg > 0).all() and (bg == 0).all()


def test_a_box_without_area_on_a_cell_edge_touches_nothing():
    fg, bg = masks_of((16, 16, 16, 16))
    assert not fg.any() and bg.isfinite().all()


def test_one_image_does_not_see_the_boxes_of_another():
    box, none = torch.tensor([[8.0, 8.0, 40.0, 40.0]]), torch.zeros(0, 4)
    masks = focal_masks([box, none], [CANVAS] * 2, GRID)
    assert masks.fg[0].any() and not masks.fg[1].any()
    assert_close(masks.bg.sum(dim=(1, 2)), torch.ones(2))


def test_dividing_by_the_unpadded_size_stretches_the_box():
    box = [torch.tensor([[0.0, 0.0, 40.0, 40.0]])]
    canvas = focal_masks(box, [(80, 80)], GRID, rounding="exact").binary.sum()
    image = focal_masks(box, [(80, 40)], GRID, rounding="exact").binary.sum()
    assert (canvas, image) == (25, 50)


def test_unsplit_weighs_every_cell_the_same():
    masks = unsplit_masks(2, (4, 5))
    assert masks.fg.shape == (2, 4, 5) and (masks.fg == 1 / 20).all() and not masks.bg.any()


# ---- symmetries ----

BOXES = torch.tensor([[3.0, 5.0, 30.0, 25.0], [8.0, 16.0, 72.0, 48.0], [-9.0, 40.0, 12.0, 95.0]])


@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_order_of_boxes_does_not_matter(rounding):
    cells = cell_ranges(BOXES, CANVAS, GRID, rounding=rounding)
    assert torch.equal(box_weights(cells, GRID), box_weights(cells.flip(0), GRID))


def test_order_of_images_only_reorders_the_masks():
    boxes, frames = [BOXES, BOXES[:1], BOXES[:0]], [CANVAS, (64, 80), CANVAS]
    there, back = focal_masks(boxes, frames, GRID), focal_masks(boxes[::-1], frames[::-1], GRID)
    assert torch.equal(there.fg, back.fg.flip(0)) and torch.equal(there.bg, back.bg.flip(0))


def mirror(boxes, width):
    x1, y1, x2, y2 = boxes.unbind(-1)
    return torch.stack([width - x2, y1, width - x1, y2], dim=-1)


def test_exact_masks_of_the_mirrored_scene_are_the_mirrored_masks():
    there, mirrored = (focal_masks([b], [CANVAS], GRID, rounding="exact") for b in (BOXES, mirror(BOXES, 80)))
    assert torch.equal(there.fg.flip(-1), mirrored.fg) and torch.equal(there.bg.flip(-1), mirrored.bg)


def test_authors_masks_are_not_mirror_images():
    there, mirrored = (focal_masks([b], [CANVAS], GRID, rounding="authors") for b in (BOXES, mirror(BOXES, 80)))
    assert not torch.equal(there.fg.flip(-1), mirrored.fg)


def test_exact_masks_of_the_transposed_scene_are_the_transposed_masks():
    there = focal_masks([BOXES], [(80, 120)], (10, 15), rounding="exact")
    turned = focal_masks([BOXES[:, [1, 0, 3, 2]]], [(120, 80)], (15, 10), rounding="exact")
    assert torch.equal(there.fg.transpose(1, 2), turned.fg)


# ---- errors ----

def test_errors_name_the_shape_and_the_rounding():
    with pytest.raises(ValueError, match=r"\(K, 4\), got \(4,\)"):
        cell_ranges(torch.zeros(4), CANVAS, GRID)
    with pytest.raises(ValueError, match="authors, exact, got 'floor'"):
        cell_ranges(BOXES, CANVAS, GRID, rounding="floor")


def test_transposed_masks_are_those_of_boxes_with_x_and_y_exchanged():
    boxes, frame, grid = torch.tensor([[10.0, 0.0, 30.0, 50.0]]), (96, 96), (12, 12)
    swapped = focal_masks([boxes[:, [1, 0, 3, 2]]], [frame], grid)
    transposed = focal_masks([boxes], [frame], grid, axes="yx")
    assert torch.equal(transposed.fg, swapped.fg) and torch.equal(
        transposed.fg[0], focal_masks([boxes], [frame], grid).fg[0].T
    )
    assert not torch.equal(transposed.fg, focal_masks([boxes], [frame], grid).fg)


def test_transposed_masks_on_a_wide_map_lose_what_falls_off_its_lower_edge():
    boxes = torch.tensor([[80.0, 0.0, 96.0, 16.0]])  # columns 10 and 11 of a map with six rows
    masks = focal_masks([boxes], [(48, 96)], (6, 12), axes="yx", rounding="exact")
    assert masks.fg.sum() == 0 and masks.bg.sum() == pytest.approx(1)


def test_unknown_axes_are_refused():
    with pytest.raises(ValueError, match="xy, yx"):
        focal_masks([torch.zeros(0, 4)], [(8, 8)], (4, 4), axes="rows")
