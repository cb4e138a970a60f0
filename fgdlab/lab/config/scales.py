"""Scales: sets of data set size, detectors and schedule. A sweep may change single settings of a scale."""
from ..errors import unknown_name
from .presets import preset_settings

SCALES: dict[str, dict] = {
    # every code path of a sweep in about a minute; its numbers mean nothing
    "smoke": {
        "train_images": 48, "eval_images": 16, "epochs": 1, "batch_size": 8, "teacher": "compact_s",
        "teacher_epochs": 1, "teacher_batch_size": 8, "log_every": 2, "device": "cpu",
    },
    # two CPU cores: teacher and students train until more epochs add nothing (ablations/sweeps/schedule.yaml)
    "laptop": {
        "train_images": 1800, "init": "pretrained", "epochs": 8, "batch_size": 16, "lr": 8e-3,
        "teacher_init": "pretrained", "teacher_epochs": 20, "device": "cpu",
    },
    # your own photographs on two CPU cores: image size, anchors and steps follow from the data (run/photos.py)
    "photos": {
        "train_images": 0, "eval_images": 0, "flip": 0.5, "zoom": 0.15, "colour": 0.1, "views": 8, "ema": 0.99,
        "teacher_batch_size": 8, "device": "cpu",
    },
    # one GPU: ResNet-50 teaches ResNet-18 on torchvision's full RetinaNet; all pixels fit the 2 GiB of image_cache.py
    "gpu": {
        "image_size": 256, "train_images": 5000, "eval_images": 500, "student": "resnet18", "teacher": "resnet50",
        "epochs": 4, "batch_size": 16, "lr": 4e-4,
        "teacher_epochs": 8, "teacher_batch_size": 16, "teacher_lr": 4e-4, "clip": 35.0, "precision": "bf16",
        "device": "cuda", "workers": 2, "teacher_cache": "off",
    },
    # COCO, named by --set data=FOLDER, on one to eight GPUs: the pair of most tables of the paper; others in presets.py
    "paper": preset_settings("retinanet_x101_r50"),
}


def scale_settings(name: str) -> dict:
    if name not in SCALES:
        raise unknown_name("scale", name, SCALES)
    return {**SCALES[name], "scale": name}
