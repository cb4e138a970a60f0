"""Every setting of a run is filed here, with what it changes; a new setting fails until it is filed.

    TURNS       the run that uses it, another value, and what must change then; two steps of training show it
    NUMBERLESS  why no number depends on it; the same weights show it
    ELSEWHERE   the test of what it does, where that takes more steps or other hardware; that test must exist
"""
import importlib.util
import json
from dataclasses import fields
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from safetensors.torch import load_file

from fgdlab.lab.config.active_fields import active_settings
from fgdlab.lab.config.run_config import RunConfig, settings_about
from fgdlab.lab.detectors.compact import COMPACT
from fgdlab.lab.errors import UserError
from fgdlab.lab.io import short_hash
from fgdlab.lab.run import one_run as lab_run
from fgdlab.lab.run import run
from fgdlab.lab.teachers import teachers as lab_teachers

SETTINGS = [each.name for each in fields(RunConfig)]
TINY = {
    "image_size": 64, "train_images": 4, "eval_images": 2, "batch_size": 2, "epochs": 1, "teacher": "compact_s",
    "teacher_epochs": 1, "teacher_batch_size": 2, "device": "cpu",
}
FGD = {"method": "fgd", "alpha": 0.1, "beta": 0.1, "gamma": 0.1, "lambda_": 0.1, "rounding": "exact"}
WIDE = {"data": "FOLDER", "image_size": 0, "train_images": 0, "eval_images": 0}  # a folder of wide and of high images


class Ran(NamedTuple):
    """What a run came to: its folder and result, or what it refused with."""

    folder: Path
    result: dict
    refusal: str
    threads: int                                                     # of torch, once it had run


# what of a run

def weights(ran: Ran) -> str:
    state = load_file(ran.folder / "student.safetensors")
    return short_hash({name: short_hash(each.contiguous().numpy().tobytes()) for name, each in state.items()})


def judged(ran: Ran) -> str:
    return ran.result["data_hashes"]["eval"]


def teacher(ran: Ran) -> str:
    return ran.result["teacher"]["weights"]


def measured(ran: Ran) -> list[str]:
    return list(ran.result["tune_AP"])


def refused(ran: Ran) -> bool:
    return bool(ran.refusal)


def threads(ran: Ran) -> int:
    return ran.threads


TURNS = {
    "data": ({}, "FOLDER", weights), "lookalikes": ({}, False, weights), "image_size": ({}, 96, weights),
    "train_images": ({}, 2, weights),
    "eval_images": ({}, 3, judged), "train_split": ({}, "tune", weights), "eval_split": ({}, "tune", judged),
    "flip": (WIDE, 1.0, weights), "zoom": ({}, 0.5, weights), "colour": ({}, 0.5, weights),
    "views": ({"flip": 0.5, "epochs": 2}, 1, weights), "anchors": ({}, "10x10/20x20/40x40", weights),
    "teacher_steps": (FGD, 3, teacher), "train_steps": ({}, 3, weights), "ema": ({}, 0.9, weights),
    "patience": ({"epochs": 2, "tune_every": 1}, 1, weights), "tune_every": ({"epochs": 2, "patience": 5}, 1, measured),
    "tune_split": ({"patience": 5}, "train-tune", refused),
    "student": ({}, "compact_h", weights), "init": ({}, "pretrained", weights), "teacher": (FGD, "compact_h", teacher),
    "min_size": (WIDE, 96, weights), "max_size": ({**WIDE, "min_size": 64}, 72, weights),
    "teacher_checkpoint": (FGD, "WEIGHTS", teacher), "teacher_epochs": (FGD, 2, teacher),
    "teacher_init": (FGD, "pretrained", teacher), "teacher_lr": (FGD, 1e-3, teacher),
    "teacher_batch_size": (FGD, 4, teacher), "teacher_seed": (FGD, 1, teacher), "teacher_floor": (FGD, 99.0, refused),
    "teacher_cache": (FGD, "off", weights),
    "teacher_cache_gb": (FGD, 1e-9, weights), "inherit": ({}, True, weights),
    "method": ({}, "hint", weights), "strength": (FGD, 2.0, weights), "loss_ratio": (FGD, 1.0, weights),
    "equal_terms": ({**FGD, "loss_ratio": 1.0}, True, weights),
    "levels": (FGD, "P3", weights), "method_parts": ({"method": "fbkd"}, "feature", weights),
    "alpha": (FGD, 1.0, weights), "beta": (FGD, 1.0, weights), "gamma": (FGD, 1.0, weights),
    "lambda_": (FGD, 1.0, weights), "temperature": (FGD, 1.0, weights),
    "area": (FGD, "fg", weights), "spatial_attention": (FGD, False, weights),
    "channel_attention": (FGD, False, weights), "relation": (FGD, "mse", weights),
    "rounding": (FGD, "authors", weights), "frame": ({**FGD, **WIDE}, "image", weights), "axes": (FGD, "yx", weights),
    "attention_of": (FGD, "student", weights), "fused": (FGD, "off", weights),
    "epochs": ({}, 2, weights), "batch_size": ({}, 4, weights), "optimizer": ({}, "sgd", weights),
    "lr": ({}, 1e-3, weights), "weight_decay": ({}, 0.5, weights),
    "momentum": ({"optimizer": "sgd"}, 0.5, weights), "schedule": ({}, "step", weights), "warmup": ({}, 0.9, weights),
    "clip": ({}, 0.01, weights),
    "accumulate": ({}, 2, weights), "min_sizes": ({**WIDE, "min_size": 64}, "32,48", weights),
    "aspect_groups": (WIDE, True, weights),
    "precision": ({}, "bf16", weights), "channels_last": ({}, False, weights), "threads": ({}, 2, threads),
    "seed": ({}, 1, weights),
}
NUMBERLESS = {                                                       # setting: (another value, why)
    "workers": (1, "processes that load images; which images is drawn from seed and epoch"),
    "scale": ("mine", "a label"),
    "checkpoint_every": (1, "how much an interruption costs"), "log_every": (1, "how much is told"),
    "snapshot_every": (1, "what is kept on the way"),
}
ELSEWHERE = {
    "detector": "test_every_setting.py::test_detector_and_flavour_are_those_of_student_and_teacher",
    "flavour": "test_every_setting.py::test_detector_and_flavour_are_those_of_student_and_teacher",
    "exif_turned": "test_annotations.py::test_images_are_turned_as_their_exif_says_where_the_user_asks_for_it",
    "teacher_parts": "test_load.py::test_backbone_and_neck_of_a_cascade_serve_without_its_heads",
    "device": "test_one_run.py::test_cuda_without_a_gpu_is_an_error_and_no_silent_cpu",
    "compile": "test_every_setting.py::test_compile_is_asked_for_both_pyramids",
    "tensorboard": "test_every_setting.py::test_tensorboard_is_refused_or_written",
    "wandb": "test_large_runs.py::test_every_logged_row_goes_to_each_package_that_is_asked_for",
    "mlflow": "test_large_runs.py::test_every_logged_row_goes_to_each_package_that_is_asked_for",
}


# ---- filed -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("name", SETTINGS)
def test_every_knob_is_filed_once(name):
    tables = [
        table
        for table, held in (("TURNS", TURNS), ("NUMBERLESS", NUMBERLESS), ("ELSEWHERE", ELSEWHERE))
        if name in held
    ]
    assert len(tables) == 1, (
        f"the setting {name!r} of RunConfig must be in one table of {Path(__file__).name}, got {tables or 'none'}: "
        f"add to TURNS a run that uses it, another value and "
        f"what changes; or to NUMBERLESS why no number depends on it; or to ELSEWHERE the test that shows what it does"
    )


def test_no_knob_is_filed_that_is_none():
    assert {*TURNS, *NUMBERLESS, *ELSEWHERE} == {*SETTINGS}


@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_knob_that_is_tried_elsewhere_is_tried_there(name):
    file, test = ELSEWHERE[name].split("::")
    text = next(Path(__file__).parents[2].rglob(file)).read_text(encoding="utf-8")
    assert f"def {test}(" in text and name in text


@pytest.mark.parametrize("name", TURNS)
def test_a_knob_in_use_is_part_of_the_runs_id(name):
    base, value, _ = TURNS[name]
    config = RunConfig.of({**TINY, **base})
    assert getattr(config, name) != value
    assert active_settings(config.but(**{name: value})).identity() != active_settings(config).identity()


@pytest.mark.parametrize("name", [name for name in TURNS if name not in {*settings_about("fgd"), "method"}])
def test_another_method_has_every_knob_but_those_of_fgd_in_its_id(name):
    config = RunConfig.of({**TINY, "method": "hint"})
    assert active_settings(config.but(**{name: TURNS[name][1]})).identity() != active_settings(config).identity()


# ---- turned ----------------------------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """ran(settings) -> Ran of a tiny run; equal settings are run once."""
    home, done = tmp_path_factory.mktemp("settings"), {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FGDLAB_HOME", str(home / "home"))
        places = {"FOLDER": str(write_folder(home / "folder")), "WEIGHTS": str(home / "teacher.safetensors")}
        write_weights(home / "teacher.safetensors")

        def of(settings: dict) -> Ran:
            config = RunConfig.of({**TINY, **{name: places.get(value, value) for name, value in settings.items()}})
            if config not in done:
                folder = home / short_hash(config.dict())
                try:
                    done[config] = Ran(folder, run(config, folder, progress="off"), "", torch.get_num_threads())
                except UserError as error:
                    done[config] = Ran(folder, {}, str(error), torch.get_num_threads())
            return done[config]

        yield of
    torch.set_num_threads(1)


def write_folder(folder: Path) -> Path:
    """Four images to learn from and two to judge on, of 64 x 32, 32 x 64 and 96 x 32 pixels, a box on each that is not
    in the middle."""
    import numpy as np
    from PIL import Image

    (folder / "images").mkdir(parents=True)
    images, boxes, draw = [], [], np.random.default_rng(0)
    for n, (width, height) in enumerate([(64, 32), (32, 64), (64, 32), (32, 64), (96, 32), (64, 32)], start=1):
        Image.fromarray(draw.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(folder / f"images/{n}.png")
        images.append({"id": n, "file_name": f"{n}.png", "width": width, "height": height})
        boxes.append(
            {"id": n, "image_id": n, "category_id": 1 + n % 2, "bbox": [3, 4, 17, 21], "area": 357, "iscrowd": 0}
        )
    categories = [{"id": 1, "name": "one"}, {"id": 2, "name": "two"}]
    (folder / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": boxes, "categories": categories})
    )
    (folder / "splits.json").write_text(json.dumps({"train": [1, 2, 3, 4], "val": [5, 6]}))
    return folder


def write_weights(path: Path) -> None:
    from fgdlab.lab.checkpoints.safetensors_io import save_weights
    from fgdlab.lab.detectors.builder import build

    torch.manual_seed(5)
    save_weights(build("retinanet", "compact_s", 10), path)


@pytest.mark.slow
@pytest.mark.parametrize("name", TURNS)
def test_a_knob_turns_something_in_a_run_that_uses_it(name, ran):
    base, value, what = TURNS[name]
    before, after = ran(base), ran({**base, name: value})
    assert not before.refusal and (what is refused or not after.refusal), before.refusal or after.refusal
    assert what(after) != what(before)


@pytest.mark.slow
@pytest.mark.parametrize("name", NUMBERLESS)
def test_no_number_depends_on_a_knob_that_is_filed_so(name, ran):
    value, _ = NUMBERLESS[name]
    assert value != getattr(RunConfig(), name)
    before, after = ran({}), ran({name: value})
    assert weights(after) == weights(before) and after.result["AP"] == before.result["AP"]


def test_detector_and_flavour_are_those_of_student_and_teacher(lab_home, tmp_path, monkeypatch):
    """Large ones are not trained here: building them is watched."""
    asked = []

    def build(name, backbone, classes, **settings):
        asked.append((name, backbone, settings.get("flavour", "torchvision")))
        return real(name if backbone not in COMPACT else "retinanet", backbone, classes)

    real = lab_teachers.build
    for module in (lab_teachers, lab_run):
        monkeypatch.setattr(module, "build", build)
    for settings in ({}, {"detector": "fcos"}, {"flavour": "mmdet"}):
        run(RunConfig.of({**TINY, "method": "hint", **settings}), tmp_path / short_hash(settings), progress="off")
    made = [
        {each for each in asked if each[0] == name and each[2] == flavour}
        for name, flavour in (("retinanet", "torchvision"), ("fcos", "torchvision"), ("retinanet", "mmdet"))
    ]
    assert all(len(each) >= 1 for each in made) and len(asked) % 3 == 0, asked


def test_compile_is_asked_for_both_pyramids(lab_home, tmp_path, monkeypatch):
    """A compiler is not at hand everywhere; what the run asks of it is."""
    asked = []
    monkeypatch.setattr(torch, "compile", lambda function: asked.append(function) or function)
    for compile in (False, True):
        run(
            RunConfig.of({**TINY, **FGD, "teacher_cache": "off", "compile": compile}), tmp_path / str(compile),
            progress="off",
        )
        assert sum(getattr(each, "__name__", "") == "forward" for each in asked) == 2 * compile


def test_tensorboard_is_refused_or_written(lab_home, tmp_path):
    config = RunConfig.of({**TINY, "tensorboard": True})
    if importlib.util.find_spec("tensorboard") is None:
        with pytest.raises(UserError, match="tensorboard=true must find the package tensorboard"):
            run(config, tmp_path / "run", progress="off")
    else:
        run(config, tmp_path / "run", progress="off")
        assert any((tmp_path / "run/tensorboard").iterdir())
