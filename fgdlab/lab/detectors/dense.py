"""What RepPoints, GFL and YOLOX share: torchvision's contract around a head that predicts at every cell."""
import math

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import Conv2dNormActivation, batched_nms, clip_boxes_to_image

from .batched import check_targets

STRIDES = (8, 16, 32, 64, 128)  # of P3..P7, pixels


class DenseDetector(nn.Module):
    """A one-stage detector on a pyramid. Labels run from 1 to the number of classes.

    A subclass has ``STRIDES``, ``losses(levels, targets)``, and for the maps of one image and level
    ``cell_scores(maps)`` -> (HW, C) and ``cell_boxes(maps, cells, corners, stride)`` -> (K, 4) in pixels.

    Args:
        backbone: pixels (N, 3, H, W) -> {name: map} of the levels, with ``out_channels``.
        head: [map of a level, ...] -> [maps (N, ., H, W) of a level, ...], the first of which has C channels.
        score_thresh, nms_thresh, topk_candidates (per level), detections_per_img: which detections are kept.
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

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor] | list[dict]:
        if self.training:
            check_targets(targets)
        sizes = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.transform(images, targets)
        outputs = self.head(list(self.backbone(batch.tensors).values()))
        # Positions in the image need more than the bits of half precision.
        dtype = torch.promote_types(outputs[0][0].dtype, torch.float32)
        levels = [[maps.to(dtype) for maps in level] for level in outputs]
        if self.training:
            return self.losses(levels, targets)
        return self.transform.postprocess(self.detections(levels, batch.image_sizes), batch.image_sizes, sizes)

    def detections(self, levels: list[list[Tensor]], image_sizes: list[tuple[int, int]]) -> list[dict]:
        """Per image "boxes" (K, 4) in pixels of the resized image, "scores" (K,), "labels" (K,), best first."""
        return [
            self.image_detections([[maps[i] for maps in level] for level in levels], size)
            for i, size in enumerate(image_sizes)
        ]

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


def tower(channels: int, convs: int, norm) -> nn.Sequential:
    return nn.Sequential(*(Conv2dNormActivation(channels, channels, norm_layer=norm) for _ in range(convs)))


def start_small(head: nn.Module) -> None:
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=0.01)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    nn.init.constant_(head.class_out.bias, -math.log(99))  # score 1 % for every class


def grid_points(maps: list[Tensor], strides: tuple[int, ...] = STRIDES) -> tuple[Tensor, Tensor]:
    """Cell corners (A, 2) x y in pixels and strides (A,), row by row."""
    corners, point_strides = [], []
    for level, stride in zip(maps, strides, strict=True):
        y, x = (torch.arange(n, dtype=level.dtype, device=level.device) * stride for n in level.shape[-2:])
        corners.append(torch.cartesian_prod(y, x).flip(1))
        point_strides.append(torch.full_like(corners[-1][:, 0], stride))
    return torch.cat(corners), torch.cat(point_strides)


def flat(levels: list[list[Tensor]]) -> list[Tensor]:
    """Each kind of map (N, C, H, W) over all levels: (N, A, C)."""
    return [torch.cat([maps.flatten(2).mT for maps in kind], dim=1) for kind in zip(*levels, strict=True)]


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """(F, 4), (F, 4) -> (F,)."""
    sides = torch.minimum(boxes[:, 2:], others[:, 2:]) - torch.maximum(boxes[:, :2], others[:, :2])
    common = sides.clamp(min=0).prod(dim=1)
    areas = sum((each[:, 2:] - each[:, :2]).prod(dim=1) for each in (boxes, others))
    return common / (areas - common).clamp(min=1e-6)


def positives(match: Tensor) -> Tensor:
    """The number of matched points of (N, A), at least one per image."""
    return (match >= 0).sum(dim=1).clamp(min=1).sum()
