"""Your own data, your own backbone, your own detector, and a distillation of each. Run it, then change it.

    python ablations/own_detector.py DIR [yolo | retinanet]

DIR         a COCO-format folder (`fgdlab data check DIR`); default: digit scenes.
Data        images/, annotations.json and perhaps splits.json. ``open_split`` checks them and gives images and boxes in
            pixels.
Backbone    any nn.Module: pixels (N, 3, H, W) -> {name: map (N, C, H / 2^l, W / 2^l)}, finest first, and
            ``out_channels`` = C. See Strided.
Detector    any nn.Module with ``transform``, ``backbone`` and torchvision's forward (fgdlab/scene.py). torchvision's
            own detectors take your backbone: see retinanet(). One written by hand, in the style of YOLO: see Yolo.
Distilling  Distiller(student, teacher, FGDLoss(levels, C of the student, C of the teacher)); preflight checks the first
            batch before a long training.
"""
import sys

import torch
from torch import Tensor, nn
from torchvision.models.detection import RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.ops import batched_nms, box_convert, generalized_box_iou_loss, sigmoid_focal_loss

from fgdlab import Distiller, FGDConfig, FGDLoss
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.detectors import NoResize
from fgdlab.lab.training import coco_scores, detections, preflight, train

STRIDES = (8, 16, 32)                                                # pixels a cell of P3, P4, P5
LEVELS = ("P3", "P4", "P5")
MEAN, STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]


def conv(inputs: int, outputs: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs), nn.SiLU())


class Strided(nn.Module):
    """A backbone of your own: pixels -> {"0", "1", "2"}, maps of one width at strides 8, 16, 32.

    The keys are free, their order is not.
    """

    def __init__(self, width: int):
        super().__init__()
        self.out_channels = width                                    # a loss reads only this from a backbone
        self.stem = nn.Sequential(conv(3, width // 2, 2), conv(width // 2, width, 2))
        self.stages = nn.ModuleList(nn.Sequential(conv(width, width, 2), conv(width, width)) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        maps, features = {}, self.stem(pixels)
        for name, stage in enumerate(self.stages):
            features = maps[str(name)] = stage(features)             # (N, C, H/8, W/8), then 16, 32
        return maps


def retinanet(width: int, classes: int) -> RetinaNet:
    """torchvision's detector on a backbone of your own."""
    anchors = AnchorGenerator(((14, 20), (28, 40), (56, 79)), ((0.75, 1.35),) * len(STRIDES))
    detector = RetinaNet(Strided(width), classes + 1, anchor_generator=anchors)
    detector.transform = NoResize(detector.transform)  # torchvision's own would enlarge every image to 800 pixels
    return detector


class Yolo(nn.Module):
    """A detector written by hand: each cell says whether an object's middle lies in it, of which class, and how far the
    box reaches from there.

    ``transform`` batches and pads, ``backbone`` gives the maps that are distilled; what follows is this detector's own
    business.
    """

    def __init__(self, width: int, classes: int):
        super().__init__()
        self.transform = NoResize(GeneralizedRCNNTransform(640, 640, MEAN, STD))
        self.backbone = Strided(width)
        self.classes = classes
        # x, y, log w, log h, objectness, classes; shared
        self.head = nn.Sequential(conv(width, width), nn.Conv2d(width, 5 + classes, 1))
        nn.init.constant_(self.head[1].bias[4], -4.0)                # hardly any cell holds an object

    def forward(self, images: list[Tensor], targets: list[dict] | None = None) -> dict[str, Tensor] | list[dict]:
        sizes = [tuple(image.shape[-2:]) for image in images]
        batch, targets = self.transform(images, targets)
        raw, middles, strides = self.cells(self.backbone(batch.tensors))
        at, sides = middles + (
            raw[..., :2].sigmoid() - 0.5
        ) * 2 * strides, raw[..., 2:4].clamp(max=4).exp() * 4 * strides
        boxes = box_convert(torch.cat([at, sides], dim=-1), "cxcywh", "xyxy")
        if self.training:
            return self.losses(raw, boxes, middles, strides, targets)
        return self.transform.postprocess(
            [self.detect(*each) for each in zip(raw, boxes, strict=True)], batch.image_sizes, sizes,
        )

    def cells(self, maps: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """Every cell of every level: what the head says (N, A, 5 + C), its middle (A, 2) and stride (A, 1) in
        pixels."""
        raw, middles, strides = [], [], []
        for each, stride in zip(maps.values(), STRIDES, strict=True):
            y, x = torch.meshgrid(
                *((torch.arange(n, device=each.device) + 0.5) * stride for n in each.shape[-2:]), indexing="ij",
            )
            raw.append(self.head(each).flatten(2).mT)
            middles.append(torch.stack([x.flatten(), y.flatten()], dim=1))
            strides.append(torch.full((x.numel(), 1), float(stride), device=each.device))
        return torch.cat(raw, dim=1), torch.cat(middles), torch.cat(strides)

    def losses(
        self, raw: Tensor, boxes: Tensor, middles: Tensor, strides: Tensor, targets: list[dict],
    ) -> dict[str, Tensor]:
        """An object belongs to the cell nearest to its middle, on the level whose cells are about a quarter of its
        side."""
        wanted, of_class, overlap, count = torch.zeros_like(raw[..., 4]), raw.new_zeros(()), raw.new_zeros(()), 0
        for i, target in enumerate(targets):
            gt_boxes = target["boxes"]
            if not len(gt_boxes):
                continue
            middle = (gt_boxes[:, :2] + gt_boxes[:, 2:]) / 2
            side = (gt_boxes[:, 2:] - gt_boxes[:, :2]).prod(dim=1).sqrt()
            stride = 2 ** (side / 4).log2().round().clamp(3, 5)      # (K,)
            distance = (middle[:, None] - middles).norm(dim=2).masked_fill(strides[:, 0] != stride[:, None], torch.inf)
            cell = distance.argmin(dim=1)                            # (K,)
            wanted[i, cell] = 1.0
            overlap = overlap + generalized_box_iou_loss(boxes[i, cell], gt_boxes, reduction="sum")
            one_hot = nn.functional.one_hot(target["labels"] - 1, self.classes).to(raw.dtype)
            of_class = of_class + nn.functional.binary_cross_entropy_with_logits(
                raw[i, cell, 5:], one_hot, reduction="sum",
            )
            count += len(gt_boxes)
        count = max(count, 1)
        return {
            "objectness": sigmoid_focal_loss(raw[..., 4], wanted, reduction="sum") / count, "classes": of_class / count,
            "boxes": overlap / count,
        }

    def detect(self, raw: Tensor, boxes: Tensor) -> dict[str, Tensor]:
        score, label = (raw[:, 4:5].sigmoid() * raw[:, 5:].sigmoid()).max(dim=1)
        best = score.topk(min(300, len(score))).indices
        kept = best[batched_nms(boxes[best], score[best], label[best], 0.5)][:100]
        return {"boxes": boxes[kept], "scores": score[kept], "labels": label[kept] + 1}


def distil(
    make, config: RunConfig, student_width: int = 16, teacher_width: int = 32, progress: str = "bar",
) -> dict[str, float]:
    """Train a wide teacher, then a narrow student alone and one distilled. Returns AP of all three on the eval split.

    Args:
        make: make(width, classes) -> a detector.
        config: data, sizes, splits and schedule; its detectors are not used.
    """
    train_set, eval_set = open_split(config, config.train_split), open_split(config, config.eval_split)
    classes = len(train_set.classes)

    def ap(detector: nn.Module) -> float:
        return coco_scores(eval_set.ground_truth(), detections(detector, eval_set), eval_set.image_ids)["AP"]

    torch.manual_seed(config.seed)
    teacher = make(teacher_width, classes)
    train(Distiller(teacher), train_set, config, progress=progress)
    scores = {"teacher": ap(teacher)}
    for name in ("alone", "distilled"):
        torch.manual_seed(config.seed + 1)                           # both students start from the same weights
        student = make(student_width, classes)
        distiller = Distiller(student)
        if name == "distilled":  # start values: preflight prints the loss ratio
            weights = FGDConfig(4e-3, 2e-3, 1e-3, 2e-5)
            distiller = Distiller(
                student, teacher,
                FGDLoss(LEVELS, student.backbone.out_channels, teacher.backbone.out_channels, weights),
            )
        if progress != "off":
            print("\n".join(map(str, preflight(distiller, train_set))), flush=True)
        train(distiller, train_set, config, progress=progress)
        scores[name] = ap(student)
    return scores


if __name__ == "__main__":
    words = sys.argv[1:]
    makers = {"yolo": Yolo, "retinanet": retinanet}
    chosen = makers[words.pop()] if words and words[-1] in makers else Yolo
    data = {"data": words[0], "image_size": 256, "train_images": 0, "eval_images": 0} if words else {}
    print(distil(chosen, RunConfig(epochs=4, lr=2e-3, device="cpu", **data)))
