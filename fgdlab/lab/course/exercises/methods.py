"""Exercises of notebook 08: FGFI's anchors near an object, PKD's correlation, and the gradient at a doubled map."""
import torch

from fgdlab.methods.pkd import normalised

from .answers import exercise, random_maps

IOU = torch.tensor([[0.90, 0.44, 0.45, 0.46, 0.00, 0.10], [0.00, 0.05, 0.02, 0.00, 0.10, 0.049]])
SAME, MAPS, TARGET = random_maps(5, 2, 3, 4, 4), random_maps(8, 2, 3, 2, 4), random_maps(9, 2, 3, 2, 4)


@exercise({
    "one box": (
        IOU[:1], 0.5, "the threshold is psi times the best IoU of the box, 0.45 here; IoU must be above it."),
    "two boxes, one large and one small": (
        IOU, 0.5, "each box has its own threshold; an anchor that is near to any box counts."),
    "psi = 0": (IOU, 0.0, "an anchor that touches a box has IoU above 0; one that touches none has not."),
})
def near_anchors(iou, psi):
    """Which anchors FGFI imitates; IoU (K, A) of every box with every anchor -> (A,) bool."""
    return (iou > psi * iou.amax(dim=1, keepdim=True)).any(dim=0)


@exercise({
    "one image, three channels": (
        random_maps(1, 1, 3, 4, 5), random_maps(2, 1, 3, 4, 5),
        "r = mean(s t) of maps with mean 0 and std 1 per channel; the std divides by n, not n - 1."),
    "three images that differ in brightness": (
        random_maps(3, 3, 4, 2, 3) + torch.arange(3.0)[:, None, None, None], random_maps(4, 3, 4, 2, 3),
        "mean and std go over images and cells together, dims 0, 2 and 3."),
    "the teacher's map, doubled and shifted": (2 * SAME + 3, SAME, "a positive factor and an offset change nothing."),
    "the teacher's map, negated": (-SAME, SAME, ""),
}, rtol=1e-4, atol=1e-4)
def pearson(student, teacher):
    """1 - r averaged over channels; r is Pearson's correlation over images and cells."""
    return (normalised(student) - normalised(teacher)).square().mean() / 2


@exercise({
    "a squared distance": (lambda F: (F - TARGET).square().sum(), MAPS, "two gradients, at F and at 2 F."),
    "a loss that ignores the scale": (lambda F: (F / F.norm() * TARGET).sum(), MAPS, "take the cosine at F."),
    "a cube": (lambda F: F.pow(3).sum() - F.sum(), MAPS, "lengths over all numbers together."),
}, rtol=1e-3, atol=1e-5)
def when_doubled(loss, features):
    """|gradient at 2 F| / |gradient at F|, and the cosine of gradient and F."""
    one, two = (torch.func.grad(loss)(x).flatten() for x in (features, 2 * features))
    return [two.norm() / one.norm(), (one @ features.flatten()) / one.norm() / features.norm()]
