"""Checkers of notebook 08: FBKD's attention mask, FGFI's near anchors, and PKD's correlation."""
import torch

from fgdlab.attention import attention
from fgdlab.methods.pkd import normalised

from .judge import Case, Verdict, judge


def maps(*shape: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    """Random maps, far from 0 on average so that F and |F| differ."""
    return scale * (torch.randn(*shape, generator=torch.Generator().manual_seed(seed)) + 0.4)


def fbkd_mask(answer) -> Verdict:
    """answer(student, teacher, temperature): M^S (N, H, W), the mean of both networks' spatial attentions, each H W softmax(mean_c |F| / T)."""
    def of(student, teacher, temperature):
        return (attention(student, temperature).spatial + attention(teacher, temperature).spatial) / 2

    one = (maps(1, 3, 2, 4, seed=1), maps(1, 3, 2, 4, seed=2, scale=2.0), 0.5)
    two = (maps(2, 5, 3, 4, seed=3), maps(2, 5, 3, 4, seed=4, scale=0.5), 0.1)
    other = (maps(1, 2, 3, 3, seed=5), maps(1, 4, 3, 3, seed=6), 1.0)
    return judge(answer, [
        Case("one image at T = 0.5", one, of(*one), hint="one softmax a network over its H W cells, times H W; then the mean of the two maps."),
        Case("two images at T = 0.1", two, of(*two), hint="each image has a softmax of its own, and T divides before the softmax."),
        Case("2 channels against 4", other, of(*other), hint="the mean over channels comes first, so their number does not matter."),
    ])


def near(answer) -> Verdict:
    """answer(iou, psi): which anchors FGFI imitates. iou (K, A) of every box with every anchor -> (A,) bool."""
    iou = torch.tensor([[0.90, 0.44, 0.45, 0.46, 0.00, 0.10], [0.00, 0.05, 0.02, 0.00, 0.10, 0.049]])
    cases = [
        ("one box", iou[:1], 0.5, "the threshold is psi times the best IoU of the box, 0.45 here, and IoU must be above it."),
        ("two boxes, one large and one small", iou, 0.5, "every box has a threshold of its own; an anchor that is near to any box counts."),
        ("psi = 0", iou, 0.0, "every anchor that touches a box is above 0; one that touches none is not."),
    ]
    return judge(answer, [Case(name, (values, psi), nearest(values, psi), hint=hint) for name, values, psi, hint in cases])


def nearest(iou: torch.Tensor, psi: float) -> torch.Tensor:
    return (iou > psi * iou.amax(dim=1, keepdim=True)).any(dim=0)


def pearson(answer) -> Verdict:
    """answer(student, teacher): 1 - r, averaged over channels; r is Pearson's correlation of a channel over images and cells.

    Both are (N, C, H, W), the answer is a scalar.
    """
    def of(student, teacher):
        return (normalised(student) - normalised(teacher)).square().mean() / 2

    one = (maps(1, 3, 4, 5, seed=1), maps(1, 3, 4, 5, seed=2))
    batch = (maps(3, 4, 2, 3, seed=3) + torch.arange(3.0)[:, None, None, None], maps(3, 4, 2, 3, seed=4))
    same = maps(2, 3, 4, 4, seed=5)
    return judge(answer, [
        Case("one image, three channels", one, of(*one), rtol=1e-4,
             hint="r = mean(s t) of maps brought to mean 0 and std 1, channel by channel; the std divides by n, not n - 1."),
        Case("three images that differ in brightness", batch, of(*batch), rtol=1e-4,
             hint="mean and std go over images and cells together, dims 0, 2 and 3."),
        Case("the teacher's map, doubled and shifted", (2 * same + 3, same), torch.tensor(0.0), atol=1e-4,
             hint="a positive factor and an offset change nothing."),
        Case("the teacher's map, negated", (-same, same), torch.tensor(2.0), rtol=1e-4),
    ])
