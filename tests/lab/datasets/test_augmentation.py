"""Views of training images: pixels, boxes and masks move together."""
import pytest
import torch
from torch.testing import assert_close

from fgdlab.lab.datasets.augmentation import PADDING, VISIBLE, Augmentation

CANVAS = (60, 80)
BOXES = torch.tensor([[10.0, 20.0, 30.0, 40.0], [50.0, 5.0, 70.0, 50.0]])


def painted(size=CANVAS, boxes=BOXES):
    """A black image whose boxes are white, and their masks."""
    masks = torch.zeros(len(boxes), *size, dtype=torch.uint8)
    for mask, (left, top, right, bottom) in zip(masks, boxes.int().tolist(), strict=True):
        mask[top:bottom, left:right] = 1
    return (255 * masks.amax(0)).expand(3, *size).contiguous() if len(boxes) else torch.zeros(3, *size).byte(), masks


def views(augmentation, count=40, size=CANVAS, canvas=CANVAS):
    image, masks = painted(size)
    return [augmentation.view(image, BOXES, masks, canvas, [0, n, 1]) for n in range(count)]


@pytest.mark.parametrize("augmentation", [Augmentation(0.5), Augmentation(0.5, zoom=0.5), Augmentation(zoom=1.0)])
def test_boxes_and_masks_cover_the_same_pixels_in_every_view(augmentation):
    for image, boxes, masks, kept in views(augmentation):
        assert len(boxes) == len(masks) == int(kept.sum())
        for box, mask in zip(boxes, masks, strict=True):
            rows, columns = mask.nonzero().unbind(1)
            extent = torch.stack([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
            assert_close(box, extent.float(), atol=1.5, rtol=0)        # a resized mask has whole pixels
            assert image[0][mask.bool()].float().mean() > 200


def test_with_zoom_every_view_has_the_size_of_the_canvas_and_the_mean_colour_around():
    for image, boxes, _, _ in views(Augmentation(zoom=0.5), size=(40, 50)):
        assert image.shape == (3, *CANVAS) and image.dtype == torch.uint8
        assert (boxes[:, :2] >= 0).all() and (boxes[:, 2:] <= torch.tensor([80.0, 60.0])).all()
    mean = torch.tensor(PADDING)[:, None, None]
    assert any((image == mean).all(0).any() for image, *_ in views(Augmentation(zoom=0.5)))


def test_zoom_makes_boxes_larger_and_smaller_by_at_most_its_factor():
    sides = torch.cat([(boxes[:, 2:] - boxes[:, :2])[kept.nonzero()[:, 0] == 0] for _, boxes, _, kept in
                       views(Augmentation(zoom=0.5)) if len(boxes) and kept[0]])
    assert 20 / 1.5 - 1 <= sides.amax(1).min() < 17 and 24 < sides.max() <= 20 * 1.5 + 1


def test_a_box_that_is_mostly_out_of_view_is_left_out_with_its_mask():
    dropped = 0
    for _, boxes, masks, kept in views(Augmentation(zoom=1.0), 80):
        dropped += int((~kept).sum())
        assert len(boxes) == len(masks) and (kept.sum() == len(boxes))
    assert dropped > 5 and 0 < VISIBLE < 1


def test_colour_changes_pixels_and_nothing_else():
    image, masks = painted()
    image = image // 2 + 20
    seen, boxes, moved, kept = Augmentation(colour=0.4).view(image, BOXES, masks, CANVAS, [0, 0, 1])
    assert not torch.equal(seen, image) and torch.equal(boxes, BOXES) and torch.equal(moved, masks) and kept.all()


def test_an_image_without_boxes_has_views_too():
    image, masks = painted(boxes=BOXES[:0])
    _, boxes, masks, kept = Augmentation(0.5, 0.5, 0.4).view(image, BOXES[:0], masks, CANVAS, [0, 0, 1])
    assert boxes.shape == (0, 4) and len(masks) == len(kept) == 0


def test_a_view_depends_on_its_key_alone_and_leaves_random_numbers_as_they_are():
    augmentation, (image, masks) = Augmentation(0.5, 0.5, 0.4), painted()
    torch.manual_seed(1)
    state = torch.get_rng_state()
    first = augmentation.view(image, BOXES, masks, CANVAS, [3, 4, 5])
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(2)
    again, other = (augmentation.view(image, BOXES, masks, CANVAS, key) for key in ([3, 4, 5], [3, 4, 6]))
    assert all(torch.equal(one, two) for one, two in zip(first, again, strict=True))
    assert not torch.equal(first[0], other[0])


def test_a_bounded_number_of_views_comes_again_for_every_seed():
    augmentation = Augmentation(0.5, views=3)
    assert augmentation.key(7, 4) == augmentation.key(8, 1) == [0, 1] and Augmentation(0.5).key(7, 4) == [7, 4]


def test_views_of_a_data_set_have_one_size_and_say_which_view_they_are(tiny_scenes):
    dataset = tiny_scenes()
    dataset.augment(Augmentation(0.5, 0.3, 0.2, views=2), seed=5, epoch=3)
    image, target = dataset[0]
    again, repeated = dataset.as_bytes(0, epoch=1)
    assert image.shape[1:] == dataset.canvas and int(target["view"]) == 1 and torch.equal(image, again / 255)
    assert torch.equal(target["boxes"], repeated["boxes"]) and len(target["labels"]) == len(target["boxes"])
    assert not torch.equal(again, dataset.as_bytes(0, epoch=2)[0])
