"""Exercises of notebook 10: pixels of a padded batch, FLOPs of the backward pass of a chain with frozen layers."""
from .answers import exercise


@exercise({
    "two equal images that fit": ([(64, 96), (64, 96)], 32, ""),
    "one image of 50 x 70, multiples of 32": ([(50, 70)], 32, "round both sides up."),
    "800 x 1344 and 1344 x 800": (
        [(800, 1344), (1344, 800)], 32,
        "the largest height and the largest width may come from different images."),
    "three images": (
        [(30, 60), (20, 20), (10, 64)], 16,
        "every image of the batch is padded; divide by the pixels of all images."),
})
def padding_factor(sizes, divisor):
    """Pixels of a batch padded to its largest height and width / pixels of its images."""
    height, width = (-(-max(sides) // divisor) * divisor for sides in zip(*sizes, strict=True))
    return len(sizes) * height * width / sum(h * w for h, w in sizes)


@exercise({
    "all layers trained": (
        [3.0, 4.0, 5.0], 0,
        "each layer: gradient of the weights and of the input; the input of the chain needs none."),
    "the first two of four frozen": (
        [3.0, 4.0, 5.0, 6.0], 2,
        "the first trained layer has no gradient of its input, because all before it is frozen."),
    "only the last layer trained": ([3.0, 4.0, 5.0, 6.0], 3, ""),
})
def backward_flops(forward, first):
    """FLOPs of backward through a chain of layers; those before ``first`` are frozen."""
    return 2 * sum(forward[first:]) - forward[first]
