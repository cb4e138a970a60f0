"""fgdlab doctor is red wherever run refuses, with settings, data and teachers that run refuses."""
import json
import sys
from types import SimpleNamespace

import pytest
import torch

from fgdlab.lab.commands.validate_config import check_teacher, validate_config
from fgdlab.lab.config import RunConfig
from fgdlab.lab.datasets import open_split
from fgdlab.lab.errors import UserError
from fgdlab.lab.run import run

TINY = {
    "image_size": 64, "train_images": 4, "eval_images": 2, "batch_size": 2, "train_steps": 1, "teacher": "compact_s",
    "teacher_steps": 1, "teacher_batch_size": 2, "device": "cpu", "method": "fgd",
}
REFUSED = {
    "an unknown student": {"student": "compact_z"}, "an unknown teacher": {"teacher": "compact_z"},
    "an unknown detector": {"detector": "yolo"}, "a batch above the number of images": {"batch_size": 8},
    "parts that do not divide the batch": {"accumulate": 3}, "an unknown level": {"levels": "P9"},
    "sizes without min_size": {"min_sizes": "32,48"}, "an unknown split": {"eval_split": "vla"},
    "a folder that is not there": {"data": "nowhere"}, "no such checkpoint": {"teacher_checkpoint": "none.pth"},
    "a checkpoint without a place": {"teacher_checkpoint": "torchvision:none"},
    "a cache that cannot be": {"teacher_cache": "on", "teacher_cache_gb": 1e-9},
    "pretrained weights that do not exist": {
        "init": "pretrained", "detector": "yolox", "student": "small_s", "teacher": "small_s",
    },
    "an unknown part": {"method_parts": "all", "method": "fbkd"},
    "data without a box": {"data": "EMPTY"}, "a file that is no image": {"data": "TEXT", "image_size": 0},
    "no such split to tune on": {"patience": 2, "tune_split": "tnue"},
    "a split to tune on that is learned": {"patience": 2, "tune_split": "train"},
    "a plateau without patience": {"schedule": "plateau"},
}


@pytest.mark.parametrize("name", REFUSED)
def test_the_doctor_is_red_where_run_refuses(name, scene_cache, coco_folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FGDLAB_HOME", str(scene_cache))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "EMPTY/annotations.json").write_text(json.dumps({"images": [], "annotations": [], "categories": []}))
    boxes = {i: [(5, 5, 30, 40, 3, 0)] for i in range(1, 7)}
    folder = coco_folder([(64, 64)] * 6, boxes, splits={"train": [1, 2, 3, 4], "val": [5, 6]}, name="TEXT")
    (folder / "images/3.png").write_text("no image")
    config = RunConfig.of({**TINY, **REFUSED[name]})
    with pytest.raises(UserError) as refused:
        run(config, tmp_path / "run", progress="off")
    wrong = [result for result in validate_config(config) if result.passed is False]
    red = [str(result) for result in wrong if result.name != "teacher's AP"]  # that of an untrained one is 0
    assert len(red) == 1
    if not config.teacher_checkpoint:  # the doctor says what the run says
        assert str(refused.value).split("; ")[0] in red[0] or config.teacher_cache == "on"


def test_the_doctor_wants_no_look_at_the_weights_of_a_teacher_that_is_not_trained_yet(lab_home):
    looks = {result.name for result in validate_config(RunConfig.of(TINY)) if result.passed is None}
    assert "teacher" in looks and "the teacher's weights" not in looks


def test_the_doctor_is_not_red_where_run_works(scene_cache, monkeypatch):
    monkeypatch.setenv("FGDLAB_HOME", str(scene_cache))
    results = list(validate_config(RunConfig.of({**TINY, "method": "none"})))
    assert not any(result.passed is False for result in results) and results[-1].name == "one step"


class SizesByImage(torch.nn.Module):
    """A backbone whose maps have the mean of an image's pixels everywhere, times ``factor`` where it is negative."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = factor

    def forward(self, pixels):
        mean = pixels.mean(dim=(1, 2, 3))
        return {"0": (torch.where(mean < 0, self.factor, 1.0)[:, None, None, None]).expand(-1, 1, 4, 4)}


@pytest.mark.parametrize("factor, fine", [(1.0, True), (5.0, True), (10.0, None)])
def test_the_doctor_wants_a_look_at_a_teacher_whose_maps_are_far_larger_on_a_few_images(factor, fine, monkeypatch):
    teacher, module = SimpleNamespace(backbone=SizesByImage(factor)), sys.modules[check_teacher.__module__]
    dark = [0, 0, 0, 0, 0, -1, 0, 0]

    def run_backbone(detector, sample, **_):
        for batch in torch.tensor(dark).float().split(4):
            detector.backbone(batch[:, None, None, None].expand(-1, 3, 8, 8))
        return []

    monkeypatch.setattr(module, "head_is_loaded", lambda detector: True)
    monkeypatch.setattr(module, "detections", run_backbone)
    monkeypatch.setattr(module, "coco_scores", lambda *arguments: {"AP": 30.0})
    scenes = open_split(RunConfig.of(TINY), "val", progress=False)
    ap, maps = check_teacher(teacher, scenes, RunConfig(), "cpu")
    assert ap.passed and maps.passed is fine and f"{factor**2:.1f} times that of the median" in maps.detail
    assert ("teacher_lr" in maps.hint) is (fine is None)
