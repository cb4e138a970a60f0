"""Exercises of notebook 00: IoU of boxes and non-maximum suppression."""
import torch
from torchvision.ops import batched_nms

from .answers import Case, Verdict, check_answer

BOX = (10.0, 20.0, 50.0, 40.0)  # 40 x 20 pixels



def iou(answer) -> Verdict:
    """answer(first, second): IoU of two boxes x1, y1, x2, y2, in 0..1."""
    return check_answer(answer, [
        Case("a box with itself", (BOX, BOX), 1.0),
        Case("a box and the same box moved 10 pixels to the right", (BOX, (20.0, 20.0, 60.0, 40.0)), 0.6,
             hint="600 of the 800 + 800 - 600 pixels are shared."),
        Case("a small box inside a large one", ((0.0, 0.0, 40.0, 20.0), (10.0, 5.0, 20.0, 15.0)), 0.125),
        Case("two boxes side by side", (BOX, (70.0, 20.0, 90.0, 40.0)), 0.0,
             hint="a negative width means that there is no intersection."),
        Case("boxes apart in both directions", ((0.0, 0.0, 10.0, 10.0), (40.0, 30.0, 60.0, 50.0)), 0.0,
             hint="two negative sides have a positive product: clip each side at 0 first."),
    ])


def nms(answer) -> Verdict:
    """answer(boxes, scores, labels, threshold): indices of the kept boxes, highest score first.

    boxes: (K, 4) x1, y1, x2, y2; scores, labels: (K,).
    """
    row = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [30, 0, 40, 10]])
    many = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) * 20
    many[:, 2:] += many[:, :2] + 15
    cases = [
        (row, [0.6, 0.9, 0.7, 0.8], [1, 1, 1, 1], 0.5, "three boxes on one object, one on another",
         "keep the box with the highest score, drop those that overlap it, repeat"),
        (row, [0.9, 0.8, 0.7, 0.1], [1, 1, 1, 1], 0.5, "a chain: the middle box overlaps both of its neighbours",
         "a box that was dropped does not drop others"),
        (row, [0.6, 0.9, 0.7, 0.8], [1, 2, 1, 1], 0.5, "two classes", "a box drops boxes of its own class only"),
        (row, [0.6, 0.9, 0.7, 0.8], [1, 1, 1, 1], 1.0, "threshold 1", "drop only where IoU is above the threshold"),
        (many, torch.linspace(0.1, 0.9, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(1))].tolist(),
         [k % 3 for k in range(40)], 0.4, "40 boxes of three classes", "the order is by score"),
    ]
    tensors = [((boxes, torch.tensor(scores), torch.tensor(labels), threshold), name, hint)
               for boxes, scores, labels, threshold, name, hint in cases]
    return check_answer(answer, [Case(name, args, batched_nms(*args), hint=hint) for args, name, hint in tensors])
