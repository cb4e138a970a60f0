"""Eqs. 5-8: feature maps to attention."""
import pytest
import torch
from torch.testing import assert_close

from fgdlab.attention import attention, attention_of, without
from tests.helpers import naive


def maps(n=2, c=4, h=5, w=7):
    return torch.randn(n, c, h, w, dtype=torch.float64)


def test_attention_equals_the_loops(random_scene, agree):
    for seed in range(200):
        temperature = (0.3, 0.5, 1.2)[seed % 3]
        features = random_scene(seed).features["P3"]
        fast = attention(features, temperature)
        for n, F in enumerate(features.tolist()):
            agree(fast.spatial[n], naive.a_spatial(F, temperature), seed)
            agree(fast.channel[n], naive.a_channel(F, temperature), seed)


def test_attention_sums_to_pixels_and_to_channels():
    spatial, channel = attention(maps(n=3, c=6, h=5, w=7))
    assert_close(spatial.sum(dim=(1, 2)), torch.full((3,), 35.0, dtype=torch.float64))
    assert_close(channel.sum(dim=1), torch.full((3,), 6.0, dtype=torch.float64))


def test_a_flat_map_gets_the_same_attention_everywhere():
    spatial, channel = attention(torch.full((1, 4, 3, 3), -2.0))
    assert_close(spatial, torch.ones(1, 3, 3))
    assert_close(channel, torch.ones(1, 4))


def test_the_sign_of_a_feature_does_not_matter():
    features = maps()
    assert all(torch.equal(a, b) for a, b in zip(attention(features), attention(-features), strict=True))


def test_a_colder_softmax_is_sharper():
    features = maps()
    peaks = [attention(features, temperature).spatial.amax() for temperature in (0.1, 0.5, 2.0)]
    assert peaks[0] > peaks[1] > peaks[2] > 1


def test_a_hot_softmax_is_one_everywhere():
    spatial, channel = attention(maps(), temperature=1e9)
    assert_close(spatial, torch.ones_like(spatial))
    assert_close(channel, torch.ones_like(channel))


def test_a_cold_softmax_picks_one_pixel_and_one_channel():
    spatial, channel = attention(maps(n=1), temperature=1e-6)
    assert spatial.count_nonzero() == 1 and spatial.amax() == 35
    assert channel.count_nonzero() == 1 and channel.amax() == 4


def test_large_features_do_not_overflow():
    spatial, _ = attention(torch.randn(1, 4, 8, 8) * 1e6)
    assert spatial.isfinite().all()


def test_a_permutation_of_channels_permutes_only_the_channel_attention():
    features, order = maps(), torch.tensor([2, 0, 3, 1])
    there, permuted = attention(features), attention(features[:, order])
    assert_close(permuted.spatial, there.spatial)
    assert_close(permuted.channel, there.channel[:, order])


def test_a_flip_of_the_map_flips_only_the_spatial_attention():
    features = maps()
    there, flipped = attention(features), attention(features.flip(-1))
    assert_close(flipped.spatial, there.spatial.flip(-1))
    assert_close(flipped.channel, there.channel)


def test_without_puts_ones_in_place_of_the_named_part():
    full = attention(maps())
    no_spatial, no_channel = without(full, spatial=True), without(full, channel=True)
    assert (no_spatial.spatial == 1).all() and no_spatial.channel is full.channel
    assert (no_channel.channel == 1).all() and no_channel.spatial is full.spatial


def test_gradcheck():
    assert torch.autograd.gradcheck(attention, maps(n=1, c=3, h=3, w=2).requires_grad_())


@pytest.mark.parametrize("temperature", [0, -0.5, float("nan")])
def test_a_temperature_must_be_positive(temperature):
    with pytest.raises(ValueError, match=f"> 0, got {temperature}"):
        attention(maps(), temperature)


def test_features_must_be_a_batch_of_maps():
    with pytest.raises(ValueError, match=r"\(N, C, H, W\), got \(4, 5, 7\)"):
        attention(maps()[0])


def test_the_weighing_attention_is_the_teachers_the_students_or_their_mean_and_a_constant():
    torch.manual_seed(0)
    maps = torch.randn(2, 2, 3, 4, 5, requires_grad=True)
    student, teacher = attention(maps[0]), attention(maps[1])
    for who, expected in {
        "teacher": teacher,
        "student": student,
        "mean": [(a + b) / 2 for a, b in zip(student, teacher, strict=True)],
    }.items():
        chosen = attention_of(who, student, teacher)
        assert all(torch.equal(got, want) for got, want in zip(chosen, expected, strict=True))
    assert not any(each.requires_grad for who in ("teacher", "student") for each in attention_of(who, student, teacher))
    assert not any(each.requires_grad for each in attention_of("mean", student, attention(maps[1].detach())))
