"""Where a teacher comes from, what its file name depends on, and that a broken teacher is refused before it is used."""
import json
import threading
import time
from dataclasses import fields

import pytest
import torch

from fgdlab.lab.checkpoints.safetensors_io import load_weights, read_facts, save_weights
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import scale_settings
from fgdlab.lab.datasets import digits
from fgdlab.lab.datasets.dataset import open_split
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.run import open_data
from fgdlab.lab.teachers import teachers
from fgdlab.lab.teachers.teachers import TEACHER_DECIDES, get_teacher, teacher_file, teacher_hash, train_teacher
from fgdlab.lab.training.evaluate import SCORES, coco_scores, detections

FIELDS = {each.name: each for each in fields(RunConfig)}


def another(name):
    """A valid value that is not the default."""
    default, among = FIELDS[name].default, FIELDS[name].metadata["choices"]
    if among:
        return next(word for word in among if word != default)
    if isinstance(default, bool):
        return not default
    return (
        default + "x" if isinstance(default, str) else default + 1 if isinstance(default, int) else default / 2 + 0.125
    )


def quiet(call, config):
    return call(config, *open_data(config, progress=False), progress=False)


# ---- the hash --------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", [name for name in FIELDS if name != "data"])
def test_the_hash_changes_with_what_decides_the_weights_and_with_nothing_else(name):
    changed = teacher_hash(RunConfig().but(**{name: another(name)})) != teacher_hash(RunConfig())
    assert changed == (name in TEACHER_DECIDES)


def test_what_decides_the_weights_are_settings_of_a_run():
    assert set(TEACHER_DECIDES) <= FIELDS.keys() and len(set(TEACHER_DECIDES)) == len(TEACHER_DECIDES)
    assert not {
        "student",
        "method",
        "seed",
        "epochs",
        "lr",
        "batch_size",
        "optimizer",
        "alpha",
        "area",
        "eval_split",
        "eval_images",
        "device",
    } & set(TEACHER_DECIDES)


def test_the_hash_changes_with_the_recipe_of_the_digits(monkeypatch):
    before = teacher_hash(RunConfig())
    monkeypatch.setattr(digits, "RECIPE_VERSION", digits.RECIPE_VERSION + 1)
    assert teacher_hash(RunConfig()) != before


def test_for_a_folder_the_hash_depends_on_what_is_in_it_and_not_on_where_it_lies(coco_folder):
    boxes = {n: [(4, 4, 10, 10, 3, 0)] for n in range(1, 9)}
    one, copy, other = (
        RunConfig(
            data=str(coco_folder([(40, 20)] * 8, each, splits={"train": [1, 2, 3, 4, 5], "val": [6, 7, 8]}, name=name))
        )
        for name, each in {"one": boxes, "copy": boxes, "other": boxes | {2: [(4, 4, 11, 10, 3, 0)]}}.items()
    )
    assert teacher_hash(one) == teacher_hash(copy) != teacher_hash(other)
    assert (
        len({teacher_hash(each) for each in (one, one.but(train_images=3), one.but(train_split="val"), RunConfig())})
        == 4
    )


def test_a_teacher_of_other_images_has_another_hash(lab_home, tiny_config):
    """A run evaluated on its training images must not save a teacher of fewer images under the full one's name."""
    full = tiny_config()
    evaluated_on_train = full.but(eval_split="train")
    same_images = open_split(full, "train").image_ids == open_split(evaluated_on_train, "train").image_ids
    assert same_images == (teacher_hash(full) == teacher_hash(evaluated_on_train))


# ---- where it comes from ---------------------------------------------------------------------------------------------

@pytest.fixture
def no_training(monkeypatch):
    """Count instead of training; what is written says so."""
    trained = []

    def pretend(config, path, *data, **settings):
        trained.append(config)
        time.sleep(0.1)
        path.write_text("trained")

    monkeypatch.setattr(teachers, "train_teacher", pretend)
    return trained


def test_shipped_comes_before_cached_and_cached_before_trained(
    lab_home, tiny_config, monkeypatch, tmp_path, no_training
):
    config = tiny_config()
    name = f"retinanet-compact_s-{teacher_hash(config)}.safetensors"
    monkeypatch.setattr(teachers, "SHIPPED", tmp_path / "shipped")
    assert quiet(teacher_file, config) == (lab_home / "teachers" / name, "trained now") and len(no_training) == 1
    assert quiet(teacher_file, config) == (lab_home / "teachers" / name, "cached") and len(no_training) == 1
    (tmp_path / "shipped").mkdir()
    (tmp_path / "shipped" / name).write_text("shipped")
    assert quiet(teacher_file, config) == (tmp_path / "shipped" / name, "shipped") and len(no_training) == 1


def test_a_teacher_is_trained_once_when_two_ask(lab_home, tiny_config, no_training):
    start, found = threading.Barrier(2), []

    def ask():
        start.wait()
        found.append(quiet(teacher_file, tiny_config())[0].read_text())

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert found == ["trained", "trained"] and len(no_training) == 1


def test_a_teacher_that_failed_to_train_leaves_nothing_behind(lab_home, tiny_config, monkeypatch):
    def fails(config, path, *data, **settings):
        path.write_text("half")
        raise KeyboardInterrupt

    monkeypatch.setattr(teachers, "train_teacher", fails)
    with pytest.raises(KeyboardInterrupt):
        quiet(teacher_file, tiny_config())
    assert [each.name for each in (lab_home / "teachers").iterdir() if each.suffix != ".lock"] == []


def test_every_shipped_teacher_is_found_by_the_settings_in_its_header():
    """A change of the recipe, or of what decides a teacher, must come with new files."""
    shipped = sorted(teachers.SHIPPED.glob("retinanet-*.safetensors"))
    assert shipped
    for path in shipped:
        config = RunConfig.of(read_facts(path)["settings"])
        assert path.name == f"{config.detector}-{config.teacher}-{teacher_hash(config)}.safetensors"
        load_weights(build(config.detector, config.teacher, 10), path)


@pytest.mark.parametrize("lookalikes", [True, False])
def test_the_teacher_of_the_laptop_scale_is_shipped(lab_home, no_training, lookalikes):
    config = RunConfig.of({**scale_settings("laptop"), "lookalikes": lookalikes, "method": "fgd", "seed": 2})
    assert teacher_file(config, None, None)[1] == "shipped" and not no_training


def test_a_given_file_that_is_missing_is_refused(lab_home, tiny_config, refusal):
    assert "weights must be a file" in refusal(quiet, get_teacher, tiny_config(teacher_checkpoint="none.safetensors"))


# ---- trained ---------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def trained(scene_cache, tmp_path_factory, tiny_config):
    """(settings, weights file) of a teacher of one epoch."""
    config = tiny_config(teacher="compact_s", teacher_lr=4e-3, teacher_seed=4, student="compact_t", seed=9, epochs=2)
    path = tmp_path_factory.mktemp("teacher") / "teacher.safetensors"
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", str(scene_cache))
        train_teacher(config, path, *open_data(config, progress=False), progress=False)
    return config, path


def test_a_teacher_file_has_the_facts_of_its_training(trained):
    config, path = trained
    facts = read_facts(path)
    assert facts["settings"] == {name: getattr(config, name) for name in TEACHER_DECIDES}
    assert (facts["seed"], facts["steps"], facts["data"], facts["eval_split"]) == (4, 3, "digits", "val") and facts[
        "torch"
    ] == torch.__version__
    assert 0 <= facts["AP"] <= 100 and "/" not in json.dumps(facts)


def test_training_a_teacher_again_gives_the_same_weights_whatever_the_students_settings(
    trained, lab_home, tmp_path, same_bits
):
    """Size, seed, method and schedule of the student do not matter."""
    config, path = trained
    other = {"student": "compact_s", "seed": 3, "epochs": 1, "log_every": 7, "lr": 0.1, "batch_size": 2, "clip": 1e-3}
    again = config.but(**other, method="fgd", optimizer="sgd")
    train_teacher(again, tmp_path / "again.safetensors", *open_data(again, progress=False), progress=False)
    detectors = [build("retinanet", "compact_s", 10) for _ in range(2)]
    for detector, file in zip(detectors, (path, tmp_path / "again.safetensors"), strict=True):
        load_weights(detector, file)
    same_bits(*detectors)


def test_a_teacher_is_loaded_measured_once_and_in_eval_mode(trained, lab_home, monkeypatch):
    config = trained[0].but(teacher_checkpoint=str(trained[1]))
    teacher = quiet(get_teacher, config)
    assert teacher.origin == "given" and teacher.path == trained[1] and not teacher.detector.training
    eval_set = open_split(config, "val")
    by_hand = coco_scores(eval_set.ground_truth(), detections(teacher.detector, eval_set), eval_set.image_ids)["AP"]
    assert by_hand == pytest.approx(teacher.AP)
    monkeypatch.setattr(teachers, "detections", lambda *args, **settings: pytest.fail("measured again"))
    assert quiet(get_teacher, config).AP == teacher.AP
    with pytest.raises(pytest.fail.Exception):
        quiet(get_teacher, config.but(eval_split="tune"))            # other images are another measurement


def test_a_teacher_that_was_just_trained_is_measured_once(lab_home, tiny_config, monkeypatch):
    measured = []

    def counted(*args, real=teachers.detections, **settings):
        measured.append(args)
        return real(*args, **settings)

    monkeypatch.setattr(teachers, "detections", counted)
    assert quiet(get_teacher, tiny_config(teacher="compact_s")).origin == "trained now" and len(measured) == 1


def test_a_teacher_of_another_backbone_is_refused(trained, lab_home, refusal):
    config = trained[0].but(teacher_checkpoint=str(trained[1]), teacher="compact_t")
    assert "check backbone and classes" in refusal(quiet, get_teacher, config)


# ---- the floor -------------------------------------------------------------------------------------------------------

@pytest.fixture
def untrained(lab_home, tiny_config, tmp_path):
    torch.manual_seed(0)
    save_weights(build("retinanet", "compact_s", 10), tmp_path / "raw.safetensors")
    return tiny_config(teacher_checkpoint=str(tmp_path / "raw.safetensors"))


def with_scores(monkeypatch, **scores):
    monkeypatch.setattr(teachers, "coco_scores", lambda *args: dict.fromkeys(SCORES, 0.0) | scores)


def test_a_teacher_below_the_floor_is_refused_with_its_ap(untrained, refusal, monkeypatch):
    with_scores(monkeypatch, AP=12.34)
    text = refusal(quiet, get_teacher, untrained.but(teacher_floor=30))
    assert (
        "AP on 'val' must be at least 30, got 12.3" in text
        and "raw.safetensors, given" in text
        and "teacher_epochs" in text
    )


def test_a_teacher_at_the_floor_is_taken(untrained, monkeypatch):
    with_scores(monkeypatch, AP=30.0)
    assert quiet(get_teacher, untrained.but(teacher_floor=30)).AP == 30.0


def test_an_untrained_teacher_is_far_below_any_floor(untrained, refusal):
    assert "must be at least 5, got 0." in refusal(quiet, get_teacher, untrained.but(teacher_floor=5))


def test_a_split_without_objects_is_refused(untrained, refusal, monkeypatch):
    """There AP is NaN, null in the file of scores."""
    with_scores(monkeypatch, AP=float("nan"))
    assert "AP on 'val'" in refusal(quiet, get_teacher, untrained)
