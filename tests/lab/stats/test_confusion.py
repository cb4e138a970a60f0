"""The confusion matrix against a naive loop, and curves of precision whose area is COCO's AP."""
import numpy as np
import pytest

from fgdlab.lab.stats.error_types import NOTHING, confusion_matrix, precision_curves
from fgdlab.lab.training.evaluate import coco_scores

NAMES = {3: "cat", 7: "dog", 9: "car"}


def iou(a, b) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def drawn(seed: int, images: int = 6) -> tuple[dict, list[dict]]:
    """Objects, and detections of most of them, a few pixels off, some of another class, with false ones."""
    rng = np.random.default_rng(seed)
    ids = list(NAMES)
    objects, found = [], []
    for image_id in range(1, images + 1):
        for _ in range(rng.integers(0, 5)):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 30, 2)]
            class_id = int(rng.choice(ids))
            objects.append({"id": len(objects) + 1, "image_id": image_id, "category_id": class_id, "bbox": box,
                            "area": box[2] * box[3], "iscrowd": 0})
            for _ in range(rng.integers(0, 3)):
                near = (np.array(box) + rng.normal(0, 2, 4)).clip(min=1).tolist()
                seen = class_id if rng.random() < 0.6 else int(rng.choice(ids))
                found.append({"image_id": image_id, "category_id": seen, "bbox": near, "score": float(rng.random())})
        box = [*rng.uniform(0, 60, 2), *rng.uniform(8, 30, 2)]
        found.append({"image_id": image_id, "category_id": int(rng.choice(ids)), "bbox": box,
                      "score": float(rng.random())})
    truth = {"images": [{"id": n, "width": 100, "height": 100} for n in range(1, images + 1)],
             "categories": [{"id": id_, "name": name} for id_, name in NAMES.items()], "annotations": objects}
    return truth, found


def counted(truth: dict, found: list[dict], threshold: float) -> dict:
    counts = {}
    for image in truth["images"]:
        free = [each for each in truth["annotations"] if each["image_id"] == image["id"]]
        here = [each for each in found if each["image_id"] == image["id"] and each["score"] >= threshold]
        pairs = []
        for detection in sorted(here, key=lambda each: -each["score"]):
            best = max(free, key=lambda each: iou(each["bbox"], detection["bbox"]), default=None)
            if best is not None and iou(best["bbox"], detection["bbox"]) >= 0.5:
                free.remove(best)
                pairs.append((NAMES[best["category_id"]], NAMES[detection["category_id"]]))
            else:
                pairs.append((NOTHING, NAMES[detection["category_id"]]))
        for pair in pairs + [(NAMES[each["category_id"]], NOTHING) for each in free]:
            counts[pair] = counts.get(pair, 0) + 1
    return counts


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_counts_are_those_of_a_naive_loop(seed, threshold):
    truth, found = drawn(seed)
    table = confusion_matrix(truth, found, [each["id"] for each in truth["images"]], threshold)
    assert [*table] == [*table.index] == [*NAMES.values(), NOTHING]
    assert {pair: count for pair, count in table.stack().items() if count} == counted(truth, found, threshold)
    assert table.iloc[:-1].to_numpy().sum() == len(truth["annotations"])


def test_perfect_detections_are_on_the_diagonal_and_none_at_all_are_misses():
    truth, _ = drawn(1)
    ids = [each["id"] for each in truth["images"]]
    perfect = [{**each, "score": 0.9} for each in truth["annotations"]]
    table = confusion_matrix(truth, perfect, ids).to_numpy()
    assert np.array_equal(table, np.diag(table.diagonal())) and table.sum() == len(perfect)
    missed = confusion_matrix(truth, [], ids)
    assert missed[NOTHING].sum() == len(perfect) and missed.drop(columns=NOTHING).to_numpy().sum() == 0


def test_only_the_wanted_images_count():
    truth, found = drawn(2)
    one = confusion_matrix(truth, found, [3])
    assert one.iloc[:-1].to_numpy().sum() == sum(each["image_id"] == 3 for each in truth["annotations"])


def test_a_crowd_is_no_object_and_a_detection_on_it_no_false_one():
    truth, _ = drawn(3, images=1)
    crowd = {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 50, 50], "area": 2500, "iscrowd": 1}
    truth["annotations"] = [crowd]
    on_it = {"image_id": 1, "category_id": 7, "bbox": [10, 10, 8, 8], "score": 0.9}
    beside = {**on_it, "bbox": [70, 70, 8, 8]}
    table = confusion_matrix(truth, [on_it, beside], [1])
    assert table.loc[NOTHING, "dog"] == 1 and table.to_numpy().sum() == 1


def test_nothing_of_nothing_is_an_empty_table():
    truth, _ = drawn(3, images=1)
    assert confusion_matrix({**truth, "annotations": []}, [], [1]).to_numpy().sum() == 0


@pytest.mark.parametrize("seed", range(3))
def test_the_area_below_the_curves_is_the_ap(seed):
    truth, found = drawn(seed, images=12)
    ids = [each["id"] for each in truth["images"]]
    scores, curves = coco_scores(truth, found, ids), precision_curves(truth, found, ids, (0.5, 0.75))
    assert curves.shape == (2, 101, len(NAMES))
    for name, each in zip(("AP50", "AP75"), curves, strict=True):
        assert 100 * each[:, each[0] >= 0].mean() == pytest.approx(scores[name])


def test_a_class_without_objects_has_no_curve():
    truth, found = drawn(0)
    truth["annotations"] = [each for each in truth["annotations"] if each["category_id"] != 7]
    curves = precision_curves(truth, found, [each["id"] for each in truth["images"]], (0.5,))
    assert (curves[0, :, 1] == -1).all() and (curves[0, :, [0, 2]] >= 0).all()
