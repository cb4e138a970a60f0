"""What holds for every loss on any scene: images and boxes may be reordered, scenes scaled or mirrored, and the
gradient is that of the sums."""
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fgdlab.config import FGDConfig
from fgdlab.fgd import FGDLoss
from fgdlab.methods import METHOD_CLASSES, method_class
from fgdlab.methods.fbkd import FBKDConfig, FBKDLoss
from fgdlab.scene import Scene
from tests.helpers.method_maps import teacher_of as teacher_of_maps
from tests.helpers.method_maps import two_images
from tests.helpers.property_profiles import few
from tests.helpers.small_retinanets import small_retinanet, small_scene, teacher_maps
from tests.methods.test_mimick import case as two_stage_case

LEVELS = ("P3", "P4")
ON_MAPS = ("attention", "cwd", "defeat", "hint", "pkd", "tadf")      # MGD draws its masks by place in the batch
MAKE = {
    "fgd": lambda c: FGDLoss(LEVELS, c, 4),
    "fgd of images": lambda c: FGDLoss(LEVELS, c, 4, FGDConfig(frame="image", rounding="exact", attention_of="mean")),
    "fbkd": lambda c: FBKDLoss(LEVELS, c, 4, FBKDConfig(1.0, 1.0, 1.0, 1.0, channel_mask=True)),
    **{name: lambda c, name=name: method_class(name)(LEVELS, c, 4) for name in ON_MAPS},
}
BOX_BLIND = {"fbkd", "attention", "cwd", "hint", "pkd"}
SEEDS = st.integers(0, 10**6)


@pytest.fixture
def made(shake):
    """made(name) -> the loss for maps of 3 and 4 channels, in float64, its layers off their start."""

    def make(name: str):
        torch.manual_seed(3)
        return shake(MAKE[name](3).double())

    return make


def teacher_of(scene: Scene, seed: int) -> dict:
    draw = torch.Generator().manual_seed(seed + 1)
    return {
        level: torch.randn(len(each), 4, *each.shape[2:], generator=draw, dtype=torch.float64)
        for level, each in scene.features.items()
    }


def close(there, here, tolerance: float = 1e-10) -> None:
    """The same terms, numbers within the tolerance; 1e-10 in relation, for sums run in another order."""
    there, here = ({(term.name, term.level): term.raw.item() for term in terms} for terms in (there, here))
    assert there.keys() == here.keys() and here
    assert there == pytest.approx(here, rel=tolerance, abs=1e-12)


@pytest.mark.parametrize("name", MAKE)
@few
@given(seed=SEEDS, data=st.data())
def test_neither_the_order_of_images_nor_that_of_boxes_matters(name, seed, data, random_scene, made):
    scene = random_scene(seed, channels=3)
    teacher, loss = teacher_of(scene, seed), made(name)
    boxes = [each[data.draw(st.permutations(range(len(each))))] for each in scene.boxes]
    other = Scene(
        scene.pixels.flip(0), boxes[::-1], scene.image_sizes[::-1],
        {level: each.flip(0) for level, each in scene.features.items()},
    )
    close(loss(other, {level: each.flip(0) for level, each in teacher.items()}), loss(scene, teacher))


# its terms are norms over the batch, not means
@pytest.mark.parametrize("name", [name for name in MAKE if name != "fbkd"])
@few
@given(seed=SEEDS)
def test_an_image_twice_in_the_batch_gives_the_loss_of_the_batch_once(name, seed, random_scene, made):
    scene = random_scene(seed, channels=3)
    teacher, loss = teacher_of(scene, seed), made(name)
    twice = Scene(
        scene.pixels.repeat(2, 1, 1, 1), scene.boxes * 2, scene.image_sizes * 2,
        {level: each.repeat(2, 1, 1, 1) for level, each in scene.features.items()},
    )
    close(loss(twice, {level: each.repeat(2, 1, 1, 1) for level, each in teacher.items()}), loss(scene, teacher))


@pytest.mark.parametrize("name", sorted(BOX_BLIND))
@few
@given(seed=SEEDS)
def test_a_loss_of_maps_alone_does_not_see_boxes(name, seed, random_scene, made):
    scene = random_scene(seed, channels=3)
    teacher, loss = teacher_of(scene, seed), made(name)
    close(loss(replace(scene, boxes=[each[:0] for each in scene.boxes]), teacher), loss(scene, teacher), tolerance=0)


@pytest.mark.parametrize("name", ["fgd", "fgd of images"])
@few
@given(seed=SEEDS, factor=st.sampled_from([0.5, 2.0, 4.0]))
def test_pixels_and_boxes_scaled_alike_give_fgd_the_same_terms(name, seed, factor, random_scene, made):
    scene = random_scene(seed, channels=3)
    teacher, loss = teacher_of(scene, seed), made(name)
    height, width = scene.padded_size
    scaled = Scene(torch.zeros(
        2, 3, int(factor * height), int(factor * width),
    ), [factor * each for each in scene.boxes],
                   [(factor * high, factor * wide) for high, wide in scene.image_sizes], scene.features)
    close(loss(scaled, teacher), loss(scene, teacher), tolerance=0)


@few
@given(seed=SEEDS, relation=st.sampled_from(["gc", "mse", "centred", "nonlocal"]))
def test_a_mirrored_scene_has_the_same_fgd_terms_with_exact_rounding(seed, relation, random_scene, shake):
    scene = random_scene(seed, channels=3)
    # quarters of a pixel: mirroring does not round
    scene = replace(scene, boxes=[(each * 4).round() / 4 for each in scene.boxes])
    width = scene.padded_size[1]
    mirrored = Scene(scene.pixels, [
        torch.stack([width - each[:, 2], each[:, 1], width - each[:, 0], each[:, 3]], dim=1) for each in scene.boxes
    ],
                     scene.image_sizes, {level: each.flip(-1) for level, each in scene.features.items()})
    teacher = teacher_of(scene, seed)
    torch.manual_seed(3)
    loss = shake(FGDLoss(LEVELS, 3, 4, FGDConfig(rounding="exact", relation=relation)).double())
    close(loss(mirrored, {level: each.flip(-1) for level, each in teacher.items()}), loss(scene, teacher))


# ---- gradients of FGD with every switch ------------------------------------------------------------------------------

SWITCHES = [
    {}, {"area": "fg"}, {"area": "bg"}, {"area": "both"}, {"area": "none"}, {"spatial_attention": False},
    {"channel_attention": False},
    {"spatial_attention": False, "channel_attention": False}, {"attention_of": "student"}, {"attention_of": "mean"},
    {"relation": "mse"}, {"relation": "centred"},
    {"relation": "nonlocal"}, {"relation": "none"}, {"rounding": "exact"}, {"axes": "yx"}, {"frame": "image"},
    {"temperature": 0.9},
]


@pytest.mark.parametrize(
    "switch", SWITCHES, ids=lambda switch: ",".join(f"{name}={value}" for name, value in switch.items()) or "defaults",
)
def test_gradcheck_of_fgd_with_the_switch(switch, shake):
    """In the student's map and in every layer. Whatever weighs the error by the student's own attention is a constant
    of the step there, so only the other terms are checked where attention is the student's or the mean."""
    torch.manual_seed(2)
    config = FGDConfig(1.0, 1.0, 1.0, 1.0, **{"temperature": 0.5} | switch)
    loss = shake(FGDLoss(("P3",), 2, 3, config).double())
    student, teacher = torch.randn(
        1, 2, 3, 4, dtype=torch.float64, requires_grad=True,
    ), {"P3": torch.randn(1, 3, 3, 4, dtype=torch.float64)}
    boxes = [torch.tensor([[2.0, 2.0, 14.0, 14.0]], dtype=torch.float64)]
    names, values = zip(*loss.named_parameters(), strict=True)
    weighed = {"fg", "bg", "both"} if config.attention_of != "teacher" else set()

    def terms(maps, *parameters):
        found = torch.func.functional_call(
            loss, dict(zip(names, parameters, strict=True)),
            (Scene(torch.zeros(1, 3, 24, 32), boxes, [(20, 30)], {"P3": maps}), teacher),
        )
        return tuple(term.raw for term in found if term.name not in weighed)

    assert len(terms(student, *values)) >= 1
    # along random directions of all numbers at once
    assert torch.autograd.gradcheck(terms, (student, *values), fast_mode=True)


# LD weighs by scores that it takes as constants: test_ld.py checks its gradient
@pytest.mark.parametrize("name", sorted(METHOD_CLASSES.keys() - {"ld", "fgd_ld"}))
def test_gradcheck_of_every_method(name, shake, monkeypatch):
    """Instances and proposals are constants of the loss, chosen from the student's own head; here they are held, as
    moving a number may move the choice."""
    torch.manual_seed(3)
    if name == "mimick":
        loss, scene, teacher = two_stage_case(double=True)
        proposals = loss.best_proposals(scene)
        monkeypatch.setattr(loss, "best_proposals", lambda scene: proposals)
    elif method_class(name).built_from == "detectors":
        settings = {"min_side": 4.0, "pool": 2, "finest_size": 6.0, "instances": 4} if name == "gid" else {}
        scene, teacher = small_scene(), teacher_maps()
        loss = shake(
            method_class(name)(("P3", "P4"), small_retinanet(), small_retinanet(depth=2, seed=1), **settings).double()
        )
        if name == "gid":
            keep, held = loss.general_instances, []
            monkeypatch.setattr(
                loss, "general_instances", lambda *them: held[0] if held else held.append(keep(*them)) or held[0],
            )
    else:
        scene = two_images(3)
        teacher, loss = teacher_of_maps(scene), shake(method_class(name)(LEVELS, 3, 4).double())
    levels = tuple(scene.features)

    def terms(*maps):
        torch.manual_seed(7)                                         # MGD draws
        return tuple(term.raw for term in loss(replace(scene, features=dict(zip(levels, maps, strict=True))), teacher))

    maps = tuple(scene.features[level].detach().requires_grad_() for level in levels)
    assert sum(each.detach().abs() for each in terms(*maps)) > 0
    assert torch.autograd.gradcheck(terms, maps, fast_mode=True)
