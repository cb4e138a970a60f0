"""The detectors that come with the project are what their headers say."""
import pytest

from fgdlab.lab.config.run_config import RunConfig, settings_about
from fgdlab.lab.config.scales import scale_settings
from fgdlab.lab.course.pretrained import (
    FILES,
    WEIGHTS,
    distilled_config,
    pretrained_detector,
    pretrained_facts,
    pretrained_snapshots,
)
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.errors import UserError
from fgdlab.lab.teachers.teachers import teacher_file
from fgdlab.lab.training.evaluate import coco_scores, detections


@pytest.mark.parametrize("name", FILES)
def test_a_pretrained_detector_is_in_eval_mode(name):
    detector = pretrained_detector(name)
    assert not detector.training and set(detector.levels) == {"P3", "P4", "P5"}
    assert 0 < pretrained_facts(name)["AP"] < 100


def test_the_students_differ_only_in_their_loss():
    baseline, split = (RunConfig.of(pretrained_facts(name)["settings"]) for name in ("baseline", "distilled"))
    alike = settings_about("data", "detector", "training")
    assert all(getattr(baseline, name) == getattr(split, name) for name in alike)
    assert baseline.method == "none" and distilled_config() == split and split.area == "split" and split.seed == 0


def test_an_unknown_name_is_refused_with_the_known_names():
    with pytest.raises(UserError, match="baseline"):
        pretrained_detector("basline")


@pytest.mark.slow
def test_the_AP_in_the_header_is_what_the_detector_scores():
    eval_set = open_split(RunConfig.of(scale_settings("laptop")), "val", progress=False)
    for name in FILES:
        found = detections(pretrained_detector(name), eval_set, progress=False)
        scores = coco_scores(eval_set.ground_truth(), found, eval_set.image_ids)
        assert scores["AP"] == pytest.approx(pretrained_facts(name)["AP"], abs=0.05), name


def test_the_pretrained_teacher_is_the_teacher_of_runs():
    path, origin = teacher_file(RunConfig.of(scale_settings("laptop")), None, None)
    assert path.name == FILES["teacher"] and origin == "shipped"


def test_the_explorer_plays_the_shipped_student_in_training(tiny_scenes):
    from fgdlab.lab.explorer import explore

    explorer = explore({"distilled": pretrained_snapshots()}, pretrained_detector("teacher"), tiny_scenes("val"))
    assert explorer.info["students"][0]["checkpoints"] == ["step 100", "step 300", "student-distilled"]
    gaps = explorer.numbers("checkpoints")["feature_bg"]
    assert gaps.nunique() == 3 and gaps.iloc[2] < gaps.iloc[0]
    assert sum(file.stat().st_size for file in WEIGHTS.glob("student-distilled-step_*")) < 750_000
