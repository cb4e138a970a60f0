"""Facts of every method that compares maps: terms, settings, gradients, degenerate scenes, precision, errors."""
import inspect
import math
from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from fgdlab.distill import Distiller
from fgdlab.lab.detectors.builder import build
from fgdlab.methods import method_class
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers.method_maps import LEVELS, leaves, raws, teacher_of, two_images

CLASSES = {"hint": "Hint", "cwd": "CWD", "mgd": "MGD", "pkd": "PKD", "tadf": "TADF", "defeat": "DeFeat"}
NAMES = list(CLASSES)
EVERY_LEVEL = {"tadf": {"finest_size": None}, "defeat": {"finest_size": None}}  # boxes count on both levels
PARTS = {"defeat": ("fg", "bg")}
each = pytest.mark.parametrize("name", NAMES)


def make(name, student_channels=4, teacher_channels=4, levels=LEVELS, **settings):
    torch.manual_seed(3)
    return method_class(name)(levels, student_channels, teacher_channels, **EVERY_LEVEL.get(name, {}) | settings)


def terms_of(loss, scene, teacher):
    torch.manual_seed(7)  # MGD draws
    return loss(scene, teacher)


def weight_keywords(name):
    return [f"{part}_weight" for part in PARTS[name]] if name in PARTS else ["weight"]


# ---- the table and the rows ----

@each
def test_the_name_leads_to_the_class(name):
    assert method_class(name).__name__ == CLASSES[name] and method_class(name).built_from == "channels"
    assert PARTS.get(name, ()) == method_class(name).PARTS


@each
def test_every_part_is_one_row_a_level_beside_its_weight(name):
    scene = two_images()
    settings = {keyword: 0.25 + i for i, keyword in enumerate(weight_keywords(name))}
    terms = terms_of(make(name, **settings).double(), scene, teacher_of(scene))
    expected = [
        (part, level, weight)
        for level in LEVELS
        for part, weight in zip(PARTS.get(name, (name,)), settings.values(), strict=True)
    ]
    assert [(term.name, term.level, term.weight) for term in terms] == expected
    assert all(term.raw > 0 and term.raw.shape == () for term in terms)


@each
def test_only_the_asked_levels_are_imitated(name):
    scene = two_images()
    assert {term.level for term in terms_of(make(name, levels=("P4",)).double(), scene, teacher_of(scene))} == {"P4"}


@each
def test_the_weights_do_not_reach_the_raw_sums(name):
    scene = two_images()
    losses = make(name, **{keyword: 0.5 for keyword in weight_keywords(name)}).double(), make(name).double()
    changed, default = (raws(terms_of(loss, scene, teacher_of(scene))) for loss in losses)
    assert changed == default


# ---- settings ----

SETTINGS = {
    "hint": {"weight": 2.0, "kernel": 3, "always": True},
    "cwd": {"weight": 2.0, "temperature": 2.0},
    "mgd": {"weight": 1.0, "masked_ratio": 0.3},
    "pkd": {"weight": 2.0},
    "tadf": {"weight": 2.0, "finest_size": 16.0},
    "defeat": {"fg_weight": 2.0, "bg_weight": 2.0, "finest_size": 16.0, "rounding": "exact"},
}


@pytest.mark.parametrize(
    ("name", "setting"), [(name, setting) for name, settings_flags in SETTINGS.items() for setting in settings_flags]
)
def test_each_setting_changes_the_total(name, setting):
    scene = two_images(3 if setting == "kernel" else 4)
    losses = [
        make(name, 3 if setting == "kernel" else 4, 4, **settings).double()
        for settings in ({}, {setting: SETTINGS[name][setting]})
    ]
    before, after = (total(terms_of(loss, scene, teacher_of(scene))).item() for loss in losses)
    assert abs(after - before) > 1e-6 * abs(before)


@each
def test_no_setting_is_left_out(name):
    keywords = [
        each.name
        for each in inspect.signature(method_class(name)).parameters.values()
        if each.kind is inspect.Parameter.KEYWORD_ONLY
    ]
    assert keywords == list(SETTINGS[name])


def test_defaults_are_the_authors_settings_as_the_docstrings_say():
    defaults = {
        name: {
            each.name: each.default
            for each in inspect.signature(method_class(name)).parameters.values()
            if each.kind is inspect.Parameter.KEYWORD_ONLY
        }
        for name in NAMES
    }
    assert defaults == {
        "hint": {"weight": 1.0, "kernel": 1, "always": False},
        "cwd": {"weight": 5.0, "temperature": 1.0},
        "mgd": {"weight": 2e-5, "masked_ratio": 0.65},
        "pkd": {"weight": 10.0},
        "tadf": {"weight": 1.0, "finest_size": 56.0},
        "defeat": {"fg_weight": 3.0, "bg_weight": 12.0, "finest_size": 56.0, "rounding": "authors"},
    }


@pytest.mark.parametrize("channels", [4, 3])
@each
def test_weight_0_leaves_no_layer_and_no_term(name, channels):
    scene = two_images(channels)
    loss = make(name, channels, 4, **{keyword: 0 for keyword in weight_keywords(name)})
    assert not list(loss.parameters()) and loss(scene, teacher_of(scene)) == []


@pytest.mark.parametrize("weight", [-1.0, math.nan, math.inf])
@pytest.mark.parametrize(("name", "keyword"), [(name, keyword) for name in NAMES for keyword in weight_keywords(name)])
def test_a_weight_that_is_negative_or_not_finite_is_refused(name, keyword, weight):
    with pytest.raises(
        ValueError, match=rf"{keyword} must be a finite number >= 0, got {weight}; 0 leaves the term out"
    ):
        make(name, **{keyword: weight})


# ---- gradients ----

@pytest.mark.parametrize("channels", [4, 3])
@each
def test_gradients_reach_the_student_and_every_layer_but_not_the_teacher(name, channels):
    scene = two_images(channels)
    maps, teacher = leaves(scene), {level: each.requires_grad_() for level, each in teacher_of(scene).items()}
    loss = make(name, channels, 4).double()
    total(terms_of(loss, scene, teacher)).backward()
    assert all(each.grad.isfinite().all() and each.grad.abs().sum() > 0 for each in maps.values())
    assert all(p.grad is not None and p.grad.isfinite().all() for p in loss.parameters())
    assert all(each.grad is None for each in teacher.values())


@each
def test_gradcheck_through_all_layers(name):
    student = torch.randn(2, 3, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = {"P3": torch.randn(2, 2, 3, 4, dtype=torch.float64)}
    boxes = [torch.tensor([[3.0, 2.0, 25.0, 18.0]]), torch.zeros(0, 4)]
    loss = make(name, 3, 2, levels=("P3",)).double()
    with torch.no_grad():
        for parameter in loss.parameters():
            parameter.add_(
                0.3 * torch.randn_like(parameter)
            )  # DeFeat's layers start near 0, where little is to be seen

    def terms(maps):
        return tuple(
            term.raw
            for term in terms_of(loss, Scene(torch.zeros(2, 3, 24, 32), boxes, [(24, 32)] * 2, {"P3": maps}), teacher)
        )

    assert torch.autograd.gradcheck(terms, student)


@each
def test_a_student_equal_to_its_teacher_has_a_finite_gradient(name):
    scene = two_images()
    maps = leaves(scene)
    terms = terms_of(make(name).double(), scene, {level: each.detach().clone() for level, each in maps.items()})
    total(terms).backward()
    assert all(each.grad.isfinite().all() for each in maps.values())
    if name in ("hint", "cwd", "pkd", "tadf"):  # the others have layers between, which are not the identity
        assert all(abs(term.raw.item()) < 1e-12 for term in terms)
        assert all(each.grad.abs().max() < 1e-12 for each in maps.values())


# ---- degenerate scenes ----

BOXES = [
    (),
    ((0, 0, 64, 48),),
    ((-50, -50, 500, 500),),
    ((32, 24, 32, 24),),
    ((-30, -30, -10, -10),),
    ((64, 48, 64, 48),),
    ((90, 90, 120, 120),),
]


@pytest.mark.parametrize("boxes", BOXES)
@each
def test_loss_and_gradient_are_finite_on_degenerate_boxes(name, boxes):
    scene = two_images(3)
    scene = replace(scene, boxes=[torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4), torch.zeros(0, 4)])
    maps, loss = leaves(scene), make(name, 3, 4).double()
    terms = terms_of(loss, scene, teacher_of(scene))
    total(terms).backward()
    assert all(term.raw.isfinite() and term.raw >= 0 for term in terms)
    assert all(
        each.grad.isfinite().all()
        for each in [*maps.values(), *(p for p in loss.parameters())]
        if each.grad is not None
    )
    assert all(each.grad is not None for each in maps.values())


@each
def test_maps_of_one_cell_are_fine(name):
    student = torch.randn(1, 4, 1, 1, requires_grad=True)
    scene = Scene(torch.zeros(1, 3, 64, 64), [torch.tensor([[3.0, 3.0, 9.0, 9.0]])], [(64, 64)], {"P6": student})
    terms = make(name, levels=("P6",))(scene, teacher_of(scene))
    total(terms).backward()
    assert all(term.raw.isfinite() for term in terms) and student.grad.isfinite().all()


@each
def test_maps_of_zeros_are_fine(name):
    scene = two_images(3)
    maps = leaves(replace(scene, features={level: torch.zeros_like(each) for level, each in scene.features.items()}))
    teacher = {level: torch.zeros(2, 4, *each.shape[2:], dtype=each.dtype) for level, each in maps.items()}
    terms = terms_of(make(name, 3, 4).double(), replace(scene, features=maps), teacher)
    total(terms).backward()
    assert all(term.raw.isfinite() for term in terms) and all(each.grad.isfinite().all() for each in maps.values())


# ---- precision ----

@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each
def test_half_precision_maps_are_summed_in_float32(name, dtype):
    scene = two_images(3, dtype, scale=300.0)
    teacher, loss = teacher_of(scene, scale=300.0), make(name, 3, 4)
    terms = terms_of(loss, scene, teacher)
    assert scene.features["P3"].dtype == dtype and scene.features["P3"].square().sum(dtype=torch.float32) > 65504
    assert {term.raw.dtype for term in terms} == {torch.float32} and all(term.raw.isfinite() for term in terms)
    assert raws(terms) == raws(terms_of(loss, scene.float(), {level: each.float() for level, each in teacher.items()}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@each
def test_autocast_does_not_reach_the_loss(name, dtype):
    scene = two_images(3, torch.float32)
    teacher, loss = teacher_of(scene), make(name, 3, 4)
    with torch.autocast("cpu", dtype=dtype):
        terms = terms_of(loss, scene, teacher)
    assert {term.raw.dtype for term in terms} == {torch.float32}
    assert raws(terms) == raws(terms_of(loss, scene, teacher))


@each
def test_float64_stays_float64(name):
    scene = two_images()
    assert {term.raw.dtype for term in terms_of(make(name).double(), scene, teacher_of(scene))} == {torch.float64}


# ---- symmetries ----

@pytest.mark.parametrize("name", [name for name in NAMES if name != "mgd"])  # MGD's masks belong to places in the batch
def test_order_of_images_does_not_matter_and_a_batch_twice_over_has_the_same_loss(name):
    scene, loss = two_images(3), make(name, 3, 4).double()
    teacher = teacher_of(scene)
    for order in ([1, 0], [0, 1, 0, 1]):
        other = Scene(
            scene.pixels[order], [scene.boxes[i] for i in order], [scene.image_sizes[i] for i in order],
            {level: each[order] for level, each in scene.features.items()},
        )
        before = raws(loss(scene, teacher))
        after = raws(loss(other, {level: each[order] for level, each in teacher.items()}))
        for key in before:
            assert_close(after[key], before[key], rtol=1e-12, atol=0, msg=lambda text, key=key: f"{key}: {text}")


# ---- errors ----

@each
def test_a_missing_level_is_named_with_the_network_that_lacks_it(name):
    scene = two_images()
    with pytest.raises(ValueError, match="the student must have the levels P3, P7, got P3, P4; P7 missing"):
        make(name, levels=("P3", "P7"))(scene, teacher_of(scene))


@each
def test_maps_of_another_size_are_refused_with_both_shapes(name):
    scene = two_images()
    teacher = {level: each[..., :-1] for level, each in teacher_of(scene).items()}
    with pytest.raises(
        ValueError, match=r"student map \(2, 4, 6, 8\) and teacher map \(2, 4, 6, 7\) must have the same shape"
    ):
        make(name).double()(scene, teacher)


@pytest.mark.parametrize("name", ["tadf", "defeat"])
def test_a_scene_without_boxes_of_every_image_is_refused(name):
    scene = replace(two_images(), boxes=[torch.zeros(0, 4)])
    with pytest.raises(
        ValueError,
        match=r"the scene must have boxes for each of the 2 images, got boxes for 1; an image without boxes has shape",
    ):
        make(name).double()(scene, teacher_of(scene))


@pytest.mark.parametrize("size", [0.0, -56.0, math.nan, math.inf])
@pytest.mark.parametrize("name", ["tadf", "defeat"])
def test_a_finest_size_that_is_not_positive_is_refused(name, size):
    with pytest.raises(
        ValueError,
        match=f"finest_size must be None or a finite number of pixels > 0, got {size}",
    ):
        make(name, finest_size=size)


# ---- in a training ----

@each
def test_one_training_step_of_the_compact_pair(name):
    torch.manual_seed(0)
    student, teacher = (build("retinanet", backbone, 10) for backbone in ("compact_s", "compact_t"))
    images = [torch.rand(3, 96, 128), torch.rand(3, 128, 128)]
    targets = [
        {"boxes": torch.tensor([[10.0, 10.0, 40.0, 50.0], [60.0, 20.0, 80.0, 40.0]]), "labels": torch.tensor([1, 2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    loss = method_class(name)(student.levels, student.backbone.out_channels, teacher.backbone.out_channels)
    distiller = Distiller(student, teacher, loss).train()
    optimiser = torch.optim.SGD(distiller.parameters(), lr=0.01)
    own = len(Distiller(student).train()(images, targets))
    for _ in range(2):
        terms = distiller(images, targets)
        optimiser.zero_grad()
        total(terms[own:]).backward(retain_graph=True)  # the gradient of the method alone
        assert all(term.raw.isfinite() for term in terms) and len(terms) == own + 3 * len(PARTS.get(name, (name,)))
        felt = [p.grad.abs().sum() for p in student.backbone.parameters() if p.grad is not None]
        assert felt and torch.stack(felt).isfinite().all() and torch.stack(felt).sum() > 0
        total(terms).backward()
        optimiser.step()
    assert not any(p.requires_grad for p in teacher.parameters())
