"""The baseline of the loss benchmark: FGD's sums one after the other, box by box and factor by factor."""
import math

import torch
from torch import Tensor


def plain_masks(boxes: list[Tensor], frame: tuple[int, int], grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """fg and bg (N, H, W) of eqs. 2-4 with the authors' rounding, one box at a time on the CPU."""
    foreground, background = [], []
    for of_image in boxes:
        fg = torch.zeros(grid)
        for x1, y1, x2, y2 in of_image.tolist():
            left, right = math.floor(x1 / frame[1] * grid[1]), math.ceil(x2 / frame[1] * grid[1])
            top, bottom = math.floor(y1 / frame[0] * grid[0]), math.ceil(y2 / frame[0] * grid[0])
            weight = 1 / ((bottom - top + 1) * (right - left + 1))
            inside = fg[top:bottom + 1, left:right + 1]
            inside.copy_(inside.clamp(min=weight))
        bg = (fg <= 0).float()
        foreground.append(fg)
        background.append(bg / bg.sum() if bg.sum() > 0 else bg)
    return torch.stack(foreground), torch.stack(background)


def plain_fgd(
    student: Tensor, teacher: Tensor, boxes: list[Tensor], frame: tuple[int, int], temperature: float = 0.5,
) -> tuple[Tensor, Tensor, Tensor]:
    """Foreground, background and attention sums of one level, averaged over the batch; one pass per factor."""
    n, c, h, w = student.shape
    fg, bg = (mask.to(student.device) for mask in plain_masks(boxes, frame, (h, w)))

    def spatial(maps: Tensor) -> Tensor:
        return h * w * torch.softmax((maps.abs().mean(dim=1) / temperature).view(n, -1), dim=1).view(n, h, w)

    def channel(maps: Tensor) -> Tensor:
        return c * torch.softmax(maps.abs().mean(dim=(2, 3)) / temperature, dim=1)

    a_spatial, a_channel = spatial(teacher)[:, None], channel(teacher)[:, :, None, None]
    sums = []
    for mask in (fg[:, None], bg[:, None]):
        weighted_student = student * a_spatial.sqrt() * a_channel.sqrt() * mask.sqrt()
        weighted_teacher = teacher * a_spatial.sqrt() * a_channel.sqrt() * mask.sqrt()
        sums.append((weighted_student - weighted_teacher).square().sum() / n)
    attention = sum((part(student) - part(teacher)).abs().sum() for part in (spatial, channel)) / n
    return sums[0], sums[1], attention
