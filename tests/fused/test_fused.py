"""The fused implementation equals the readable one up to rounding: masks, terms and gradients, under every setting."""
import os
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss, term_sums
from fgdlab.fused import dispatch
from fgdlab.fused.cpu import loops, memory, tiles
from fgdlab.fused.cpu.autograd import sums_of_levels
from fgdlab.fused.dispatch import rasterised_masks, why_readable
from fgdlab.fused.loss import FusedFGDLoss
from fgdlab.masks import focal_masks
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.method.test_fgd import VARIATIONS

CONFIGS = [
    FGDConfig(),
    *(FGDConfig(**{name: value}) for name, value in VARIATIONS),
    FGDConfig(lambda_=0),
    FGDConfig(gamma=0, lambda_=0),
    FGDConfig(beta=0),
    FGDConfig(alpha=0, beta=0, gamma=0),
    FGDConfig(alpha=0, beta=0, lambda_=0),
    FGDConfig(spatial_attention=False, channel_attention=False),
    FGDConfig(attention_of="mean", channel_attention=False),
    FGDConfig(attention_of="student", spatial_attention=False, gamma=0),
]
FUSED = [config for config in CONFIGS if config.weights() and config.relation != "nonlocal"]
# Bytes of a tile, for 4 channels of float64.
CACHES = {"tiles of 1 cell": 64, "tiles of 16 cells": 16 * 64, "tiles of 256 cells": 2**19}


def name_of(config):
    changed = {
        field.name: getattr(config, field.name)
        for field in fields(config)
        if getattr(config, field.name) != field.default
    }
    return ",".join(f"{name}={value}" for name, value in changed.items()) or "default"


def leaves(maps):
    return {
        level: each.detach().clone(memory_format=torch.preserve_format).requires_grad_() for level, each in maps.items()
    }


def readable(loss, scene, teacher):
    """The terms of a FusedFGDLoss by the readable implementation."""
    return FGDLoss.forward(loss, scene, teacher)


def outcome(forward, loss, scene, teacher):
    """Every raw term, and by term the gradients of the student's maps and of every parameter."""
    features = leaves(scene.features)
    terms = forward(loss, replace(scene, features=features), teacher)
    inputs = {**features, **dict(loss.named_parameters())}
    found = {}
    for term in terms:
        gradients = torch.autograd.grad(term.raw, list(inputs.values()), retain_graph=True, allow_unused=True)
        found[term.name, term.level] = term.raw, dict(zip(inputs, gradients, strict=True))
    return found


def agree(loss, scene, teacher, tolerance, zeros=False):
    """zeros: a gradient that does not exist may be 0."""
    ours, expected_terms = (outcome(forward, loss, scene, teacher) for forward in (FusedFGDLoss.forward, readable))
    assert ours.keys() == expected_terms.keys() and ours
    for key, (value, gradients) in expected_terms.items():
        assert_close(
            ours[key][0], value, rtol=tolerance, atol=tolerance * 1e-3, msg=lambda text, key=key: f"{key}: {text}"
        )
        for name, expected in gradients.items():
            got = ours[key][1][name]
            if zeros and expected is None:
                assert got is None or not got.any(), (key, name)
                continue
            assert (got is None) == (expected is None), (key, name)
            if name.endswith("key.bias"):  # changes no softmax: its gradient is rounding
                assert got is None or max(got.abs().max(), expected.abs().max()) < 1e-3
            elif expected is not None:
                largest = max(each.abs().max().item() for each in (expected, *blocks_of(gradients, name)))
                assert_close(
                    got,
                    expected,
                    rtol=tolerance,
                    atol=tolerance * largest,
                    msg=lambda text, key=key, name=name: f"{key} {name}: {text}",
                )


def blocks_of(gradients, name):
    """The gradients of all parameters of R beside one of them: that of a key is a small difference of large numbers."""
    return [
        each
        for other, each in gradients.items()
        if name.startswith("relation") and other.startswith("relation") and each is not None
    ]


def level_sums(student, teacher, masks, relation, config):
    """The fused sums of one level."""
    return sums_of_levels([student], [teacher], None if masks is None else [masks], [relation], config)[0]


def case(random_scene, shake, config, seed=3, channels=4, dtype=torch.float64, levels=("P3", "P4"), wide=4):
    torch.manual_seed(seed)
    scene = random_scene(seed, channels, levels, dtype=dtype)
    teacher = {
        level: torch.randn(2, wide, *each.shape[2:], dtype=torch.float64).to(dtype)
        for level, each in scene.features.items()
    }
    return shake(FusedFGDLoss(levels, channels, wide, config).to(dtype)), scene, teacher


# ---- equal to the readable implementation ----

@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_values_and_gradients_are_those_of_the_readable_implementation(config, cache, random_scene, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", cache)
    agree(*case(random_scene, shake, config), 1e-11)


@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_in_float32_they_differ_by_a_millionth_at_most(config, random_scene, shake, monkeypatch):
    """With four channels, LN divides by the deviation of two numbers and both implementations err by millionths."""
    monkeypatch.setattr(tiles, "CACHE", 16 * 128)
    agree(*case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32), 1e-6)


def test_every_switch_is_among_the_configurations():
    assert {
        name
        for config in FUSED
        for name in (field.name for field in fields(config))
        if getattr(config, name) != getattr(FGDConfig(), name)
    } == {field.name for field in fields(FGDConfig)}


def test_they_agree_on_many_random_scenes_with_an_align_layer(random_scene, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", 16 * 64)
    for seed in range(15):
        agree(*case(random_scene, shake, FGDConfig(frame="image"), seed, channels=3), 1e-10)


@pytest.mark.parametrize("order", ["student", "teacher", "both"])
@pytest.mark.parametrize("cache", CACHES.values(), ids=CACHES)
def test_maps_may_lie_in_memory_pixel_after_pixel(order, cache, random_scene, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", cache)
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    turned = [
        {level: each.to(memory_format=torch.channels_last) for level, each in maps.items()}
        for maps in (scene.features, teacher)
    ]
    scene = scene if order == "teacher" else replace(scene, features=turned[0])
    agree(loss, scene, teacher if order == "student" else turned[1], 1e-11)


def test_a_map_cut_out_of_a_larger_one_is_read_as_it_is(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    wider = {level: torch.nn.functional.pad(each, (1, 2))[..., 1:-2] for level, each in teacher.items()}
    assert not wider["P3"].is_contiguous()
    agree(loss, scene, wider, 1e-11)


@pytest.mark.parametrize("turned", ["student", "teacher"])
def test_a_map_may_lie_with_height_and_width_swapped_beside_others(turned, random_scene, shake):
    """All levels go through one table; each has a lay of its own."""
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    tall = lambda maps: maps.transpose(2, 3).contiguous().transpose(2, 3)  # noqa: E731
    maps = scene.features if turned == "student" else teacher
    maps["P3"], maps["P4"] = tall(maps["P3"]), torch.nn.functional.pad(maps["P4"], (2, 1))[..., 2:-1]
    assert not maps["P3"].is_contiguous() and not maps["P4"].is_contiguous()
    agree(loss, scene, teacher, 1e-11)


def test_maps_that_do_not_agree_are_left_to_the_readable_implementation(random_scene, shake, monkeypatch):
    """The loops read by address: maps must agree in images, channels and device, and none may be empty.

    Without R an empty map has a loss of 0.
    """
    monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", None)
    scene = random_scene(3)
    said = []
    for config in (FGDConfig(), FGDConfig(lambda_=0)):
        wide = {level: torch.cat([each, each], dim=1) for level, each in scene.features.items()}
        for features, teacher in (
            (wide, wide),
            ({**scene.features, "P4": wide["P4"]}, {**scene.features, "P4": wide["P4"]}),  # channels
            (scene.features, {**scene.features, "P4": scene.features["P4"].to("meta")}),  # devices
            (
                {**scene.features, "P4": scene.features["P4"][:1]},
                {**scene.features, "P4": scene.features["P4"][:1]},
            ),  # images
            ({**scene.features, "P4": scene.features["P4"][..., :0]},) * 2,
            (scene.features, wide),
        ):
            try:
                terms = FusedFGDLoss(("P3", "P4"), 4, 4, config).double()(replace(scene, features=features), teacher)
                said.append(len(terms))
            except (RuntimeError, ValueError, IndexError) as error:
                said.append(type(error).__name__)
    assert said == ["ValueError", "ValueError", "RuntimeError", "ValueError", "RuntimeError", "ValueError"] + [
        "ValueError", "ValueError", "RuntimeError", "ValueError", 6, "ValueError"]


def test_a_graph_that_is_kept_gives_its_gradients_again(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    features = leaves(scene.features)
    whole = total(loss(replace(scene, features=features), teacher))
    inputs = [*features.values(), *loss.parameters()]
    first, second = (torch.autograd.grad(whole, inputs, retain_graph=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_parameters_that_change_are_seen_by_no_gradient_of_an_earlier_loss(random_scene, shake):
    """The first backward pass keeps the values of the forward pass; a second one would have to read them again."""
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    features = leaves(scene.features)
    whole = total(loss(replace(scene, features=features), teacher))
    maps = list(features.values())
    before = torch.autograd.grad(whole, maps, retain_graph=True)
    again = total(loss(replace(scene, features=features), teacher))
    with torch.no_grad():
        loss.relation["P3"].teacher.transform[0].weight.mul_(2)
    assert all(
        torch.equal(one, other)
        for one, other in zip(before, torch.autograd.grad(again, maps, retain_graph=True), strict=True)
    )
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        torch.autograd.grad(whole, maps)


def test_a_map_that_changes_before_its_gradient_is_refused(random_scene, shake):
    """The loops read maps by their address: what autograd keeps watch over is what they read."""
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    for spoilt in ("student", "teacher"):
        features, maps = leaves(scene.features), {level: each.clone() for level, each in teacher.items()}
        whole = total(loss(replace(scene, features=features), maps))
        with torch.no_grad():
            (features if spoilt == "student" else maps)["P4"].mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            whole.backward()


def test_levels_may_differ_in_precision(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    mixed = {level: each.bfloat16() if level == "P4" else each for level, each in scene.features.items()}
    features = leaves(mixed)
    terms = loss(replace(scene, features=features), teacher)
    for ours, expected in zip(terms, readable(loss, replace(scene, features=mixed), teacher), strict=True):
        assert ours.raw.dtype == torch.float32
        assert_close(ours.raw, expected.raw, rtol=1e-5, atol=0)
    total(terms).backward()
    assert {level: each.grad.dtype for level, each in features.items()} == {"P3": torch.float32, "P4": torch.bfloat16}


def test_a_value_of_exactly_0_has_no_attention_gradient(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    rectified = replace(scene, features={level: each.relu() for level, each in scene.features.items()})
    agree(loss, rectified, teacher, 1e-11)


def test_maps_far_above_the_range_of_exp_do_not_overflow(shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", 16 * 128)
    torch.manual_seed(0)
    boxes = [torch.tensor([[5.0, 6.0, 50.0, 40.0]])]
    scene = Scene(torch.zeros(1, 3, 96, 128), boxes, [(96, 128)], {"P3": 400 * torch.randn(1, 16, 12, 16)})
    loss = shake(FusedFGDLoss(("P3",), 16, 16))
    teacher = {"P3": 400 * torch.randn(1, 16, 12, 16)}
    terms = loss(replace(scene, features=leaves(scene.features)), teacher)
    assert all(term.raw.isfinite() for term in terms)
    for ours, expected in zip(terms, readable(loss, scene, teacher), strict=True):
        # In exp(G / T) of G / T = 600, rounding of G alone is 4e-5.
        assert_close(ours.raw, expected.raw, rtol=1e-3, atol=0)


@pytest.mark.parametrize(
    "boxes",
    [
        (),
        ((0, 0, 128, 96),),
        ((-50, -50, 500, 500),),
        ((64, 48, 64, 48),),
        ((-30, -30, -10, -10),),
        ((5, 6, 50, 40),) * 3,
    ],
)
def test_degenerate_boxes_are_no_exception(boxes, shake, monkeypatch):
    torch.manual_seed(0)
    maps, teacher = torch.randn(2, 1, 4, 12, 16).double()
    scene = Scene(
        torch.zeros(1, 3, 96, 128), [torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)], [(96, 128)], {"P3": maps}
    )
    agree(shake(FusedFGDLoss(("P3",), 4, 4).double()), scene, {"P3": teacher}, 1e-11)


def test_a_student_equal_to_its_teacher_has_no_loss(random_scene):
    scene = random_scene(3)
    assert {term.raw.item() for term in FusedFGDLoss(("P3", "P4"), 4, 4).double()(scene, scene.features)} == {0.0}


def test_centred_maps_far_apart_lose_few_digits():
    """The one subtraction of large numbers: sum D^2 - (sum D)^2 / HW. Here the mean of D is ten times its deviation."""
    torch.manual_seed(0)
    student, teacher = torch.randn(2, 8, 40, 40), 10 + torch.randn(2, 8, 40, 40)
    loss = FGDLoss(("P3",), 8, 8, FGDConfig(relation="centred"))
    exact = term_sums(
        student.double(), teacher.double(), None, loss.relation["P3"], FGDConfig(0, 0, 0, relation="centred")
    )["global"]
    ours = level_sums(student, teacher, None, loss.relation["P3"], FGDConfig(0, 0, 0, relation="centred"))["global"]
    assert_close(ours.double(), exact, rtol=2e-5, atol=0)


@pytest.mark.parametrize("cells", [1, 255, 256, 257, 513])
def test_a_map_may_be_one_tile_or_some_or_one_cell_over(cells, shake):
    torch.manual_seed(0)
    assert loops.WIDE == 256
    boxes = [torch.tensor([[0.0, 0.0, 30.0, 8.0]]).double(), torch.zeros(0, 4).double()]
    maps, teacher = torch.randn(2, 2, 4, 1, cells).double()
    scene = Scene(torch.zeros(1, 3, 8, 8 * cells).expand(2, -1, -1, -1), boxes, [(8, 8 * cells)] * 2, {"P3": maps})
    agree(shake(FusedFGDLoss(("P3",), 4, 4).double()), scene, {"P3": teacher}, 1e-11)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_any_number_of_threads_gives_the_same_bits(dtype, random_scene, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", 16 * 4 * dtype.itemsize * 2)
    monkeypatch.setattr(tiles, "VALUES_PER_THREAD", 1)
    loss, scene, teacher = case(random_scene, shake, FGDConfig(attention_of="mean"), dtype=dtype)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            features = leaves(scene.features)
            terms = loss(replace(scene, features=features), teacher)
            inputs = [*features.values(), *loss.parameters()]
            found.append([*(term.raw for term in terms), *torch.autograd.grad(total(terms), inputs)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(one, other) for others in found[1:] for one, other in zip(found[0], others, strict=True))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("who", ["student", "teacher"])
def test_a_nan_or_infinite_value_is_not_hidden(who, value, random_scene, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", 16 * 32)
    for config in (
        FGDConfig(),
        FGDConfig(gamma=0, lambda_=0),
        FGDConfig(alpha=0, beta=0, lambda_=0),
        FGDConfig(alpha=0, beta=0, gamma=0),
    ):
        loss, scene, teacher = case(random_scene, shake, config, dtype=torch.float32, levels=("P3",))
        (scene.features if who == "student" else teacher)["P3"][1, 2, -1, -1] = value
        finite = {}
        for fused, forward in ((True, FusedFGDLoss.forward), (False, readable)):
            features = leaves(scene.features)
            whole = total(forward(loss, replace(scene, features=features), teacher))
            whole.backward()
            finite[fused] = whole.isfinite().item(), features["P3"].grad.isfinite().all().item()
        # Where the readable gradient shows it, so does ours.
        assert not finite[True][0] and finite[True][1] <= finite[False][1], (
            config,
            finite,
        )


def test_a_forked_process_has_threads_of_its_own():
    script = """
import os, torch
from fgdlab import FGDConfig, FGDLoss
from fgdlab.fused.cpu import tiles
from fgdlab.fused.cpu.autograd import sums_of_levels
tiles.VALUES_PER_THREAD, config = 1, FGDConfig(alpha=0, beta=0, gamma=0, relation="mse")
torch.set_num_threads(2)
maps = torch.ones(2, 4, 3, 3)
relation = FGDLoss(("P3",), 4, 4, config).relation["P3"]
find = lambda: sums_of_levels([maps], [3 * maps], None, [relation], config)[0]["global"].item()
assert find() == 144
child = os.fork()
if not child:
    os._exit(0 if find() == 144 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.stdout.strip() == "0", done.stderr


# ---- precision ----

@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32(dtype, shake, monkeypatch):
    monkeypatch.setattr(tiles, "CACHE", 16 * 96)  # 20 tiles an image: two strips are full, one is not
    torch.manual_seed(0)
    student, teacher = (
        (30 * torch.randn(2, 12, 16, 20)).to(dtype).requires_grad_(),
        (30 * torch.randn(2, 12, 16, 20)).to(dtype),
    )
    masks = focal_masks([torch.tensor([[8.0, 8.0, 100.0, 90.0]])] * 2, [(128, 160)] * 2, (16, 20))
    relation = shake(FGDLoss(("P3",), 12, 12)).relation["P3"]
    halves = level_sums(student, teacher, masks, relation, FGDConfig())
    wide = student.detach().float().requires_grad_()
    floats = level_sums(wide, teacher.float(), masks, relation, FGDConfig())
    for name in floats:
        assert halves[name].dtype == torch.float32 and torch.equal(halves[name], floats[name])
        (ours,), (expected,) = (
            torch.autograd.grad(1e-3 * raw[name], maps, retain_graph=True)
            for raw, maps in ((halves, student), (floats, wide))
        )
        assert ours.dtype == dtype and torch.equal(ours, expected.to(dtype))


def test_the_loss_reads_half_precision_as_it_is_and_an_align_layer_gets_float32(random_scene, shake, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "fgdlab.fused.loss.sums_of_levels",
        lambda *given: seen.append((given[0][0].dtype, given[1][0].dtype)) or dispatch.sums_of_levels(*given),
    )
    for channels in (4, 3):
        loss, scene, teacher = case(
            random_scene, shake, FGDConfig(), channels=channels, dtype=torch.float32, levels=("P3",)
        )
        halves = (
            replace(scene, features={level: each.bfloat16() for level, each in scene.features.items()}),
            {level: each.bfloat16() for level, each in teacher.items()},
        )
        expected = {term.name: term.raw for term in readable(loss, *halves)}
        for term in loss(*halves):
            assert term.raw.dtype == torch.float32
            assert_close(term.raw, expected[term.name], rtol=1e-5, atol=0)
    assert seen == [(torch.bfloat16, torch.bfloat16), (torch.float32, torch.float32)]


def test_autocast_does_not_reach_the_fused_implementation(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(scene, teacher)
    assert [term.raw for term in inside] == [term.raw for term in loss(scene, teacher)]


# ---- masks ----

@pytest.mark.parametrize("axes", ["xy", "yx"])
@pytest.mark.parametrize("rounding", ["authors", "exact"])
def test_rasterised_masks_are_the_masks_to_the_last_bit(rounding, axes, random_scene, monkeypatch):
    for seed in range(20):
        scene = random_scene(seed)
        for grid in ((7, 13), (16, 16), (1, 5), (33, 20), (1, 1)):
            for frame in ("canvas", "image"):
                asked = scene.boxes, scene.frame_sizes(frame), grid
                ours, theirs = (
                    draw(*asked, rounding=rounding, axes=axes, dtype=torch.float64)
                    for draw in (rasterised_masks, focal_masks)
                )
                assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg), (seed, grid, frame)


def test_many_boxes_in_one_image_leave_an_empty_image_empty():
    torch.manual_seed(0)
    corners = 90 * torch.rand(300, 2)
    boxes = [torch.zeros(0, 4), torch.cat([corners, corners + 30 * torch.rand(300, 2)], dim=1), torch.zeros(0, 4)]
    ours, theirs = (draw(boxes, [(128, 128)] * 3, (32, 32)) for draw in (rasterised_masks, focal_masks))
    assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg) and ours.fg[1].any()


def test_wrong_arguments_are_refused_as_the_masks_refuse_them():
    with pytest.raises(ValueError, match="axes must be one of xy, yx, got 'zz'"):
        rasterised_masks([torch.zeros(0, 4)], [(8, 8)], (2, 2), axes="zz")
    with pytest.raises(ValueError, match="one entry per image, got 1 and 2"):
        rasterised_masks([torch.zeros(0, 4)], [(8, 8)] * 2, (2, 2))
    with pytest.raises(ValueError, match="rounding must be one of authors, exact, got 'up'"):
        rasterised_masks([torch.zeros(0, 4)], [(8, 8)], (2, 2), rounding="up")
    with pytest.raises(ValueError, match=r"shape \(K, 4\), got \(3,\)"):
        rasterised_masks([torch.zeros(3)], [(8, 8)], (2, 2))


def test_boxes_of_whole_numbers_and_of_half_precision_are_masked_alike():
    for dtype in (torch.int64, torch.float16, torch.bfloat16):
        boxes = [torch.tensor([[1, 2, 11, 13], [5, 5, 6, 30]], dtype=dtype)]
        ours, theirs = (draw(boxes, [(30, 17)], (9, 11)) for draw in (rasterised_masks, focal_masks))
        assert torch.equal(ours.fg, theirs.fg) and torch.equal(ours.bg, theirs.bg)


# ---- memory ----

@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
def test_a_gradient_on_large_pages_lies_like_the_map(order, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 0)
    maps = torch.randn(2, 3, 5, 7).to(memory_format=order)
    made = memory.empty_like(maps)
    assert made.shape == maps.shape and made.stride() == maps.stride() and made.dtype == maps.dtype
    made.copy_(maps)
    kept = made[0]
    del made
    assert torch.equal(kept, maps[0])  # the pages live as long as any tensor on them


def test_large_pages_serve_again_once_no_tensor_uses_them(monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 0)
    monkeypatch.setattr(memory, "held", [])
    first = memory.empty_like(torch.zeros(1, 2, 8, 8))
    view, second = first[0, 1], memory.empty_like(torch.zeros(1, 2, 8, 8))
    view.fill_(7)
    second.fill_(9)
    del first  # a view of it is left
    third = memory.empty_like(torch.zeros(1, 2, 8, 8)).fill_(11)
    assert view.unique().item() == 7 and second.unique().item() == 9 and len(memory.held) == 3
    place = third.data_ptr()
    del third
    assert memory.empty_like(torch.zeros(1, 2, 7, 8)).data_ptr() == place  # a little smaller: the same memory
    del view, second
    large = memory.empty_like(torch.zeros(1, 2, 80, 80))
    assert large.shape == (1, 2, 80, 80) and len(memory.held) == 1  # of another size: what was free went back


def test_gradients_on_large_pages_are_the_same(random_scene, shake, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 0)
    agree(*case(random_scene, shake, FGDConfig()), 1e-11)


# ---- where it does not apply ----

def test_the_fused_implementation_runs_where_it_applies_and_the_readable_one_elsewhere(random_scene, monkeypatch):
    calls = []
    monkeypatch.setattr("fgdlab.fgd.term_sums", lambda *given: calls.append("readable") or term_sums(*given))
    scene = random_scene(3)
    for config in CONFIGS:
        calls.clear()
        terms = FusedFGDLoss(("P3",), 4, 4, config).double()(scene, scene.features)
        assert bool(calls) == (why_readable(config, "cpu") is not None and terms != [])
    assert {why_readable(config, "cpu") for config in FUSED} == {None}


def test_without_numba_the_readable_implementation_runs_and_says_what_to_install(random_scene, monkeypatch):
    monkeypatch.setitem(sys.modules, "numba", None)
    monkeypatch.delitem(sys.modules, "fgdlab.fused.cpu.loops")
    monkeypatch.delattr("fgdlab.fused.cpu.loops")
    dispatch.numba_missing.cache_clear()
    try:
        why = why_readable(FGDConfig(), "cpu")
        assert "needs numba on the CPU" in why and "pip install" in why and "\n" not in why
        monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", None)
        scene = random_scene(3)
        assert len(FusedFGDLoss(("P3",), 4, 4).double()(scene, scene.features)) == 4
    finally:
        dispatch.numba_missing.cache_clear()


def test_a_folder_that_cannot_be_written_costs_a_compilation_only():
    made = {}
    exec("def double(x): return 2 * x", made)  # of no file: there is nowhere to keep it
    assert loops.compile_cached(made["double"], "int64")(21) == 42


@pytest.mark.slow
def test_two_processes_that_compile_at_once_agree(tmp_path):
    """Different precisions too, whose compiled code would else be kept under one name."""
    script = """
import sys, torch
from fgdlab import FGDConfig, FGDLoss
from fgdlab.fused.cpu.autograd import sums_of_levels
dtype = getattr(torch, sys.argv[1])
maps = torch.full((2, 4, 3, 3), 2.0, dtype=dtype, requires_grad=True)
config = FGDConfig(alpha=0, beta=0, gamma=0, relation="mse")
relation = FGDLoss(("P3",), 4, 4, config).relation["P3"]
whole = sums_of_levels([maps], [maps.detach() * 2], None, [relation], config)[0]["global"]
whole.backward()
print(whole.item(), maps.grad.unique().item())
"""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path), "OMP_NUM_THREADS": "1"}
    for _ in range(2):  # what they compiled, and what they left
        running = [
            subprocess.Popen(
                [sys.executable, "-c", script, f"float{bits}"], env=environment, stdout=subprocess.PIPE, text=True
            )
            for bits in (32, 64, 32, 64)
        ]
        assert {each.communicate(timeout=300)[0].strip() for each in running} == {"144.0 -2.0"}
    assert len(list(Path(tmp_path).rglob("*.nbc"))) == 10


def test_the_reasons_are_given():
    assert "nonlocal" in why_readable(FGDConfig(relation="nonlocal"), "cpu")
    assert why_readable(FGDConfig(relation="nonlocal", lambda_=0), "cpu") is None
    assert "cpu and cuda only, the maps are on mps" in why_readable(FGDConfig(), "mps")


def test_fgdloss_never_runs_the_fused_implementation(random_scene, monkeypatch):
    monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", None)
    scene = random_scene(3)
    assert FGDLoss(("P3",), 4, 4).double()(scene, scene.features)


def test_a_second_derivative_is_refused(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    features = leaves(scene.features)
    with pytest.raises(RuntimeError, match="first derivatives only"):
        torch.autograd.grad(total(loss(replace(scene, features=features), teacher)), features["P3"], create_graph=True)


def test_no_parameter_goes_without_gradient_and_the_teacher_gets_none(random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), channels=3)
    teacher = {level: each.requires_grad_() for level, each in teacher.items()}
    total(loss(scene, teacher)).backward()
    assert all(p.grad is not None for p in loss.parameters()) and all(each.grad is None for each in teacher.values())
    assert not any(p.grad.any() for name, p in loss.named_parameters() if name.endswith("key.bias"))
