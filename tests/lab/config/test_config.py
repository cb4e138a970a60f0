"""A run's settings: what they take, what they refuse, and that they say the same as the loss's own configuration."""
import json
from dataclasses import fields, replace

import pytest
import yaml

from fgdlab.config import AREAS, FRAMES, RELATIONS, ROUNDINGS, FGDConfig
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.config.scales import SCALES, scale_settings
from fgdlab.lab.io import load_yaml

FIELDS = {each.name: each for each in fields(RunConfig)}
OF_LOSS = [each.name for each in fields(FGDConfig)]
NAN, INF = float("nan"), float("inf")


def of_type(kind):
    return [name for name, each in FIELDS.items() if type(each.default) is kind]


def another(name):
    """A valid value that is not the default."""
    each = FIELDS[name]
    if each.metadata["choices"]:
        return next(word for word in each.metadata["choices"] if word != each.default)
    return {
        bool: lambda value: not value, int: lambda value: value + 1, float: lambda value: value / 2 + 0.125,
        str: lambda value: value + "x",
    }[
        type(each.default)](each.default)


# ---- names -----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(
    "wrong, meant",
    [("lamda", "lambda_"), ("epoch", "epochs"), ("learning_rate", None), ("techer", "teacher"), ("Seed", "seed")],
)
def test_an_unknown_key_is_refused_with_the_nearest_known_name(refusal, wrong, meant):
    for text in (refusal(RunConfig.of, {wrong: 1}), refusal(RunConfig().but, **{wrong: 1})):
        assert f"unknown parameter {wrong!r}" in text and ", lr, " in text
        assert (f"did you mean {meant!r}?" in text) if meant else True


def test_an_unknown_scale_is_refused_with_the_nearest_known_one(refusal):
    assert "did you mean 'laptop'?" in refusal(scale_settings, "labtop")


@pytest.mark.parametrize("name", SCALES)
def test_every_scale_is_a_valid_configuration_that_carries_its_name(name):
    assert RunConfig.of(scale_settings(name)).scale == name


def test_settings_cannot_be_changed_in_place():
    with pytest.raises(AttributeError):
        RunConfig().epochs = 5
    assert RunConfig().but(epochs=5).epochs == 5


# ---- values ----------------------------------------------------------------------------------------------------------

WRONG = {
    int: [True, 1.0, "3", None, [1], NAN, INF],
    float: [True, None, "fast", "", [0.1], NAN, INF, -INF, "nan", "inf", "-1e-3", -0.1, "1e400"],
    bool: [0, 1, 1.0, "true", "", None],
    str: [None, 3, 0.5, True, ["digits"]],
}


@pytest.mark.parametrize("name", FIELDS)
def test_a_value_of_another_type_is_refused_with_field_and_value(refusal, name):
    a_switch = "off" in (FIELDS[name].metadata["choices"] or ())       # for which YAML's yes and no are words
    for value in (each for each in WRONG[type(FIELDS[name].default)] if not (a_switch and each is True)):
        text = refusal(RunConfig.of, {name: value})
        assert text.startswith(f"{name} must be ") and "got " in text
        assert FIELDS[name].metadata["help"] in text


def test_a_whole_number_too_large_for_a_float_is_refused(refusal):
    assert "lr must be " in refusal(RunConfig.of, {"lr": 10**400})


@pytest.mark.parametrize("name", of_type(int))
def test_a_whole_number_below_the_least_is_refused(refusal, name):
    least = FIELDS[name].metadata["minimum"]
    assert getattr(RunConfig.of({name: int(least)}), name) == least
    assert f"at least {least}, got {least - 1}" in refusal(RunConfig.of, {name: int(least) - 1})


@pytest.mark.parametrize("name", [name for name, each in FIELDS.items() if each.metadata["choices"]])
def test_a_word_outside_the_choice_is_refused_with_the_choice(refusal, name):
    text = refusal(RunConfig.of, {name: "sideways"})
    assert ", ".join(FIELDS[name].metadata["choices"]) in text and "'sideways'" in text
    for word in FIELDS[name].metadata["choices"]:
        assert getattr(RunConfig.of({name: word}), name) == word


@pytest.mark.parametrize("name", [name for name, each in FIELDS.items() if "off" in (each.metadata["choices"] or ())])
def test_on_and_off_mean_what_they_say_though_yaml_reads_them_as_yes_and_no(name):
    assert {
        word: getattr(RunConfig.of({name: load_yaml(word)}), name) for word in ("on", "off", "auto")
    } == {"on": "on", "off": "off", "auto": "auto"}


def test_every_number_has_a_least_value_and_every_field_words_for_help():
    assert [name for name in of_type(int) + of_type(float) if FIELDS[name].metadata["minimum"] is None] == []
    assert [name for name in FIELDS if not FIELDS[name].metadata["help"]] == []


@pytest.mark.parametrize(
    "written, value", [("1e-3", 1e-3), ("5e-06", 5e-6), ("2", 2.0), ("0.25", 0.25), ("1E+2", 100.0)],
)
def test_a_number_written_in_any_way_of_yaml_is_a_float(written, value):
    for name in ("lr", "lambda_"):
        got = getattr(RunConfig.of(yaml.safe_load(f"{name}: {written}")), name)
        assert type(got) is float and got == value


def test_temperature_flip_and_warmup_have_bounds_of_their_own(refusal):
    assert "temperature must be above 0" in refusal(RunConfig, temperature=0)
    for name in ("flip", "warmup"):
        assert "0..1" in refusal(RunConfig, **{name: 1.5})
        assert getattr(RunConfig(**{name: 1}), name) == 1.0


@pytest.mark.parametrize("name", FIELDS)
def test_every_field_takes_another_value_and_keeps_it(name):
    assert getattr(RunConfig().but(**{name: another(name)}), name) == another(name) != getattr(RunConfig(), name)


# ---- the loss's configuration ----------------------------------------------------------------------------------------

def test_defaults_are_those_of_the_loss():
    assert {name: FIELDS[name].default for name in OF_LOSS} == {each.name: each.default for each in fields(FGDConfig)}
    assert RunConfig().fgd() == FGDConfig()


@pytest.mark.parametrize("name", OF_LOSS)
def test_a_field_of_the_loss_arrives_there_and_changes_nothing_else(name):
    assert RunConfig().but(**{name: another(name)}).fgd() == replace(FGDConfig(), **{name: another(name)})


def test_words_of_the_loss_are_offered_in_full():
    offered = {name: FIELDS[name].metadata["choices"] for name in ("area", "relation", "rounding", "frame")}
    assert offered == {"area": AREAS, "relation": RELATIONS, "rounding": ROUNDINGS, "frame": FRAMES}


# ---- as text ---------------------------------------------------------------------------------------------------------

def test_equal_settings_are_equal_however_they_were_written():
    one = RunConfig.of({"lr": 1, "seed": 3, "alpha": "1e-3"})
    other = RunConfig.of({"alpha": 0.001, "seed": 3, "lr": 1.0})
    assert one == other != one.but(seed=4) and one.dict() == other.dict() != one.but(seed=4).dict()


def test_json_round_trips_and_has_one_key_a_field():
    config = RunConfig().but(**{name: another(name) for name in FIELDS})
    read = json.loads(json.dumps(config.dict()))
    assert list(read) == list(FIELDS) and RunConfig.of(read) == config == RunConfig.of(config.dict())


# ---- identity --------------------------------------------------------------------------------------------------------

LATER = [name for name, each in FIELDS.items() if each.metadata["later"]]


def test_a_later_setting_at_its_default_is_no_part_of_an_identity_and_any_other_setting_that_decides_numbers_is():
    deciding = {name: value for name, value in RunConfig().dict().items() if FIELDS[name].metadata["decides_numbers"]}
    assert RunConfig().deciding() == deciding and LATER
    assert RunConfig().identity() == {name: value for name, value in deciding.items() if name not in LATER}
    for name in set(LATER) & set(deciding):
        assert RunConfig().but(**{name: another(name)}).identity() == RunConfig().identity() | {name: another(name)}
