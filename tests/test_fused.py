"""The fused form says the same as the readable one, to rounding: masks, every term, every gradient, under every switch."""
from dataclasses import fields, replace

import pytest
import torch
from test_fgd import KNOBS
from torch.testing import assert_close

from fgdlab.fgd import FGDConfig, FGDLoss
from fgdlab.fused import blocks, pages, paint, why_readable
from fgdlab.fused.level import level_sums
from fgdlab.fused.paint import floor_log2, painted_masks
from fgdlab.masks import focal_masks
from fgdlab.scene import Scene
from fgdlab.terms import total

CONFIGS = [
    FGDConfig(), *(FGDConfig(**{name: value}) for name, value in KNOBS), FGDConfig(lambda_=0), FGDConfig(gamma=0, lambda_=0), FGDConfig(beta=0),
    FGDConfig(alpha=0, beta=0, gamma=0), FGDConfig(alpha=0, beta=0, lambda_=0), FGDConfig(spatial_attention=False, channel_attention=False),
    FGDConfig(attention_of="mean", channel_attention=False), FGDConfig(attention_of="student", spatial_attention=False, gamma=0),
]
FUSED = [config for config in CONFIGS if config.weights() and config.relation != "nonlocal"]
BLOCKS = {"pieces of 3 cells": 12, "one image": 100, "whole batch": 10**6}                       # values a block, for 4 channels


def name_of(config):
    changed = {field.name: getattr(config, field.name) for field in fields(config) if getattr(config, field.name) != field.default}
    return ",".join(f"{name}={value}" for name, value in changed.items()) or "default"


def leaves(maps):
    return {level: each.detach().clone(memory_format=torch.preserve_format).requires_grad_() for level, each in maps.items()}


def outcome(loss, scene, teacher, fused):
    """Every raw term, and by term the gradients of the student's maps and of every parameter."""
    loss.fused = fused
    features = leaves(scene.features)
    terms = loss(replace(scene, features=features), teacher)
    inputs = {**features, **dict(loss.named_parameters())}
    found = {}
    for term in terms:
        gradients = torch.autograd.grad(term.raw, list(inputs.values()), retain_graph=True, allow_unused=True)
        found[term.name, term.level] = term.raw, dict(zip(inputs, gradients, strict=True))
    return found


def agree(loss, scene, teacher, tolerance):
    ours, readable = outcome(loss, scene, teacher, True), outcome(loss, scene, teacher, False)
    assert ours.keys() == readable.keys() and ours
    for key, (value, gradients) in readable.items():
        assert_close(ours[key][0], value, rtol=tolerance, atol=tolerance * 1e-3, msg=lambda text, key=key: f"{key}: {text}")
        for name, expected in gradients.items():
            got = ours[key][1][name]
            assert (got is None) == (expected is None), (key, name)
            if name.endswith("key.bias"):                            # changes no softmax: what the readable form finds is rounding
                assert got is None or (got.count_nonzero() == 0 and expected.abs().max() < 1e-3)
            elif expected is not None:
                largest = max(each.abs().max().item() for each in (expected, *blocks_of(gradients, name)))
                assert_close(got, expected, rtol=tolerance, atol=tolerance * largest, msg=lambda text, key=key, name=name: f"{key} {name}: {text}")


def blocks_of(gradients, name):
    """The gradients of all parameters of R beside one of them: that of a key is a small difference of large numbers."""
    return [each for other, each in gradients.items() if name.startswith("relation") and other.startswith("relation") and each is not None]


def case(random_scene, shake, config, seed=3, channels=4, dtype=torch.float64, levels=("P3", "P4"), wide=4):
    torch.manual_seed(seed)
    scene = random_scene(seed, channels, levels, dtype=dtype)
    teacher = {level: torch.randn(2, wide, *each.shape[2:], dtype=torch.float64).to(dtype) for level, each in scene.features.items()}
    return shake(FGDLoss(levels, channels, wide, config).to(dtype)), scene, teacher


# ---- equal to the readable form ----------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_values_and_gradients_are_those_of_the_readable_form(config, block, random_scene, shake, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    agree(*case(random_scene, shake, config), 1e-11)


@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_in_float32_they_differ_by_a_millionth_at_most(config, random_scene, shake, monkeypatch):
    """Sixteen channels: with four, the norm of R divides by the spread of two numbers, and either form is a few millionths off."""
    monkeypatch.setattr(blocks, "BLOCK", 128)
    agree(*case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32), 1e-6)


def test_every_switch_is_among_the_configurations():
    assert {name for config in FUSED for name in (field.name for field in fields(config)) if getattr(config, name) != getattr(FGDConfig(), name)} == {
        field.name for field in fields(FGDConfig)}


def test_they_agree_on_many_random_scenes_with_an_align_layer(random_scene, shake, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 20)
    for seed in range(15):
        agree(*case(random_scene, shake, FGDConfig(frame="image"), seed, channels=3), 1e-10)


@pytest.mark.parametrize("order", ["student", "teacher", "both"])
@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_maps_may_lie_in_memory_pixel_after_pixel(order, block, random_scene, shake, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", block)
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    turned = [{level: each.to(memory_format=torch.channels_last) for level, each in maps.items()} for maps in (scene.features, teacher)]
    scene = scene if order == "teacher" else replace(scene, features=turned[0])
    agree(loss, scene, teacher if order == "student" else turned[1], 1e-11)


def test_a_map_cut_out_of_a_larger_one_is_read_as_it_is(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    wider = {level: torch.nn.functional.pad(each, (1, 2))[..., 1:-2] for level, each in teacher.items()}
    assert not wider["P3"].is_contiguous()
    agree(loss, scene, wider, 1e-11)


def test_a_value_of_exactly_0_pulls_no_attention(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    rectified = replace(scene, features={level: each.relu() for level, each in scene.features.items()})
    agree(loss, rectified, teacher, 1e-11)


def test_maps_far_above_the_range_of_exp_do_not_overflow(shake, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 256)
    torch.manual_seed(0)
    boxes = [torch.tensor([[5.0, 6.0, 50.0, 40.0]])]
    scene = Scene(torch.zeros(1, 3, 96, 128), boxes, [(96, 128)], {"P3": 400 * torch.randn(1, 16, 12, 16)})
    loss = shake(FGDLoss(("P3",), 16, 16))
    teacher = {"P3": 400 * torch.randn(1, 16, 12, 16)}
    loss.fused = True
    terms = loss(replace(scene, features=leaves(scene.features)), teacher)
    loss.fused = False
    assert all(term.raw.isfinite() for term in terms)
    for ours, readable in zip(terms, loss(scene, teacher), strict=True):
        assert_close(ours.raw, readable.raw, rtol=1e-3, atol=0)      # in exp(G / T) of G / T = 600, rounding of G alone is 4e-5


@pytest.mark.parametrize("boxes", [
    (), ((0, 0, 128, 96),), ((-50, -50, 500, 500),), ((64, 48, 64, 48),), ((-30, -30, -10, -10),), ((5, 6, 50, 40),) * 3,
])
def test_degenerate_boxes_are_no_exception(boxes, shake, monkeypatch):
    monkeypatch.setattr(paint, "FEW", -1)
    torch.manual_seed(0)
    maps, teacher = torch.randn(2, 1, 4, 12, 16).double()
    scene = Scene(torch.zeros(1, 3, 96, 128), [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)], [(96, 128)], {"P3": maps})
    agree(shake(FGDLoss(("P3",), 4, 4).double()), scene, {"P3": teacher}, 1e-11)


def test_a_student_equal_to_its_teacher_has_no_loss(random_scene):
    scene = random_scene(3)
    assert {term.raw.item() for term in FGDLoss(("P3", "P4"), 4, 4, fused=True).double()(scene, scene.features)} == {0.0}


def test_centred_maps_far_apart_lose_few_digits():
    """The one subtraction of large numbers: sum D^2 - (sum D)^2 / HW, here of a mean difference ten times its spread."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 8, 40, 40), 10 + torch.randn(2, 8, 40, 40)
    loss = FGDLoss(("P3",), 8, 8, FGDConfig(relation="centred"))
    exact = loss.readable_sums(student.double(), teacher.double(), None, loss.relation["P3"], FGDConfig(0, 0, 0, relation="centred"))["global"]
    ours = level_sums(student, teacher, None, loss.relation["P3"], FGDConfig(0, 0, 0, relation="centred"))["global"]
    assert_close(ours.double(), exact, rtol=2e-5, atol=0)


# ---- precision ---------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32_without_a_copy_of_the_map(dtype, shake, monkeypatch):
    monkeypatch.setattr(blocks, "BLOCK", 12 * 50)
    torch.manual_seed(0)
    student, teacher = (30 * torch.randn(2, 12, 16, 20)).to(dtype).requires_grad_(), (30 * torch.randn(2, 12, 16, 20)).to(dtype)
    masks = focal_masks([torch.tensor([[8.0, 8.0, 100.0, 90.0]])] * 2, [(128, 160)] * 2, (16, 20))
    relation = shake(FGDLoss(("P3",), 12, 12)).relation["P3"]
    halves = level_sums(student, teacher, masks, relation, FGDConfig())
    wide = student.detach().float().requires_grad_()
    floats = level_sums(wide, teacher.float(), masks, relation, FGDConfig())
    for name in floats:
        assert halves[name].dtype == torch.float32 and torch.equal(halves[name], floats[name])
        (ours,), (expected,) = (torch.autograd.grad(1e-3 * raw[name], maps, retain_graph=True) for raw, maps in ((halves, student), (floats, wide)))
        assert ours.dtype == dtype and torch.equal(ours, expected.to(dtype))


def test_the_loss_reads_half_precision_as_it_is_and_an_align_layer_gets_float32(random_scene, shake, monkeypatch):
    seen = []
    monkeypatch.setattr("fgdlab.fgd.level_sums", lambda student, teacher, *given: seen.append((student.dtype, teacher.dtype)) or level_sums(student, teacher, *given))
    for channels in (4, 3):
        loss, scene, teacher = case(random_scene, shake, FGDConfig(), channels=channels, dtype=torch.float32, levels=("P3",))
        halves = replace(scene, features={level: each.bfloat16() for level, each in scene.features.items()}), {level: each.bfloat16() for level, each in teacher.items()}
        loss.fused = False
        readable = {term.name: term.raw for term in loss(*halves)}
        loss.fused = True
        for term in loss(*halves):
            assert term.raw.dtype == torch.float32
            assert_close(term.raw, readable[term.name], rtol=1e-5, atol=0)
    assert seen == [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)]


def test_autocast_does_not_reach_the_fused_form(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    loss.fused = True
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(scene, teacher)
    assert [term.raw for term in inside] == [term.raw for term in loss(scene, teacher)]


# ---- painting ----------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("axes", ["xy", "yx"])
@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_painted_masks_are_the_masks_to_the_last_bit(rounding, axes, random_scene, monkeypatch):
    monkeypatch.setattr(paint, "FEW", -1)
    for seed in range(20):
        monkeypatch.setattr(paint, "TABLE", (1, 10**7)[seed % 2])    # image by image, or all at once
        scene = random_scene(seed)
        for grid in ((7, 13), (16, 16), (1, 5), (33, 20), (1, 1)):
            for frame in ("canvas", "image"):
                asked = scene.boxes, scene.frame_sizes(frame), grid
                ours, theirs = (draw(*asked, rounding=rounding, axes=axes, dtype=torch.float64) for draw in (painted_masks, focal_masks))
                assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg), (seed, grid, frame)


def test_a_crowd_in_one_image_is_painted_beside_an_empty_one():
    assert paint.FEW < 3 * 300 * 32 * 32
    torch.manual_seed(0)
    corners = 90 * torch.rand(300, 2)
    boxes = [torch.zeros(0, 4), torch.cat([corners, corners + 30 * torch.rand(300, 2)], dim=1), torch.zeros(0, 4)]
    ours, theirs = (draw(boxes, [(128, 128)] * 3, (32, 32)) for draw in (painted_masks, focal_masks))
    assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg) and ours.fg[1].any()


def test_whole_logarithms_are_exact():
    whole = torch.arange(1, 70000)
    assert floor_log2(whole).tolist() == [each.bit_length() - 1 for each in range(1, 70000)]


@pytest.mark.parametrize("few", [-1, 10**6])
def test_wrong_axes_and_missing_images_are_refused(few, monkeypatch):
    monkeypatch.setattr(paint, "FEW", few)
    with pytest.raises(ValueError, match="axes must be one of xy, yx, got 'zz'"):
        painted_masks([torch.zeros(0, 4)], [(8, 8)], (2, 2), axes="zz")
    with pytest.raises(ValueError, match="one entry an image, got 1 and 2"):
        painted_masks([torch.zeros(0, 4)], [(8, 8)] * 2, (2, 2))


# ---- memory ------------------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_on_large_pages_lies_like_the_map(order, monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 0)
    maps = torch.randn(2, 3, 5, 7).to(memory_format=order)
    made = pages.empty_like(maps)
    assert made.shape == maps.shape and made.stride() == maps.stride() and made.dtype == maps.dtype
    made.copy_(maps)
    kept = made[0]
    del made
    assert torch.equal(kept, maps[0])                                # the pages live as long as any tensor on them


def test_gradients_on_large_pages_are_the_same(random_scene, shake, monkeypatch):
    monkeypatch.setattr(pages, "LARGE", 0)
    agree(*case(random_scene, shake, FGDConfig()), 1e-11)


# ---- where it does not apply -------------------------------------------------------------------------------------------------------

def test_the_fused_form_runs_where_it_says_so_and_the_readable_one_elsewhere(random_scene, monkeypatch):
    calls = []
    readable = FGDLoss.readable_sums
    monkeypatch.setattr(FGDLoss, "readable_sums", staticmethod(lambda *given: calls.append("readable") or readable(*given)))
    scene = random_scene(3)
    for config in CONFIGS:
        calls.clear()
        terms = FGDLoss(("P3",), 4, 4, config, fused=True).double()(scene, scene.features)
        assert bool(calls) == (why_readable(config, "cpu") is not None and terms != [])
    assert {why_readable(config, "cpu") for config in FUSED} == {None}


def test_the_reasons_are_told():
    assert "nonlocal" in why_readable(FGDConfig(relation="nonlocal"), "cpu")
    assert why_readable(FGDConfig(relation="nonlocal", lambda_=0), "cpu") is None
    assert "cpu and cuda only, the maps are on mps" in why_readable(FGDConfig(), "mps")


def test_the_readable_form_is_what_runs_unless_asked(random_scene, monkeypatch):
    monkeypatch.setattr("fgdlab.fgd.level_sums", None)
    scene = random_scene(3)
    assert FGDLoss(("P3",), 4, 4).double()(scene, scene.features)


def test_a_second_derivative_is_refused(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    loss.fused = True
    features = leaves(scene.features)
    (gradient,) = torch.autograd.grad(total(loss(replace(scene, features=features), teacher)), features["P3"], create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        gradient.sum().backward()


def test_no_parameter_goes_without_gradient_and_the_teacher_gets_none(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), channels=3)
    loss.fused = True
    teacher = {level: each.requires_grad_() for level, each in teacher.items()}
    total(loss(scene, teacher)).backward()
    assert all(p.grad is not None for p in loss.parameters()) and all(each.grad is None for each in teacher.values())
