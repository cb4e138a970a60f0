"""Exercises of notebook 10: values in a pyramid, FLOPs of a distillation step, hours of a sweep."""
from .answers import Case, Verdict, check_answer

LEVELS = (8, 16, 32, 64, 128)


def map_values(answer) -> Verdict:
    """answer(height, width, channels, strides): numbers in all maps of one image, grids rounded up."""
    full = 256 * (100 * 168 + 50 * 84 + 25 * 42 + 13 * 21 + 7 * 11)
    return check_answer(answer, [
        Case("one level of stride 8 on 128 x 128, one channel", (128, 128, 1, (8,)), 256),
        Case("P3 and P4 on 128 x 192, 48 channels", (128, 192, 48, (8, 16)), 48 * (16 * 24 + 8 * 12),
             hint="sum the cells of all levels, then multiply by C."),
        Case("P3 to P7 on 800 x 1344, 256 channels", (800, 1344, 256, LEVELS), full,
             hint="800 / 64 is 12.5: a grid is rounded up, to 13 rows."),
    ])


def step_flops(answer) -> Verdict:
    """answer(student, teacher, cached): FLOPs of one distillation step from those of one forward pass of each network.

    Backward costs twice the forward; the teacher runs forward only, and not at all where its maps are cached.
    """
    return check_answer(answer, [
        Case("student 10, teacher 40, not cached", (10.0, 40.0, False), 70.0,
             hint="the student runs forward and backward, the teacher forward only."),
        Case("student 10, teacher 40, cached", (10.0, 40.0, True), 30.0, hint="a cached teacher does not run."),
        Case("no teacher", (25.0, 0.0, False), 75.0),
    ])


def sweep_hours(answer) -> Verdict:
    """answer(rows, seeds, images, epochs, images_per_second): hours of training for all runs, one after the other."""
    coco = (5, 3, 118_287, 24, 100.0)
    return check_answer(answer, [
        Case("one run of one epoch of 3600 images at 1 image per second", (1, 1, 3600, 1, 1.0), 1.0),
        Case("the same for 2 epochs", (1, 1, 3600, 2, 1.0), 2.0, hint="every epoch reads all images."),
        Case("5 rows, 3 seeds, 3600 images, 2 epochs, 120 images per second", (5, 3, 3600, 2, 120.0), 0.25,
             hint="15 runs of 60 seconds each."),
        Case("5 rows, 3 seeds, COCO, 24 epochs, 100 images per second", coco, 5 * 3 * 118_287 * 24 / 100 / 3600),
    ])
