"""Detectors of MMDetection 3.3 (golden/mmdet/README.md).

FPN outputs are equal to 1e-4 of their deviation, heads to 1e-3, losses to 1e-4, names and shapes exactly.
"""
import json
import math
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fgdlab.lab.checkpoints.export import export_mmdet
from fgdlab.lab.checkpoints.mmdet import load_mmdet
from fgdlab.lab.detectors.backbones import CaffePixels
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.detectors.mmdet_modules import ONE_STAGE_STRIDES

FOLDER = Path(__file__).parent / "mmdet"
CASES = {
    "retinanet_r50": ("retinanet", "resnet50"),
    "fcos_r50_caffe": ("fcos", "resnet50_caffe"),
    "faster_rcnn_r50": ("faster_rcnn", "resnet50"),
    "reppoints_moment_r50": ("reppoints", "resnet50"),
    "retinanet_x101_64x4d": ("retinanet", "resnext101_64x4d"),
    "cascade_mask_rcnn_x101_32x4d_dconv": ("faster_rcnn", "resnext101_32x4d_dconv"),
    "gfl_r50": ("gfl", "resnet50"),
    "yolox_s": ("yolox", "yolox_s"),
    "yolox_l": ("yolox", "yolox_l"),
}
HEAVY = {"retinanet_x101_64x4d", "cascade_mask_rcnn_x101_32x4d_dconv", "yolox_l"}
PARAMS = [pytest.param(name, marks=pytest.mark.slow if name in HEAVY else ()) for name in CASES]
FPN, HEAD = 1e-4, 1e-3  # largest error, in standard deviations of the output


def keys_of(name):
    """{tensor's name: (dtype, shape)} of MMDetection's checkpoint, in order."""
    rows = (line.split() for line in (FOLDER / f"{name}.keys.txt").read_text().splitlines())
    return {key: (dtype, () if shape == "-" else tuple(map(int, shape.split("x")))) for key, dtype, shape in rows}


def filled(key, dtype, shape):
    if dtype != "float32":
        return torch.zeros(shape, dtype=getattr(torch, dtype))
    z = torch.randn(shape, generator=torch.Generator().manual_seed(zlib.crc32(key.encode())))
    if "conv_offset" in key:
        z *= 0.05
    if len(shape) >= 2:
        return z * math.sqrt(2 / math.prod(shape[1:]))
    if key.endswith("running_var"):
        return 1 + 0.1 * z.abs()
    return 0.5 + 0.1 * z if key.endswith("weight") else 0.1 * z


def close(ours, theirs, within, every=1):
    """ours (1, C, H, W) or (R, C); theirs holds every ``every``-th channel of it."""
    theirs = torch.from_numpy(theirs)
    ours = ours[:, ::every]
    assert ours.shape == theirs.shape
    assert float((ours - theirs).abs().max()) < within * float(
        theirs.std(correction=0) if theirs.numel() > 1 else theirs.abs().max()
    )


def as_maps(flat, maps, channels):
    """torchvision's (1, sum of H * W * A, K) -> one (1, A * K, H, W) a level, in MMDetection's order of channels."""
    sizes = [each.shape[-2] * each.shape[-1] * channels // flat.shape[2] for each in maps]
    return [
        part.reshape(1, *each.shape[-2:], channels).permute(0, 3, 1, 2)
        for part, each in zip(flat.split(sizes, dim=1), maps, strict=True)
    ]


@pytest.mark.parametrize("name", PARAMS)
@torch.no_grad()
def test_a_converted_checkpoint_gives_their_outputs_and_exports_back(name):
    family, backbone = CASES[name]
    detector = build(family, backbone, 80, flavour="mmdet").eval()
    keys = keys_of(name)
    state = {key: filled(key, *kind) for key, kind in keys.items()}
    cascade = name.startswith("cascade")
    report = load_mmdet(detector, state, parts="backbone+neck" if cascade else "all")
    own = [key for key in keys if key.startswith(("backbone.", "neck."))] if cascade else list(keys)
    assert (
        len(report.copied) == len(own)
        and len(report.skipped) == len(keys) - len(own)
        and bool(report.missing) == cascade
    )
    exported = export_mmdet(detector)
    mine = {
        key: (str(each.dtype).removeprefix("torch."), tuple(each.shape))
        for key, each in exported.items()
        if not cascade or key in own
    }
    assert mine == {key: keys[key] for key in own} and all(torch.equal(exported[key], state[key]) for key in own)

    golden = dict(np.load(FOLDER / f"{name}.npz"))
    pixels = torch.randn(1, 3, 128, 160, generator=torch.Generator().manual_seed(0))
    if backbone.endswith("_caffe"):  # recorded as a Caffe body reads them
        pixels = (pixels / CaffePixels().std).flip(1)
    if family == "yolox":
        detector.backbone.body.pixels = nn.Identity()  # recorded behind the conversion
    features = detector.backbone(pixels)
    maps = list(features.values())
    for i, each in enumerate(maps):
        close(each, golden[f"fpn{i}"], FPN, every=32)
    if not cascade:
        HEADS[family](detector, features, maps, golden)
    if name in LOSSES:
        target = {"boxes": torch.tensor([[8.0, 8, 72, 90], [20, 30, 150, 120]]), "labels": torch.tensor([4, 18])}
        losses = detector.losses(detector.head(maps), [target])
        assert {kind: float(value) for kind, value in losses.items()} == pytest.approx(LOSSES[name], rel=1e-4)


def retinanet_head(detector, features, maps, golden):
    found = detector.head(maps)
    for i, (scores, boxes) in enumerate(
        zip(as_maps(found["cls_logits"], maps, 720), as_maps(found["bbox_regression"], maps, 36), strict=True)
    ):
        close(scores, golden[f"head0_level{i}"], HEAD, every=20)
        close(boxes, golden[f"head1_level{i}"], HEAD, every=4)


def fcos_head(detector, features, maps, golden):
    detector.head.centerness_on_reg = True  # the recorded detector; the authors' reads the class tower
    found = detector.head(maps)
    kinds = (
        as_maps(found[kind], maps, n) for kind, n in (("cls_logits", 80), ("bbox_regression", 4), ("bbox_ctrness", 1))
    )
    for i, (scores, boxes, centreness) in enumerate(zip(*kinds, strict=True)):
        close(scores, golden[f"head0_level{i}"], HEAD, every=20)
        close(boxes * ONE_STAGE_STRIDES[i], golden[f"head1_level{i}"], HEAD, every=4)
        close(centreness, golden[f"head2_level{i}"], HEAD)


def reppoints_head(detector, features, maps, golden):
    for i, (logits, _, refined) in enumerate(detector.head(maps)):
        close(logits, golden[f"head0_level{i}"], HEAD, every=20)
        boxes = detector.head.moment_box(refined.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
        close(boxes, golden[f"head1_level{i}"], HEAD, every=4)


def faster_rcnn_heads(detector, features, maps, golden):
    for i, (objectness, deltas) in enumerate(zip(*detector.rpn.head(maps), strict=True)):
        close(objectness, golden[f"rpn0_level{i}"], HEAD)
        close(deltas, golden[f"rpn1_level{i}"], HEAD)
    boxes = torch.tensor([[8.0, 8, 72, 90], [20, 30, 150, 120], [0, 0, 40, 40]])
    heads = detector.roi_heads
    scores, deltas = heads.box_predictor(heads.box_head(heads.box_roi_pool(features, [boxes], [(128, 160)])))
    close(scores.roll(-1, dims=1), golden["roi_cls"], HEAD)  # background first here, last there
    assert not deltas[:, :4].any()
    close(deltas[:, 4:], golden["roi_reg"], HEAD)


def gfl_head(detector, features, maps, golden):
    for i, (logits, bins) in enumerate(detector.head(maps)):
        close(logits, golden[f"head0_level{i}"], HEAD, every=20)
        close(bins, golden[f"head1_level{i}"], HEAD, every=4)


def yolox_head(detector, features, maps, golden):
    for i, (logits, boxes, objectness) in enumerate(detector.head(maps)):
        close(logits, golden[f"head0_level{i}"], HEAD, every=20)
        close(boxes, golden[f"head1_level{i}"], HEAD)
        close(objectness, golden[f"head2_level{i}"], HEAD)


LOSSES = json.loads((FOLDER / "losses.json").read_text())
HEADS = {
    "gfl": gfl_head, "yolox": yolox_head, "retinanet": retinanet_head, "fcos": fcos_head,
    "reppoints": reppoints_head, "faster_rcnn": faster_rcnn_heads,
}
