"""Each of the five detectors learns with FGD on scenes made here: its loss falls, its AP rises, and its weights alone detect the same elsewhere."""
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.models import shufflenet_v2_x0_5
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.retinanet import _default_anchorgen
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool, LastLevelP6P7

from fgdlab.distill import Distiller
from fgdlab.fgd import PRESETS, FGDLoss
from fgdlab.lab import detectors
from fgdlab.lab.checks.preflight import preflight
from fgdlab.lab.config import RunConfig
from fgdlab.lab.data import open_split
from fgdlab.lab.detectors import DETECTORS, build
from fgdlab.lab.disk import write_json
from fgdlab.lab.evaluate import all_scores, detections
from fgdlab.lab.models import backbones
from fgdlab.lab.models.export import export_student
from fgdlab.lab.train import train
from fgdlab.lab.weights import save_weights

BODY, SIDE, IMAGES = "shufflenet_v2_x0_5", 64, 8                     # the smallest of torchvision; pixels
CHANNELS = dict.fromkeys(DETECTORS, 32) | {"reppoints": 64}          # of the pyramid, instead of 256; RepPoints norms them in 32 groups
EPOCHS = dict.fromkeys(DETECTORS, 20) | {"mask_rcnn": 12}            # its masks cost most
FEW = {
    "box_batch_size_per_image": 8, "rpn_batch_size_per_image": 64, "rpn_post_nms_top_n_train": 64, "rpn_post_nms_top_n_test": 16,
    "box_detections_per_img": 4,
}


@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Eight noisy images with one bright block each, its outline a polygon."""
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "images").mkdir()
    rng, images, annotations = np.random.default_rng(0), [], []
    for n in range(1, IMAGES + 1):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        x, y, w, h = (int(each) for each in (rng.integers(2, 24), rng.integers(2, 24), rng.integers(26, 36), rng.integers(26, 36)))
        pixels[y:y + h, x:x + w] = 255
        Image.fromarray(pixels).save(folder / f"images/{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE})
        outline = [[float(each) for each in (x, y, x + w, y, x + w, y + h, x, y + h)]]
        annotations.append({"id": n, "image_id": n, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0, "segmentation": outline})
    write_json(folder / "annotations.json", {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "block"}]})
    return folder


@pytest.fixture
def narrow(monkeypatch, name):
    for module in (backbones, detectors):
        monkeypatch.setattr(module, "PYRAMID_CHANNELS", CHANNELS[name])


def torchvisions(name: str) -> nn.Module:
    """The same detector written with torchvision alone; RepPoints, which it has not, with ours."""
    few = FEW if name.endswith("rcnn") else {}
    if name == "reppoints":
        return build(name, BODY, 1, min_size=SIDE)
    used = {"maxpool": 24, "stage2": 48, "stage3": 96, "conv5": 1024} if few else {"stage2": 48, "stage3": 96, "conv5": 1024}
    layers, channels = {child: str(i) for i, child in enumerate(used)}, CHANNELS[name]
    extra = LastLevelMaxPool() if few else LastLevelP6P7(channels, channels)
    backbone = BackboneWithFPN(shufflenet_v2_x0_5(), layers, list(used.values()), channels, extra)
    kind = {"retinanet": RetinaNet, "fcos": FCOS, "faster_rcnn": FasterRCNN, "mask_rcnn": MaskRCNN}[name]
    anchors = {"anchor_generator": _default_anchorgen()} if name == "retinanet" else {}
    return kind(backbone, 2, min_size=SIDE, max_size=107, **few, **anchors)


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_a_detector_learns_with_fgd_and_leaves_as_plain_weights(name, blocks, narrow, tmp_path):
    config = RunConfig(
        data=str(blocks), image_size=0, train_split="all", eval_split="all", train_images=0, eval_images=0, detector=name, student=BODY, method="fgd",
        epochs=EPOCHS[name], batch_size=4, lr=1e-3, log_every=1, device="cpu", min_size=SIDE,
    )
    scenes = open_split(config, "all")
    few = FEW if name.endswith("rcnn") else {}
    torch.manual_seed(0)
    student, teacher = (build(name, BODY, 1, min_size=SIDE, **few) for _ in range(2))
    levels = student.levels[:4] if few else student.levels
    distiller = Distiller(student, teacher, FGDLoss(levels, CHANNELS[name], CHANNELS[name], PRESETS[name]))

    def judged():
        found = detections(student, scenes, batch_size=4)
        return found, all_scores(scenes.truth(), found, masks=name == "mask_rcnn")

    assert all(line.good is not False for line in preflight(distiller, scenes))
    before = judged()[1]
    timing = train(distiller, scenes, config, tmp_path, progress="off")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    totals = [row["weighted"] for row in rows if row["name"] == "total"]
    found, after = judged()
    print(f"{name}: loss {totals[0]:.3f} -> {np.mean(totals[-4:]):.3f}, AP {before['AP']:.1f} -> {after['AP']:.1f}, "
          f"mask AP {after.get('mask_AP', float('nan')):.1f}, {timing['train_seconds']:.1f} s")
    assert np.mean(totals[-4:]) < 0.7 * totals[0] and after["AP"] > before["AP"] + 1
    assert name != "mask_rcnn" or after["mask_AP"] > before["mask_AP"] + 1
    assert {row["name"] for row in rows} >= {"fg", "bg", "attention", "global"} and {row["level"] for row in rows} == {*levels, "all"}

    save_weights(student, tmp_path / "student.safetensors", settings=config.dict(), classes=scenes.classes)
    export_student(tmp_path, tmp_path / "student.pth")
    plain = torchvisions(name)
    plain.load_state_dict(torch.load(tmp_path / "student.pth", weights_only=True))       # strict
    again = detections(plain, scenes, batch_size=4)
    assert len(found) > 0 and again == found
