"""COCO's error types on detections made to have one of them each."""
import pytest

from fgdlab.lab.stats.error_types import ERROR_TYPES, error_levels, error_shares
from tests.helpers.coco_cases import drawn

CAT, DOG, CAR, BOAT = 1, 2, 3, 4
CATEGORIES = [
    {"id": CAT, "name": "cat", "supercategory": "animal"}, {"id": DOG, "name": "dog", "supercategory": "animal"},
    {"id": CAR, "name": "car"}, {"id": BOAT, "name": "boat"},
]
BOX = [10, 10, 40, 40]


def truth(*kinds: int, categories=CATEGORIES, **changes) -> dict:
    """One image per object."""
    objects = [
        {"id": n, "image_id": n, "category_id": kind, "bbox": BOX, "area": 1600, "iscrowd": 0} | changes
        for n, kind in enumerate(kinds)
    ]
    images = [{"id": n, "width": 100, "height": 100} for n in range(len(kinds))]
    return {"images": images, "annotations": objects, "categories": categories}


def found(image: int, kind: int, box=BOX, score: float = 0.5) -> dict:
    return {"image_id": image, "category_id": kind, "bbox": box, "score": score}


def shares(ground_truth: dict, *detections: dict) -> dict:
    """The shares that are not 0."""
    return {name: share for name, share in error_shares(ground_truth, list(detections)).items() if abs(share) > 1e-6}


def test_a_perfect_detector_has_no_error():
    assert shares(truth(CAT, CAR), found(0, CAT), found(1, CAR)) == pytest.approx({"C75": 100})


def test_a_box_of_iou_two_thirds_is_c50_and_one_of_a_third_is_loc():
    assert shares(truth(CAT), found(0, CAT, [10, 18, 40, 40])) == pytest.approx({"C50": 100})
    assert shares(truth(CAT), found(0, CAT, [10, 30, 40, 40])) == pytest.approx({"Loc": 100})


def test_an_object_without_detection_is_missed():
    assert shares(truth(CAT)) == pytest.approx({"FN": 100})


def test_a_surer_detection_on_background_halves_the_precision():
    assert shares(truth(CAT), found(0, CAT), found(0, CAT, [80, 80, 10, 10], 0.9)) == pytest.approx(
        {"C75": 50, "BG": 50}
    )


@pytest.mark.parametrize("other, kind", [(DOG, "Sim"), (CAR, "Oth")])
def test_a_cat_on_a_dog_is_sim_and_on_a_car_oth(other, kind):
    detections = [found(0, CAT), found(1, CAT, score=0.9), found(1, other, score=0.2)]
    assert shares(truth(CAT, other), *detections) == pytest.approx({"C75": 75, kind: 25})


def test_classes_without_supercategories_are_not_similar():
    assert "Sim" not in shares(truth(CAR, BOAT), found(0, BOAT), found(1, CAR), found(0, CAR, score=0.1))


def test_a_class_without_objects_has_no_share_but_a_level_of_0():
    assert shares(truth(CAT), found(0, CAT), found(0, CAR)) == pytest.approx({"C75": 100})
    assert error_levels(truth(CAT), [found(0, CAR)]).loc["car", "BG"] == 0


def test_shares_are_positive_and_sum_to_100():
    ground_truth, detections, _ = drawn(4)
    result = error_shares(ground_truth, detections)
    assert list(result) == list(ERROR_TYPES) and min(result.values()) >= 0
    assert sum(result.values()) == pytest.approx(100)


def test_images_that_are_not_asked_for_do_not_count():
    assert error_shares(truth(CAT, CAT), [found(0, CAT)], [0])["C75"] == pytest.approx(100)


def test_an_annotation_of_id_0_is_an_object_as_any_other():
    assert truth(CAT)["annotations"][0]["id"] == 0
    assert shares(truth(CAT), found(0, CAT)) == pytest.approx({"C75": 100})
