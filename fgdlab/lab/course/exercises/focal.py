"""Exercises of notebook 04: alpha and beta from the sums, the factor of attention, a padded batch."""
import torch
from torch import Tensor

from fgdlab.attention import attention
from fgdlab.focal import feature_terms
from fgdlab.masks import FocalMasks, focal_masks

from .answers import Case, Verdict, check_answer, random_maps


def weights_by_size(answer) -> Verdict:
    """answer(sums, task_loss): (alpha, beta) that bring the foreground and the background sum to the task loss."""
    three = {"P3": (600.0, 60.0), "P4": (300.0, 30.0), "P5": (100.0, 35.0)}
    return check_answer(answer, [
        Case("one level", ({"P3": (400.0, 50.0)}, 2.0), (0.005, 0.04), hint="alpha = task loss / foreground sum."),
        Case("three levels", (three, 1.5), (1.5e-3, 1.2e-2),
             hint="one alpha for all levels: sum over the levels first."),
    ])


def attention_factor(answer) -> Verdict:
    """answer(student, teacher, mask, temperature): a sum of eq. 9 with attention, divided by the same without."""
    flat, bright = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4)
    bright[..., 0] = 3.0
    everywhere, batch = torch.ones(1, 1, 4), (random_maps(1, 3, 4, 2, 5), 2 * random_maps(2, 3, 4, 2, 5))
    mask = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(4))
    return check_answer(answer, [
        Case("a teacher of equal cells", (flat, flat + 1, everywhere, 0.5), 1.0, hint="attention is 1 everywhere."),
        Case("all errors where the teacher is bright", (flat, bright, everywhere, 0.5), factor(flat, bright, everywhere,
             0.5), hint="its attention there is well above 1: weigh the error, then divide by the unweighted sum."),
        Case("three images, T = 0.5", (*batch, mask, 0.5), factor(*batch, mask, 0.5),
             hint="the attention is the teacher's; sum over the batch, then divide."),
        Case("the same at T = 0.1", (*batch, mask, 0.1), factor(*batch, mask, 0.1), hint="pass T to attention()."),
    ])


def factor(student: Tensor, teacher: Tensor, mask: Tensor, temperature: float) -> Tensor:
    masks, weights = FocalMasks(mask, mask), attention(teacher, temperature)
    ones = type(weights)(*(torch.ones_like(each) for each in weights))
    return feature_terms(student, teacher, masks, weights)[0] / feature_terms(student, teacher, masks, ones)[0]


def padded_batch(answer) -> Verdict:
    """answer(student, teacher, boxes, columns): both sums of eq. 9 after padding with zeros on the right / before."""
    one, two = [torch.tensor([[8.0, 0, 24, 16]])], [torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[20.0, 4, 40, 24]])]
    hints = ("the frame of the masks grows with the map, so that boxes stay where they are.",
             "the attention is that of the padded teacher: its softmax includes the empty cells.")
    cases = []
    for n, boxes, columns, hint in ((1, one, 4, hints[0]), (2, two, 3, hints[1]), (1, one, 0, "")):
        maps = random_maps(n, n, 3, 3, 5), random_maps(9, n, 3, 3, 5)
        cases.append(Case(f"{n} images, {columns} columns", (*maps, boxes, columns),
                          tuple(a / b for a, b in zip(padded_sums(*maps, boxes, columns), padded_sums(*maps, boxes, 0),
                                                      strict=True)), hint=hint))
    return check_answer(answer, cases)


def padded_sums(student: Tensor, teacher: Tensor, boxes: list[Tensor], columns: int) -> tuple[Tensor, Tensor]:
    student, teacher = (torch.nn.functional.pad(each, (0, columns)) for each in (student, teacher))
    height, width = teacher.shape[-2:]
    masks = focal_masks(boxes, [(8 * height, 8 * width)] * len(boxes), (height, width), rounding="exact")
    return feature_terms(student, teacher, masks, attention(teacher))
