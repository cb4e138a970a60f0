"""Numbers recorded from the authors' loss, one level per file in float64: equal to 1e-9 relative."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fgdlab.attention import attention
from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss, masks_of
from fgdlab.lab.errors import UserError
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers import naive
from tests.helpers.authors_keys import fgd_state_from_authors

FILES = sorted((Path(__file__).parent / "fgd").glob("*.npz"))
OUTPUT = {"fg": "fg_loss", "bg": "bg_loss", "attention": "attention_loss", "global": "global_loss"}


def near(ours, theirs):
    """Every single number within a relative 1e-9; zeros stay zeros."""
    assert_close(ours.detach(), torch.as_tensor(theirs), rtol=1e-9, atol=0)


def part(golden, prefix):
    """{name: tensor} of the entries ``<prefix>.<name>``."""
    return {
        name.removeprefix(f"{prefix}."): torch.from_numpy(golden[name])
        for name in golden
        if name.startswith(f"{prefix}.")
    }


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as file:
        return dict(file)


@pytest.fixture
def ours(golden):
    """The recorded inputs under our names."""
    student, teacher = torch.from_numpy(golden["student"]).requires_grad_(), torch.from_numpy(golden["teacher"])
    config = FGDConfig(*(float(golden[name]) for name in ("alpha", "beta", "gamma", "lambda_", "temperature")))
    loss = FGDLoss(("P3",), student.shape[1], teacher.shape[1], config).double()
    loss.load_state_dict(fgd_state_from_authors(part(golden, "state"), "P3"))
    size = tuple(golden["image_size"].tolist())
    boxes = list(torch.from_numpy(golden["boxes"]).split(golden["boxes_per_image"].tolist()))
    scene = Scene(torch.zeros(len(student), 3, *size), boxes, [size] * len(student), {"P3": student})
    return SimpleNamespace(loss=loss, scene=scene, student=student, teacher=teacher, config=config)


def test_there_are_five_cases():
    assert [path.stem for path in FILES] == [
        "channels_differ",
        "image_without_boxes",
        "overlapping_boxes",
        "tiny_boxes",
        "whole_image_box",
    ]


def test_masks(golden, ours):
    masks = masks_of(ours.loss.config, ours.scene, ours.teacher)
    near(masks.fg, golden["fg_mask"])
    near(masks.bg, golden["bg_mask"])


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_attention(who, golden, ours):
    features = (
        ours.teacher if who == "teacher" else ours.loss.align["P3"](ours.student) if ours.loss.align else ours.student
    )
    spatial, channel = attention(features, ours.config.temperature)
    near(spatial, golden[f"{who}_spatial_attention"])
    near(channel, golden[f"{who}_channel_attention"])


def test_four_terms_and_the_total(golden, ours):
    terms = ours.loss(ours.scene, {"P3": ours.teacher})
    assert [term.name for term in terms] == list(OUTPUT)
    for term in terms:
        near(term.raw, golden[OUTPUT[term.name]])
    near(total(terms), golden["total"])


def test_gradients_of_the_student_and_of_every_parameter(golden, ours):
    total(ours.loss(ours.scene, {"P3": ours.teacher})).backward()
    near(ours.student.grad, golden["grad_student"])
    recorded = fgd_state_from_authors(part(golden, "grad"), "P3")
    parameters = dict(ours.loss.named_parameters())
    assert recorded.keys() == parameters.keys()
    for name, gradient in recorded.items():
        if not name.endswith("key.bias"):
            near(parameters[name].grad, gradient)


@pytest.mark.parametrize("who", ["student", "teacher"])
def test_the_bias_of_w_k_has_no_gradient_for_the_authors_either(who, golden, ours):
    """It shifts every logit of a softmax equally: the recorded gradient is rounding, so only its size can be tested."""
    total(ours.loss(ours.scene, {"P3": ours.teacher})).backward()
    key = ours.loss.relation["P3"].get_submodule(f"{who}.key")
    theirs = torch.from_numpy(golden[f"grad.conv_mask_{who[0]}.bias"])
    assert torch.cat([theirs, key.bias.grad]).abs().amax() < 1e-15


def test_the_loops_equal_the_authors_numbers_too(golden, ours):
    def lists(module):
        return {name: (p.flatten(1) if p.ndim == 4 else p.flatten()).tolist() for name, p in module.named_parameters()}

    relation, align = ours.loss.relation["P3"], lists(ours.loss.align)
    sums = naive.fgd(
        ours.student.tolist(),
        ours.teacher.tolist(),
        [boxes.tolist() for boxes in ours.scene.boxes],
        ours.scene.image_sizes,
        temperature=ours.config.temperature,
        rounding="authors",
        align=(align["P3.weight"], align["P3.bias"]) if align else None,
        blocks=[lists(relation.student), lists(relation.teacher)],
    )
    for name, value in sums.items():
        assert_close(value, float(golden[OUTPUT[name]]), rtol=1e-9, atol=0)


# ---- the authors' names ----

def authors_state(channels=4, student_channels=6):
    """Names and shapes of one level of the authors' loss, counted through so that no two tensors are equal."""
    half = channels // 2
    shapes = {"align.weight": (channels, student_channels, 1, 1), "align.bias": (channels,)}
    for s in "st":
        shapes |= {f"conv_mask_{s}.weight": (1, channels, 1, 1), f"conv_mask_{s}.bias": (1,)}
        layers = {0: (half, channels, 1, 1), 1: (half, 1, 1), 3: (channels, half, 1, 1)}
        shapes |= {f"channel_add_conv_{s}.{n}.weight": shape for n, shape in layers.items()}
        shapes |= {f"channel_add_conv_{s}.{n}.bias": (half, 1, 1) if n == 1 else layers[n][:1] for n in layers}
    return {name: torch.full(shape, float(i)) for i, (name, shape) in enumerate(shapes.items())}


def test_one_levels_state_loads_strictly():
    state = fgd_state_from_authors(authors_state(), "P4")
    assert state.keys() == FGDLoss(("P4",), 6, 4).state_dict().keys()
    FGDLoss(("P4",), 6, 4).load_state_dict(state, strict=True)


def test_states_of_several_levels_load_together():
    loss = FGDLoss(("P3", "P4"), 6, 4)
    loss.load_state_dict(
        fgd_state_from_authors(authors_state(), "P3") | fgd_state_from_authors(authors_state(), "P4"), strict=True
    )


def test_equal_channels_need_no_align():
    state = {name: each for name, each in authors_state().items() if not name.startswith("align")}
    FGDLoss(("P3",), 4, 4).load_state_dict(fgd_state_from_authors(state, "P3"), strict=True)


def test_every_tensor_gets_its_place():
    theirs = authors_state()
    ours = fgd_state_from_authors(theirs, "P3")
    assert ours["align.P3.bias"] is theirs["align.bias"]
    assert ours["relation.P3.student.key.weight"] is theirs["conv_mask_s.weight"]
    assert ours["relation.P3.teacher.transform.3.weight"] is theirs["channel_add_conv_t.3.weight"]
    assert len({id(each) for each in ours.values()}) == len(theirs)


def test_an_unknown_name_is_refused_with_the_nearest_one():
    with pytest.raises(
        UserError, match="'conv_mask_x.weight'; did you mean 'conv_mask_.\\.weight'.*without their path"
    ):
        fgd_state_from_authors(authors_state() | {"conv_mask_x.weight": torch.zeros(1)}, "P3")


def test_a_missing_tensor_is_named():
    state = authors_state()
    del state["channel_add_conv_t.1.bias"]
    with pytest.raises(UserError, match="P3 must have all of .*; channel_add_conv_t.1.bias missing"):
        fgd_state_from_authors(state, "P3")


def test_half_an_align_layer_is_refused():
    state = authors_state()
    del state["align.bias"]
    with pytest.raises(UserError, match="; align.bias missing"):
        fgd_state_from_authors(state, "P3")


@pytest.mark.parametrize("level", [3, "0", "p3"])
def test_a_level_must_be_named_as_in_the_pyramid(level):
    with pytest.raises(UserError, match=f"such as 'P3', got {level!r}"):
        fgd_state_from_authors(authors_state(), level)
