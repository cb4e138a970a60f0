"""Settings that a run does not use do not make it another run; settings that it uses do."""
from dataclasses import fields

import pytest

from fgdlab import FGDConfig
from fgdlab.lab.config.active_fields import active_settings
from fgdlab.lab.config.run_config import GROUPS, METADATA, RunConfig, settings_about

OTHER = {
    "alpha": 2.0, "temperature": 0.8, "area": "fg", "relation": "mse", "rounding": "exact", "loss_ratio": 3.0,
    "strength": 2.0, "method_parts": "", "teacher_lr": 1.0, "teacher_floor": 30.0,
}


def test_the_settings_of_fgd_are_the_fields_of_its_configuration():
    assert set(settings_about("fgd")) == {each.name for each in fields(FGDConfig)} | {"fused"}


def test_defaults_choices_and_help_of_fgd_settings_are_those_of_its_configuration():
    for each in fields(FGDConfig):
        about = METADATA[each.name]
        assert getattr(RunConfig(), each.name) == each.default
        assert (about["choices"], about["help"]) == (each.metadata["choices"], each.metadata["help"])


def test_every_setting_has_a_group():
    assert {about["group"] for about in METADATA.values()} == set(GROUPS)


def test_the_settings_of_teacher_and_method_are_all_whose_names_begin_with_teacher():
    assert {
        name for name in settings_about("teacher", "method") if name.startswith("teacher")
    } == {each.name for each in fields(RunConfig) if each.name.startswith("teacher")}


@pytest.mark.parametrize("nothing", [
    {"method": "none"}, {"method": "fgd", "strength": 0}, {"method": "fgd", "area": "none", "gamma": 0, "lambda_": 0},
    {"method": "hint", "strength": 0},
])
def test_all_ways_of_not_distilling_are_one_run(nothing):
    assert active_settings(RunConfig(**{**OTHER, **nothing})) == RunConfig()


def test_another_method_does_not_read_the_coefficients_of_fgd():
    assert active_settings(
        RunConfig(method="hint", alpha=3.0, rounding="exact")
    ) == active_settings(RunConfig(method="hint"))


@pytest.mark.parametrize(
    "name, value",
    list(OTHER.items())[:5] + [("loss_ratio", 3.0), ("strength", 2.0), ("teacher_lr", 1.0), ("teacher_floor", 30.0)],
)
def test_fgd_uses_every_one_of_its_settings(name, value):
    config = RunConfig(method="fgd", **{name: value})
    assert active_settings(config) == config != RunConfig(method="fgd")


def test_who_inherits_uses_the_teacher_without_distilling():
    config = RunConfig(inherit=True, teacher_seed=3, student="compact_h")
    assert active_settings(config.but(alpha=9.0, loss_ratio=1.0)) == config


@pytest.mark.parametrize(
    "name, value",
    [
        ("lr", 1.0), ("seed", 3), ("student", "compact_t"), ("epochs", 7), ("eval_split", "tune"), ("train_images", 5),
        ("device", "cpu"), ("scale", "gpu"),
    ],
)
def test_a_plain_run_uses_its_data_student_and_schedule(name, value):
    assert getattr(active_settings(RunConfig(**{name: value})), name) == value
