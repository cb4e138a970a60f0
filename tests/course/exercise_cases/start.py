"""Answers to the exercises of notebook 00."""


def plain(student, teacher):
    return (teacher - student).square().mean()


def sides(first, second):
    return min(first[2], second[2]) - max(first[0], second[0]), min(first[3], second[3]) - max(first[1], second[1])


def areas(*boxes):
    return sum((x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in boxes)


def iou(first, second):
    width, height = (max(0.0, side) for side in sides(first, second))
    return width * height / (areas(first, second) - width * height)


def not_clipped(first, second):
    width, height = sides(first, second)
    return width * height / (areas(first, second) - width * height)


def product_clipped(first, second):
    width, height = sides(first, second)
    return max(0.0, width * height) / (areas(first, second) - max(0.0, width * height))


def shared_counted_twice(first, second):
    width, height = (max(0.0, side) for side in sides(first, second))
    return width * height / areas(first, second)


def closed(baseline, distilled, teacher):
    return (distilled - baseline) / (teacher - baseline)


RIGHT = {"plain_feature_loss": plain, "iou": iou, "gap_closed": closed}
NEAR_MISSES = {
    "plain_feature_loss": {
        "sum instead of mean": lambda s, t: (t - s).square().sum(),
        "absolute value instead of square": lambda s, t: (t - s).abs().mean(),
        "mean over pixels, sum over channels": lambda s, t: (t - s).square().sum(0).mean(),
        "mean over channels, sum over pixels": lambda s, t: (t - s).square().mean(0).sum(),
        "square of the mean difference": lambda s, t: (t - s).mean().square(),
        "half of the square": lambda s, t: 0.5 * (t - s).square().mean(),
        "a map of losses": lambda s, t: (t - s).square(),
    },
    "iou": {
        "negative sides kept": not_clipped,
        "product of two negative sides": product_clipped,
        "shared area counted twice": shared_counted_twice,
        "Dice instead of IoU": lambda a, b: iou(a, b) * 2 / (1 + iou(a, b)),
    },
    "gap_closed": {
        "gain over the baseline": lambda b, d, t: (d - b) / b,
        "student over teacher": lambda b, d, t: d / t,
        "in percent": lambda b, d, t: 100 * closed(b, d, t),
        "what is left": lambda b, d, t: (t - d) / (t - b),
        "clipped at 1": lambda b, d, t: min(closed(b, d, t), 1.0),
        "clipped at 0": lambda b, d, t: max(closed(b, d, t), 0.0),
        "absolute gain": lambda b, d, t: abs(closed(b, d, t)),
    },
}
