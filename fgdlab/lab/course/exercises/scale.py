"""Exercises of notebook 10: pixels of a padded batch, FLOPs of the backward pass of a chain with frozen layers."""
from .answers import Case, Verdict, check_answer


def padding_factor(answer) -> Verdict:
    """answer(sizes, divisor): pixels of a batch padded to its largest height and width / pixels of its images."""
    return check_answer(answer, [
        Case("two equal images that fit", ([(64, 96), (64, 96)], 32), 1.0),
        Case("one image of 50 x 70, multiples of 32", ([(50, 70)], 32), 64 * 96 / 3500, hint="round both sides up."),
        Case("800 x 1344 and 1344 x 800", ([(800, 1344), (1344, 800)], 32), 1.68,
             hint="the largest height and the largest width may come from different images."),
        Case("three images", ([(30, 60), (20, 20), (10, 64)], 16), 3 * 32 * 64 / 2840,
             hint="every image of the batch is padded; divide by the pixels of all images."),
    ])


def backward_flops(answer) -> Verdict:
    """answer(forward, first): FLOPs of backward through a chain of layers; those before ``first`` are frozen."""
    return check_answer(answer, [
        Case("all layers trained", ([3.0, 4.0, 5.0], 0), 21.0,
             hint="each layer: gradient of the weights and of the input; the input of the chain needs none."),
        Case("the first two of four frozen", ([3.0, 4.0, 5.0, 6.0], 2), 17.0,
             hint="the first trained layer has no gradient of its input, because all before it is frozen."),
        Case("only the last layer trained", ([3.0, 4.0, 5.0, 6.0], 3), 6.0),
    ])
