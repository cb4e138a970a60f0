"""Answers to the exercises of notebook 09."""


def moved(values, index, step):
    values = values.clone()
    values[index] += step
    return values


def slope(function, values, index, step):
    return (function(moved(values, index, step)) - function(moved(values, index, -step))) / (2 * step)


def in_place(function, values, index, step):
    values[index] += step
    up = function(values)
    values[index] -= 2 * step
    return (up - function(values)) / (2 * step)


def length(student, teacher):
    s, t = student.square().sum(dim=1).sqrt(), teacher.square().sum(dim=1).sqrt()
    weight = t / t.sum(dim=(1, 2), keepdim=True)
    return (weight * (s.log() - t.log()).abs()).sum() / len(s)


def over_sum(s, t):
    return t / t.sum(dim=(1, 2), keepdim=True)


def log_ratio(s, t):
    return (s / t).log().abs()


def mean_of_sums(values):
    return values.sum(dim=(1, 2)).mean()


def lengths(weigh=over_sum, compare=log_ratio, merge=mean_of_sums):
    return lambda s, t: merge(weigh(s.norm(dim=1), t.norm(dim=1)) * compare(s.norm(dim=1), t.norm(dim=1)))


def row(template):
    return lambda name, file, cls, ratio: template.format(name=name, file=file, cls=cls, ratio=ratio)


RIGHT = {
    "slope": slope, "length_loss": length,
    "yaml_row": row("{name}:\n  label: {cls}\n  set: {{method: '{file}:{cls}', loss_ratio: {ratio}}}\n"),
}
NEAR_MISSES = {
    "slope": {
        "one-sided": lambda f, x, i, h: (f(moved(x, i, h)) - f(x)) / h,
        "divided by the step": lambda f, x, i, h: (f(moved(x, i, h)) - f(moved(x, i, -h))) / h,
        "down minus up": lambda f, x, i, h: (f(moved(x, i, -h)) - f(moved(x, i, h))) / (2 * h),
        "all entries moved": lambda f, x, i, h: (f(x + h) - f(x - h)) / (2 * h),
        "entry 0": lambda f, x, i, h: slope(f, x, 0, h),
        "in place": in_place,
    },
    "length_loss": {
        "sign kept": lengths(compare=lambda s, t: (s / t).log()),
        "no logarithm": lengths(compare=lambda s, t: (s - t).abs()),
        "weights of the student": lengths(weigh=lambda s, t: over_sum(t, s)),
        "weights over the batch": lengths(weigh=lambda s, t: t / t.sum()),
        "mean over cells": lengths(merge=lambda values: values.mean()),
        "sum over images": lengths(merge=lambda values: values.sum()),
        "norm over rows": lambda s, t: length(s.transpose(1, 2), t.transpose(1, 2)),
    },
    "yaml_row": {
        "no class": row("{name}: {{label: x, set: {{method: '{file}', loss_ratio: {ratio}}}}}"),
        "no loss ratio": row("{name}: {{label: x, set: {{method: '{file}:{cls}'}}}}"),
        "no set": row("{name}: {{label: x, method: '{file}:{cls}', loss_ratio: {ratio}}}"),
        "under rows": row("rows: {{{name}: {{label: x, set: {{method: '{file}:{cls}', loss_ratio: {ratio}}}}}}}"),
        "strength": row("{name}: {{label: x, set: {{method: '{file}:{cls}', strength: {ratio}}}}}"),
        "fixed name": row("mine: {{label: x, set: {{method: '{file}:{cls}', loss_ratio: {ratio}}}}}"),
        "no mapping": row("{name} {file}"),
        "a dict": lambda name, file, cls, ratio: {name: {"set": {"method": f"{file}:{cls}", "loss_ratio": ratio}}},
    },
}
