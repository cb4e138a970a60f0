"""Exercises of notebook 08: FBKD's attention mask, FGFI's anchors near an object, and PKD's correlation."""
import torch

from fgdlab.attention import attention
from fgdlab.methods.pkd import normalised

from .answers import Case, Verdict, check_answer, random_maps


def fbkd_mask(answer) -> Verdict:
    """answer(student, teacher, temperature): M^S (N, H, W), the mean of both spatial attentions."""
    def expected(student, teacher, temperature):
        return (attention(student, temperature).spatial + attention(teacher, temperature).spatial) / 2

    one = (random_maps(1, 1, 3, 2, 4), 2.0 * random_maps(2, 1, 3, 2, 4), 0.5)
    two = (random_maps(3, 2, 5, 3, 4), 0.5 * random_maps(4, 2, 5, 3, 4), 0.1)
    other = (random_maps(5, 1, 2, 3, 3), random_maps(6, 1, 4, 3, 3), 1.0)
    return check_answer(answer, [
        Case("one image at T = 0.5", one, expected(*one),
             hint="one softmax per network over its H W cells, times H W; then the mean of the two maps."),
        Case("two images at T = 0.1", two, expected(*two),
             hint="each image has its own softmax, and T divides before the softmax."),
        Case("2 channels against 4", other, expected(*other),
             hint="the mean over channels comes first, so their number does not matter."),
    ])


def near_anchors(answer) -> Verdict:
    """answer(iou, psi): which anchors FGFI imitates; IoU (K, A) of every box with every anchor -> (A,) bool."""
    iou = torch.tensor([[0.90, 0.44, 0.45, 0.46, 0.00, 0.10], [0.00, 0.05, 0.02, 0.00, 0.10, 0.049]])
    cases = [
        ("one box", iou[:1], 0.5,
         "the threshold is psi times the best IoU of the box, 0.45 here; IoU must be above it."),
        ("two boxes, one large and one small", iou, 0.5,
         "each box has its own threshold; an anchor that is near to any box counts."),
        ("psi = 0", iou, 0.0, "an anchor that touches a box has IoU above 0; one that touches none has not."),
    ]
    return check_answer(answer, [
        Case(name, (values, psi), (values > psi * values.amax(dim=1, keepdim=True)).any(dim=0), hint=hint)
        for name, values, psi, hint in cases
    ])


def pearson(answer) -> Verdict:
    """answer(student, teacher): 1 - r averaged over channels; r is Pearson's correlation over images and cells."""
    def expected(student, teacher):
        return (normalised(student) - normalised(teacher)).square().mean() / 2

    one = (random_maps(1, 1, 3, 4, 5), random_maps(2, 1, 3, 4, 5))
    batch = (random_maps(3, 3, 4, 2, 3) + torch.arange(3.0)[:, None, None, None], random_maps(4, 3, 4, 2, 3))
    same = random_maps(5, 2, 3, 4, 4)
    return check_answer(answer, [
        Case("one image, three channels", one, expected(*one), rtol=1e-4,
             hint="r = mean(s t) of maps with mean 0 and std 1 per channel; the std divides by n, not n - 1."),
        Case("three images that differ in brightness", batch, expected(*batch), rtol=1e-4,
             hint="mean and std go over images and cells together, dims 0, 2 and 3."),
        Case("the teacher's map, doubled and shifted", (2 * same + 3, same), torch.tensor(0.0), atol=1e-4,
             hint="a positive factor and an offset change nothing."),
        Case("the teacher's map, negated", (-same, same), torch.tensor(2.0), rtol=1e-4),
    ])
