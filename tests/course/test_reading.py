"""AP by counting resampled images: equal to pycocotools where nothing is resampled, and to a data set that really holds the copies."""
import numpy as np
import pytest

from fgdlab.lab.course.reading import average_precision, match
from fgdlab.lab.training.evaluate import coco_scores


def drawn(seed: int, images: int = 12, classes: int = 3):
    """Random objects, and detections that are jittered objects among strangers, with distinct scores."""
    rng = np.random.default_rng(seed)
    truth = {"images": [{"id": i + 5, "file_name": f"{i}.jpg", "width": 100, "height": 100} for i in range(images)],
             "categories": [{"id": k + 1, "name": str(k)} for k in range(classes)], "annotations": []}
    found = []
    for i in range(images):
        for _ in range(int(rng.integers(0, 4))):
            box = [*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2)]
            kind = int(rng.integers(classes)) + 1
            truth["annotations"].append({"id": len(truth["annotations"]) + 1, "image_id": i + 5, "category_id": kind, "bbox": box, "area": box[2] * box[3], "iscrowd": 0})
            found.append({"image_id": i + 5, "category_id": kind, "bbox": (np.array(box) + rng.normal(0, 2, 4)).tolist(), "score": float(rng.uniform(0.2, 1))})
        for _ in range(3):
            found.append({"image_id": i + 5, "category_id": int(rng.integers(classes)) + 1, "bbox": [*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2)],
                          "score": float(rng.uniform(0, 0.8))})
    return truth, found, [each["id"] for each in truth["images"]]


def copied(truth, found, image_ids, weights):
    """The data set that the weights describe, written out: image i ``weights[i]`` times, each copy with an id of its own."""
    new_truth, new_found, number = {**truth, "images": [], "annotations": []}, [], 0
    for image_id, count in zip(image_ids, weights, strict=True):
        for _ in range(int(count)):
            number += 1
            new_truth["images"].append({"id": number, "file_name": f"{number}.jpg", "width": 100, "height": 100})
            for each in truth["annotations"]:
                if each["image_id"] == image_id:
                    new_truth["annotations"].append({**each, "id": len(new_truth["annotations"]) + 1, "image_id": number})
            new_found += [{**each, "image_id": number} for each in found if each["image_id"] == image_id]
    return new_truth, new_found


@pytest.mark.parametrize("seed", range(4))
def test_equal_weights_give_the_ap_of_pycocotools(seed):
    truth, found, image_ids = drawn(seed)
    expected = coco_scores(truth, found, image_ids)["AP"]
    assert 1 < expected < 99
    assert average_precision(match(truth, found, image_ids), np.ones(len(image_ids))) == pytest.approx(expected, abs=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_weights_mean_copies_of_images(seed):
    truth, found, image_ids = drawn(seed)
    weights = np.random.default_rng(seed).multinomial(len(image_ids), np.full(len(image_ids), 1 / len(image_ids)))
    expected = coco_scores(*copied(truth, found, image_ids, weights))["AP"]
    assert average_precision(match(truth, found, image_ids), weights) == pytest.approx(expected, abs=0.2)      # copies tie in score


def test_order_of_image_ids_is_the_order_of_weights():
    truth, found, image_ids = drawn(1)
    weights = np.arange(len(image_ids))
    turned = average_precision(match(truth, found, image_ids[::-1]), weights[::-1])
    assert turned == pytest.approx(average_precision(match(truth, found, image_ids), weights), abs=1e-12)
    assert turned != pytest.approx(average_precision(match(truth, found, image_ids), weights[::-1]), abs=1e-3)


def test_detections_on_crowds_count_neither_way():
    truth, found, image_ids = drawn(2)
    truth["annotations"][0]["iscrowd"] = 1
    expected = coco_scores(truth, found, image_ids)["AP"]
    assert average_precision(match(truth, found, image_ids), np.ones(len(image_ids))) == pytest.approx(expected, abs=1e-9)


def test_no_object_left_is_nan():
    truth, found, image_ids = drawn(3)
    assert np.isnan(average_precision(match(truth, found, image_ids), np.zeros(len(image_ids))))
