"""The paper's pairs: the authors' numbers, settings that a run takes, detectors that fit each other."""
from functools import cache

import pytest
import torch
from click.testing import CliRunner

from fgdlab import FGDConfig
from fgdlab.config import PRESETS
from fgdlab.lab.checkpoints.inheritance import inherit
from fgdlab.lab.commands.cli import main
from fgdlab.lab.config.active_fields import active_settings
from fgdlab.lab.config.presets import PAPER_PRESETS, preset
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.detectors.builder import build, build_settings
from fgdlab.lab.run import imitated
from fgdlab.lab.run import one_run as lab_run
from fgdlab.lab.training.loop import learning_rate
from fgdlab.lab.training.multiscale import check_sizes


def preset_config(name: str, data: str) -> RunConfig:
    return RunConfig.of({**preset(name).settings(), "data": data})


@cache
def on_meta(detector: str, backbone: str):
    """A detector of the paper's kind for COCO's 80 classes, without memory; the settings of its pair but for ImageNet
    weights."""
    name = next(name for name, pair in PAPER_PRESETS.items() if pair.detector == detector)
    with torch.device("meta"):
        return build(**build_settings(preset_config(name, "coco").but(student=backbone), "student", 80))


@pytest.mark.parametrize("name", PAPER_PRESETS)
def test_every_pair_builds_its_detectors_which_share_the_levels_that_it_imitates(name):
    pair, config = PAPER_PRESETS[name], preset_config(name, "coco")
    student, teacher = on_meta(pair.detector, pair.student), on_meta(pair.detector, pair.teacher)
    assert imitated(config, student, teacher) == tuple(pair.weights["levels"].split(","))
    channels = (192, 256) if pair.detector == "yolox" else (256, 256)
    assert (student.backbone.out_channels, teacher.backbone.out_channels) == channels
    assert student.flavour == teacher.flavour == "mmdet"
    sides = (640, 640) if pair.detector == "yolox" else (800, 1333)
    assert (student.transform.min_size, student.transform.max_size) == (sides[:1], sides[1])
    if pair.inherit:                                                 # the student's whole head is there in the teacher
        taken = inherit(student, teacher)
        assert not [each for each in (*taken.other_shape, *taken.not_there) if not each.startswith("backbone.")]


@pytest.mark.parametrize("name", PAPER_PRESETS)
def test_every_pair_has_the_weights_that_the_package_has_for_its_detector(name):
    config = preset_config(name, "coco")
    assert config.fgd() == PRESETS[config.detector]
    assert active_settings(config) == config                               # no setting of it is idle
    check_sizes(config)


def test_a_level_that_one_of_them_lacks_is_refused(refusal):
    config = preset_config("faster_rcnn_r101_r50", "coco").but(levels="P2,P7")
    detector = on_meta("faster_rcnn", "resnet50")
    assert "unknown level that student and teacher share 'P7'" in refusal(imitated, config, detector, detector)


def test_settings_are_those_of_the_authors_configs():
    for name, pair in PAPER_PRESETS.items():
        config = preset_config(name, "coco")
        assert pair.file.endswith("_coco.py") and pair.checkpoint.startswith("https://")
        if name == "yolox_l_m":
            continue
        assert (config.lr, config.levels) == (
            (0.02, "P2,P3,P4,P5") if "rcnn" in pair.detector else (0.01, "P3,P4,P5,P6,P7")
        )
        assert (
            config.epochs, config.batch_size, config.clip, config.optimizer, config.weight_decay, config.flip,
        ) == (12 if name == "gfl_r101_r50" else 24, 16, 35, "sgd", 1e-4, 0.5)
        assert pair.inherit != ("cascade" in pair.file)
    assert (
        preset_config("fcos_r101_r50", "coco").temperature == 0.8
        and preset_config("fcos_r101_r50", "coco").min_sizes == "640,800"
    )
    assert {
        preset(name).mAP
        for name in ("retinanet_x101_r50", "reppoints_x101_r50", "faster_rcnn_cascade_r50", "mask_rcnn_cascade_r50")
    } == {
        (37.4, 40.7), (38.6, 42.0), (38.4, 42.0), (39.2, 42.1)}


def test_yolox_is_trained_as_its_authors_train_it_but_for_augmentation():
    config = preset_config("yolox_l_m", "coco")
    assert (config.lr, config.batch_size, config.epochs, config.weight_decay, config.schedule, config.warmup * 300) == (
        0.01, 64, 300, 5e-4, "cosine", pytest.approx(5))
    assert not config.inherit and config.init == "random" and config.levels == "P3,P4,P5"
    assert (preset("yolox_l_m").mAP, preset("gfl_r101_r50").mAP) == ((45.9, 46.6), (40.2, 43.5))


def test_the_rate_rises_for_500_steps_and_falls_after_16_and_22_epochs():
    config = preset_config("retinanet_x101_r50", "coco")
    an_epoch = 118_287 // 16
    rates = {
        step: learning_rate(step, 24 * an_epoch, config)
        for step in (0, 499, 16 * an_epoch - 1, 16 * an_epoch, 22 * an_epoch - 1, 22 * an_epoch)
    }
    assert list(rates.values()) == pytest.approx([0.01 / 500, 0.01, 0.01, 0.001, 0.001, 0.0001])


def test_an_unknown_pair_is_refused_with_the_nearest_known_one(refusal):
    assert "did you mean 'retinanet_x101_r50'?" in refusal(preset, "retinanet_x101_r5")


# ---- the command line ------------------------------------------------------------------------------------------------

@pytest.fixture
def asked(monkeypatch, tmp_path):
    """The configurations that `fgdlab run` would have run."""
    seen = []
    monkeypatch.chdir(tmp_path)

    def stop(config, folder):
        seen.append(config)
        raise lab_run.UserError("seen")

    monkeypatch.setattr(lab_run, "run", stop)
    return seen


def call(*words):
    return CliRunner().invoke(main, words, prog_name="fgdlab")


def test_a_preset_with_a_folder_starts_the_papers_run_and_flags_change_single_settings(asked):
    call("run", "--preset", "retinanet_x101_r50", "--coco", "COCO")
    call(
        "run", "--preset", "retinanet_x101_r50", "--coco", "COCO", "--epochs", "1", "--temperature", "0.8",
        "--train-images", "64",
    )
    assert asked[0] == preset_config("retinanet_x101_r50", "COCO")
    assert asked[1] == asked[0].but(epochs=1, temperature=0.8, train_images=64)


def test_coco_alone_is_a_folder_with_all_its_images_at_their_size(asked):
    call("run", "--coco", "COCO", "--epochs", "1")
    assert (
        asked[0].data, asked[0].image_size, asked[0].train_images, asked[0].eval_images, asked[0].epochs,
    ) == ("COCO", 0, 0, 0, 1)
    assert asked[0].fgd() == FGDConfig()


def test_a_preset_without_a_folder_is_one_line(asked):
    done = call("run", "--preset", "fcos_r101_r50")
    assert done.exit_code == 1 and "--preset must go with --coco DIR" in done.stderr and not asked


def test_the_list_names_every_pair_with_its_numbers_and_its_file():
    shown = call("run", "--list-presets")
    assert shown.exit_code == 0
    for name, pair in PAPER_PRESETS.items():
        assert f"{name}: {pair.detector}" in shown.stdout and pair.file in shown.stdout
    assert "alpha 0.001 beta 0.0005 gamma 0.0005 lambda 5e-06 temperature 0.5 lr 0.01" in shown.stdout
