"""Answers to the exercises of notebook 04."""
import torch

from fgdlab.attention import attention


def feature(student, teacher, mask, spatial, channel):
    error = (teacher - student).square() * channel[:, :, None, None]
    return (error.sum(dim=1) * spatial * mask).sum() / len(student)


def masked_first(student, teacher, mask, spatial, channel):
    """Mask and attention multiply both maps, without the square root: every factor is squared."""
    weight = (mask * spatial)[:, None] * channel[:, :, None, None]
    return (weight * (teacher - student)).square().sum() / len(student)


def parts(student, teacher, temperature):
    s, t = attention(student, temperature), attention(teacher, temperature)
    return s.spatial - t.spatial, s.channel - t.channel


def l1(student, teacher, temperature):
    return sum(part.abs().sum() for part in parts(student, teacher, temperature)) / len(student)


def weights(sums, task_loss):
    return task_loss / sum(fg for fg, _ in sums.values()), task_loss / sum(bg for _, bg in sums.values())


RIGHT = {"feature_sum": feature, "attention_l1": l1, "weights_by_size": weights}
NEAR_MISSES = {
    "feature_sum": {
        "no mean over the batch": lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) * len(s),
        "mean instead of sum": lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) / s[0].numel(),
        "mean over channels": lambda s, t, m, sp, ch: feature(s, t, m, sp, ch) / s.shape[1],
        "absolute error": lambda s, t, m, sp, ch: feature((s - t).abs().sqrt(), 0 * t, m, sp, ch),
        "mask forgotten": lambda s, t, m, sp, ch: feature(s, t, torch.ones_like(m), sp, ch),
        "mask made binary": lambda s, t, m, sp, ch: feature(s, t, (m > 0).float(), sp, ch),
        "A^S forgotten": lambda s, t, m, sp, ch: feature(s, t, m, torch.ones_like(sp), ch),
        "A^C forgotten": lambda s, t, m, sp, ch: feature(s, t, m, sp, torch.ones_like(ch)),
        "factors squared": masked_first,
        "A^S of one image for all": lambda s, t, m, sp, ch: feature(s, t, m, sp[:1].expand_as(sp), ch),
    },
    "attention_l1": {
        "square": lambda s, t, T: sum(part.square().sum() for part in parts(s, t, T)) / len(s),
        "sign kept": lambda s, t, T: sum(part.sum() for part in parts(s, t, T)) / len(s),
        "mean instead of sum": lambda s, t, T: sum(part.abs().mean() for part in parts(s, t, T)),
        "channel part forgotten": lambda s, t, T: parts(s, t, T)[0].abs().sum() / len(s),
        "spatial part forgotten": lambda s, t, T: parts(s, t, T)[1].abs().sum() / len(s),
        "not averaged over the batch": lambda s, t, T: l1(s, t, T) * len(s),
        "temperature ignored": lambda s, t, T: l1(s, t, 0.5),
        "L1 of the maps": lambda s, t, T: (s - t).abs().sum() / len(s),
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
