"""What MMDetection's detectors do otherwise than torchvision's, as parts that fit into torchvision's own classes.

    part            torchvision                                 MMDetection                                          here
    P6              from P5 (RetinaNet v1, FCOS)                from C5 (RetinaNet, RepPoints) or P5 (FCOS)          ExtraConvs
    anchors         sides rounded, stride = pixels // cells     exact, stride = 2^level                              ExactAnchors
    FCOS            points on cell corners, no scale a level    points in cell centres, a learned scale a level      ExactAnchors, ScaledFCOSHead
    RoI align       two samples a bin, half a cell off          adaptive samples, aligned                            AlignedRoIAlign
    classes         0 is background, also a channel of its own  background last (two-stage), no channel (one-stage)  BackgroundLast, ClassesFromZero
    batch norms     frozen                                      statistics fixed, weight and bias learned            backbones.StillBatchNorm2d

Differs: the losses stay torchvision's. MMDetection divides by the foreground of the whole batch where torchvision divides image by image, and uses plain L1
where torchvision's two-stage detectors use smooth L1; its FCOS thresholds class scores before they meet the centreness.
"""
import torch
from torch import Tensor, nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.fcos import FCOSHead
from torchvision.ops import MultiScaleRoIAlign, roi_align
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

ONE_STAGE_STRIDES, TWO_STAGE_STRIDES = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
RATIOS = (0.5, 1.0, 2.0)                                             # height over width


class ExtraConvs(ExtraFPNBlock):
    """P6 = conv(source), P7 = conv(P6), each with stride 2; source is C5 ("input") or P5 ("output").

    Args:
        inputs: channels of the source.
        relu: P7 = conv(relu(P6)); MMDetection has it in FCOS only, torchvision everywhere.
        norm: a norm after each convolution, in place of its bias.
    """

    def __init__(self, source: str, inputs: int, outputs: int, relu: bool = False, norm=None):
        super().__init__()
        self.source, self.relu = source, relu

        def conv(channels: int) -> nn.Module:
            made = nn.Conv2d(channels, outputs, 3, stride=2, padding=1, bias=norm is None)
            nn.init.kaiming_uniform_(made.weight, a=1)
            if norm is None:
                nn.init.zeros_(made.bias)
                return made
            return nn.Sequential(made, norm(outputs))

        self.p6, self.p7 = conv(inputs), conv(outputs)

    def forward(self, results: list[Tensor], x: list[Tensor], names: list[str]) -> tuple[list[Tensor], list[str]]:
        p6 = self.p6(x[-1] if self.source == "input" else results[-1])
        p7 = self.p7(p6.relu() if self.relu else p6)
        return [*results, p6, p7], [*names, "p6", "p7"]


class ExactAnchors(AnchorGenerator):
    """Anchors with exact sides, one grid step = the level's stride.

    Args:
        strides: pixels a cell, a level.
        sizes: sides in pixels of the square anchors of each level; ratios: height over width.
        centre: where in its cell an anchor sits, 0 for the corner and 0.5 for the middle.
    Differs: torchvision rounds the sides, and divides the padded image by the cells of a map, which at P7 of an 800-pixel side gives 114 for 128.
    """

    def __init__(self, strides: tuple[int, ...], sizes: tuple[tuple[float, ...], ...], ratios: tuple[float, ...] = RATIOS, centre: float = 0.0):
        super().__init__(sizes, (ratios,) * len(sizes))
        self.strides, self.centre = strides, centre

    def generate_anchors(self, scales, aspect_ratios, dtype: torch.dtype = torch.float32, device: torch.device = torch.device("cpu")) -> Tensor:
        """(ratios * sizes, 4) boxes around 0, ratio by ratio."""
        scales, tall = torch.as_tensor(scales, dtype=dtype, device=device), torch.as_tensor(aspect_ratios, dtype=dtype, device=device).sqrt()
        widths, heights = (scales / tall[:, None]).flatten(), (scales * tall[:, None]).flatten()
        return torch.stack([-widths, -heights, widths, heights], dim=1) / 2

    def forward(self, image_list, feature_maps: list[Tensor]) -> list[Tensor]:
        """One (A, 4) a image; the same for every image of the batch."""
        dtype, device = image_list.tensors.dtype, feature_maps[0].device
        self.set_cell_anchors(dtype, device)
        levels = []
        for maps, stride, cell in zip(feature_maps, self.strides, self.cell_anchors, strict=True):
            rows, columns = ((torch.arange(n, dtype=dtype, device=device) + self.centre) * stride for n in maps.shape[-2:])
            y, x = (each.flatten() for each in torch.meshgrid(rows, columns, indexing="ij"))
            levels.append((torch.stack([x, y, x, y], dim=1)[:, None] + cell).flatten(0, 1))
        return [torch.cat(levels)] * len(image_list.image_sizes)


def retinanet_anchors() -> ExactAnchors:
    """Nine a cell: sides of 4 strides times 1, 2^(1/3), 2^(2/3)."""
    return ExactAnchors(ONE_STAGE_STRIDES, tuple(tuple(4 * stride * 2 ** (i / 3) for i in range(3)) for stride in ONE_STAGE_STRIDES))


def rpn_anchors() -> ExactAnchors:
    """Three a cell: sides of 8 strides."""
    return ExactAnchors(TWO_STAGE_STRIDES, tuple((8.0 * stride,) for stride in TWO_STAGE_STRIDES))


def fcos_points() -> ExactAnchors:
    """One square of one stride around the middle of each cell, whose centre is FCOS's point."""
    return ExactAnchors(ONE_STAGE_STRIDES, tuple((float(stride),) for stride in ONE_STAGE_STRIDES), (1.0,), centre=0.5)


# --- classes ------------------------------------------------------------------------------------------------------------------------

class ClassesFromZero:
    """Labels 1..C outside, channels 0..C-1 inside: a one-stage head without torchvision's idle channel 0."""

    def compute_loss(self, targets: list[dict], *args) -> dict[str, Tensor]:
        return super().compute_loss([{**each, "labels": each["labels"] - 1} for each in targets], *args)

    def postprocess_detections(self, *args) -> list[dict]:
        return [{**each, "labels": each["labels"] + 1} for each in super().postprocess_detections(*args)]


class MMRetinaNet(ClassesFromZero, RetinaNet):
    """torchvision's RetinaNet with MMDetection's order of classes."""


class MMFCOS(ClassesFromZero, FCOS):
    """torchvision's FCOS with MMDetection's order of classes."""


class BackgroundLast(nn.Module):
    """Box classifier and regressor with weights in MMDetection's order, outputs in torchvision's.

    (R, inputs) -> scores (R, 1 + C) with background first, deltas (R, 4 (1 + C)) with zeros for background.
    """

    def __init__(self, inputs: int, classes: int):
        super().__init__()
        self.cls_score, self.bbox_pred = nn.Linear(inputs, classes + 1), nn.Linear(inputs, 4 * classes)

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        return self.cls_score(features).roll(1, dims=1), nn.functional.pad(self.bbox_pred(features), (4, 0))


class NoBackgroundMask(nn.Module):
    """Mask predictor without a background channel; outputs in torchvision's order. (R, inputs, 14, 14) -> (R, 1 + C, 28, 28), zeros first."""

    def __init__(self, inputs: int, hidden: int, classes: int):
        super().__init__()
        self.conv5_mask, self.mask_fcn_logits = nn.ConvTranspose2d(inputs, hidden, 2, stride=2), nn.Conv2d(hidden, classes, 1)
        for each in (self.conv5_mask, self.mask_fcn_logits):
            nn.init.kaiming_normal_(each.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(each.bias)

    def forward(self, features: Tensor) -> Tensor:
        return nn.functional.pad(self.mask_fcn_logits(self.conv5_mask(features).relu()), (0, 0, 0, 0, 1, 0))


# --- heads --------------------------------------------------------------------------------------------------------------------------

class AlignedRoIAlign(MultiScaleRoIAlign):
    """RoI align as MMDetection does it: half-cell aligned, with as many samples a bin as it has cells.

    A box goes to P2 + floor(log2(sqrt(area) / 56)), within P2..P5.
    """

    def __init__(self, output_size: int):
        super().__init__(["0", "1", "2", "3"], output_size, sampling_ratio=0)

    def forward(self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]) -> Tensor:
        maps = [x[name] for name in self.featmap_names]
        image = torch.cat([torch.full((len(each), 1), float(i), device=each.device, dtype=each.dtype) for i, each in enumerate(boxes)])
        rois = torch.cat([image, torch.cat(boxes)], dim=1)           # (R, 5)
        side = (rois[:, 3:] - rois[:, 1:3]).prod(dim=1).clamp(min=0).sqrt()
        level = torch.floor(torch.log2(side / 56 + 1e-6)).clamp(0, len(maps) - 1)
        found = maps[0].new_zeros(len(rois), maps[0].shape[1], *self.output_size)
        for i, (each, stride) in enumerate(zip(maps, TWO_STAGE_STRIDES, strict=False)):
            here = (level == i).nonzero()[:, 0]
            found[here] = roi_align(each, rois[here].to(each.dtype), self.output_size, 1 / stride, sampling_ratio=0, aligned=True).to(found.dtype)
        return found


class ScaledFCOSHead(FCOSHead):
    """FCOS's head as MMDetection has it: a learned scale a level, and two choices that its checkpoints differ in.

    Args:
        norm_on_bbox: distances are relu(scale * conv), in strides; else exp(scale * conv), in pixels.
        centerness_on_reg: centreness reads the box tower; else the class tower.
        conv_bias: the towers' convolutions have a bias before their group norm.
    """

    def __init__(self, channels: int, classes: int, norm_on_bbox: bool = True, centerness_on_reg: bool = False, conv_bias: bool = True):
        super().__init__(channels, 1, classes)
        self.norm_on_bbox, self.centerness_on_reg = norm_on_bbox, centerness_on_reg
        self.scales = nn.ParameterList(torch.tensor(1.0) for _ in ONE_STAGE_STRIDES)
        if not conv_bias:
            for module in (*self.classification_head.conv, *self.regression_head.conv):
                if isinstance(module, nn.Conv2d):
                    module.bias = None

    def forward(self, x: list[Tensor]) -> dict[str, Tensor]:
        """Maps of P3..P7 -> {"cls_logits" (N, A, C), "bbox_regression" (N, A, 4) in strides, "bbox_ctrness" (N, A, 1)}."""
        classes, boxes = self.classification_head, self.regression_head
        logits, distances, centreness = [], [], []
        for maps, scale, stride in zip(x, self.scales, ONE_STAGE_STRIDES, strict=True):
            class_maps, box_maps = classes.conv(maps), boxes.conv(maps)
            scaled = boxes.bbox_reg(box_maps) * scale
            logits.append(classes.cls_logits(class_maps))
            distances.append(scaled.relu() if self.norm_on_bbox else scaled.exp() / stride)
            centreness.append(boxes.bbox_ctrness(box_maps if self.centerness_on_reg else class_maps))
        return {name: torch.cat([each.flatten(2).mT for each in maps], dim=1)
                for name, maps in {"cls_logits": logits, "bbox_regression": distances, "bbox_ctrness": centreness}.items()}
