"""Answers to the exercises of notebook 00."""
from torchvision.ops import box_iou, nms


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


def suppression(dropped_drop=False, by_class=True, at_threshold=False, by_score=True):
    def answer(boxes, scores, labels, threshold):
        overlaps, kept, gone = box_iou(boxes, boxes), [], []
        for k in scores.argsort(descending=True).tolist() if by_score else range(len(boxes)):
            earlier = [j for j in kept + (gone if dropped_drop else []) if not by_class or labels[j] == labels[k]]
            over = any(overlaps[j, k] >= threshold if at_threshold else overlaps[j, k] > threshold for j in earlier)
            (gone if over else kept).append(k)
        return kept
    return answer


RIGHT = {"iou": iou, "nms": suppression()}
NEAR_MISSES = {
    "iou": {
        "negative sides kept": not_clipped,
        "product of two negative sides": product_clipped,
        "shared area counted twice": shared_counted_twice,
        "Dice instead of IoU": lambda a, b: iou(a, b) * 2 / (1 + iou(a, b)),
    },
    "nms": {
        "a dropped box drops others": suppression(dropped_drop=True),
        "all classes together": suppression(by_class=False),
        "in the order of the input": suppression(by_score=False),
        "all that overlap at all": lambda b, s, labels, t: suppression()(b, s, labels, 0.0),
        "no suppression": lambda b, s, labels, t: s.argsort(descending=True),
        "sorted by index": lambda b, s, labels, t: sorted(suppression()(b, s, labels, t)),
        "the boxes, not their indices": lambda b, s, labels, t: b[suppression()(b, s, labels, t)],
        "lowest score first": lambda b, s, labels, t: nms(b, -s, t),
    },
}
