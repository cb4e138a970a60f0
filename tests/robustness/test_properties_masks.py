"""Masks of any boxes on any grid (eqs. 2-4) equal the naive loop, and follow boxes that are transposed, mirrored,
scaled or reordered.
"""
from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgdlab.config import AXES, ROUNDINGS
from fgdlab.masks import focal_masks
from tests.helpers import property_profiles  # noqa: F401
from tests.robustness.mask_boxes import IMPLEMENTATIONS, differing, naive_masks

SIDES = st.integers(1, 8)                                            # cells
WORDS = {"rounding": st.sampled_from(ROUNDINGS), "axes": st.sampled_from(AXES)}


def boxes_within(height: float, width: float, step: float | None = None):
    """Lists of boxes near an image of that size, over its border too; on multiples of ``step`` pixels if one is
    given."""
    def number(low, high):
        return st.integers(
            int(low / step), int(high / step),
        ).map(lambda n: n * step) if step else st.floats(low, high, width=32)

    corner = st.tuples(
        number(-width / 2, 1.5 * width), number(-height / 2, 1.5 * height), number(0, width), number(0, height),
    )
    return st.lists(corner.map(lambda box: (box[0], box[1], box[0] + box[2], box[1] + box[3])), max_size=5)


def tensor(boxes) -> torch.Tensor:
    return torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)


def masks(boxes, frame, grid, implementation=focal_masks, **words):
    """(fg, bg) of one image."""
    both = implementation([tensor(boxes)], [frame], grid, dtype=torch.float64, **words)
    return both.fg[0], both.bg[0]


def same(a, b) -> None:
    assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("implementation", IMPLEMENTATIONS)
@given(data=st.data(), grid=st.tuples(SIDES, SIDES), stride=st.sampled_from([4, 8, 13]), **WORDS)
def test_every_implementation_of_the_masks_equals_the_loop_to_the_last_bit(
    implementation, data, grid, stride, rounding, axes,
):
    frame = (stride * grid[0], stride * grid[1])
    boxes = data.draw(boxes_within(*frame))
    slow = naive_masks(boxes, frame, grid, rounding, axes)
    same(
        masks(boxes, frame, grid, IMPLEMENTATIONS[implementation], rounding=rounding, axes=axes),
        map(tensor_of_rows, slow),
    )


def tensor_of_rows(rows) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.float64)


def test_random_sets_of_boxes_are_the_loop_in_batches_with_frames_of_their_own():
    counts, rng = Counter(), np.random.default_rng(17)
    assert [each for _ in range(25) for each in differing(rng, 4, counts)] == []
    assert (
        counts["sets"] == 100
        and min(
            counts[kind]
            for kind in (*ROUNDINGS, *AXES, "float32", "float64", "one frame per image", "one canvas", "without a box")
        ) > 0
    )


@given(data=st.data(), grid=st.tuples(SIDES, SIDES), **WORDS)
def test_background_sums_to_1_or_is_gone_and_shares_no_cell_with_the_foreground(data, grid, rounding, axes):
    frame = (8 * grid[0], 8 * grid[1])
    fg, bg = masks(data.draw(boxes_within(*frame)), frame, grid, rounding=rounding, axes=axes)
    assert ((fg > 0) ^ (bg > 0)).all() and (fg <= 1).all()
    assert bg.sum().item() == pytest.approx(float((bg > 0).any()))


@given(data=st.data(), grid=st.tuples(SIDES, SIDES), **WORDS)
def test_order_and_repetition_of_boxes_do_not_matter(data, grid, rounding, axes):
    frame = (8 * grid[0], 8 * grid[1])
    boxes = data.draw(boxes_within(*frame))
    other = data.draw(st.permutations(boxes)) + (boxes[:1] if data.draw(st.booleans()) else [])
    same(
        masks(other, frame, grid, rounding=rounding, axes=axes),
        masks(boxes, frame, grid, rounding=rounding, axes=axes),
    )


@given(data=st.data(), grid=st.tuples(SIDES, SIDES), factor=st.sampled_from([0.25, 2.0, 8.0]), **WORDS)
def test_boxes_and_frame_scaled_alike_give_the_same_masks(data, grid, factor, rounding, axes):
    frame = (8 * grid[0], 8 * grid[1])
    boxes = data.draw(boxes_within(*frame))
    scaled = [tuple(factor * each for each in box) for box in boxes]
    same(
        masks(scaled, (factor * frame[0], factor * frame[1]), grid, rounding=rounding, axes=axes),
        masks(boxes, frame, grid, rounding=rounding, axes=axes),
    )


@given(
    data=st.data(), power=st.tuples(st.integers(0, 3), st.integers(0, 3)),
    side=st.sampled_from(["left-right", "up-down"]),
)
def test_mirrored_boxes_give_mirrored_masks_with_exact_rounding(data, power, side):
    grid = tuple(2**each for each in power)                          # powers of 2, so that no division rounds
    height, width = 8 * grid[0], 8 * grid[1]
    boxes = data.draw(boxes_within(height, width, step=0.25))
    if side == "left-right":
        mirrored, axis = [(width - x2, y1, width - x1, y2) for x1, y1, x2, y2 in boxes], 1
    else:
        mirrored, axis = [(x1, height - y2, x2, height - y1) for x1, y1, x2, y2 in boxes], 0
    there = masks(mirrored, (height, width), grid, rounding="exact")
    same([each.flip(axis) for each in there], masks(boxes, (height, width), grid, rounding="exact"))


def test_the_authors_extra_cell_makes_mirrored_masks_differ():
    there, here = masks([(8, 0, 16, 8)], (32, 32), (4, 4)), masks([(16, 0, 24, 8)], (32, 32), (4, 4))
    assert not torch.equal(there[0].flip(1), here[0])


@given(data=st.data(), grid=st.tuples(SIDES, SIDES), rounding=WORDS["rounding"])
def test_transposed_boxes_give_transposed_masks_and_yx_is_that_on_a_square(data, grid, rounding):
    frame = (8 * grid[0], 8 * grid[1])
    boxes = data.draw(boxes_within(*frame))
    turned = [(y1, x1, y2, x2) for x1, y1, x2, y2 in boxes]
    here = masks(boxes, frame, grid, rounding=rounding)
    same([each.T for each in masks(turned, frame[::-1], grid[::-1], rounding=rounding)], here)
    if grid[0] == grid[1]:
        same([each.T for each in masks(boxes, frame, grid, rounding=rounding, axes="yx")], here)


@given(data=st.data(), grid=st.tuples(SIDES, SIDES), order=st.permutations(range(3)), **WORDS)
def test_images_of_a_batch_do_not_see_each_other(data, grid, order, rounding, axes):
    frames = [(8 * grid[0], 8 * grid[1]), (8 * grid[0], 5 * grid[1]), (6 * grid[0], 8 * grid[1])]
    boxes = [tensor(data.draw(boxes_within(*frame))) for frame in frames]
    batch = focal_masks(
        [boxes[i] for i in order], [frames[i] for i in order], grid, dtype=torch.float64, rounding=rounding, axes=axes,
    )
    for place, i in enumerate(order):
        same(
            (batch.fg[place], batch.bg[place]), masks(boxes[i].tolist(), frames[i], grid, rounding=rounding, axes=axes),
        )
