"""Each detector learns with FGD: its loss falls, its AP rises, its weights load into plain torchvision.

On digit scenes by the sweep ``detectors``, whose committed results are checked here and whose check runs at smoke
scale, and on bright blocks, in seconds.
"""
import json
import sys
from pathlib import Path

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

import fgdlab
from fgdlab.config import PRESETS
from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.lab.checkpoints.export import export_student
from fgdlab.lab.checkpoints.safetensors_io import save_weights
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.detectors import backbones
from fgdlab.lab.detectors import builder as detectors
from fgdlab.lab.detectors.builder import DETECTORS, build
from fgdlab.lab.io import write_json
from fgdlab.lab.run import make_distiller, prepare, run
from fgdlab.lab.sweeps.planning import PlannedRun
from fgdlab.lab.sweeps.spec import load_sweep
from fgdlab.lab.tables.runs import baseline_of
from fgdlab.lab.training.evaluate import all_scores, detections
from fgdlab.lab.training.loop import train
from fgdlab.lab.training.preflight_checks import preflight

ABLATIONS = Path(fgdlab.__file__).parents[1] / "ablations"
sys.path.insert(0, str(ABLATIONS))
import check_detectors  # noqa: E402

BACKBONE, SIDE, IMAGES = "shufflenet_v2_x0_5", 64, 8  # the smallest of torchvision; pixels; number
BACKBONES = dict.fromkeys(DETECTORS, BACKBONE) | {"yolox": "small_s"}  # YOLOX has its own
# of the pyramid, instead of 256; RepPoints and GFL norm them in 32 groups
CHANNELS = dict.fromkeys(DETECTORS, 32) | {"reppoints": 64, "gfl": 64, "yolox": 64}
EPOCHS = dict.fromkeys(DETECTORS, 20) | {"mask_rcnn": 12, "yolox": 100}    # masks cost most; YOLOX has slow norms
FEW = {
    "box_batch_size_per_image": 8, "rpn_batch_size_per_image": 64, "rpn_post_nms_top_n_train": 64,
    "rpn_post_nms_top_n_test": 16,
    "box_detections_per_img": 4,
}

# ---- on digit scenes ---

def test_the_sweep_has_each_detector_alone_and_with_its_presets_weights_and_levels():
    sweep = load_sweep(str(ABLATIONS / "sweeps" / "detectors.yaml"))
    assert list(sweep.rows) == [
        row for name in DETECTORS for row in (name, f"{name}_fgd", *(["gfl_ld", "gfl_fgd_ld"] if name == "gfl" else []))
    ]
    for name in DETECTORS:
        alone, distilled = (sweep.settings(row, 0, "gpu") for row in (name, f"{name}_fgd"))
        assert alone.detector == distilled.detector == name and (alone.method, distilled.method) == ("none", "fgd")
        assert distilled.fgd() == PRESETS[name]
        levels = {"faster_rcnn": "P2,P3,P4,P5", "mask_rcnn": "P2,P3,P4,P5", "yolox": "P3,P4,P5"}
        assert distilled.levels == levels.get(name, "P3,P4,P5,P6,P7")
        assert baseline_of(sweep, f"{name}_fgd") == name


@pytest.mark.slow
@pytest.mark.parametrize("name", DETECTORS)
def test_the_check_of_a_short_run(name, tmp_path, monkeypatch, same_bits):
    monkeypatch.setenv("FGDLAB_HOME", str(tmp_path / "home"))
    config = load_sweep(str(ABLATIONS / "sweeps" / "detectors.yaml")).settings(
        f"{name}_fgd", 0, "smoke", {"epochs": 2, "log_every": 1}
    )
    run(config, tmp_path / "run", progress="off")
    (found,) = check_detectors.check(
        [PlannedRun(row=f"{name}_fgd", seed=0, config=config, folder=tmp_path / "run")]
    )
    assert found["bit_equal"] and found["tensors"] > 50 and found["logged"] == 3
    assert found["loss_first"] > found["task_loss_first"] > 0  # FGD's terms are in the one, not in the other
    assert ("mask_AP" in found) == (name == "mask_rcnn")
    same_bits(check_detectors.untrained(config, 10), make_distiller(config, prepare(config, progress=False)).student)
    assert f"| {name}_fgd | 0 |" in check_detectors.table([found])


# ---- on bright blocks ---

@pytest.fixture(scope="module")
def blocks(tmp_path_factory):
    """Eight noisy images with one bright block each, its segmentation a polygon."""
    folder = tmp_path_factory.mktemp("blocks")
    (folder / "images").mkdir()
    rng, images, annotations = np.random.default_rng(0), [], []
    for n in range(1, IMAGES + 1):
        pixels = rng.integers(0, 60, (SIDE, SIDE, 3), dtype=np.uint8)
        x, y, w, h = (
            int(each) for each in (rng.integers(2, 24), rng.integers(2, 24), rng.integers(26, 36), rng.integers(26, 36))
        )
        pixels[y:y + h, x:x + w] = 255
        Image.fromarray(pixels).save(folder / f"images/{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": SIDE, "height": SIDE})
        polygon = [[float(each) for each in (x, y, x + w, y, x + w, y + h, x, y + h)]]
        annotations.append({
            "id": n, "image_id": n, "category_id": 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0,
            "segmentation": polygon,
        })
    write_json(
        folder / "annotations.json",
        {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "block"}]},
    )
    return folder


@pytest.fixture
def narrow(monkeypatch, name):
    for module in (backbones, detectors):
        monkeypatch.setattr(module, "PYRAMID_CHANNELS", CHANNELS[name])


def torchvisions(name: str) -> nn.Module:
    """The same detector built with torchvision alone; others with ours."""
    few = FEW if name.endswith("rcnn") else {}
    if name in check_detectors.OURS:
        return build(name, BACKBONES[name], 1, min_size=SIDE)
    used = (
        {"maxpool": 24, "stage2": 48, "stage3": 96, "conv5": 1024}
        if few
        else {"stage2": 48, "stage3": 96, "conv5": 1024}
    )
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
        data=str(blocks), image_size=0, train_split="all", eval_split="all", train_images=0, eval_images=0,
        detector=name, student=BACKBONES[name], method="fgd", epochs=EPOCHS[name], batch_size=4, lr=1e-3, log_every=1,
        device="cpu", min_size=SIDE,
    )
    dataset = open_split(config, "all")
    few = FEW if name.endswith("rcnn") else {}
    torch.manual_seed(0)
    student, teacher = (build(name, BACKBONES[name], 1, min_size=SIDE, **few) for _ in range(2))
    levels = student.levels[:4] if few else student.levels
    distiller = Distiller(student, teacher, FGDLoss(levels, CHANNELS[name], CHANNELS[name], PRESETS[name]))

    def evaluate():
        found = detections(student, dataset, batch_size=4)
        return found, all_scores(dataset.ground_truth(), found, masks=name == "mask_rcnn")

    assert all(line.passed is not False for line in preflight(distiller, dataset))
    before = evaluate()[1]
    timing = train(distiller, dataset, config, tmp_path, progress="off")
    rows = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    totals = [row["weighted"] for row in rows if row["name"] == "total"]
    found, after = evaluate()
    print(f"{name}: loss {totals[0]:.3f} -> {np.mean(totals[-4:]):.3f}, AP {before['AP']:.1f} -> {after['AP']:.1f}, "
          f"mask AP {after.get('mask_AP', float('nan')):.1f}, {timing['train_seconds']:.1f} s")
    assert np.mean(totals[-4:]) < 0.7 * totals[0] and after["AP"] > before["AP"] + 1
    assert name != "mask_rcnn" or after["mask_AP"] > before["mask_AP"] + 1
    assert {row["name"] for row in rows} >= {"fg", "bg", "attention", "global"}
    assert {row["level"] for row in rows} == {*levels, "all"}

    save_weights(student, tmp_path / "student.safetensors", settings=config.dict(), classes=dataset.classes)
    export_student(tmp_path, tmp_path / "student.pth")
    plain = torchvisions(name)
    plain.load_state_dict(torch.load(tmp_path / "student.pth", weights_only=True))       # strict
    again = detections(plain, dataset, batch_size=4)
    assert len(found) > 0 and again == found
