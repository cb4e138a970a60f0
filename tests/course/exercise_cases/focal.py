"""Answers to the exercises of notebook 04."""
import torch
from torch.nn.functional import pad

from fgdlab.attention import attention
from fgdlab.masks import focal_masks


def weighted(student, teacher, mask, spatial, channel):
    error = (teacher - student).square() * channel[:, :, None, None]
    return (error.sum(dim=1) * spatial * mask).flatten(1).sum(dim=1)  # one per image


def factor(student, teacher, mask, temperature, of=None, spatial=True, channel=True, merge=torch.sum):
    a = attention(teacher if of is None else of, temperature)
    on = (a.spatial if spatial else torch.ones_like(a.spatial)), (a.channel if channel else torch.ones_like(a.channel))
    plain = weighted(student, teacher, mask, torch.ones_like(a.spatial), torch.ones_like(a.channel))
    if merge is torch.mean:  # of the ratios of single images
        return (weighted(student, teacher, mask, *on) / plain).mean()
    return weighted(student, teacher, mask, *on).sum() / plain.sum()


def sums(student, teacher, boxes, columns, frame=True, attend=True, only=(True, True)):
    s, t = (pad(x, (0, columns)) for x in (student, teacher))
    height, width = t.shape[-2:]
    size = (8 * height, 8 * (width if frame else width - columns))
    m = focal_masks(boxes, [size] * len(boxes), (height, width), rounding="exact")
    a = attention(t if attend else teacher)
    spatial = a.spatial if attend else pad(a.spatial, (0, columns))
    return [weighted(s, t, mask, spatial, a.channel).sum() for mask in (m.fg, m.bg)]


def padded(student, teacher, boxes, columns, **how):
    before = sums(student, teacher, boxes, 0)
    return tuple(a / b for a, b in zip(sums(student, teacher, boxes, columns, **how), before, strict=True))


def weights(sums, task_loss):
    return task_loss / sum(fg for fg, _ in sums.values()), task_loss / sum(bg for _, bg in sums.values())


RIGHT = {"weights_by_size": weights, "attention_factor": factor, "padded_batch": padded}
NEAR_MISSES = {
    "attention_factor": {
        "student's attention": lambda s, t, m, T: factor(s, t, m, T, of=s),
        "A^S only": lambda s, t, m, T: factor(s, t, m, T, channel=False),
        "A^C only": lambda s, t, m, T: factor(s, t, m, T, spatial=False),
        "T ignored": lambda s, t, m, T: factor(s, t, m, 0.5),
        "mean of ratios": lambda s, t, m, T: factor(s, t, m, T, merge=torch.mean),
        "mask ignored": lambda s, t, m, T: factor(s, t, torch.ones_like(m), T),
        "upside down": lambda s, t, m, T: 1 / factor(s, t, m, T),
    },
    "padded_batch": {
        "frame not padded": lambda s, t, b, c: padded(s, t, b, c, frame=False),
        "attention before padding": lambda s, t, b, c: padded(s, t, b, c, attend=False),
        "before / after": lambda s, t, b, c: tuple(1 / x for x in padded(s, t, b, c)),
        "rows instead of columns": lambda s, t, b, c: padded(s.mT, t.mT, [x[:, [1, 0, 3, 2]] for x in b], c),
        "foreground only": lambda s, t, b, c: padded(s, t, b, c)[0],
        "background first": lambda s, t, b, c: padded(s, t, b, c)[::-1],
        "sums, not ratios": lambda s, t, b, c: sums(s, t, b, c),
    },
    "weights_by_size": {
        "mean over the levels": lambda sums, task: tuple(len(sums) * weight for weight in weights(sums, task)),
        "finest level only": lambda sums, task: weights({"P3": sums["P3"]}, task),
        "alpha and beta exchanged": lambda sums, task: weights(sums, task)[::-1],
        "both together equal the task loss": lambda sums, task: weights(sums, task / 2),
        "inverse": lambda sums, task: tuple(1 / weight for weight in weights(sums, task)),
        "alpha only": lambda sums, task: weights(sums, task)[0],
    },
}
