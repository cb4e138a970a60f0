"""Scales: sets of data set size, detectors and schedule. A sweep may change single settings of a scale."""
from pathlib import Path

from ..errors import check_name
from ..io import load_yaml
from .presets import preset_settings

SCALES: dict[str, dict] = load_yaml(Path(__file__).with_name("scales.yaml").read_text(encoding="utf-8"))
# COCO, named by --set data=FOLDER, on one to eight GPUs: the pair of most tables of the paper
SCALES["paper"] = preset_settings("retinanet_x101_r50")


def scale_settings(name: str) -> dict:
    check_name("scale", name, SCALES)
    return {**SCALES[name], "scale": name}
