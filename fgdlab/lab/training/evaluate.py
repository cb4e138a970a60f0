"""Detections, and their scores by COCO's evaluation: the numbers of every table."""
import contextlib
import io
from importlib.util import find_spec
from typing import NamedTuple

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import Tensor, nn
from tqdm import tqdm

from ..datasets import DetectionDataset, load_batches
from .distributed import ProcessGroup

SCORES = ("AP", "AP50", "AP75", "AP_S", "AP_M", "AP_L", "AR_1", "AR_10", "AR", "AR_S", "AR_M", "AR_L")      # order of COCOeval.stats


class Evaluation(NamedTuple):
    """A package that computes COCO's numbers: its data set class, its evaluation class."""

    package: str
    dataset: type
    evaluation: type


PYCOCOTOOLS = Evaluation("pycocotools", COCO, COCOeval)


def evaluation_here() -> Evaluation:
    """faster-coco-eval where it is installed (extra ``fast``), over eight times as quick on 400 digit scenes (benchmarks/evaluation.py); else pycocotools."""
    if find_spec("faster_coco_eval") is None:
        return PYCOCOTOOLS
    from faster_coco_eval import COCO, COCOeval_faster

    return Evaluation("faster-coco-eval", COCO, COCOeval_faster)


@torch.no_grad()
def detections(
    detector: nn.Module, scenes: DetectionDataset, *, batch_size: int = 32, device: str | torch.device = "cpu", workers: int = 0, progress: bool = False, team: ProcessGroup = ProcessGroup(),
) -> list[dict]:
    """What a detector finds in every image of a data set, in COCO's result format.

    Args:
        scenes: a data set of data.py; its images may have been shrunk, boxes come back in pixels of the original files.
        workers: processes that decode images ahead; 0 = decode here.
        team: processes that share the batches; each gets everything that one of them alone would have found, in the same order.
    Returns:
        dicts of image_id, category_id (the data set's own), bbox x y w h in pixels, score in 0..1; of a detector with masks also segmentation, as
        run lengths in pixels of the original files.
    """
    detector.eval()
    found, shares = [], team.share([range(start, min(start + batch_size, len(scenes))) for start in range(0, len(scenes), batch_size)])
    through = load_batches(scenes, [[(i, None) for i in each] for each in shares], device=device, workers=workers)
    for chosen, (images, targets) in zip(tqdm(shares, desc="detect", unit="batch", disable=not progress, leave=False), through, strict=True):
        for i, target, output in zip(chosen, targets, detector(images), strict=True):
            boxes = output["boxes"].double().cpu() / target["scale"]
            boxes[:, 2:] -= boxes[:, :2]                             # xyxy -> xywh
            shapes = [{}] * len(boxes)
            if "masks" in output:
                entry = scenes.entries[i]
                shapes = [{"segmentation": each} for each in as_run_lengths(output["masks"], (entry["height"], entry["width"]))]
            for box, label, score, shape in zip(boxes.tolist(), output["labels"].tolist(), output["scores"].tolist(), shapes, strict=True):
                if label > 0:                                        # class 0 is nobody; an untrained head may still name it
                    image_id, category_id = int(target["image_id"]), scenes.category_ids[label - 1]
                    found.append({"image_id": image_id, "category_id": category_id, "bbox": box, "score": score, **shape})
    return [each for part in team.gathered(found) for each in part]


def as_run_lengths(masks: Tensor, size: tuple[int, int]) -> list[dict]:
    """A detector's masks (K, 1, h, w) in 0..1 -> K dicts of size [H, W] and counts, as in COCO's results, for an image file of (H, W) pixels."""
    if not len(masks):
        return []
    if tuple(masks.shape[-2:]) != size:
        masks = nn.functional.interpolate(masks, size, mode="bilinear", align_corners=False)
    packed = coco_mask.encode(np.asfortranarray((masks[:, 0] > 0.5).permute(1, 2, 0).cpu().numpy().astype(np.uint8)))
    return [{"size": [int(side) for side in each["size"]], "counts": each["counts"].decode("ascii")} for each in packed]


def all_scores(truth: dict, found: list[dict], image_ids: list[int] | None = None, masks: bool = False) -> dict:
    """:func:`coco_scores` of the boxes and, with ``masks``, the same names for the masks after ``mask_``."""
    scores = coco_scores(truth, found, image_ids)
    if masks:
        scores |= {f"mask_{name}": value for name, value in coco_scores(truth, found, image_ids, of="segm").items()}
    return scores


def coco_scores(truth: dict, found: list[dict], image_ids: list[int] | None = None, of: str = "bbox", by: Evaluation | None = None) -> dict:
    """The twelve numbers of COCO's detection evaluation and AP a class, all in 0..100.

    Args:
        truth: a data set in COCO format. Annotation ids must not be 0 (such a match is counted as a miss).
        found: detections in COCO's result format; an empty list scores 0.
        image_ids: images to evaluate, default all of ``truth``. Set explicitly, since images that were never looked at would count as misses.
        of: "bbox", or "segm" for masks, which truth and detections must have then.
        by: the package that counts, default :func:`evaluation_here`. They agree to 1e-12: pycocotools adds 2e-16 where it divides, the other does not.
    Returns:
        {"AP", "AP50", ..., "AR_L": float, "AP_per_class": {name: float}}; NaN where no object of that size or class exists.
    """
    image_ids = sorted(image_ids if image_ids is not None else (image["id"] for image in truth["images"]))
    if of == "segm":                                                 # with a box, its area would be taken for the mask's
        found = [{name: value for name, value in each.items() if name != "bbox"} for each in found]
    by = by or evaluation_here()
    with contextlib.redirect_stdout(io.StringIO()):                  # pycocotools prints its progress
        evaluation = by.evaluation(*in_coco(truth, found, by.dataset), of)
        evaluation.params.imgIds = image_ids
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    scores = {name: percent(value) for name, value in zip(SCORES, evaluation.stats, strict=True)}
    precision = evaluation.eval["precision"][:, :, :, 0, 2]          # IoU x recall x class; every size, 100 detections an image
    names = {category["id"]: category["name"] for category in truth["categories"]}
    scores["AP_per_class"] = {
        names[category_id]: percent(precision[:, :, k][precision[:, :, k] > -1].mean() if (precision[:, :, k] > -1).any() else -1)
        for k, category_id in enumerate(evaluation.params.catIds)
    }
    return scores


def in_coco(truth: dict, found: list[dict], dataset: type = COCO) -> tuple[COCO, COCO]:
    """A data set and detections of it as an evaluation wants them; what is given stays as it is."""
    coco, result = dataset(), dataset()
    coco.dataset = {**truth, "annotations": [dict(each) for each in truth["annotations"]]}              # an evaluation writes into what it is given
    coco.createIndex()
    if found:
        result = coco.loadRes([dict(each) for each in found])
    else:                                                            # pycocotools' loadRes([]) fails on an index
        result.dataset = {**truth, "annotations": []}
        result.createIndex()
    return coco, result


def percent(value: float) -> float:
    """An evaluation's 0..1 as 0..100; its -1 for "nothing to score" as NaN."""
    return float("nan") if value < 0 else 100 * float(value)
