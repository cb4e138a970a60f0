"""Exercises of notebook 04: alpha and beta from the sums, the factor of attention, a padded batch."""
import torch
from torch import Tensor

from fgdlab.attention import attention
from fgdlab.focal import feature_terms
from fgdlab.masks import FocalMasks, focal_masks

from .answers import exercise, random_maps

FLAT, BRIGHT, EVERYWHERE = torch.zeros(1, 2, 1, 4), torch.zeros(1, 2, 1, 4), torch.ones(1, 1, 4)
BRIGHT[..., 0] = 3.0
STUDENT, TEACHER = random_maps(1, 3, 4, 2, 5), 2 * random_maps(2, 3, 4, 2, 5)
MASK = torch.rand(3, 2, 5, generator=torch.Generator().manual_seed(4))
ONE, TWO = [torch.tensor([[8.0, 0, 24, 16]])], [torch.tensor([[0.0, 0, 16, 16]]), torch.tensor([[20.0, 4, 40, 24]])]


@exercise({
    "one level": ({"P3": (400.0, 50.0)}, 2.0, "alpha = task loss / foreground sum."),
    "three levels": (
        {"P3": (600.0, 60.0), "P4": (300.0, 30.0), "P5": (100.0, 35.0)}, 1.5,
        "one alpha for all levels: sum over the levels first."),
})
def weights_by_size(sums, task_loss):
    """(alpha, beta) that bring the foreground and the background sum to the task loss."""
    return tuple(task_loss / sum(of_area) for of_area in zip(*sums.values(), strict=True))


@exercise({
    "a teacher of equal cells": (FLAT, FLAT + 1, EVERYWHERE, 0.5, "attention is 1 everywhere."),
    "all errors where the teacher is bright": (
        FLAT, BRIGHT, EVERYWHERE, 0.5,
        "its attention there is well above 1: weigh the error, then divide by the unweighted sum."),
    "three images, T = 0.5": (
        STUDENT, TEACHER, MASK, 0.5, "the attention is the teacher's; sum over the batch, then divide."),
    "the same at T = 0.1": (STUDENT, TEACHER, MASK, 0.1, "pass T to attention()."),
})
def attention_factor(student, teacher, mask, temperature):
    """A sum of eq. 9 with attention, divided by the same without."""
    masks, weights = FocalMasks(mask, mask), attention(teacher, temperature)
    ones = type(weights)(*map(torch.ones_like, weights))
    return feature_terms(student, teacher, masks, weights)[0] / feature_terms(student, teacher, masks, ones)[0]


@exercise({
    "one image, 4 columns": (
        random_maps(1, 1, 3, 3, 5), random_maps(9, 1, 3, 3, 5), ONE, 4,
        "the frame of the masks grows with the map, so that boxes stay where they are."),
    "two images, 3 columns": (
        random_maps(2, 2, 3, 3, 5), random_maps(9, 2, 3, 3, 5), TWO, 3,
        "the attention is that of the padded teacher: its softmax includes the empty cells."),
    "one image, no column": (random_maps(1, 1, 3, 3, 5), random_maps(9, 1, 3, 3, 5), ONE, 0, ""),
})
def padded_batch(student, teacher, boxes, columns):
    """Both sums of eq. 9 after padding with zeros on the right / before."""
    after, before = (padded_sums(student, teacher, boxes, width) for width in (columns, 0))
    return tuple(a / b for a, b in zip(after, before, strict=True))


def padded_sums(student: Tensor, teacher: Tensor, boxes: list[Tensor], columns: int) -> tuple[Tensor, Tensor]:
    student, teacher = (torch.nn.functional.pad(each, (0, columns)) for each in (student, teacher))
    height, width = teacher.shape[-2:]
    masks = focal_masks(boxes, [(8 * height, 8 * width)] * len(boxes), (height, width), rounding="exact")
    return feature_terms(student, teacher, masks, attention(teacher))
