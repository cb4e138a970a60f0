"""Exercises of notebook 04: one sum of eq. 9, the attention term of eq. 10, alpha and beta from the sums."""
import torch
from torch import Tensor

from fgdlab.attention import Attention, attention
from fgdlab.focal import attention_term, feature_terms
from fgdlab.masks import FocalMasks

from .answers import Case, Verdict, check_answer


def feature_sum(answer) -> Verdict:
    """answer(student, teacher, mask, spatial, channel): one of the two sums of eq. 9, averaged over the batch."""
    student, teacher = torch.zeros(1, 2, 2, 3), torch.zeros(1, 2, 2, 3)
    teacher[0, 1, 1, 2] = 3.0  # the only error, 9 after squaring, at channel 1, row 1, column 2
    ones = torch.ones(1, 2, 3), torch.ones(1, 2, 3), torch.ones(1, 2)
    mask, spatial, channel = (weight.clone() for weight in ones)
    mask[0, 1, 2], spatial[0, 1, 2], channel[0, 1] = 0.5, 4.0, 1.5
    batch = random_case(3, 4, 2, 5)
    return check_answer(answer, [
        Case("one error of 3, all weights 1", (student, teacher, *ones), 9.0, hint="square the difference, then sum."),
        Case("the same error under a mask of 1/2", (student, teacher, mask, *ones[1:]), 4.5,
             hint="the mask multiplies the squared error once."),
        Case("the same under mask 1/2, A^S 4 and A^C 3/2", (student, teacher, mask, spatial, channel), 27.0,
             hint="9 x 1/2 x 4 x 3/2."),
        Case("three images of 4 channels on a 2 x 5 grid", batch, expected_sum(*batch),
             hint="sum over channels and cells, average over the images."),
    ])


def random_case(n: int, c: int, h: int, w: int) -> tuple[Tensor, ...]:
    """Student, teacher (N, C, H, W), mask and A^S (N, H, W), A^C (N, C)."""
    generator = torch.Generator().manual_seed(4)
    student, teacher = torch.randn(2, n, c, h, w, generator=generator)
    mask = torch.rand(n, h, w, generator=generator) * (torch.rand(n, h, w, generator=generator) > 0.5)
    return student, teacher, mask, *attention(teacher)


def expected_sum(student: Tensor, teacher: Tensor, mask: Tensor, spatial: Tensor, channel: Tensor) -> Tensor:
    masks = FocalMasks(fg=mask, bg=torch.zeros_like(mask))
    return feature_terms(student, teacher, masks, Attention(spatial, channel))[0]


def attention_l1(answer) -> Verdict:
    """answer(student, teacher, temperature): eq. 10 before gamma, from the maps, averaged over the batch."""
    student, teacher = 2 * torch.randn(2, 2, 3, 4, 5, generator=torch.Generator().manual_seed(10))
    step = torch.zeros(1, 2, 1, 2)
    step[..., 0] = torch.log(torch.tensor(3.0))  # G^S = log 3, 0: the softmax at T = 1 is 3/4, 1/4
    expected = attention_term(attention(student, 0.5), attention(teacher, 0.5))
    return check_answer(answer, [
        Case("a student equal to its teacher", (teacher, teacher, 0.5), 0.0, atol=1e-5),
        Case("a teacher of log 3 in one of two cells, a student of 0, T = 1", (torch.zeros_like(step), step, 1.0), 1.0,
             hint="A^S of the teacher is 3/2 and 1/2, of the student 1 and 1; both channels are equal."),
        Case("two images of 3 channels, T = 0.5", (student, teacher, 0.5), expected,
             hint="sum the absolute differences of A^S and of A^C, divide by the number of images; "
                  "pass the temperature to attention()."),
    ])


def weights_by_size(answer) -> Verdict:
    """answer(sums, task_loss): (alpha, beta) that bring the foreground and the background sum to the task loss."""
    three = {"P3": (600.0, 60.0), "P4": (300.0, 30.0), "P5": (100.0, 35.0)}
    return check_answer(answer, [
        Case("one level", ({"P3": (400.0, 50.0)}, 2.0), (0.005, 0.04), hint="alpha = task loss / foreground sum."),
        Case("three levels", (three, 1.5), (1.5e-3, 1.2e-2),
             hint="one alpha for all levels: sum over the levels first."),
    ])
