"""COCO's analysis of errors, recorded from MMDetection 3.3 on 60 images of val2017 with made detections: to 1e-9."""
import json
from pathlib import Path

import pytest

from fgdlab.lab.stats.error_types import ERROR_TYPES, error_levels

FOLDER = Path(__file__).parent / "errors"
ANNOTATIONS, DETECTIONS, RECORDED = (
    json.loads((FOLDER / f"{name}.json").read_text()) for name in ("annotations", "detections", "mmdet_error_analysis")
)
AREAS = {"all": (0, 1e10), "small": (0, 1024), "medium": (1024, 9216), "large": (9216, 1e10)}


@pytest.mark.parametrize("area", AREAS)
def test_the_mean_over_classes_is_mmdetections(area):
    ours = error_levels(ANNOTATIONS, DETECTIONS, area=AREAS[area]).mean()
    assert ours.to_dict() == pytest.approx(RECORDED["all"][area], abs=1e-9) and list(ours.index) == list(ERROR_TYPES)


def test_each_class_is_mmdetections():
    ours = error_levels(ANNOTATIONS, DETECTIONS).to_dict("index")
    assert ours.keys() == RECORDED["classes"].keys() and len(ours) == 80
    for name, levels in RECORDED["classes"].items():
        assert ours[name] == pytest.approx(levels, abs=1e-9), name
