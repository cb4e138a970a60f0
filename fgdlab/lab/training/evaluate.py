"""Detections of a detector, and their scores by COCO's evaluation."""
import contextlib
import io
from importlib.util import find_spec
from typing import NamedTuple

import torch
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets import DetectionDataset, load_batches, run_lengths
from .distributed import ProcessGroup

# in the order of COCOeval.stats
SCORES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_1", "AR_10", "AR", "AR_S", "AR_M", "AR_L")


class Evaluation(NamedTuple):

    package: str
    dataset: type
    evaluation: type


PYCOCOTOOLS = Evaluation("pycocotools", COCO, COCOeval)


def evaluation_here() -> Evaluation:
    """faster-coco-eval (extra ``fast``) if installed, 8 times as fast (benchmarks/evaluation.py); else pycocotools."""
    if find_spec("faster_coco_eval") is None:
        return PYCOCOTOOLS
    from faster_coco_eval import COCO, COCOeval_faster

    return Evaluation("faster-coco-eval", COCO, COCOeval_faster)


@torch.no_grad()
def detections(
    detector: nn.Module, dataset: DetectionDataset, *, batch_size: int = 32, device: str | torch.device = "cpu",
    workers: int = 0, progress: bool = False, group: ProcessGroup = ProcessGroup(),
) -> list[dict]:
    """Detections in every image, in COCO's result format, in pixels of the original files.

    Args:
        group: processes that share the batches; each returns all detections, in one order.
    Returns:
        dicts of image_id, category_id (the data set's own), bbox x y w h, score in 0..1, and run lengths as
        segmentation of a detector with masks.
    """
    detector.eval()
    starts = range(0, len(dataset), batch_size)
    chunks = group.share([range(start, min(start + batch_size, len(dataset))) for start in starts])
    batches = load_batches(dataset, [[(i, None) for i in chunk] for chunk in chunks], device=device, workers=workers)
    bar = tqdm(chunks, desc="detect", unit="batch", disable=not progress, leave=False)
    results = []
    for chunk, (images, targets) in zip(bar, batches, strict=True):
        for i, target, output in zip(chunk, targets, detector(images), strict=True):
            boxes = output["boxes"].double().cpu() / target["scale"]
            boxes[:, 2:] -= boxes[:, :2]  # xyxy -> xywh
            columns = {"bbox": boxes.tolist(), "score": output["scores"].tolist()}
            if "masks" in output:
                entry = dataset.entries[i]
                columns["segmentation"] = as_run_lengths(output["masks"], (entry["height"], entry["width"]))
            image_id = int(target["image_id"])
            for label, *values in zip(output["labels"].tolist(), *columns.values(), strict=True):
                if label > 0:  # an untrained head may say 0, background
                    ids = {"image_id": image_id, "category_id": dataset.category_ids[label - 1]}
                    results.append(ids | dict(zip(columns, values, strict=True)))
    return [result for part in group.gathered(results) for result in part]


def as_run_lengths(masks: Tensor, size: tuple[int, int]) -> list[dict]:
    """Masks (K, 1, h, w) in 0..1 -> K dicts of size [H, W] and counts, as in COCO's results."""
    if not len(masks):
        return []
    if tuple(masks.shape[-2:]) != size:
        masks = nn.functional.interpolate(masks, size, mode="bilinear", align_corners=False)
    return [run_lengths(mask) for mask in (masks[:, 0] > 0.5).cpu().numpy()]


def all_scores(
    ground_truth: dict, detections: list[dict], image_ids: list[int] | None = None, masks: bool = False,
) -> dict:
    """:func:`coco_scores` of the boxes and, with ``masks``, of the masks under names that begin with ``mask_``."""
    scores = coco_scores(ground_truth, detections, image_ids)
    if masks:
        of_masks = coco_scores(ground_truth, detections, image_ids, iou_type="segm")
        scores |= {f"mask_{name}": value for name, value in of_masks.items()}
    return scores


def coco_scores(
    ground_truth: dict, detections: list[dict], image_ids: list[int] | None = None, iou_type: str = "bbox",
    by: Evaluation | None = None,
) -> dict:
    """The twelve numbers of COCO's detection evaluation and AP per class, all in 0..100.

    Args:
        ground_truth: a data set in COCO format. Annotation ids must not be 0 (such a match counts as a miss).
        detections: in COCO's result format; an empty list scores 0.
        image_ids: images to evaluate, default all of ``ground_truth``. Other images would count as misses.
        iou_type: "bbox", or "segm" for masks.
        by: the package that evaluates, default :func:`evaluation_here`. The two agree to 1e-12.
    Returns:
        {"AP", "AP50", ..., "AR_L": float, "AP_per_class": {name: float}}; NaN without an object of that size or class.
    """
    image_ids = sorted(image_ids if image_ids is not None else (image["id"] for image in ground_truth["images"]))
    if iou_type == "segm":  # a box would give its area to the mask
        detections = [{name: value for name, value in each.items() if name != "bbox"} for each in detections]
    ids = [each["id"] for part in ("images", "categories") for each in ground_truth[part]]
    by = by or (evaluation_here() if max(ids, default=0) < 2**53 else PYCOCOTOOLS)  # the fast one has float64 ids
    with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
        evaluation = by.evaluation(*in_coco(ground_truth, detections, by.dataset), iou_type)
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: percent(value) for name, value in zip(SCORES, evaluation.stats, strict=True)}
    precision = evaluation.eval["precision"][:, :, :, 0, 2]  # IoU x recall x class; all sizes, 100 detections
    names = {category["id"]: category["name"] for category in ground_truth["categories"]}
    scores["AP_per_class"] = {}
    for k, category_id in enumerate(evaluation.params.catIds):
        valid = precision[:, :, k][precision[:, :, k] > -1]
        scores["AP_per_class"][names[category_id]] = percent(valid.mean() if valid.size else -1)
    return scores


def in_coco(ground_truth: dict, detections: list[dict], dataset: type = COCO) -> tuple[COCO, COCO]:
    coco, results = dataset(), dataset()
    annotations = [dict(annotation) for annotation in ground_truth["annotations"]]  # an evaluation writes into them
    coco.dataset = {**ground_truth, "annotations": annotations}
    coco.createIndex()
    if detections:
        results = coco.loadRes([dict(detection) for detection in detections])
    else:  # loadRes([]) of pycocotools fails
        results.dataset = {**ground_truth, "annotations": []}
        results.createIndex()
    return coco, results


def percent(value: float) -> float:
    """0..1 in per cent; an evaluation's -1 for "nothing to score" as NaN."""
    return float("nan") if value < 0 else 100 * float(value)
