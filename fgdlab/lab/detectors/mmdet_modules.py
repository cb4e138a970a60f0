"""Where MMDetection's detectors differ from torchvision's, as parts for torchvision's own classes.

Differs: the losses are torchvision's. MMDetection divides by the foreground of the whole batch, torchvision by each
image's; in two-stage detectors it uses L1, torchvision smooth L1. Its FCOS applies the score threshold before the
centreness.
"""
import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

from .anchors import CachedAnchors
from .batched import BatchedFCOS, BatchedRetinaNet
from .dense import flat

ONE_STAGE_STRIDES, TWO_STAGE_STRIDES = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)  # height over width


class ExtraConvs(ExtraFPNBlock):
    """P6 = conv(source), P7 = conv(P6), each with stride 2.

    source: "input" for C5, "output" for P5, with so many channels as ``inputs``.
    relu: P7 = conv(relu(P6)). MMDetection does this in FCOS only, torchvision always.
    norm: after each convolution, which then has no bias.
    """

    def __init__(self, source: str, inputs: int, outputs: int, relu: bool = False, norm=None):
        super().__init__()
        self.source, self.relu = source, relu

        def conv(channels: int) -> nn.Module:
            layer = nn.Conv2d(channels, outputs, 3, stride=2, padding=1, bias=norm is None)
            nn.init.kaiming_uniform_(layer.weight, a=1)
            if norm is None:
                nn.init.zeros_(layer.bias)
                return layer
            return nn.Sequential(layer, norm(outputs))

        self.p6, self.p7 = conv(inputs), conv(outputs)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(x[-1] if self.source == "input" else results[-1])
        p7 = self.p7(p6.relu() if self.relu else p6)
        return [*results, p6, p7], [*names, "p6", "p7"]


class ExactAnchors(CachedAnchors):
    """Anchors with exact sides, one stride apart.

    strides: pixels per cell for each level. sizes: sides in pixels of its square anchors.
    centre: of an anchor in its cell, 0 for the corner and 0.5 for the middle.
    Differs: torchvision rounds the sides, and its stride is image size // map size: 114 instead of 128 pixels at P7 of
        an 800-pixel image.
    """

    def __init__(self, strides: tuple[int, ...], sizes: tuple, ratios: tuple[float, ...] = RATIOS, centre: float = 0.0):
        super().__init__(sizes, (ratios,) * len(sizes))
        self.strides, self.centre = strides, centre

    def generate_anchors(
        self, scales, aspect_ratios, dtype: torch.dtype = torch.float32, device: torch.device = torch.device("cpu"),
    ) -> Tensor:
        scales = torch.as_tensor(scales, dtype=dtype, device=device)
        root = torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()[:, None]
        widths, heights = (scales / root).flatten(), (scales * root).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def on_grids(self, grids: list[tuple[int, int]], size: tuple[int, int]) -> list[Tensor]:
        levels = self.grid_anchors(grids, [(s, s) for s in self.strides])
        return [anchors + self.centre * stride for anchors, stride in zip(levels, self.strides, strict=True)]


def retinanet_anchors() -> ExactAnchors:
    """Nine per cell: sides of 4 strides times 1, 2^(1/3), 2^(2/3)."""
    sizes = tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in ONE_STAGE_STRIDES)
    return ExactAnchors(ONE_STAGE_STRIDES, sizes)


def rpn_anchors() -> ExactAnchors:
    """Three per cell: sides of 8 strides."""
    return ExactAnchors(TWO_STAGE_STRIDES, tuple((8.0 * stride,) for stride in TWO_STAGE_STRIDES))


def fcos_points() -> ExactAnchors:
    """One square of one stride per cell, around FCOS's point."""
    return ExactAnchors(ONE_STAGE_STRIDES, tuple((float(stride),) for stride in ONE_STAGE_STRIDES), (1.0,), centre=0.5)


class ClassesFromZero:
    """Without torchvision's unused channel 0: labels 1..C outside, channels 0..C-1 inside."""

    def compute_loss(self, targets: list[dict], *args) -> dict[str, Tensor]:
        return super().compute_loss([{**target, "labels": target["labels"] - 1} for target in targets], *args)

    def postprocess_detections(self, *args) -> list[dict]:
        detections = super().postprocess_detections(*args)
        return [{**image, "labels": image["labels"] + 1} for image in detections]


class MMRetinaNet(ClassesFromZero, BatchedRetinaNet):
    pass


class MMFCOS(ClassesFromZero, BatchedFCOS):
    pass


class BackgroundLast(nn.Module):
    """Weights in MMDetection's order, outputs in torchvision's.

    (R, inputs) -> scores (R, 1 + C), background first; deltas (R, 4 (1 + C)), zeros for background.
    """

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(inputs, classes + 1), nn.Linear(inputs, 4 * classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features).roll(1, dims=1), nn.functional.pad(self.bbox_pred(features), (4, 0))


class NoBackgroundMask(nn.Module):
    """(R, inputs, 14, 14) -> (R, 1 + C, 28, 28), zeros for the background, for which it has no channel."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.conv5_mask = nn.ConvTranspose2d(inputs, hidden, 2, stride=2)
        self.mask_fcn_logits = nn.Conv2d(hidden, classes, 1)
        for layer in (self.conv5_mask, self.mask_fcn_logits):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)

    def forward(self, features: Tensor) -> Tensor:
        logits = self.mask_fcn_logits(self.conv5_mask(features).relu())
        return nn.functional.pad(logits, (0, 0, 0, 0, 1, 0))


class AlignedRoIAlign(MultiScaleRoIAlign):
    """Half-cell aligned, with as many samples per bin as it has cells; torchvision: two samples, half a cell off.

    The level of a box is P2 + floor(log2(sqrt(area) / 56)), within P2..P5.
    """

    def __init__(self, output_size: int):
        super().__init__(["0", "1", "2", "3"], output_size, sampling_ratio=0)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        levels = [x[name] for name in self.featmap_names]
        index = torch.cat([image.new_full((len(image), 1), i) for i, image in enumerate(boxes)])
        rois = torch.cat([index, torch.cat(boxes)], dim=1)  # (R, 5)
        side = (rois[:, 3:] - rois[:, 1:3]).prod(dim=1).clamp(min=0).sqrt()
        level_of = torch.floor(torch.log2(side / 56 + 1e-6)).clamp(0, len(levels) - 1)
        features = levels[0].new_zeros(len(rois), levels[0].shape[1], *self.output_size)
        for i, (maps, stride) in enumerate(zip(levels, TWO_STAGE_STRIDES, strict=False)):
            rows = (level_of == i).nonzero()[:, 0]
            boxes_here = rois[rows].to(maps.dtype)
            pooled = roi_align(maps, boxes_here, self.output_size, 1 / stride, sampling_ratio=0, aligned=True)
            features[rows] = pooled.to(features.dtype)
        return features


class ScaledFCOSHead(FCOSHead):
    """A learned scale per level, and options in which MMDetection's checkpoints differ.

    norm_on_bbox: distances are relu(scale * conv) in strides; else exp(scale * conv) in pixels.
    centerness_on_reg: centreness reads the box tower; else the class tower.
    conv_bias: the towers' convolutions have a bias before their group norm.
    """

    def __init__(
        self, channels: int, classes: int, norm_on_bbox: bool = True, centerness_on_reg: bool = False,
        conv_bias: bool = True,
    ):
        super().__init__(channels, 1, classes)
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in ONE_STAGE_STRIDES)
        if not conv_bias:
            for module in (*self.classification_head.conv, *self.regression_head.conv):
                if isinstance(module, nn.Conv2d):
                    module.bias = None

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """P3..P7 -> "cls_logits" (N, A, C), "bbox_regression" (N, A, 4) in strides, "bbox_ctrness" (N, A, 1)."""
        classes, boxes = self.classification_head, self.regression_head
        outputs = []
        for maps, scale, stride in zip(x, self.scales, ONE_STAGE_STRIDES, strict=True):
            class_maps, box_maps = classes.conv(maps), boxes.conv(maps)
            scaled = boxes.bbox_reg(box_maps) * scale
            distances = scaled.relu() if self.norm_on_bbox else scaled.exp() / stride
            centreness = boxes.bbox_ctrness(box_maps if self.centerness_on_reg else class_maps)
            outputs.append([classes.cls_logits(class_maps), distances, centreness])
        return dict(zip(("cls_logits", "bbox_regression", "bbox_ctrness"), flat(outputs), strict=True))
