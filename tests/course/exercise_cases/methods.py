"""Answers to the exercises of notebook 08."""
import torch


def softmax_map(magnitude, temperature):
    return magnitude[0].numel() * torch.softmax(magnitude.flatten(1) / temperature, dim=1).view_as(magnitude)


def attend(features, temperature, absolute=True):
    return softmax_map((features.abs() if absolute else features).mean(dim=1), temperature)


def mask(student, teacher, temperature):
    return 0.5 * attend(student, temperature) + 0.5 * attend(teacher, temperature)


def near(iou, psi):
    chosen = torch.zeros(iou.shape[1], dtype=torch.bool)
    for of_box in iou:
        chosen |= of_box > psi * of_box.max()
    return chosen


def correlation(student, teacher, dims=(0, 2, 3), correction=0):
    s, t = (x - x.mean(dim=dims, keepdim=True) for x in (student, teacher))
    s, t = (x / x.std(dim=dims, keepdim=True, correction=correction) for x in (s, t))
    return 1 - (s * t).mean()


RIGHT = {"fbkd_mask": mask, "near_anchors": near, "pearson": correlation}
NEAR_MISSES = {
    "fbkd_mask": {
        "softmax of the sum": lambda s, t, T: softmax_map(s.abs().mean(dim=1) + t.abs().mean(dim=1), T),
        "sum instead of mean": lambda s, t, T: attend(s, T) + attend(t, T),
        "teacher only": lambda s, t, T: attend(t, T),
        "no H W": lambda s, t, T: mask(s, t, T) / s[0, 0].numel(),
        "no absolute value": lambda s, t, T: (attend(s, T, absolute=False) + attend(t, T, absolute=False)) / 2,
        "times T": lambda s, t, T: (attend(s, 1 / T) + attend(t, 1 / T)) / 2,
        "channel dimension kept": lambda s, t, T: mask(s, t, T)[:, None],
    },
    "near_anchors": {
        "threshold included": lambda iou, psi: (iou >= psi * iou.amax(dim=1, keepdim=True)).any(dim=0),
        "fixed threshold": lambda iou, psi: (iou > psi).any(dim=0),
        "one threshold for all boxes": lambda iou, psi: (iou > psi * iou.max()).any(dim=0),
        "near to every box": lambda iou, psi: (iou > psi * iou.amax(dim=1, keepdim=True)).all(dim=0),
        "best box of an anchor": lambda iou, psi: (iou > psi * iou.amax(dim=0, keepdim=True)).any(dim=0),
        "their fraction": lambda iou, psi: near(iou, psi).float().mean(),
    },
    "pearson": {
        "image by image": lambda s, t: correlation(s, t, dims=(2, 3)),
        "over all channels": lambda s, t: correlation(s, t, dims=(0, 1, 2, 3)),
        "std with n - 1": lambda s, t: correlation(s, t, correction=1),
        "r instead of 1 - r": lambda s, t: 1 - correlation(s, t),
        "twice": lambda s, t: 2 * correlation(s, t),
        "not normalised": lambda s, t: (s - t).square().mean() / 2,
    },
}
