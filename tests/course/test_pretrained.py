"""The detectors that come with the project are what their headers say."""
import pytest

from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.course.pretrained import FILES, distilled_settings, pretrained_detector, pretrained_facts
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.errors import UserError
from fgdlab.lab.teachers.teachers import teacher_file
from fgdlab.lab.training.evaluate import coco_scores, detections


@pytest.mark.parametrize("name", FILES)
def test_a_shipped_detector_is_ready_to_look(name):
    detector = pretrained_detector(name)
    assert not detector.training and set(detector.levels) == {"P3", "P4", "P5"} and 0 < pretrained_facts(name)["AP"] < 100


def test_the_students_differ_in_their_loss_alone():
    plain, split = (RunConfig.of(pretrained_facts(name)["settings"]) for name in ("baseline", "distilled"))
    assert {name for name in plain.dict() if plain.dict()[name] != split.dict()[name]} == {"area", "alpha", "beta"}
    assert plain.area == "none" and distilled_settings() == split and split.area == "split" and split.seed == 0


def test_an_unknown_name_is_told_what_there_is():
    with pytest.raises(UserError, match="baseline"):
        pretrained_detector("basline")


@pytest.mark.slow
def test_the_headers_AP_is_what_the_detectors_score():
    judged = open_split(RunConfig(), "val", progress=False)
    for name in FILES:
        scores = coco_scores(judged.ground_truth(), detections(pretrained_detector(name), judged, progress=False), judged.image_ids)
        assert scores["AP"] == pytest.approx(pretrained_facts(name)["AP"], abs=0.05), name


def test_the_shipped_teacher_is_the_one_that_runs_learn_from():
    path, origin = teacher_file(RunConfig())
    assert path.name == FILES["teacher"] and origin == "shipped"
