"""Numbers recorded from MMRazor's FBKD, one level per file in float64, blocks in train mode: equal to 1e-9 relative."""
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from fgdlab.attention import attention
from fgdlab.methods.fbkd import PARTS, FBKDConfig, FBKDLoss
from fgdlab.scene import Scene
from fgdlab.terms import total

FILES = sorted((Path(__file__).parent / "fbkd").glob("*.npz"))
WEIGHTS = (7e-5, 4e-3, 4e-3, 7e-5)  # of the recorded total


def near(ours, theirs):
    """Every single number within a relative 1e-9, or within 1e-13 of the largest where sums cancel."""
    theirs = torch.as_tensor(theirs)
    assert_close(ours.detach(), theirs, rtol=1e-9, atol=1e-13 * theirs.abs().amax().item())


def part(golden, prefix):
    """{name: tensor} of the entries ``<prefix>.<name>``."""
    return {
        name.removeprefix(f"{prefix}."): torch.from_numpy(np.asarray(golden[name]))
        for name in golden
        if name.startswith(f"{prefix}.")
    }


NON_LOCAL = {
    "theta.conv": "query",
    "phi.0.0.conv": "key",
    "g.0.0.conv": "value",
    "conv_out.conv": "output",
    "conv_out.bn": "norm",
}
ADAPTERS = {
    "adaptation_layers": "align.{}", "channel_wise_adaptation": "channel.{}", "spatial_wise_adaptation": "spatial.{}",
    "non_local_adaptation": "relation.{}.align",
}


def fbkd_state_from_mmrazor(student_state, teacher_state, level):
    """States of MMRazor's two connectors of one level under the names of FBKDLoss."""
    prefixes = {
        **{theirs: ours.format(level) for theirs, ours in ADAPTERS.items()},
        **{
            f"{side}_non_local.{theirs}": f"relation.{level}.{side}.{ours}"
            for side in ("student", "teacher")
            for theirs, ours in NON_LOCAL.items()
        },
    }
    state = {}
    for name, tensor in (student_state | teacher_state).items():
        prefix, _, kind = name.rpartition(".")
        state[f"{prefixes[prefix]}.{kind}"] = tensor
    return state


def states(golden):
    return part(golden, "student_state"), part(golden, "teacher_state")


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def golden(request):
    with np.load(request.param) as file:
        return dict(file)


def loss_of(golden, **changes):
    settings = {
        "reduction": {"P3": int(golden["reduction"])},
        "pool": {"P3": 2 * int(golden["maxpool_stride"])},
        "spatial_temperature": float(golden["spatial_temperature"]),
        "channel_temperature": float(golden["channel_temperature"]),
    }
    channels = golden["student"].shape[1]
    loss = FBKDLoss(("P3",), channels, channels, FBKDConfig(*WEIGHTS, **settings | changes)).double()
    loss.load_state_dict(fbkd_state_from_mmrazor(*states(golden), "P3"), strict=True)
    return loss


@pytest.fixture
def ours(golden):
    """The recorded inputs under our names."""
    student, teacher = torch.from_numpy(golden["student"]).requires_grad_(), torch.from_numpy(golden["teacher"])
    scene = Scene(
        torch.zeros(len(student), 3, 96, 128),
        [torch.zeros(0, 4)] * len(student),
        [(96, 128)] * len(student),
        {"P3": student},
    )
    return SimpleNamespace(loss=loss_of(golden), scene=scene, student=student, teacher=teacher)


def test_there_are_two_cases():
    assert [path.stem for path in FILES] == ["stride2", "stride4_reduction4"]


def test_four_terms_and_the_total(golden, ours):
    terms = ours.loss(ours.scene, {"P3": ours.teacher})
    assert [term.name for term in terms] == list(PARTS)
    for term in terms:
        near(term.raw, golden[f"{term.name}_term"])
    near(total(terms), golden["total"])


def test_the_gradient_of_the_student(golden, ours):
    total(ours.loss(ours.scene, {"P3": ours.teacher})).backward()
    near(ours.student.grad, golden["grad_student"])


def test_masks(golden, ours):
    temperature = ours.loss.config.spatial_temperature
    student, teacher = (attention(each, temperature).spatial[:, None] for each in (ours.student, ours.teacher))
    near(student, golden["student_spatial_mask"])
    near(teacher, golden["teacher_spatial_mask"])
    mask = ours.loss.mask(ours.student, ours.loss.aligned(ours.scene, "P3"), ours.teacher)
    near(mask, (golden["student_spatial_mask"] + golden["teacher_spatial_mask"]) / 2)


def test_relations(golden, ours):
    relation = ours.loss.relation["P3"]
    near(relation.align(relation.student(ours.student)), golden["student_relation_adapted"])
    near(relation.teacher(ours.teacher), golden["teacher_relation"])


def test_mmrazor_pools_by_2_before_its_stride(golden, ours):
    """With ``pool`` = their stride the relation is another one; nothing else is."""
    terms = loss_of(golden, pool={"P3": int(golden["maxpool_stride"])})(ours.scene, {"P3": ours.teacher})
    off = [term.name for term in terms if abs(term.raw.item() / float(golden[f"{term.name}_term"]) - 1) > 1e-3]
    assert off == ["relation"]


# ---- MMRazor's names ----

def counted(golden):
    """Both recorded states with every tensor replaced by one of its own number, so that no two are equal."""
    number = iter(range(1, 99))
    return tuple(
        {name: torch.full_like(each, next(number)) for name, each in state.items()} for state in states(golden)
    )


def test_every_tensor_gets_its_place(golden):
    student, teacher = counted(golden)
    state = fbkd_state_from_mmrazor(student, teacher, "P4")
    assert state["align.P4.weight"] is student["adaptation_layers.weight"]
    assert state["channel.P4.bias"] is student["channel_wise_adaptation.bias"]
    assert state["spatial.P4.weight"] is student["spatial_wise_adaptation.weight"]
    assert state["relation.P4.align.bias"] is student["non_local_adaptation.bias"]
    assert state["relation.P4.student.query.weight"] is student["student_non_local.theta.conv.weight"]
    assert state["relation.P4.student.key.bias"] is student["student_non_local.phi.0.0.conv.bias"]
    assert state["relation.P4.teacher.value.weight"] is teacher["teacher_non_local.g.0.0.conv.weight"]
    assert state["relation.P4.teacher.norm.running_var"] is teacher["teacher_non_local.conv_out.bn.running_var"]
    assert len({id(each) for each in state.values()}) == len(student) + len(teacher)


def test_states_of_several_levels_load_together(golden):
    channels = golden["student"].shape[1]
    reduction = dict.fromkeys(("P3", "P4"), int(golden["reduction"]))
    loss = FBKDLoss(("P3", "P4"), channels, channels, FBKDConfig(reduction=reduction))
    loss.load_state_dict(
        fbkd_state_from_mmrazor(*states(golden), "P3") | fbkd_state_from_mmrazor(*states(golden), "P4"), strict=True
    )
