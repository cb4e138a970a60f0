"""What GFL and YOLOX share: torchvision's contract around a head that predicts at every cell."""
import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, clip_boxes_to_image

from .reppoints import STRIDES, RepPoints, grid_points


class DenseDetector(nn.Module):
    """A one-stage detector on a pyramid. Labels run from 1 to the number of classes.

    A subclass has ``STRIDES``, ``losses(levels, targets)``, and for the maps of one image and level
    ``cell_scores(maps)`` -> (HW, C) and ``cell_boxes(maps, cells, corners, stride)`` -> (K, 4) in pixels.

    backbone, score_thresh and on: as in ``RepPoints``.
    head: [map of a level, ...] -> [maps (N, ., H, W) of a level, ...], the first of which has C channels.
    """

    STRIDES: tuple[int, ...] = STRIDES

    def __init__(
        self, backbone: nn.Module, head: nn.Module, *, min_size: int = 800, max_size: int = 1333,
        score_thresh: float = 0.05, nms_thresh: float = 0.5, topk_candidates: int = 1000,
        detections_per_img: int = 100,
    ):
        super().__init__()
        self.backbone, self.head = backbone, head
        self.transform = GeneralizedRCNNTransform(min_size, max_size, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.topk_candidates, self.detections_per_img = topk_candidates, detections_per_img

    forward, detections = RepPoints.forward, RepPoints.detections

    def image_detections(self, levels: list[list[Tensor]], image_size: tuple[int, int]) -> dict:
        empty = levels[0][0].new_zeros(0)
        candidates = [(empty.view(0, 4), empty, empty.long())]  # nothing may score
        for maps, stride in zip(levels, self.STRIDES, strict=True):
            corners, _ = grid_points([maps[0][None]], (stride,))
            scores = self.cell_scores(maps)
            kept = (scores > self.score_thresh).nonzero()  # (K, 2): cell, class
            if not len(kept):
                continue
            best = scores[kept[:, 0], kept[:, 1]].topk(min(self.topk_candidates, len(kept)))
            cell, label = kept[best.indices].unbind(1)
            boxes = self.cell_boxes(maps, cell, corners[cell], stride)
            candidates.append((clip_boxes_to_image(boxes, image_size), best.values, label + 1))
        boxes, scores, labels = (torch.cat(column) for column in zip(*candidates, strict=True))
        kept = batched_nms(boxes, scores, labels, self.nms_thresh)[:self.detections_per_img]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}

    def cell_scores(self, maps: list[Tensor]) -> Tensor:
        return maps[0].flatten(1).mT.sigmoid()


def flat(levels: list[list[Tensor]]) -> list[Tensor]:
    """Each kind of map (N, C, H, W) over all levels: (N, A, C)."""
    return [torch.cat([maps.flatten(2).mT for maps in kind], dim=1) for kind in zip(*levels, strict=True)]


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(F, 4), (F, 4) -> (F,)."""
    sides = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    common = sides.clamp(min=0).prod(dim=1)
    areas = sum((each[:, 2:] - each[:, :2]).prod(dim=1) for each in (boxes, others))
    return common / (areas - common).clamp(min=1e-6)
