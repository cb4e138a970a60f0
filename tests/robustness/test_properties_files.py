"""Written values are read back unchanged: settings through a dict, JSON and YAML; sweeps through their file; weights
and states with any names, shapes and types.
"""
import json
import string
from dataclasses import fields
from pathlib import Path

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss
from fgdlab.lab.checkpoints.safetensors_io import load_weights, save_weights
from fgdlab.lab.config.run_config import RunConfig
from fgdlab.lab.sweeps.spec import load_sweep
from fgdlab.methods.fbkd import FBKDLoss
from tests.helpers import property_profiles  # noqa: F401
from tests.helpers.authors_keys import BLOCKS, LAYERS, fgd_state_from_authors
from tests.helpers.property_profiles import few

WORDS = st.text(string.ascii_letters + string.digits + string.punctuation + " äßé漢字€\u2028", max_size=12)
NAMES = st.text(string.ascii_letters + string.digits + "_", min_size=1, max_size=8)
SHARES = {"flip", "warmup", "zoom", "colour", "ema"}

THEIR_LAYER = {ours: theirs for theirs, ours in LAYERS.items()}
THEIR_SUFFIX = {ours: theirs for theirs, ours in BLOCKS.items()}


def value_of(each):
    """Values that a field of RunConfig takes."""
    kind, least, most = type(each.default), each.metadata["minimum"], each.metadata.get("maximum")
    if each.metadata["choices"]:
        return st.sampled_from(each.metadata["choices"])
    if kind is bool:
        return st.booleans()
    if kind is int:
        return st.integers(int(least or 0), int(most or 10**6))
    if kind is float:
        lowest = 1e-6 if each.name == "temperature" else least
        return st.floats(lowest, 1.0 if each.name in SHARES else 1e6).map(lambda value: value + 0.0)
    return WORDS


FIELDS = {each.name: each for each in fields(RunConfig)}
SETTINGS = st.fixed_dictionaries({}, optional={name: value_of(each) for name, each in FIELDS.items()})
IN_A_SWEEP = st.fixed_dictionaries(
    {}, optional={name: value_of(each) for name, each in FIELDS.items() if name not in ("seed", "scale")},
)


@given(settings=SETTINGS)
def test_settings_come_back_from_a_dict_from_json_and_from_yaml(settings):
    config = RunConfig.of(settings)
    assert config.dict() == {name: settings.get(name, each.default) for name, each in FIELDS.items()}
    assert RunConfig.of(config.dict()) == RunConfig.of(json.loads(json.dumps(config.dict()))) == RunConfig.of(
        yaml.safe_load(yaml.safe_dump(config.dict(), allow_unicode=True))
    ) == config


@given(settings=SETTINGS, data=st.data())
def test_one_changed_setting_makes_another_configuration_and_another_text(settings, data):
    config, name = RunConfig.of(settings), data.draw(st.sampled_from(list(FIELDS)))
    value = data.draw(value_of(FIELDS[name]).filter(lambda value: value != getattr(config, name)))
    changed = config.but(**{name: value})
    assert changed != config and changed.dict() != config.dict()
    assert {each for each in FIELDS if getattr(changed, each) != getattr(config, each)} == {name}


@few
@given(
    base=IN_A_SWEEP, rows=st.dictionaries(NAMES, IN_A_SWEEP, min_size=1, max_size=3),
    seeds=st.lists(st.integers(0, 10**6), min_size=1, max_size=3, unique=True),
)
def test_a_sweep_comes_back_from_its_file_with_every_setting_of_every_row(tmp_path, base, rows, seeds):
    path = tmp_path / "mine.yaml"
    content = {
        "title": "t", "question": "q?", "baseline": next(iter(rows)), "base": base, "seeds": seeds,
        "rows": {name: {"set": settings} for name, settings in rows.items()},
    }
    path.write_text(yaml.safe_dump(content, allow_unicode=True), encoding="utf-8")
    sweep = load_sweep(str(path))
    assert list(sweep.rows) == list(rows) or sorted(sweep.rows) == sorted(rows)                   # safe_dump sorts keys
    assert sweep.seeds == seeds and sweep.baseline == content["baseline"]
    for row, settings in rows.items():
        config = sweep.settings(row, seeds[0])
        assert {name: getattr(config, name) for name in base | settings} == base | settings and config.seed == seeds[0]


# ---- weights ---------------------------------------------------------------------------------------------------------

TENSORS = st.tuples(
    st.sampled_from([torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64]),
    st.lists(st.integers(1, 4), max_size=3), st.integers(0, 99),
)


def holder(layout: dict) -> nn.Module:
    """A module with a buffer for each name, of random numbers."""
    module = nn.Module()
    for name, (dtype, shape, seed) in layout.items():
        values = 100 * torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        module.register_buffer(name, values.to(dtype))
    return module


@given(
    layout=st.dictionaries(NAMES.map("w_{}".format), TENSORS, min_size=1, max_size=5),
    facts=st.dictionaries(NAMES, st.one_of(st.integers(-9, 9), WORDS, st.booleans()), max_size=4),
)
def test_weights_of_any_names_shapes_and_types_come_back_to_the_last_bit(tmp_path, layout, facts, same_bits):
    module, other = holder(layout), holder(
        {name: (dtype, shape, seed + 1) for name, (dtype, shape, seed) in layout.items()}
    )
    facts = {f"fact_{name}": value for name, value in facts.items()}
    save_weights(module, tmp_path / "w.safetensors", **facts)
    assert load_weights(other, tmp_path / "w.safetensors") == facts
    same_bits(other, module)
    assert all(other.state_dict()[name].dtype == value.dtype for name, value in module.state_dict().items())


@pytest.mark.parametrize("loss", [
    lambda: FGDLoss(("P3", "P4"), 3, 4), lambda: FGDLoss(("P3",), 4, 4, FGDConfig(relation="nonlocal")),
    lambda: FBKDLoss(("P3", "P5"), 4, 8),
])
def test_a_loss_with_its_layers_comes_back_to_the_last_bit(tmp_path, loss, shake, same_bits):
    torch.manual_seed(1)
    module, other = shake(loss()), loss()
    save_weights(module, Path(tmp_path) / "loss.safetensors")
    load_weights(other, tmp_path / "loss.safetensors")
    same_bits(other, module)


@given(
    channels=st.tuples(st.sampled_from([2, 4, 6]), st.sampled_from([2, 4])),
    levels=st.lists(st.sampled_from(["P2", "P3", "P4", "P7"]), min_size=1, max_size=3, unique=True),
    seed=st.integers(0, 99),
)
def test_the_authors_names_lead_every_tensor_to_its_place(channels, levels, seed, same_bits):
    """Our state under the authors' names, then read back: strict, and no two tensors change places."""
    torch.manual_seed(seed)
    loss, other = (FGDLoss(tuple(levels), *channels) for _ in range(2))
    for parameter in loss.parameters():
        parameter.data.normal_()
    read = {}
    for level in levels:
        theirs = {}
        for name, value in loss.state_dict().items():
            kind, where, *rest = name.split(".")
            if where != level:
                continue
            if kind == "align":
                theirs[f"align.{rest[0]}"] = value
            else:
                block, layer, which = rest[0], ".".join(rest[1:-1]), rest[-1]
                theirs[f"{THEIR_LAYER[layer].format(THEIR_SUFFIX[block])}.{which}"] = value
        read |= fgd_state_from_authors(theirs, level)
    other.load_state_dict(read)
    same_bits(other, loss)
