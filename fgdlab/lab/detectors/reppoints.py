"""RepPoints with the moment transform (Yang et al., ICCV 2019): an object as nine points, refined once.

    P3..P7 --box tower--> init points  (N, 18, H, W) --moment box--> init box, matched to objects by centre and size
           |                   +--offsets--> deformable conv on the box tower    --> refined points --moment box--> box, matched by overlap
           +--class tower------+--offsets--> deformable conv on the class tower  --> class logits (N, C, H, W)

Points are (y, x) pairs in cells, relative to their cell's corner. A moment box has the points' mean as its middle and their standard deviation,
times a learned factor a direction, as its half sides.

The module keeps torchvision's contract: ``transform``, ``backbone``, losses in train mode, detections in eval mode.
"""
import math

import torch
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import DeformConv2d, batched_nms, box_iou, clip_boxes_to_image, sigmoid_focal_loss

STRIDES = (8, 16, 32, 64, 128)                                       # of P3..P7, pixels
POINTS = 9                                                           # the 3x3 taps of the deformable convolutions
BASE_SCALE = 4                                                       # a level is meant for objects of about four of its strides
GRADIENT_TO_INIT = 0.1                                               # share of the refinement's gradient that reaches the init points
MOMENT_LEARNING = 0.01                                               # share of the gradient that reaches the moment factors
SMOOTH_L1_BETA = 1 / 9
POSITIVE_IOU, NEGATIVE_IOU = 0.5, 0.4


class RepPointsHead(nn.Module):
    """Towers of three convolutions with group norm, then points twice and classes once.

    ``forward(maps)`` -> a list a level of (logits (N, C, H, W), init points (N, 18, H, W), refined points (N, 18, H, W)).
    """

    def __init__(self, channels: int, classes: int, norm=lambda channels: nn.GroupNorm(32, channels)):
        super().__init__()

        def tower() -> nn.Sequential:
            return nn.Sequential(*(nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1, bias=False), norm(channels), nn.ReLU()) for _ in range(3)))

        self.class_tower, self.box_tower = tower(), tower()
        self.class_conv = DeformConv2d(channels, channels, 3, padding=1, bias=False)
        self.class_out = nn.Conv2d(channels, classes, 1)
        self.init_conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.init_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.refine_conv = DeformConv2d(channels, channels, 3, padding=1, bias=False)
        self.refine_out = nn.Conv2d(channels, 2 * POINTS, 1)
        self.moment = nn.Parameter(torch.zeros(2))                   # log factors of width and height
        for module in self.modules():
            if isinstance(module, (nn.Conv2d, DeformConv2d)):
                nn.init.normal_(module.weight, std=0.01)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.constant_(self.class_out.bias, -math.log(99))        # every class at 1 % in the beginning
        taps = torch.arange(-1.0, 2.0)
        grid = torch.stack(torch.meshgrid(taps, taps, indexing="ij"), dim=-1)                           # (3, 3, 2): y, x of the taps
        self.register_buffer("taps", grid.reshape(1, -1, 1, 1), persistent=False)                       # (1, 18, 1, 1)

    def forward(self, maps: list[Tensor]) -> list[tuple[Tensor, Tensor, Tensor]]:
        return [self.on_level(each) for each in maps]

    def on_level(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        classes, boxes = self.class_tower(features), self.box_tower(features)
        init = self.init_out(self.init_conv(boxes).relu())
        slowed = GRADIENT_TO_INIT * init + (1 - GRADIENT_TO_INIT) * init.detach()
        offset = slowed - self.taps                                  # a deformable convolution adds its own taps again
        logits = self.class_out(self.class_conv(classes, offset).relu())
        refined = self.refine_out(self.refine_conv(boxes, offset).relu()) + init.detach()
        return logits, init, refined

    def moment_box(self, points: Tensor) -> Tensor:
        """Points (..., 18) in cells -> boxes (..., 4) x1 y1 x2 y2 in cells: mean +- standard deviation * exp(moment)."""
        pairs = points.unflatten(-1, (POINTS, 2)).flip(-1)           # (..., 9, 2): x, y
        moment = MOMENT_LEARNING * self.moment + (1 - MOMENT_LEARNING) * self.moment.detach()
        middle, half = pairs.mean(dim=-2), pairs.std(dim=-2) * moment.exp()
        return torch.cat([middle - half, middle + half], dim=-1)


class RepPoints(nn.Module):
    """RepPoints over a pyramid P3..P7, under torchvision's contract; labels run from 1 to ``classes``.

    Args:
        backbone: pixels (N, 3, H, W) -> {name: map} of P3..P7, with ``out_channels``.
        head: a ``RepPointsHead`` of other settings.
        min_size, max_size, image_mean, image_std: of torchvision's transform.
        score_thresh, nms_thresh, topk_candidates (a level), detections_per_img: which detections are kept.
    Differs: MMDetection leaves points in the padding of a batch out of the assignment; here they take part, as anchors do in torchvision. The
        authors distil the neck's maps before their group norm; ``backbone`` gives, and a Scene holds, what comes after it.
    """

    def __init__(
        self, backbone: nn.Module, classes: int, *, head: nn.Module | None = None, min_size: int = 800, max_size: int = 1333,
        image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225), score_thresh: float = 0.05, nms_thresh: float = 0.5, topk_candidates: int = 1000, detections_per_img: int = 100,
    ):
        super().__init__()
        self.backbone = backbone
        self.head = RepPointsHead(backbone.out_channels, classes) if head is None else head
        self.transform = GeneralizedRCNNTransform(min_size, max_size, list(image_mean), list(image_std))
        self.score_thresh, self.nms_thresh = score_thresh, nms_thresh
        self.topk_candidates, self.detections_per_img = topk_candidates, detections_per_img

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor] | list[dict]:
        if self.training:
            check_targets(targets)
        sizes = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.transform(images, targets)
        levels = [[as_float32(maps) for maps in level] for level in self.head(list(self.backbone(batch.tensors).values()))]
        if self.training:
            return self.losses(levels, targets)
        return self.transform.postprocess(self.detections(levels, batch.image_sizes), batch.image_sizes, sizes)

    # --- training -------------------------------------------------------------------------------------------------------------------

    def losses(self, levels: list[list[Tensor]], targets: list[dict]) -> dict[str, Tensor]:
        """Focal loss of the classes, smooth L1 of both boxes, each divided by the positives of the batch."""
        corners, strides = grid_points([logits for logits, _, _ in levels])                                 # (A, 2) x y, (A,): pixels
        logits, init, refined = (torch.cat([maps.flatten(2).mT for maps in kind], dim=1) for kind in zip(*levels, strict=True))      # (N, A, .)
        init_boxes, boxes = (self.head.moment_box(each) * strides[:, None] + corners.repeat(1, 2) for each in (init, refined))       # (N, A, 4)
        sums = {"classification": 0.0, "init_boxes": 0.0, "boxes": 0.0}
        counts = {"init": 0, "refined": 0}
        for i, target in enumerate(targets):
            truth, labels = target["boxes"], target["labels"] - 1
            first = match_by_centre(corners, strides, truth)               # (A,): index of the object, -1 for none
            then = match_by_iou(init_boxes[i].detach(), truth)         # (A,): -2 for neither
            wanted = torch.zeros_like(logits[i])
            positive = then >= 0
            wanted[positive, labels[then[positive]]] = 1.0
            focal = sigmoid_focal_loss(logits[i], wanted)
            sums["classification"] = sums["classification"] + focal[then > -2].sum()
            for name, found, matched in (("init_boxes", init_boxes[i], first), ("boxes", boxes[i], then)):
                chosen = matched >= 0
                unit = BASE_SCALE * strides[chosen][:, None]
                sums[name] = sums[name] + nn.functional.smooth_l1_loss(
                    found[chosen] / unit, truth[matched[chosen]] / unit, beta=SMOOTH_L1_BETA, reduction="sum",
                )
            counts["init"] += max(int((first >= 0).sum()), 1)
            counts["refined"] += max(int(positive.sum()), 1)
        return {
            "classification": sums["classification"] / counts["refined"], "init_boxes": 0.5 * sums["init_boxes"] / counts["init"],
            "boxes": sums["boxes"] / counts["refined"],
        }

    # --- detection ------------------------------------------------------------------------------------------------------------------

    def detections(self, levels: list[list[Tensor]], image_sizes: list[tuple[int, int]]) -> list[dict]:
        """[{"boxes" (K, 4) in pixels of the resized image, "scores" (K,), "labels" (K,)}], best first."""
        return [self.detections_of([[maps[i] for maps in level] for level in levels], size) for i, size in enumerate(image_sizes)]

    def detections_of(self, levels: list[list[Tensor]], image_size: tuple[int, int]) -> dict:
        like = levels[0][2]                                          # nothing may be found anywhere
        boxes, scores, labels = [like.new_zeros(0, 4)], [like.new_zeros(0)], [torch.zeros(0, dtype=torch.int64, device=like.device)]
        for (logits, _, refined), stride in zip(levels, STRIDES, strict=True):
            corners, _ = grid_points([logits[None]], (stride,))
            score = logits.flatten(1).mT.sigmoid()                   # (HW, C)
            kept = (score > self.score_thresh).nonzero()             # (K, 2): point, class
            if not len(kept):
                continue
            best = score[kept[:, 0], kept[:, 1]].topk(min(self.topk_candidates, len(kept)))
            point, label = kept[best.indices].unbind(1)
            box = self.head.moment_box(refined.flatten(1).mT[point]) * stride + corners[point].repeat(1, 2)
            boxes.append(clip_boxes_to_image(box, image_size))
            scores.append(best.values)
            labels.append(label + 1)
        boxes, scores, labels = torch.cat(boxes), torch.cat(scores), torch.cat(labels)
        kept = batched_nms(boxes, scores, labels, self.nms_thresh)[:self.detections_per_img]
        return {"boxes": boxes[kept], "scores": scores[kept], "labels": labels[kept]}


def as_float32(maps: Tensor) -> Tensor:
    """Half-precision maps as float32: a point's place among a thousand pixels needs more than eight bits."""
    return maps.float() if maps.dtype in (torch.float16, torch.bfloat16) else maps


# --- geometry -----------------------------------------------------------------------------------------------------------------------

def grid_points(maps: list[Tensor], strides: tuple[int, ...] = STRIDES) -> tuple[Tensor, Tensor]:
    """Cell corners (A, 2) x y in pixels and strides (A,) of all levels, row by row."""
    corners, each_stride = [], []
    for each, stride in zip(maps, strides, strict=True):
        dtype = torch.float64 if each.dtype == torch.float64 else torch.float32
        rows, columns = (torch.arange(n, dtype=dtype, device=each.device) * stride for n in each.shape[-2:])
        y, x = torch.meshgrid(rows, columns, indexing="ij")
        corners.append(torch.stack([x.flatten(), y.flatten()], dim=1))
        each_stride.append(torch.full((x.numel(),), float(stride), dtype=dtype, device=each.device))
    return torch.cat(corners), torch.cat(each_stride)


def match_by_centre(corners: Tensor, strides: Tensor, truth: Tensor) -> Tensor:
    """For each object the nearest point of the level that suits its size; a point wanted by several goes to the one nearest by.

    The level l of a box has 2^l = side / 4, side the geometric mean of width and height; distances count in widths and heights of the box.
    Returns:
        (A,) index of the object, -1 for none.
    """
    if not len(truth):
        return torch.full((len(corners),), -1, device=corners.device)
    middle, sides = (truth[:, :2] + truth[:, 2:]) / 2, (truth[:, 2:] - truth[:, :2]).clamp(min=1e-6)
    point_level = strides.log2().round()                             # (A,)
    level = (sides / BASE_SCALE).log2().mean(dim=1).trunc().clamp(point_level.min(), point_level.max())      # (K,)
    distance = ((corners - middle[:, None]) / sides[:, None]).norm(dim=2)                                    # (K, A)
    distance = distance.masked_fill(point_level != level[:, None], math.inf)
    nearest = distance.argmin(dim=1)                                 # (K,)
    claimed = torch.full_like(distance, math.inf).scatter(1, nearest[:, None], distance.gather(1, nearest[:, None]))
    best, owner = claimed.min(dim=0)
    return torch.where(best < math.inf, owner, -1)


def match_by_iou(boxes: Tensor, truth: Tensor) -> Tensor:
    """For each init box the object that it overlaps most, from IoU 0.5 on; below 0.4 none; and each object keeps the boxes that overlap it most.

    Returns:
        (A,) index of the object, -1 for none, -2 for neither (IoU between 0.4 and 0.5), which no loss counts.
    """
    if not len(truth):
        return torch.full((len(boxes),), -1, device=boxes.device)
    iou = box_iou(truth, boxes)                                      # (K, A)
    best, owner = iou.max(dim=0)
    matched = torch.where(best >= POSITIVE_IOU, owner, torch.where(best < NEGATIVE_IOU, -1, -2))
    most = iou.amax(dim=1, keepdim=True)
    own = (iou == most) & (most > 0)                                 # a box that no init box touches takes none
    last = len(truth) - 1 - own.flip(0).int().argmax(dim=0)          # of several objects the last, as in MMDetection
    return torch.where(own.any(dim=0), last, matched)


def check_targets(targets: list[dict] | None) -> None:
    """torchvision's own complaint about boxes that are none."""
    if targets is None:
        raise ValueError("targets must be given in train mode; call .eval() for detections")
    for i, target in enumerate(targets):
        bad = (target["boxes"][:, 2:] <= target["boxes"][:, :2]).any(dim=1)
        if bad.any():
            raise ValueError(f"boxes must have positive width and height, got {target['boxes'][bad][0].tolist()} for target {i}; drop such boxes")
