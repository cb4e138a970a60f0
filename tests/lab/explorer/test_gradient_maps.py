"""gradient_maps.py: the effective weight of a weighted squared error is its weight map; detectors stay unchanged."""

import sys

import pytest
import torch
from matplotlib.colors import LogNorm
from torch.testing import assert_close

from fgdlab.attention import attention
from fgdlab.fgd import masks_of
from fgdlab.lab.config.run_config import METHODS, RunConfig
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.explorer.gradient_maps import (
    GradientMaps,
    gradient_maps,
    gradient_maps_figure,
    method_gradients,
    relative_to_mean,
)
from fgdlab.lab.plots.attention_maps import scene_and_teacher_maps
from fgdlab.lab.training.losses import make_loss
from fgdlab.methods.boxes import cells_of_level
from fgdlab.methods.tadf import gaussians

LEVELS = ("P3", "P4", "P5")
ONE_STAGE = [name for name in METHODS if name not in ("none", "mimick")]
AREAS = RunConfig(
    method="fgd", alpha=3e-3, beta=2e-2, gamma=0.0, lambda_=0.0, rounding="exact", channel_attention=False
)


class DetectionDataset:
    """One image of 64 x 96 pixels with a small and a larger box."""

    image_ids = [17]

    def __getitem__(self, index):
        boxes = torch.tensor([[8.0, 16.0, 24.0, 40.0], [40.0, 4.0, 90.0, 60.0]])
        return torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(index)), {
            "boxes": boxes,
            "labels": torch.tensor([1, 2]),
        }


SCENES = DetectionDataset()


@pytest.fixture(scope="module")
def detectors():
    torch.manual_seed(0)
    return build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)


@pytest.fixture(scope="module")
def maps(detectors):
    scene, teacher = scene_and_teacher_maps(*detectors, *SCENES[0])
    return scene, teacher


def computed(detectors, config: RunConfig, **settings) -> GradientMaps:
    return gradient_maps(*detectors, SCENES, 0, {"it": config}, **settings)["it"]


# ---- gradient


def test_the_gradient_of_hint_is_the_distance_over_the_number_of_values(detectors, maps):
    scene, teacher = maps
    gradient = computed(detectors, RunConfig(method="hint")).gradient
    assert set(gradient) == set(LEVELS)
    for level in LEVELS:
        difference = (scene.features[level] - teacher[level])[0]
        channels, height, width = difference.shape
        by_hand = torch.tensor(
            [
                [sum(difference[c, y, x] ** 2 for c in range(channels)) ** 0.5 for x in range(width)]
                for y in range(height)
            ]
        )
        assert_close(gradient[level], by_hand / difference.numel(), rtol=1e-5, atol=0)


def test_the_gradient_is_that_of_the_weighted_sum_of_all_terms(detectors):
    whole = AREAS.but(alpha=2e-3, beta=5e-2, channel_attention=True)
    parts, both = {"fg": whole.but(beta=0.0), "bg": whole.but(alpha=0.0)}, computed(detectors, whole)
    alone = {name: computed(detectors, config) for name, config in parts.items()}
    for level in LEVELS:  # no cell has both weights, so the lengths add up
        assert_close(
            both.gradient[level], alone["fg"].gradient[level] + alone["bg"].gradient[level], rtol=1e-5, atol=1e-12
        )
        assert alone["fg"].gradient[level].max() > 0
    assert {row["name"] for row in both.terms} == {"fg", "bg"}
    assert_close(both.terms[0]["weighted"], 2e-3 * both.terms[0]["raw"])


def test_the_gradient_is_the_slope_of_the_loss(detectors, maps):
    scene, teacher = maps
    gradient = computed(detectors, RunConfig(method="pkd")).gradient["P5"]
    y, x = divmod(int(gradient.argmax()), gradient.shape[1])
    loss = make_loss(RunConfig(method="pkd"), ("P5",), *detectors)
    start = scene.features["P5"].double()
    slopes = []
    for c in range(start.shape[1]):
        values = []
        for step in (1e-5, -1e-5):
            moved = start.clone()
            moved[0, c, y, x] += step
            (term,) = loss(
                type(scene)(scene.pixels, scene.boxes, scene.image_sizes, {"P5": moved}), {"P5": teacher["P5"].double()}
            )
            values.append(float(term.weight * term.raw))
        slopes.append((values[0] - values[1]) / 2e-5)
    assert_close(torch.tensor(slopes).norm(), gradient[y, x], rtol=1e-3, atol=0)


@pytest.mark.parametrize("name", ONE_STAGE)
def test_every_method_has_a_finite_gradient(name, detectors):
    if name in ("ld", "fgd_ld"):  # of GFL's heads
        detectors = [build("gfl", "small_s", 10) for _ in range(2)]
    maps_of_method = gradient_maps(*detectors, SCENES, 0, [name])[name]
    for maps in (maps_of_method.gradient, maps_of_method.effective_weight):
        shapes = {level: tuple(each.shape) for level, each in maps.items()}
        assert [shapes[level] for level in ("P3", "P4", "P5")] == [(8, 12), (4, 6), (2, 3)]
        assert all(torch.isfinite(each).all() and (each >= 0).all() for each in maps.values())
        assert sum(float(each.sum()) for each in maps.values()) > 0


# ---- effective weight


def test_effective_weight_of_hint_is_constant(detectors):
    for level, weight in computed(detectors, RunConfig(method="hint")).effective_weight.items():
        assert_close(weight, torch.full_like(weight, 1 / (2 * 48 * weight.numel())), rtol=1e-4, atol=0, msg=level)


def test_effective_weight_of_fgd_is_masks_times_spatial_attention(detectors, maps):
    scene, teacher = maps
    effective = computed(detectors, AREAS).effective_weight
    for level in LEVELS:
        drawn = masks_of(AREAS.fgd(), scene, teacher[level])
        weight = (3e-3 * drawn.fg + 2e-2 * drawn.bg) * attention(teacher[level], 0.5).spatial
        assert_close(effective[level], weight[0], rtol=1e-4, atol=0)


def test_channel_attention_scales_the_weight_within_its_range(detectors, maps):
    _, teacher = maps
    plain, weighed = (
        computed(detectors, AREAS).effective_weight["P3"],
        computed(detectors, AREAS.but(channel_attention=True)).effective_weight["P3"],
    )
    channel = attention(teacher["P3"], 0.5).channel
    factor = weighed / plain
    assert channel.min() < factor.min() < factor.max() < channel.max()


def tadf_mask(loss, scene, teacher):
    return gaussians(cells_of_level(scene, teacher, "P3", LEVELS, loss.finest_size, "exact"), tuple(teacher.shape[-2:]))


@pytest.mark.parametrize(
    ("name", "mask_of", "weight"),
    [
        ("tadf", tadf_mask, lambda m: m / (2 * m.sum())),
        (
            "defeat",
            lambda loss, *inputs: loss.mask("P3", *inputs),
            lambda m: (3 * m / m.sum() + 12 * (1 - m) / (1 - m).sum()) / (2 * 3),
        ),
    ],
)
def test_effective_weight_of_a_masked_squared_error_is_its_normalised_mask(name, mask_of, weight, detectors, maps):
    scene, teacher = maps
    mask = mask_of(make_loss(RunConfig(method=name), LEVELS, *detectors), scene, teacher["P3"])[0]
    assert mask.max() > mask.min()
    effective = computed(detectors, RunConfig(method=name)).effective_weight["P3"]
    assert_close(effective, weight(mask) / 48, rtol=1e-4, atol=0)


def test_fgfi_has_weight_only_inside_its_mask(detectors, maps):
    masks = make_loss(RunConfig(method="fgfi"), LEVELS, *detectors).masks(maps[0])
    weight = computed(detectors, RunConfig(method="fgfi")).effective_weight
    assert all(torch.equal(weight[level] > 0, masks[level][0] > 0) for level in LEVELS)
    assert 0 < sum(float(mask.sum()) for mask in masks.values()) < sum(mask.numel() for mask in masks.values())


def test_effective_weight_of_a_norm_is_its_mask_up_to_one_factor(detectors, maps, tmp_path):
    scene, teacher = maps
    path = tmp_path / "norm.py"
    path.write_text(NORM)
    effective = computed(detectors, RunConfig(method=f"{path}:Norm")).effective_weight["P3"]
    weight = attention(teacher["P3"], 0.5).spatial[0]
    assert weight.max() > 1.001 * weight.min()
    assert_close(effective / effective.mean(), weight / weight.mean(), rtol=1e-4, atol=0)


NORM = """
from fgdlab.attention import attention
from fgdlab.pyramid import PyramidLoss
from fgdlab.terms import Term


class Norm(PyramidLoss):
    def on_level(self, level, scene, teacher):
        error = (teacher - self.aligned(scene, level)).square().sum(dim=1)
        return [Term("norm", level, (attention(teacher, 0.5).spatial * error).sum().sqrt(), 4.0)]
"""


def test_equal_maps_have_no_effective_weight(detectors):
    teacher = detectors[1]
    maps_of_method = gradient_maps(teacher, teacher, SCENES, 0, ["hint", "crosskd"])
    nothing = (
        *maps_of_method["hint"].effective_weight.values(),
        *maps_of_method["hint"].gradient.values(),
        *maps_of_method["crosskd"].effective_weight.values(),
    )
    assert all(float(each.sum()) == 0 for each in nothing)


def test_the_gradient_includes_paths_besides_f(detectors):
    hint = computed(detectors, RunConfig(method="chen", method_parts="hint"))
    whole = computed(detectors, RunConfig(method="chen"))
    assert whole.effective_weight["P3"].max() > 2 * hint.effective_weight["P3"].max()


# ---- f


@pytest.mark.parametrize("name", ["defeat", "chen"])
def test_f_of_equal_channels_is_the_identity(name, detectors, maps, monkeypatch):
    scene, teacher = maps
    loss = make_loss(RunConfig(method=name), LEVELS, *detectors)
    monkeypatch.setattr(sys.modules[method_gradients.__module__], "make_loss", lambda *settings: loss)
    method_gradients(RunConfig(method=name), *detectors, *maps, 0)
    assert_close(loss.aligned(scene, "P3"), scene.features["P3"])


def test_effective_weight_is_the_weight_where_channels_differ(retinanet):
    student, teacher = retinanet(width=8), retinanet(width=12)
    maps_of_method = gradient_maps(student, teacher, SCENES, 0, ["hint"])["hint"]
    for level, weight in maps_of_method.effective_weight.items():
        assert_close(weight, torch.full_like(weight, 1 / (2 * 12 * weight.numel())), rtol=1e-3, atol=0, msg=level)
    scene, _ = scene_and_teacher_maps(student, None, *SCENES[0])
    assert maps_of_method.gradient["P3"].shape == scene.features["P3"].shape[2:]


# ---- no side effects


def test_detectors_stay_unchanged(detectors, bits, same_bits):
    student, teacher = detectors
    student.train(), teacher.eval()
    before, random = (bits(student), bits(teacher)), torch.get_rng_state()
    gradient_maps(student, teacher, SCENES, 0, ["fbkd", "mgd", "crosskd", "gid", "chen"])
    assert torch.equal(torch.get_rng_state(), random)
    same_bits(before[0], student), same_bits(before[1], teacher)
    assert all(each.training for each in student.modules()) and not any(each.training for each in teacher.modules())
    assert all(each.grad is None for detector in detectors for each in detector.parameters())


def test_a_seed_decides_what_a_method_draws(detectors):
    first, again, other = (computed(detectors, RunConfig(method="mgd"), seed=seed).gradient["P3"] for seed in (3, 3, 4))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_methods_do_not_depend_on_each_other(detectors):
    alone, second = (
        gradient_maps(*detectors, SCENES, 0, ["mgd"])["mgd"],
        gradient_maps(*detectors, SCENES, 0, ["fbkd", "mgd"])["mgd"],
    )
    assert torch.equal(alone.gradient["P3"], second.gradient["P3"])


def test_wrong_methods_are_refused(detectors, refusal):
    assert refusal(gradient_maps, *detectors, SCENES, 0, ["hint", "mimick"]).startswith("method mimick: ")
    assert "'none'" in refusal(gradient_maps, *detectors, SCENES, 0, ["none"])
    assert refusal(gradient_maps, *detectors, SCENES, 0, ["hin"]).startswith("method must be one of none, fgd, ")


def test_a_loss_without_terms_has_no_gradient(detectors):
    maps_of_method = computed(detectors, AREAS.but(area="none"))
    assert maps_of_method.terms == [] and all(
        float(each.sum()) == 0
        for each in (*maps_of_method.gradient.values(), *maps_of_method.effective_weight.values())
    )


# ---- numbers


MAPS = GradientMaps(
    {"P3": torch.tensor([[1.0, 2.0], [0.0, 3.0]]), "P4": torch.tensor([[4.0]])},
    {"P3": torch.zeros(2, 2), "P4": torch.zeros(1, 1)},
    [],
)
ZERO_MAPS = GradientMaps({"P3": torch.zeros(2, 2)}, {"P3": torch.zeros(2, 2)}, [])


def test_fractions_of_a_gradient_are_of_its_sum_over_all_levels():
    assert MAPS.fraction_by_level() == {"P3": 0.6, "P4": 0.4}
    masks = {"P3": torch.tensor([[0.0, 0.25], [1.0, 0.0]]), "P4": torch.tensor([[0.5]])}
    assert MAPS.fraction_inside(masks) == pytest.approx(0.6)
    assert ZERO_MAPS.fraction_by_level() == {"P3": 0.0} and ZERO_MAPS.fraction_inside({"P3": torch.ones(2, 2)}) == 0.0


def test_one_is_the_average_cell():
    assert relative_to_mean(torch.tensor([[1.0, 2.0], [0.0, 3.0]])).tolist() == [
        [pytest.approx(2 / 3), pytest.approx(4 / 3)],
        [0.0, 2.0],
    ]
    assert relative_to_mean(torch.zeros(2, 2)).tolist() == [[0.0, 0.0], [0.0, 0.0]]


# ---- figure


@pytest.fixture(scope="module")
def by_method(detectors):
    return gradient_maps(*detectors, SCENES, 0, ["hint", "tadf", "cwd"])


def images_of(figure) -> dict:
    """{name and word: the AxesImage}, of the panels that are maps."""
    return {
        ax.get_title().split("\n")[0]: ax.get_images()[0]
        for ax in figure.axes
        if ax.get_images() and not ax.get_title().startswith("image")
    }


def test_the_figure_has_weight_and_gradient_of_every_method_divided_by_their_means(by_method, detectors):
    shown = images_of(gradient_maps_figure(by_method, detectors[0], SCENES, 0, "P3"))
    assert list(shown) == [
        "hint: effective weight P3",
        "tadf: effective weight P3",
        "cwd: effective weight P3",
        "hint: gradient P3",
        "tadf: gradient P3",
        "cwd: gradient P3",
    ]
    for title, image in shown.items():
        name, kind = title.removesuffix(" P3").split(": ")
        values = getattr(by_method[name], kind.replace(" ", "_"))["P3"]
        assert_close(torch.tensor(image.get_array().filled(0)), values / values.mean(), rtol=1e-5, atol=1e-7)


def test_all_panels_share_one_scale_and_zeros_are_grey(by_method, detectors):
    shown = images_of(gradient_maps_figure(by_method, detectors[0], SCENES, 0, "P3"))
    assert {(type(image.norm), image.norm.vmin, image.norm.vmax) for image in shown.values()} == {(LogNorm, 0.1, 10.0)}
    assert torch.equal(
        torch.tensor(shown["tadf: effective weight P3"].get_array().mask), by_method["tadf"].effective_weight["P3"] == 0
    )


def test_boxes_lie_on_every_map_at_the_scale_of_its_grid(by_method, detectors):
    figure = gradient_maps_figure(by_method, detectors[0], SCENES, 0, "P4")
    for ax in figure.axes:
        if ax.get_images() and not ax.get_title().startswith("image"):
            corners = [each.get_bbox().extents for each in ax.patches if each.get_gid() == "box"]
            assert_close(torch.tensor(corners[1].tolist()), torch.tensor([40.0, 4.0, 90.0, 60.0]) / 16)


def test_methods_beyond_the_last_column_begin_a_new_pair_of_rows(by_method, detectors):
    figure = gradient_maps_figure(by_method, detectors[0], SCENES, 0, "P3", columns=2)
    tops = {title: image.axes.get_position().y0 for title, image in images_of(figure).items()}
    assert (
        tops["hint: effective weight P3"]
        == tops["tadf: effective weight P3"]
        > tops["hint: gradient P3"]
        > tops["cwd: effective weight P3"]
        > tops["cwd: gradient P3"]
    )
    assert sum(ax.get_title().startswith("image 17") for ax in figure.axes) == 2
    assert figure._repr_png_().startswith(b"\x89PNG")


def test_an_unknown_level_is_refused(by_method, detectors):
    with pytest.raises(ValueError, match="must be one of P3, P4, P5, got 'P7'"):
        gradient_maps_figure(by_method, detectors[0], SCENES, 0, "P7")
