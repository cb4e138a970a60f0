"""Random ground truth and detections in COCO's formats."""
import numpy as np


def drawn(seed: int, images: int = 12, classes: int = 3):
    """Random ground truth of all sizes, some of it crowds, and detections: jittered objects and random boxes.

    All scores differ. Returns (ground truth document, detections, image ids).
    """
    rng = np.random.default_rng(seed)
    entries = [{"id": 5 + i, "file_name": f"{i}.jpg", "width": 300, "height": 300} for i in range(images)]
    categories = [{"id": 3 * k + 1, "name": str(k)} for k in range(classes)]
    ground_truth = {"images": entries, "categories": categories, "annotations": []}
    found = []
    for i in range(images):
        for _ in range(int(rng.integers(0, 6))):
            box, kind = (
                [*rng.uniform(0, 120, 2), *rng.choice([14, 50, 130]) * rng.uniform(0.8, 1.2, 2)],
                3 * int(rng.integers(classes)) + 1,
            )
            crowd = int(rng.random() < 0.15)
            ground_truth["annotations"].append({
                "id": len(ground_truth["annotations"]), "image_id": 5 + i, "category_id": kind, "bbox": box,
                "area": box[2] * box[3], "iscrowd": crowd,
            })
            found.append({
                "image_id": 5 + i, "category_id": kind, "bbox": (np.array(box) + rng.normal(0, 2, 4)).tolist(),
                "score": float(rng.uniform(0.2, 1)),
            })
        for _ in range(4):
            kind = 3 * int(rng.integers(classes)) + 1
            found.append({
                "image_id": 5 + i, "category_id": kind, "bbox": [*rng.uniform(0, 120, 2), *rng.uniform(8, 140, 2)],
                "score": float(rng.uniform(0, 0.8)),
            })
    ground_truth["annotations"] = [{**each, "id": each["id"] + 1} for each in ground_truth["annotations"]]
    return ground_truth, found, [each["id"] for each in ground_truth["images"]]


def worse(found: list[dict], size: float = 8, seed: int = 0) -> list[dict]:
    """The same detections with corners moved by normal numbers of std ``size`` pixels."""
    rng = np.random.default_rng(seed)
    return [
        {**each, "bbox": [*(np.array(each["bbox"][:2]) + rng.normal(0, size, 2)).tolist(), *each["bbox"][2:]]}
        for each in found
    ]
