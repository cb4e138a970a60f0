"""Checkers of notebook 04: one sum of eq. 9, the attention term of eq. 10, weights by the size of the sums."""
import torch
from torch import Tensor

from fgdlab.attention import Attention, attention
from fgdlab.focal import attention_term, feature_terms
from fgdlab.masks import FocalMasks

from .judge import Case, Verdict, judge


def feature_sum(answer) -> Verdict:
    """answer(student, teacher, mask, spatial, channel): one of the two sums of eq. 9, averaged over the batch."""
    student, teacher = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    teacher[0, 1, 1, 2] = 3.0                                        # the only error, 9, at channel 1, row 1, column 2
    ones = torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 2)
    mask, spatial, channel = (each.clone() for each in ones)
    mask[0, 1, 2], spatial[0, 1, 2], channel[0, 1] = 0.5, 4.0, 1.5
    batch = random_case(3, 4, 2, 5)
    return judge(answer, [
        Case("one error of 3, all weights 1", (student, teacher, *ones), 9.0, hint="square the difference, then sum."),
        Case("the same error under a mask of 1/2", (student, teacher, mask, *ones[1:]), 4.5, hint="the mask multiplies the squared error once."),
        Case("the same under mask 1/2, A^S 4 and A^C 3/2", (student, teacher, mask, spatial, channel), 27.0, hint="9 x 1/2 x 4 x 3/2."),
        Case("three images of 4 channels on a 2 x 5 grid", batch, sum_of(*batch), hint="sum over channels and cells, average over the images."),
    ])


def random_case(n: int, c: int, h: int, w: int) -> tuple[Tensor, ...]:
    """Student, teacher (N, C, H, W), mask and A^S (N, H, W), A^C (N, C)."""
    draw = torch.Generator().manual_seed(4)
    student, teacher = torch.randn(2, n, c, h, w, generator=draw)
    mask = torch.rand(n, h, w, generator=draw) * (torch.rand(n, h, w, generator=draw) > 0.5)
    return student, teacher, mask, *attention(teacher)


def sum_of(student: Tensor, teacher: Tensor, mask: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    return feature_terms(student, teacher, FocalMasks(fg=mask, bg=torch.zeros_like(mask)), Attention(spatial, channel))[0]


def attention_l1(answer) -> Verdict:
    """answer(student, teacher, temperature): eq. 10 before gamma, from the maps, averaged over the batch."""
    draw = torch.Generator().manual_seed(10)
    student, teacher = 2 * torch.randn(2, 2, 3, 4, 5, generator=draw)
    step = torch.zeros(1, 2, 1, 2)
    step[..., 0] = torch.log(torch.tensor(3.0))                      # G^S = log 3, 0: at T = 1 the softmax is 3/4, 1/4
    return judge(answer, [
        Case("a student equal to its teacher", (teacher, teacher, 0.5), 0.0, atol=1e-5),
        Case("a teacher of log 3 on one of two cells, an even student, T = 1", (torch.zeros_like(step), step, 1.0), 1.0,
             hint="A^S of the teacher is 3/2 and 1/2, of the student 1 and 1; both channels are alike."),
        Case("two images of 3 channels, T = 0.5", (student, teacher, 0.5), expected_l1(student, teacher, 0.5),
             hint="absolute differences of A^S and of A^C, summed, over the number of images; hand the temperature to attention()."),
    ])


def expected_l1(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    return attention_term(attention(student, temperature), attention(teacher, temperature))


def weights_by_size(answer) -> Verdict:
    """answer(sums, own): (alpha, beta) for which foreground and background, each summed over the levels, weigh as much as the detector's own loss."""
    return judge(answer, [
        Case("one level", ({"P3": (400.0, 50.0)}, 2.0), (0.005, 0.04), hint="alpha = own / foreground sum."),
        Case("three levels", ({"P3": (600.0, 60.0), "P4": (300.0, 30.0), "P5": (100.0, 35.0)}, 1.5), (1.5e-3, 1.2e-2),
             hint="one alpha for all levels: sum over the levels first."),
    ])
