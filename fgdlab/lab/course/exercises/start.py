"""Exercises of notebook 00: IoU of boxes and non-maximum suppression."""
import torch
from torchvision.ops import batched_nms, box_iou

from .answers import exercise

BOX = (10.0, 20.0, 50.0, 40.0)  # 40 x 20 pixels
ROW = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10], [5, 0, 15, 10], [30, 0, 40, 10]])
SCORES, ONE_CLASS = torch.tensor([0.6, 0.9, 0.7, 0.8]), torch.ones(4)
MANY = torch.rand(40, 4, generator=torch.Generator().manual_seed(0)) * 20
MANY[:, 2:] += MANY[:, :2] + 15
MANY_SCORES = torch.linspace(0.1, 0.9, 40)[torch.randperm(40, generator=torch.Generator().manual_seed(1))]


@exercise({
    "a box with itself": (BOX, BOX, ""),
    "a box and the same box moved 10 pixels to the right": (
        BOX, (20.0, 20.0, 60.0, 40.0), "600 of the 800 + 800 - 600 pixels are shared."),
    "a small box inside a large one": ((0.0, 0.0, 40.0, 20.0), (10.0, 5.0, 20.0, 15.0), ""),
    "two boxes side by side": (
        BOX, (70.0, 20.0, 90.0, 40.0), "a negative width means that there is no intersection."),
    "boxes apart in both directions": (
        (0.0, 0.0, 10.0, 10.0), (40.0, 30.0, 60.0, 50.0),
        "two negative sides have a positive product: clip each side at 0 first."),
})
def iou(first, second):
    """IoU of two boxes x1, y1, x2, y2, in 0..1."""
    return box_iou(torch.tensor([first]), torch.tensor([second])).item()


@exercise({
    "three boxes on one object, one on another": (
        ROW, SCORES, ONE_CLASS, 0.5, "keep the box with the highest score, drop those that overlap it, repeat"),
    "a chain: the middle box overlaps both of its neighbours": (
        ROW, torch.tensor([0.9, 0.8, 0.7, 0.1]), ONE_CLASS, 0.5, "a box that was dropped does not drop others"),
    "two classes": (ROW, SCORES, torch.tensor([1, 2, 1, 1]), 0.5, "a box drops boxes of its own class only"),
    "threshold 1": (ROW, SCORES, ONE_CLASS, 1.0, "drop only where IoU is above the threshold"),
    "40 boxes of three classes": (MANY, MANY_SCORES, torch.arange(40) % 3, 0.4, "the order is by score"),
})
def nms(boxes, scores, labels, threshold):
    """Indices of the kept boxes, highest score first.

    boxes: (K, 4) x1, y1, x2, y2; scores, labels: (K,).
    """
    return batched_nms(boxes, scores, labels, threshold)
