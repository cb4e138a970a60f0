"""Answers to the exercises of notebook 08."""
import torch


def near(iou, psi):
    chosen = torch.zeros(iou.shape[1], dtype=torch.bool)
    for of_box in iou:
        chosen |= of_box > psi * of_box.max()
    return chosen


def correlation(student, teacher, dims=(0, 2, 3), correction=0):
    s, t = (x - x.mean(dim=dims, keepdim=True) for x in (student, teacher))
    s, t = (x / x.std(dim=dims, keepdim=True, correction=correction) for x in (s, t))
    return 1 - (s * t).mean()


def gradient(loss, features):
    return torch.func.grad(loss)(features).flatten()


def doubled(loss, features, low=1, high=2, at=1, of=None):
    one, two = gradient(loss, low * features), gradient(loss, high * features)
    cosine = torch.cosine_similarity(gradient(loss, at * features), (of or (lambda x: x))(features).flatten(), dim=0)
    return two.norm() / one.norm(), cosine


RIGHT = {"near_anchors": near, "pearson": correlation, "when_doubled": doubled}
NEAR_MISSES = {
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
    "when_doubled": {
        "before over after": lambda loss, F: doubled(loss, F, low=2, high=1),
        "at half": lambda loss, F: doubled(loss, F, high=0.5),
        "cosine at the doubled map": lambda loss, F: doubled(loss, F, at=2),
        "cosine against the sign": lambda loss, F: doubled(loss, F, of=torch.sign),
        "sign of the step": lambda loss, F: (doubled(loss, F)[0], -doubled(loss, F)[1]),
        "values instead of gradients": lambda loss, F: (loss(2 * F) / loss(F), doubled(loss, F)[1]),
        "ratio only": lambda loss, F: doubled(loss, F)[0],
    },
}
