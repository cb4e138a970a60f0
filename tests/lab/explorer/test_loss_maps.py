"""loss_maps.py: its small arrays sum to the terms of FGDLoss."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fgdlab import FGDConfig, FGDLoss, attention, masks_of
from fgdlab.lab.explorer.loss_maps import (
    WEIGHT_OF,
    all_terms_config,
    attention_from_means,
    gap,
    loss_maps,
    map_pair,
)
from fgdlab.lab.explorer.state import State
from fgdlab.lab.explorer.view_data import channels_of
from fgdlab.scene import Scene

LEVELS = ("P3", "P4")
SWITCHES = {
    "default": {},
    "unsplit": {"area": "both"},
    "fg alone": {"area": "fg"},
    "bg alone": {"area": "bg"},
    "no area": {"area": "none"},
    "no spatial": {"spatial_attention": False},
    "no channel": {"channel_attention": False},
    "neither": {"spatial_attention": False, "channel_attention": False},
    "mse": {"relation": "mse"},
    "centred": {"relation": "centred"},
    "nonlocal": {"relation": "nonlocal"},
    "no relation": {"relation": "none"},
    "exact": {"rounding": "exact"},
    "image frame": {"frame": "image"},
    "mean attention": {"attention_of": "mean"},
}


def one_image(seed: int, student_channels: int = 6, teacher_channels: int = 6, boxes: int = 3) -> tuple[Scene, dict]:
    draw = torch.Generator().manual_seed(seed)
    near = torch.rand(boxes, 2, generator=draw) * 50
    pixels = torch.cat([near, near + 4 + torch.rand(boxes, 2, generator=draw) * 40], dim=1)
    grids = {"P3": (8, 12), "P4": (4, 6)}
    student = {level: torch.randn(1, student_channels, *grid, generator=draw) for level, grid in grids.items()}
    teacher = {level: 2 * torch.randn(1, teacher_channels, *grid, generator=draw) for level, grid in grids.items()}
    return Scene(torch.zeros(1, 3, 64, 96), [pixels], [(60, 90)], student), teacher


def pair_and_loss_maps(scene, teacher, loss, config, level):
    pair = map_pair(scene.features[level][0], teacher[level][0], loss, level)
    masks = masks_of(config, scene, teacher[level])
    return pair, loss_maps(pair, masks.fg[0].numpy(), masks.bg[0].numpy(), config.temperature, config)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("switches", SWITCHES.values(), ids=SWITCHES.keys())
def test_raw_terms_are_those_of_the_loss(seed, switches, shake):
    config = all_terms_config(FGDConfig(temperature=(0.1, 0.5, 2.0)[seed], **switches))
    scene, teacher = one_image(seed, student_channels=(6, 4, 6)[seed])
    loss = shake(FGDLoss(LEVELS, scene.features["P3"].shape[1], 6, config))
    with torch.no_grad():
        expected = {(term.level, term.name): term.raw.item() for term in loss(scene, teacher)}
    found = {
        (level, name): raw
        for level in LEVELS
        for name, raw in pair_and_loss_maps(scene, teacher, loss, config, level)[1].raw.items()
    }
    assert found.keys() == expected.keys() and found
    for key in expected:
        assert found[key] == pytest.approx(expected[key], rel=2e-4, abs=1e-6), key


def test_cells_sum_to_the_term_and_channel_attention_belongs_to_no_cell(shake):
    scene, teacher = one_image(5)
    config = all_terms_config(FGDConfig())
    loss = shake(FGDLoss(LEVELS, 6, 6, config))
    _, maps = pair_and_loss_maps(scene, teacher, loss, config, "P3")
    for name in ("fg", "bg", "global"):
        assert maps.cells[name].sum() == pytest.approx(maps.raw[name], rel=1e-5)
    beyond = np.abs(maps.channel["student"] - maps.channel["teacher"]).sum()
    assert beyond > 0.1 and maps.raw["attention"] - maps.cells["attention"].sum() == pytest.approx(beyond, rel=1e-6)


@pytest.mark.parametrize("relation", ["gc", "mse", "centred", "nonlocal", "none"])
def test_maps_that_are_read_channel_by_channel_give_the_same_pair(relation, shake, monkeypatch):
    config, (scene, teacher) = FGDConfig(relation=relation), one_image(0)
    loss = shake(FGDLoss(LEVELS, 6, 6, all_terms_config(config)))
    at_once, _ = pair_and_loss_maps(scene, teacher, loss, config, "P3")
    monkeypatch.setattr("fgdlab.lab.explorer.loss_maps.CACHED_VALUES", 1)
    in_parts, _ = pair_and_loss_maps(scene, teacher, loss, config, "P3")
    for name in ("error_mean", "relation"):
        assert getattr(in_parts, name) == pytest.approx(getattr(at_once, name), rel=1e-5)
    for name in ("spatial", "channel", "context"):
        for network, values in getattr(at_once, name).items():
            assert getattr(in_parts, name)[network] == pytest.approx(values, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.05, 0.5, 10.0])
def test_attention_from_the_means_is_attention_of_the_map(temperature):
    features = 3 * torch.randn(1, 5, 7, 9)
    expected = attention(features, temperature)
    assert attention_from_means(features[0].abs().mean(dim=0).numpy(), temperature) == pytest.approx(
        expected.spatial[0].numpy(), rel=1e-4
    )
    assert attention_from_means(features[0].abs().mean(dim=(1, 2)).numpy(), temperature) == pytest.approx(
        expected.channel[0].numpy(), rel=1e-4
    )


def test_attention_of_huge_features_at_low_temperature_is_finite_and_sums_to_its_size():
    found = attention_from_means(np.array([[1e4, 0.0], [3.0, 9e3]]), 0.01)
    assert np.isfinite(found).all() and found.sum() == pytest.approx(4)


def test_context_weights_sum_to_one_and_are_the_blocks_own(shake):
    scene, teacher = one_image(1)
    loss = shake(FGDLoss(LEVELS, 6, 6, all_terms_config(FGDConfig())))
    pair = map_pair(scene.features["P4"][0], teacher["P4"][0], loss, "P4")
    assert pair.context["student"].shape == (4, 6) and pair.context["student"].sum() == pytest.approx(1, rel=1e-5)
    expected = loss.relation["P4"].teacher.context_weights(teacher["P4"]).detach().numpy().reshape(4, 6)
    assert pair.context["teacher"] == pytest.approx(expected)
    assert not np.allclose(pair.context["teacher"], pair.context["student"], rtol=1e-2)


@pytest.mark.parametrize("relation", ["mse", "none", "centred", "nonlocal"])
def test_no_gcblock_no_context(relation):
    scene, teacher = one_image(1)
    loss = FGDLoss(LEVELS, 6, 6, all_terms_config(FGDConfig(relation=relation)))
    assert map_pair(scene.features["P3"][0], teacher["P3"][0], loss, "P3").context == {}


def test_enabled_terms_depend_on_switches_and_not_on_weights():
    assert [*all_terms_config(FGDConfig(beta=0, gamma=0)).weights()] == ["fg", "bg", "attention", "global"]
    assert [*all_terms_config(FGDConfig(area="both", relation="none")).weights()] == ["both", "attention"]
    assert set(WEIGHT_OF) == {"fg", "both", "bg", "attention", "global"}


def test_gap_is_the_root_mean_square_over_cells_and_channels():
    scene, teacher = one_image(2)
    config = all_terms_config(FGDConfig())
    pair, maps = pair_and_loss_maps(scene, teacher, FGDLoss(LEVELS, 6, 6, config), config, "P3")
    inside = np.zeros((8, 12), bool)
    inside[2:5, 3:7] = True
    difference = (teacher["P3"] - scene.features["P3"])[0].numpy()
    distance = np.abs(maps.spatial["teacher"] - maps.spatial["student"])
    found = gap(pair, maps, inside)
    assert found["feature_fg"] == pytest.approx(np.sqrt((difference[:, 2:5, 3:7] ** 2).mean()), rel=1e-5)
    assert found["feature_bg"] == pytest.approx(np.sqrt((difference[:, ~inside] ** 2).mean()), rel=1e-5)
    assert found["attention_fg"] == pytest.approx(distance[2:5, 3:7].mean()) and found["attention_bg"] == pytest.approx(
        distance[~inside].mean()
    )


def test_gap_where_there_is_no_such_cell_is_none():
    scene, teacher = one_image(2, boxes=0)
    config = all_terms_config(FGDConfig())
    pair, maps = pair_and_loss_maps(scene, teacher, FGDLoss(LEVELS, 6, 6, config), config, "P3")
    assert gap(pair, maps, np.zeros((8, 12), bool))["feature_fg"] is None
    assert gap(pair, maps, np.ones((8, 12), bool))["attention_bg"] is None


def test_channels_go_from_the_largest_gap_to_the_smallest_and_equal_gaps_by_number():
    student, teacher = np.array([0.0, 5.0, 1.0, 1.0]), np.array([1.0, 2.0, 1.0, 2.0])
    pair = SimpleNamespace(student=student[:, None, None], teacher=teacher[:, None, None])
    channels = channels_of(State(cell=(0, 0)), pair, SimpleNamespace(channel=None))
    assert channels.index.tolist() == [1, 0, 3, 2] and channels["gap"].tolist() == [-3.0, 1.0, 1.0, 0.0]
    assert channels.attrs["what"] == "F in cell row 0, column 0"


def test_maps_of_different_grids_are_refused():
    loss = FGDLoss(LEVELS, 6, 6, all_terms_config(FGDConfig()))
    with pytest.raises(ValueError, match="same shape"):
        map_pair(torch.zeros(6, 4, 4), torch.zeros(6, 5, 4), loss, "P3")


def test_bytes_count_every_large_array():
    scene, teacher = one_image(2)
    pair = map_pair(
        scene.features["P3"][0], teacher["P3"][0], FGDLoss(LEVELS, 6, 6, all_terms_config(FGDConfig())), "P3"
    )
    assert pair.nbytes >= pair.student.nbytes + pair.error_mean.nbytes
    assert replace(FGDConfig(), alpha=0).weights().keys() == {"bg", "attention", "global"}
