"""The whole loss: eqs. 9-14 over the levels, and every switch of FGDConfig."""
from dataclasses import fields, replace

import pytest
import torch
from torch.testing import assert_close

from fgdlab.config import PRESETS, FGDConfig
from fgdlab.fgd import FGDLoss
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers import naive

LEVELS = ("P3", "P4")


def teacher_of(scene, channels=4, seed=1):
    """Random maps on the grids of the student's."""
    draw = torch.Generator().manual_seed(seed)
    return {
        level: torch.randn(len(each), channels, *each.shape[2:], generator=draw, dtype=torch.float64).to(each.dtype)
        for level, each in scene.features.items()
    }


def raws(terms):
    return {(term.name, term.level): term.raw.item() for term in terms}


def plain_lists(module):
    return {name: (p.flatten(1) if p.ndim == 4 else p.flatten()).tolist() for name, p in module.named_parameters()}


# ---- against the loops ----

def test_the_loss_equals_the_loops(random_scene, shake, agree):
    for seed in range(200):
        torch.manual_seed(seed)
        channels = (4, 3)[seed // 4 % 2]  # 3 -> 4 needs an align layer
        config = FGDConfig(
            rounding=("authors", "exact")[seed % 2],
            frame=("canvas", "image")[seed // 2 % 2],
            temperature=(0.5, 0.8)[seed // 8 % 2],
        )
        scene = random_scene(seed, channels)
        teacher = teacher_of(scene, seed=seed)
        loss = shake(FGDLoss(LEVELS, channels, 4, config).double())
        terms = loss(scene, teacher)
        expected = 0.0
        for level in LEVELS:
            align = plain_lists(loss.align[level]) if loss.align else None
            sums = naive.fgd(
                scene.features[level].tolist(), teacher[level].tolist(), [boxes.tolist() for boxes in scene.boxes],
                scene.image_sizes if config.frame == "image" else [scene.padded_size] * 2,
                temperature=config.temperature, rounding=config.rounding,
                align=align and (align["weight"], align["bias"]),
                blocks=[plain_lists(block) for block in (loss.relation[level].student, loss.relation[level].teacher)],
            )
            assert list(sums) == [term.name for term in terms if term.level == level]
            agree(torch.stack([term.raw for term in terms if term.level == level]), list(sums.values()), seed)
            expected += naive.total(sums, config.alpha, config.beta, config.gamma, config.lambda_)
        agree(total(terms), expected, seed)


# ---- every setting has an effect ----

VARIATIONS = [
    ("alpha", 2e-3), ("beta", 1e-3), ("gamma", 1e-3), ("lambda_", 1e-5), ("temperature", 0.8),
    ("area", "fg"), ("area", "bg"), ("area", "both"), ("area", "none"),
    ("spatial_attention", False), ("channel_attention", False),
    ("relation", "mse"), ("relation", "centred"), ("relation", "nonlocal"), ("relation", "none"),
    ("rounding", "exact"), ("frame", "image"), ("axes", "yx"), ("attention_of", "student"), ("attention_of", "mean"),
]


@pytest.fixture
def scene():
    """One padded image, three levels, boxes over several cells; float64."""
    draw = torch.Generator().manual_seed(5)
    maps = {f"P{i}": torch.randn(1, 4, 96 >> i, 128 >> i, generator=draw, dtype=torch.float64) for i in (3, 4, 5)}
    boxes = torch.tensor([[5.0, 6.0, 50.0, 40.0], [10.0, 20.0, 30.0, 30.0]], dtype=torch.float64)
    return Scene(torch.zeros(1, 3, 96, 128), [boxes], [(90, 100)], maps)


@pytest.fixture
def terms_of(scene, shake):
    """Terms of a configuration on the fixed scene, its blocks moved off the identity."""

    def compute(config):
        torch.manual_seed(0)
        return shake(FGDLoss(LEVELS, 4, 4, config).double())(scene, teacher_of(scene))

    return compute


@pytest.mark.parametrize(("name", "value"), VARIATIONS)
def test_the_setting_changes_the_total(name, value, terms_of):
    assert getattr(FGDConfig(), name) != value
    before, after = total(terms_of(FGDConfig())), total(terms_of(FGDConfig(**{name: value})))
    assert abs(after - before) > 1e-6 * abs(before)


def test_no_setting_is_left_out():
    assert {name for name, _ in VARIATIONS} == {field.name for field in fields(FGDConfig)}


@pytest.mark.parametrize("name", ["area", "relation"])
def test_no_two_choices_are_the_same(name, terms_of):
    choices = [getattr(FGDConfig(), name), *(value for setting, value in VARIATIONS if setting == name)]
    totals = [total(terms_of(FGDConfig(**{name: choice}))).item() for choice in choices]
    assert len({round(each, 9) for each in totals}) == len(choices) == 5


@pytest.mark.parametrize(("area", "names"), [
    ("split", ["fg", "bg"]), ("fg", ["fg"]), ("bg", ["bg"]), ("both", ["both"]), ("none", []),
])
def test_an_area_names_its_terms(area, names, terms_of):
    terms = terms_of(FGDConfig(area=area))
    assert [term.name for term in terms if term.level == "P3"] == [*names, "attention", "global"]


@pytest.mark.parametrize(("area", "weights"), [("split", [0.5, 0.25]), ("fg", [0.5]), ("bg", [0.25]), ("both", [0.5])])
def test_an_area_is_weighed_by_alpha_unless_it_is_the_background(area, weights):
    assert list(FGDConfig(alpha=0.5, beta=0.25, gamma=0, lambda_=0, area=area).weights().values()) == weights


@pytest.mark.parametrize("area", ["fg", "bg"])
def test_one_area_is_the_same_sum_as_its_half_of_the_split(area, terms_of):
    alone, split = raws(terms_of(FGDConfig(area=area))), raws(terms_of(FGDConfig()))
    assert alone[area, "P3"] == split[area, "P3"]


def test_unsplit_is_the_mean_of_the_weighted_errors(scene):
    teacher = teacher_of(scene)
    config = FGDConfig(area="both", spatial_attention=False, channel_attention=False)
    both = raws(FGDLoss(LEVELS, 4, 4, config).double()(scene, teacher))["both", "P3"]
    error = (scene.features["P3"] - teacher["P3"]).square().sum(dim=1)
    assert_close(both, error.mean().item())


def test_without_attention_there_is_no_eq_10_term(terms_of):
    terms = terms_of(FGDConfig(spatial_attention=False, channel_attention=False))
    assert "attention" not in {term.name for term in terms}


@pytest.mark.parametrize("part", ["spatial", "channel"])
def test_the_attention_term_keeps_only_the_parts_that_are_on(part, terms_of):
    other = {"spatial": "channel", "channel": "spatial"}[part]
    both, one, rest = (
        raws(terms_of(FGDConfig(**{f"{off}_attention": False for off in offs})))["attention", "P3"]
        for offs in ((), (other,), (part,))
    )
    assert one > 0 and rest > 0
    assert_close(one + rest, both)


def test_gc_mse_and_nonlocal_agree_until_trained(scene):
    teacher = teacher_of(scene)
    values = [
        raws(FGDLoss(LEVELS, 4, 4, FGDConfig(relation=kind)).double()(scene, teacher))
        for kind in ("gc", "mse", "nonlocal")
    ]
    assert values[0] == values[1] == values[2]


# ---- coefficients ----

@pytest.mark.parametrize(
    ("coefficient", "name"), [("alpha", "fg"), ("beta", "bg"), ("gamma", "attention"), ("lambda_", "global")]
)
def test_a_coefficient_weighs_its_own_term_only(coefficient, name, terms_of):
    terms = terms_of(FGDConfig(**{coefficient: 0.125}))
    for before, after in zip(terms_of(FGDConfig()), terms, strict=True):
        assert before.raw == after.raw
        assert after.weight == (0.125 if after.name == name else before.weight)


@pytest.mark.parametrize(
    ("coefficient", "name"), [("alpha", "fg"), ("beta", "bg"), ("gamma", "attention"), ("lambda_", "global")]
)
def test_a_coefficient_of_0_removes_its_term_and_leaves_the_rest(coefficient, name, terms_of):
    all_raws, rest = raws(terms_of(FGDConfig())), raws(terms_of(FGDConfig(**{coefficient: 0})))
    assert rest == {key: value for key, value in all_raws.items() if key[0] != name}


def test_zero_lambda_removes_the_layers():
    assert not list(FGDLoss(LEVELS, 4, 4, FGDConfig(lambda_=0)).parameters())


def test_all_coefficients_0_leave_no_layer_and_no_term(scene):
    loss = FGDLoss(LEVELS, 4, 4, FGDConfig(0, 0, 0, 0))
    assert not list(loss.parameters()) and loss(scene, teacher_of(scene)) == []


def test_all_coefficients_0_leave_no_term_also_where_channels_differ(scene):
    assert FGDLoss(LEVELS, 4, 6, FGDConfig(0, 0, 0, 0))(scene, teacher_of(scene, 6)) == []


def test_align_exists_only_where_channels_differ():
    assert not FGDLoss(LEVELS, 4, 4).align
    assert {level: layer.weight.shape[:2] for level, layer in FGDLoss(LEVELS, 4, 6).align.items()} == {
        "P3": (6, 4),
        "P4": (6, 4),
    }


def test_each_level_has_its_own_layers():
    loss = FGDLoss(LEVELS, 4, 6)
    assert list(loss.align) == list(loss.relation) == ["P3", "P4"]
    assert loss.relation["P3"].student is not loss.relation["P4"].student


def test_only_the_asked_levels_are_imitated(scene):
    assert [term.level for term in FGDLoss(("P5", "P3"), 4, 4).double()(scene, teacher_of(scene))] == ["P5"] * 4 + [
        "P3"
    ] * 4


def test_presets_are_the_authors_settings():
    """alpha, beta, gamma, lambda, T of the authors' configs."""
    settings = {name: (c.alpha, c.beta, c.gamma, c.lambda_, c.temperature) for name, c in PRESETS.items()}
    assert settings["retinanet"] == (1e-3, 5e-4, 5e-4, 5e-6, 0.5)
    assert settings["fcos"] == (1.6e-3, 8e-4, 8e-4, 8e-6, 0.8)
    assert settings["reppoints"] == (1.6e-3, 8e-4, 8e-4, 8e-6, 0.5)
    assert settings["faster_rcnn"] == settings["mask_rcnn"] == (5e-5, 2.5e-5, 5e-5, 5e-7, 0.5)


# ---- gradients ----

def test_the_teachers_maps_get_no_gradient(scene):
    teacher = {level: each.requires_grad_() for level, each in teacher_of(scene).items()}
    total(FGDLoss(LEVELS, 4, 4).double()(scene, teacher)).backward()
    assert all(each.grad is None for each in teacher.values())


@pytest.mark.parametrize(
    "config", [FGDConfig(), FGDConfig(area="both", relation="nonlocal"), FGDConfig(area="none"), FGDConfig(lambda_=0)]
)
def test_no_parameter_goes_without_gradient(config, scene):
    loss = FGDLoss(LEVELS, 4, 6, config).double()
    total(loss(scene, teacher_of(scene, 6))).backward()
    assert all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize("name", ["fg", "bg", "attention", "global"])
def test_gradcheck_of_each_term_through_align_and_masks(name, shake):
    student = torch.randn(1, 2, 3, 4, dtype=torch.float64, requires_grad=True)
    teacher = {"P3": torch.randn(1, 3, 3, 4, dtype=torch.float64)}
    boxes = [torch.tensor([[2.0, 2.0, 14.0, 14.0]], dtype=torch.float64)]
    loss = shake(FGDLoss(("P3",), 2, 3).double())

    def term(maps):
        return {
            each.name: each.raw
            for each in loss(Scene(torch.zeros(1, 3, 24, 32), boxes, [(24, 32)], {"P3": maps}), teacher)
        }[name]

    assert torch.autograd.gradcheck(term, student)


# ---- precision ----

def large_scene(dtype):
    """Maps whose squared distance is far above 65504, the largest float16."""
    maps = {"P3": 30 * torch.randn(1, 16, 32, 32, generator=torch.Generator().manual_seed(2)).to(dtype)}
    return Scene(torch.zeros(1, 3, 256, 256), [torch.tensor([[8.0, 8.0, 240.0, 90.0]])], [(256, 256)], maps)


@pytest.mark.parametrize("relation", ["gc", "nonlocal"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32(dtype, relation):
    scene = large_scene(dtype)
    teacher = teacher_of(scene, 12)
    loss = FGDLoss(("P3",), 16, 12, FGDConfig(relation=relation))
    terms = loss(scene, teacher)
    assert {term.raw.dtype for term in terms} == {torch.float32} and all(term.raw.isfinite() for term in terms)
    upcast = loss(scene.float(), {"P3": teacher["P3"].float()})
    assert raws(terms) == raws(upcast)


def test_the_same_sum_overflows_in_float16():
    maps = large_scene(torch.float16).features["P3"]
    assert maps.square().sum().isinf()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_autocast_does_not_reach_the_loss(dtype):
    scene = large_scene(torch.float32)
    teacher, loss = teacher_of(scene, 12), FGDLoss(("P3",), 16, 12)
    with torch.autocast("cpu", dtype=dtype):
        terms = loss(scene, teacher)
    assert {term.raw.dtype for term in terms} == {torch.float32}
    assert raws(terms) == raws(loss(scene, teacher))


def test_float64_stays_float64(terms_of):
    assert {term.raw.dtype for term in terms_of(FGDConfig())} == {torch.float64}


# ---- degenerate scenes ----

def with_boxes(scene, *boxes):
    return replace(scene, boxes=[torch.tensor(boxes, dtype=torch.float64).reshape(-1, 4)])


@pytest.mark.parametrize(
    "boxes", [(), ((0, 0, 128, 96),), ((-50, -50, 500, 500),), ((64, 48, 64, 48),), ((-30, -30, -10, -10),)]
)
def test_loss_and_gradient_are_finite_on_degenerate_boxes(boxes, scene):
    for each in scene.features.values():
        each.requires_grad_()
    terms = FGDLoss(LEVELS, 4, 4).double()(with_boxes(scene, *boxes), teacher_of(scene))
    total(terms).backward()
    assert all(term.raw.isfinite() for term in terms)
    assert all(scene.features[level].grad.isfinite().all() for level in LEVELS)


def test_without_boxes_the_foreground_term_is_0(scene):
    values = raws(FGDLoss(LEVELS, 4, 4).double()(with_boxes(scene), teacher_of(scene)))
    assert values["fg", "P3"] == 0 and values["bg", "P3"] > 0


def test_under_a_box_that_covers_the_map_the_background_term_is_0(scene):
    values = raws(FGDLoss(LEVELS, 4, 4).double()(with_boxes(scene, (0, 0, 128, 96)), teacher_of(scene)))
    assert values["bg", "P3"] == 0 and values["fg", "P3"] > 0


def test_maps_of_one_cell_are_fine():
    scene = Scene(
        torch.zeros(1, 3, 64, 64), [torch.tensor([[3.0, 3.0, 9.0, 9.0]])], [(64, 64)], {"P6": torch.randn(1, 4, 1, 1)}
    )
    assert all(term.raw.isfinite() for term in FGDLoss(("P6",), 4, 4)(scene, teacher_of(scene)))


def test_a_student_equal_to_its_teacher_has_no_loss(scene):
    assert set(raws(FGDLoss(LEVELS, 4, 4).double()(scene, scene.features)).values()) == {0.0}


# ---- symmetries of the whole ----

def two_images(random_scene):
    scene = random_scene(4)
    assert all(len(boxes) > 1 for boxes in scene.boxes)
    return scene, teacher_of(scene)


def same(loss, first, second):
    one, other = raws(loss(*first)), raws(loss(*second))
    assert one.keys() == other.keys() and one
    for key in one:
        assert_close(one[key], other[key], rtol=1e-12, atol=0, msg=lambda text, key=key: f"{key}: {text}")


def each_map(maps, change):
    return {level: change(each) for level, each in maps.items()}


def test_order_of_boxes_does_not_matter(random_scene, shake):
    scene, teacher = two_images(random_scene)
    turned = replace(scene, boxes=[boxes.flip(0) for boxes in scene.boxes])
    same(shake(FGDLoss(LEVELS, 4, 4).double()), (scene, teacher), (turned, teacher))


def test_order_of_images_does_not_matter(random_scene, shake):
    scene, teacher = two_images(random_scene)

    def swap(each):
        return each.flip(0)

    swapped = Scene(scene.pixels, scene.boxes[::-1], scene.image_sizes[::-1], each_map(scene.features, swap))
    loss = shake(FGDLoss(LEVELS, 4, 4, FGDConfig(frame="image")).double())
    same(loss, (scene, teacher), (swapped, each_map(teacher, swap)))


@pytest.mark.parametrize("relation", ["gc", "mse", "centred", "nonlocal"])
def test_order_of_channels_does_not_matter(relation, random_scene):
    scene, teacher = two_images(random_scene)

    def permute(each):
        return each[:, [2, 0, 3, 1]]

    permuted = replace(scene, features=each_map(scene.features, permute))
    loss = FGDLoss(LEVELS, 4, 4, FGDConfig(relation=relation)).double()
    same(loss, (scene, teacher), (permuted, each_map(teacher, permute)))


@pytest.mark.parametrize("relation", ["gc", "mse", "centred", "nonlocal"])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_a_mirror_of_image_and_boxes_does_not_matter_with_exact_rounding(axis, relation, random_scene, shake):
    scene, teacher = two_images(random_scene)
    height, width = scene.padded_size

    def mirror_boxes(boxes):
        x1, y1, x2, y2 = boxes.unbind(-1)
        return torch.stack(
            [width - x2, y1, width - x1, y2] if axis == "x" else [x1, height - y2, x2, height - y1], dim=-1
        )

    def mirror(each):
        return each.flip(-1 if axis == "x" else -2)

    mirrored = replace(
        scene, boxes=[mirror_boxes(boxes) for boxes in scene.boxes], features=each_map(scene.features, mirror)
    )
    loss = shake(FGDLoss(LEVELS, 4, 4, FGDConfig(rounding="exact", relation=relation)).double())
    same(loss, (scene, teacher), (mirrored, each_map(teacher, mirror)))


def test_a_batch_twice_over_has_the_same_loss(random_scene, shake):
    scene, teacher = two_images(random_scene)

    def twice(each):
        return torch.cat([each, each])

    doubled = Scene(twice(scene.pixels), scene.boxes * 2, scene.image_sizes * 2, each_map(scene.features, twice))
    same(shake(FGDLoss(LEVELS, 4, 4).double()), (scene, teacher), (doubled, each_map(teacher, twice)))


# ---- errors ----

@pytest.mark.parametrize(("name", "value", "message"), [
    ("area", "front", "area must be one of split, fg, bg, both, none, got 'front'"),
    ("relation", "cosine", "relation must be one of gc, .*, got 'cosine'"),
    ("rounding", "floor", "rounding must be one of authors, exact, got 'floor'"),
    ("frame", "padded", "frame must be one of canvas, image, got 'padded'"),
    ("alpha", -1.0, "alpha must be a finite number >= 0, got -1.0"),
    ("lambda_", float("inf"), "lambda_ must be a finite number >= 0, got inf"),
    ("gamma", float("nan"), "gamma must be a finite number >= 0, got nan"),
    ("temperature", 0.0, "temperature must be a finite number > 0, got 0.0"),
])
def test_a_wrong_setting_is_refused_with_what_is_right(name, value, message):
    with pytest.raises(ValueError, match=message):
        FGDConfig(**{name: value})


def test_a_missing_level_is_named_with_the_network_that_lacks_it(scene):
    teacher = teacher_of(scene)
    with pytest.raises(ValueError, match="the student must have the levels P3, P7, got P3, P4, P5; P7 missing"):
        FGDLoss(("P3", "P7"), 4, 4)(scene, teacher)
    with pytest.raises(ValueError, match="the teacher must have the levels P3, P4, got P3; P4 missing"):
        FGDLoss(LEVELS, 4, 4)(scene, {"P3": teacher["P3"]})


def test_maps_of_another_size_are_refused_with_both_shapes(scene):
    teacher = {level: each[..., :-1] for level, each in teacher_of(scene).items()}
    with pytest.raises(
        ValueError, match=r"student map \(1, 4, 12, 16\) and teacher map \(1, 4, 12, 15\) must have the same shape"
    ):
        FGDLoss(LEVELS, 4, 4).double()(scene, teacher)


def test_maps_of_another_size_are_refused_also_without_the_feature_loss(scene):
    teacher = {level: each[..., :1, :1] for level, each in teacher_of(scene).items()}
    with pytest.raises(ValueError, match="must have the same shape"):
        FGDLoss(LEVELS, 4, 4, FGDConfig(area="none")).double()(scene, teacher)


def test_boxes_for_fewer_images_than_maps_are_refused(random_scene):
    scene, teacher = two_images(random_scene)
    with pytest.raises(ValueError, match="boxes"):
        FGDLoss(LEVELS, 4, 4).double()(replace(scene, boxes=scene.boxes[:1]), teacher)
