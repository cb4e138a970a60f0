"""FBKD: four terms as loops, every switch, square roots at 0, and small windows."""
from dataclasses import fields, replace
from math import sqrt

import pytest
import torch
from torch.func import functional_call
from torch.testing import assert_close

from fgdlab.distill import Distiller
from fgdlab.lab.detectors.builder import build
from fgdlab.methods.fbkd import FBKD_PRESETS, PARTS, FBKDConfig, FBKDLoss, NonLocalTerm, PooledNonLocal, distance
from fgdlab.scene import Scene
from fgdlab.terms import total
from tests.helpers import naive

LEVELS = ("P3", "P4")
UNIT_WEIGHTS = FBKDConfig(1.0, 1.0, 1.0, 1.0)
EVERYTHING = replace(
    UNIT_WEIGHTS, channel_mask=True, spatial_temperature=0.7, channel_temperature=0.3, reduction={"P3": 4, "P4": 1},
    pool={"P3": 3, "P4": 4},  # P4 is 3 x 4: smaller than its window along one side
)


def scene_of(maps):
    """A scene that has these maps and nothing else; FBKD looks at no box."""
    batch = len(next(iter(maps.values())))
    return Scene(torch.zeros(batch, 3, 96, 128), [torch.zeros(0, 4)] * batch, [(96, 128)] * batch, maps)


def random_maps(channels=4, batch=2, grids=((6, 7), (3, 4)), seed=0, dtype=torch.float64):
    draw = torch.Generator().manual_seed(seed)
    return {
        level: torch.randn(batch, channels, *grid, generator=draw, dtype=torch.float64).to(dtype)
        for level, grid in zip(LEVELS, grids, strict=True)
    }


def raws(terms):
    return {(term.name, term.level): term.raw.item() for term in terms}


def plain_lists(module):
    return {name: (p.flatten(1) if p.ndim == 4 else p).tolist() for name, p in module.named_parameters()}


# ---- against the loops ----
# Batches of nested lists: x[n][c][i][j].

def norm(numbers):
    """| . | = sqrt(sum of squares)"""
    return sqrt(sum(x * x for x in numbers))


def pixel_by_pixel(students, teachers, weigh=lambda n, c, i, j: 1.0):
    """sqrt(weight) (F_t - F_s) at every n, c, i, j"""
    return [
        sqrt(weigh(n, c, i, j)) * (teachers[n][c][i][j] - students[n][c][i][j])
        for n in range(len(teachers))
        for c in range(len(teachers[0]))
        for i in range(len(teachers[0][0]))
        for j in range(len(teachers[0][0][0]))
    ]


def feature_term(students, teachers, p, config):
    """| sqrt(M) (F_t - f(F_s)) | with M = M^S M^C"""
    aligned = [naive.conv1x1(F, p["weight"], p["bias"]) for F in students]
    A_s = [[naive.a_spatial(F, config.spatial_temperature) for F in maps] for maps in (students, teachers)]
    twins = students if len(students[0]) == len(teachers[0]) else aligned
    A_c = [[naive.a_channel(F, config.channel_temperature) for F in maps] for maps in (twins, teachers)]

    def weigh(n, c, i, j):
        spatial = (A_s[0][n][i][j] + A_s[1][n][i][j]) / 2 if config.spatial_mask else 1.0
        channel = (A_c[0][n][c] + A_c[1][n][c]) / 2 if config.channel_mask else 1.0
        return spatial * channel

    return norm(pixel_by_pixel(aligned, teachers, weigh))


def mean_of(channel):
    return sum(x for row in channel for x in row) / (len(channel) * len(channel[0]))


def channel_term(students, teachers, p):
    """| mean_hw F_t - Linear(mean_hw F_s) |"""
    errors = []
    for student, teacher in zip(students, teachers, strict=True):
        moved = naive.matrix_times(p["weight"], p["bias"], [mean_of(channel) for channel in student])
        errors += [mean_of(channel) - x for channel, x in zip(teacher, moved, strict=True)]
    return norm(errors)


def spatial_term(students, teachers, p):
    """| mean_c F_t - conv3x3(mean_c F_s) |, zero outside the map"""
    kernel, errors = p["weight"][0], []
    for student, teacher in zip(students, teachers, strict=True):
        H, W = len(student[0]), len(student[0][0])
        mean_s, mean_t = (
            [[sum(F[c][i][j] for c in range(len(F))) / len(F) for j in range(W)] for i in range(H)]
            for F in (student, teacher)
        )
        for i in range(H):
            for j in range(W):
                moved = p["bias"][0]
                for a in range(3):
                    for b in range(3):
                        if 0 <= i + a - 1 < H and 0 <= j + b - 1 < W:
                            moved += kernel[3 * a + b] * mean_s[i + a - 1][j + b - 1]
                errors.append(mean_t[i][j] - moved)
    return norm(errors)


def windows(F, pool):
    """The vector of maxima of every whole window; a map smaller than a window is one."""
    H, W = len(F[0]), len(F[0][0])
    h, w = min(pool, H), min(pool, W)
    return [
        [max(F[c][i + a][j + b] for a in range(h) for b in range(w)) for c in range(len(F))]
        for i in range(0, H - h + 1, h) for j in range(0, W - w + 1, w)
    ]


def non_local(maps, p, pool):
    """NL(F)_i = F_i + BN(W_z sum_j (theta_i . phi_j) g_j / J) over a batch"""
    C, H, W, out = len(maps[0]), len(maps[0][0]), len(maps[0][0][0]), []
    for F in maps:
        query = naive.conv1x1(F, p["query.weight"], p["query.bias"])
        keys, values = (
            windows(naive.conv1x1(F, p[f"{name}.weight"], p[f"{name}.bias"]), pool) for name in ("key", "value")
        )
        gathered = [[[0.0] * W for _ in range(H)] for _ in range(C)]
        for i in range(H):
            for j in range(W):
                answer = [0.0] * len(values[0])
                for key, value in zip(keys, values, strict=True):
                    share = sum(query[k][i][j] * key[k] for k in range(len(key))) / len(keys)
                    answer = [a + share * v for a, v in zip(answer, value, strict=True)]
                for c in range(C):
                    gathered[c][i][j] = sum(w * a for w, a in zip(p["output.weight"][c], answer, strict=True))
        out.append(gathered)
    for c in range(C):
        values = [x for F in out for row in F[c] for x in row]
        mean = sum(values) / len(values)
        spread = sqrt(sum((x - mean) ** 2 for x in values) / len(values) + 1e-5)
        for n, F in enumerate(out):
            F[c] = [
                [
                    maps[n][c][i][j] + (F[c][i][j] - mean) / spread * p["norm.weight"][c] + p["norm.bias"][c]
                    for j in range(W)
                ]
                for i in range(H)
            ]
    return out


def relation_term(students, teachers, p, pool):
    """| NL_t(F_t) - conv1x1(NL_s(F_s)) |"""
    inner = {
        who: {name.removeprefix(f"{who}."): each for name, each in p.items() if name.startswith(f"{who}.")}
        for who in ("student", "teacher", "align")
    }
    student = [
        naive.conv1x1(F, inner["align"]["weight"], inner["align"]["bias"])
        for F in non_local(students, inner["student"], pool)
    ]
    return norm(pixel_by_pixel(student, non_local(teachers, inner["teacher"], pool)))


@pytest.mark.parametrize("channels", [4, 3])
def test_the_loss_equals_the_loops(channels, shake, agree):
    for seed in range(8):
        torch.manual_seed(seed)
        config = replace(EVERYTHING, spatial_mask=bool(seed % 2), channel_mask=bool(seed // 2 % 2))
        maps, teacher = random_maps(channels, seed=seed), random_maps(4, seed=seed + 100)
        loss = shake(FBKDLoss(LEVELS, channels, 4, config).double())
        found = loss(scene_of(maps), teacher)
        for level in LEVELS:
            students, teachers = maps[level].tolist(), teacher[level].tolist()
            expected = [
                feature_term(students, teachers, plain_lists(loss.align[level]), config),
                channel_term(students, teachers, plain_lists(loss.channel[level])),
                spatial_term(students, teachers, plain_lists(loss.spatial[level])),
                relation_term(students, teachers, plain_lists(loss.relation[level]), config.pool[level]),
            ]
            mine = [term for term in found if term.level == level]
            assert [term.name for term in mine] == list(PARTS)
            agree(torch.stack([term.raw for term in mine]), expected, seed)


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("channels", [2, 3])
def test_gradcheck_of_each_term_in_the_student_and_its_layers(part, channels, shake):
    config = replace(EVERYTHING, pool={"P3": 2}, **{f"{other}_weight": 0 for other in PARTS if other != part})
    loss = shake(FBKDLoss(("P3",), channels, 2, config).double())
    student, teacher = random_maps(channels, grids=((3, 4), (1, 1))), random_maps(2, grids=((3, 4), (1, 1)), seed=1)
    names, values = zip(*loss.named_parameters(), strict=True)
    frozen = (
        loss.mask(student["P3"], loss.aligned(scene_of(student), "P3"), teacher["P3"]) if part == "feature" else None
    )
    loss.mask = lambda *maps: frozen  # a constant of the step, by definition

    def call(maps, *parameters):
        (term,) = functional_call(loss, dict(zip(names, parameters, strict=True)), (scene_of({"P3": maps}), teacher))
        return term.raw

    assert torch.autograd.gradcheck(call, (student["P3"].requires_grad_(), *values))


# ---- the mask is a constant ----

def test_the_masks_are_constants_in_the_gradient(shake):
    """The gradient is that of the weighted distance with M as numbers."""
    config = replace(EVERYTHING, channel_weight=0, spatial_weight=0, relation_weight=0)
    loss, student = shake(FBKDLoss(("P3",), 4, 4, config).double()), random_maps()["P3"].requires_grad_()
    teacher = random_maps(seed=1)["P3"]
    total(loss(scene_of({"P3": student}), {"P3": teacher})).backward()
    found, student.grad = student.grad, None
    aligned = loss.align["P3"](student)
    mask = loss.mask(student, aligned, teacher)
    assert not mask.requires_grad
    (mask * (teacher - aligned).square()).sum().sqrt().backward()
    assert_close(found, student.grad, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "settings", [{}, {"channel_mask": True}, {"spatial_mask": False, "channel_mask": True}, {"spatial_mask": False}]
)
def test_a_mask_is_1_on_average(settings):
    maps, teacher = random_maps()["P3"], random_maps(seed=1)["P3"]
    mask = FBKDLoss(("P3",), 4, 4, FBKDConfig(**settings)).mask(maps, maps, teacher)
    assert mask.shape == ((2, 4, 6, 7) if settings.get("channel_mask") else (2, 1, 6, 7))
    assert_close(mask.mean(dim=(1, 2, 3)), torch.ones(2, dtype=torch.float64))


def test_without_masks_the_feature_term_is_the_plain_distance(shake):
    loss = shake(FBKDLoss(LEVELS, 4, 4, replace(UNIT_WEIGHTS, spatial_mask=False)).double())
    maps, teacher = random_maps(), random_maps(seed=1)
    found = raws(loss(scene_of(maps), teacher))["feature", "P3"]
    assert_close(found, (teacher["P3"] - loss.align["P3"](maps["P3"])).norm().item())


def test_an_infinite_temperature_is_no_mask():
    loss = FBKDLoss(
        LEVELS, 4, 4, replace(UNIT_WEIGHTS, channel_mask=True, spatial_temperature=1e12, channel_temperature=1e12)
    ).double()
    plain = FBKDLoss(LEVELS, 4, 4, replace(UNIT_WEIGHTS, spatial_mask=False)).double()
    plain.load_state_dict(loss.state_dict())
    maps, teacher = random_maps(), random_maps(seed=1)
    assert_close(
        raws(loss(scene_of(maps), teacher))["feature", "P4"],
        raws(plain(scene_of(maps), teacher))["feature", "P4"],
        rtol=1e-10,
        atol=0,
    )


# ---- every setting turns something ----

SETTINGS = [
    ("feature_weight", 2.0, ("feature",)),
    ("channel_weight", 2.0, ("channel",)),
    ("spatial_weight", 2.0, ("spatial",)),
    ("relation_weight", 2.0, ("relation",)),
    ("spatial_temperature", 0.3, ("feature",)),
    ("channel_temperature", 0.9, ("feature",)),
    ("spatial_mask", False, ("feature",)),
    ("channel_mask", False, ("feature",)),
    ("reduction", {"P3": 2}, ("relation",)),
    ("pool", {"P3": 1}, ("relation",)),
]


@pytest.mark.parametrize(("name", "value", "parts"), SETTINGS)
def test_a_setting_changes_its_own_term_and_no_other(name, value, parts, shake):
    def weighted(config):
        torch.manual_seed(0)
        loss = shake(FBKDLoss(("P3",), 4, 4, config).double())
        if name == "reduction":  # another reduction draws other numbers: the other layers get fixed weights
            for module in (loss.align, loss.channel, loss.spatial):
                for parameter in module.parameters():
                    torch.nn.init.constant_(parameter, 0.1)
        return {term.name: term.weight * term.raw.item() for term in loss(scene_of(random_maps()), random_maps(seed=1))}

    assert getattr(EVERYTHING, name) != value
    before, after = weighted(EVERYTHING), weighted(replace(EVERYTHING, **{name: value}))
    assert {part for part in PARTS if abs(after[part] - before[part]) > 1e-6 * before[part]} == set(parts)


def test_no_setting_is_left_out():
    assert {name for name, *_ in SETTINGS} == {field.name for field in fields(FBKDConfig)}


@pytest.mark.parametrize("part", PARTS)
def test_a_weight_of_0_removes_its_term_and_its_layers_and_leaves_the_rest(part):
    home = "align" if part == "feature" else part
    whole = FBKDLoss(LEVELS, 4, 4, UNIT_WEIGHTS).double()
    rest = FBKDLoss(LEVELS, 4, 4, replace(UNIT_WEIGHTS, **{f"{part}_weight": 0})).double()
    gone = {name for name in whole.state_dict() if name not in rest.state_dict()}
    assert gone and gone == {name for name in whole.state_dict() if name.startswith(f"{home}.")}
    rest.load_state_dict({name: each for name, each in whole.state_dict().items() if name not in gone})
    all_raws = raws(whole(scene_of(random_maps()), random_maps(seed=1)))
    assert raws(rest(scene_of(random_maps()), random_maps(seed=1))) == {
        key: raw for key, raw in all_raws.items() if key[0] != part
    }


def test_all_weights_0_leave_no_layer_and_no_term():
    loss = FBKDLoss(LEVELS, 4, 6, FBKDConfig(0, 0, 0, 0))
    assert not list(loss.parameters()) and loss(scene_of(random_maps()), random_maps(6)) == []


def test_presets_are_the_published_settings():
    """Weights of the four terms; temperatures; masks; inner channels of 256 and pools at the five levels."""
    def settings(name, levels):
        config = FBKD_PRESETS[name]
        loss = FBKDLoss(levels, 256, 256, config)
        blocks = [loss.relation[level].teacher for level in levels]
        return (
            tuple(config.weights().values()),
            (config.spatial_temperature, config.channel_temperature),
            (config.spatial_mask, config.channel_mask),
            [block.query.out_channels for block in blocks],
            [block.pool for block in blocks],
        )

    inside, pools = [64, 64, 128, 128, 128], [8, 4, 2, 2, 2]
    assert settings("two_stage", ("P2", "P3", "P4", "P5", "P6")) == (
        (7e-5, 4e-3, 4e-3, 7e-5),
        (0.5, 0.5),
        (True, False),
        inside,
        pools,
    )
    assert settings("one_stage", ("P3", "P4", "P5", "P6", "P7")) == (
        (4.2e-4, 2.4e-2, 2.4e-2, 4.2e-4),
        (0.1, 0.1),
        (True, True),
        inside,
        pools,
    )


def test_the_default_is_two_stage():
    assert FBKDConfig() == FBKD_PRESETS["two_stage"]


def test_a_term_carries_its_own_weight():
    terms = FBKDLoss(LEVELS, 4, 4, FBKDConfig(1.0, 2.0, 3.0, 4.0)).double()(
        scene_of(random_maps()), random_maps(seed=1)
    )
    assert [(term.name, term.level, term.weight) for term in terms] == [
        (part, level, weight) for level in LEVELS for part, weight in zip(PARTS, (1.0, 2.0, 3.0, 4.0), strict=True)
    ]


def test_each_level_has_its_own_layers():
    loss = FBKDLoss(LEVELS, 4, 4)
    assert all(
        list(each) == list(LEVELS) and each["P3"] is not each["P4"]
        for each in (loss.align, loss.channel, loss.spatial, loss.relation)
    )


@pytest.mark.parametrize(("settings", "message"), [
    ({"feature_weight": -1.0}, "feature_weight must be a finite number >= 0, got -1.0"),
    ({"relation_weight": float("nan")}, "relation_weight must be a finite number >= 0, got nan"),
    ({"spatial_temperature": 0.0}, "spatial_temperature must be a finite number > 0, got 0.0"),
    ({"channel_temperature": float("inf")}, "channel_temperature must be a finite number > 0, got inf"),
    ({"pool": {"P3": 0}}, "pool must have a whole number >= 1 for a level such as 'P3', got 'P3': 0"),
    ({"reduction": {"P3": 2.5}}, "reduction must have a whole number >= 1 for a level such as 'P3', got 'P3': 2.5"),
    ({"pool": {"p2": 8}}, "pool must have a whole number >= 1 for a level such as 'P3', got 'p2': 8"),
])
def test_a_wrong_setting_is_refused_with_what_is_right(settings, message):
    with pytest.raises(ValueError, match=message):
        FBKDConfig(**settings)


def test_another_grid_is_refused():
    with pytest.raises(ValueError, match="must have the same shape"):
        FBKDLoss(("P3",), 4, 4, replace(UNIT_WEIGHTS, feature_weight=0, spatial_weight=0, relation_weight=0)).double()(
            scene_of(random_maps()), random_maps(grids=((6, 6), (3, 4))))


# ---- square roots at zero ----

def identity(loss):
    """Set all layers so that equal maps have distance 0; the non-local blocks start as the identity."""
    with torch.no_grad():
        for level in loss.levels:
            for layer in (loss.align[level], loss.relation[level].align):
                layer.weight.copy_(torch.eye(len(layer.weight))[..., None, None])
            loss.channel[level].weight.copy_(torch.eye(len(loss.channel[level].weight)))
            loss.spatial[level].weight.copy_(torch.tensor([[0.0, 0, 0], [0, 1, 0], [0, 0, 0]]))
            for layer in (loss.align[level], loss.relation[level].align, loss.channel[level], loss.spatial[level]):
                torch.nn.init.zeros_(layer.bias)
    return loss


def test_a_student_equal_to_its_teacher_has_no_loss_and_a_finite_gradient():
    loss = identity(FBKDLoss(LEVELS, 4, 4, EVERYTHING).double())
    maps = {level: each.requires_grad_() for level, each in random_maps().items()}
    terms = loss(scene_of(maps), {level: each.detach() for level, each in maps.items()})
    assert set(raws(terms).values()) == {0.0}
    total(terms).backward()
    assert all(p.grad.isfinite().all() for p in loss.parameters())
    assert all(each.grad.isfinite().all() for each in maps.values())


def test_a_square_root_of_the_sum_would_be_nan_there():
    maps = torch.ones(3, requires_grad=True)
    (maps - torch.ones(3)).square().sum().sqrt().backward()
    assert maps.grad.isnan().all()
    maps.grad = None
    distance(maps, torch.ones(3)).backward()
    assert maps.grad.tolist() == [0, 0, 0]


def test_a_mask_that_is_0_somewhere_gives_a_finite_gradient():
    """At a low temperature a softmax underflows: the weight of most cells is exactly 0."""
    loss = FBKDLoss(
        LEVELS, 4, 4, replace(UNIT_WEIGHTS, channel_mask=True, spatial_temperature=1e-3, channel_temperature=1e-4)
    )
    maps = {level: each.requires_grad_() for level, each in random_maps(dtype=torch.float32).items()}
    teacher = random_maps(seed=1, dtype=torch.float32)
    assert (loss.mask(maps["P3"], maps["P3"], teacher["P3"]) == 0).any()
    total(loss(scene_of(maps), teacher)).backward()
    assert all(each.grad.isfinite().all() for each in maps.values())


@pytest.mark.parametrize("factor", [2.0, 3.0])
def test_terms_grow_with_the_distance_not_with_its_square(factor):
    loss = identity(FBKDLoss(("P3",), 4, 4, replace(UNIT_WEIGHTS, spatial_mask=False)).double())
    teacher, change = random_maps()["P3"], random_maps(seed=1)["P3"]
    near, far = (raws(loss(scene_of({"P3": teacher + size * change}), {"P3": teacher})) for size in (1.0, factor))
    for key in near:
        assert_close(far[key], factor * near[key], rtol=1e-9, atol=0)


def test_four_times_the_images_weigh_twice_as_much(shake):
    loss = shake(FBKDLoss(LEVELS, 4, 4, EVERYTHING).double())
    maps, teacher = random_maps(), random_maps(seed=1)
    four_maps, four_teacher = (
        {level: each.repeat(4, 1, 1, 1) for level, each in which.items()} for which in (maps, teacher)
    )
    once, again = raws(loss(scene_of(maps), teacher)), raws(loss(scene_of(four_maps), four_teacher))
    for key in once:
        assert_close(again[key], 2 * once[key], rtol=1e-9, atol=0)


# ---- the non-local block ----

def test_the_block_starts_as_the_identity():
    maps = random_maps()["P3"]
    assert torch.equal(PooledNonLocal(4).double()(maps), maps)


def test_the_relation_starts_as_the_distance_of_the_aligned_map():
    maps, teacher = random_maps(3)["P3"], random_maps()["P3"]
    term = NonLocalTerm(3, 4, 2, 2).double()
    assert_close(term(maps, teacher), (term.align(maps) - teacher).norm())


@pytest.mark.parametrize("grid", [(4, 4), (2, 2), (1, 3), (3, 7), (1, 1)])
def test_a_pool_larger_than_the_map_is_one_window(grid, shake):
    maps = torch.randn(2, 4, *grid, dtype=torch.float64)
    large = shake(PooledNonLocal(4, pool=8).double())
    exact = PooledNonLocal(4, pool=99).double()
    exact.load_state_dict(large.state_dict())
    out = large(maps)
    assert out.shape == maps.shape and out.isfinite().all()
    assert torch.equal(out, exact(maps)) and not torch.equal(out, maps)


def test_a_remainder_that_fills_no_window_is_left_out(shake):
    """5 columns, windows of 2: the last column has a query, but is in no key."""
    block, maps = shake(PooledNonLocal(4, pool=2).double()).eval(), torch.randn(1, 4, 4, 5, dtype=torch.float64)
    other = maps.clone()
    other[..., -1] += 1
    assert torch.equal(block(other)[..., :-1], block(maps)[..., :-1])
    other[..., -2] += 1
    assert not torch.equal(block(other)[..., :-2], block(maps)[..., :-2])


@pytest.mark.parametrize("channels", [1, 3])
def test_fewer_channels_than_the_reduction_leave_one(channels):
    assert PooledNonLocal(channels, reduction=4).query.out_channels == 1


def test_a_batch_of_one_cell_has_no_variance_and_takes_the_running_one(shake):
    block, maps = shake(PooledNonLocal(4).double()), torch.randn(1, 4, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        block.norm.running_mean.fill_(0.3)
        block.norm.running_var.fill_(2.0)
    in_training = block.train()(maps)
    assert in_training.isfinite().all() and torch.equal(in_training, block.eval()(maps))
    assert not torch.equal(in_training, maps) and block.norm.num_batches_tracked == 0


def test_batch_norm_learns_its_running_mean_in_training_only(shake):
    block, maps = shake(PooledNonLocal(4).double()), random_maps()["P3"]
    block.eval()(maps)
    assert block.norm.num_batches_tracked == 0
    block.train()(maps)
    assert block.norm.num_batches_tracked == 1 and block.norm.running_mean.abs().amax() > 0


# ---- precision, gradients, detectors ----

def test_the_teachers_maps_get_no_gradient_and_every_parameter_does():
    loss = FBKDLoss(LEVELS, 3, 4, EVERYTHING).double()
    teacher = {level: each.requires_grad_() for level, each in random_maps().items()}
    total(loss(scene_of(random_maps(3)), teacher)).backward()
    assert all(each.grad is None for each in teacher.values()) and all(p.grad is not None for p in loss.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_maps_are_summed_in_float32(dtype):
    maps, teacher = (
        {"P3": 30 * torch.randn(1, 16, 32, 32, generator=torch.Generator().manual_seed(seed)).to(dtype)}
        for seed in (1, 2)
    )
    assert maps["P3"].square().sum().isinf() or dtype == torch.bfloat16
    loss = FBKDLoss(("P3",), 16, 16, UNIT_WEIGHTS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(scene_of(maps), teacher)
    assert {term.raw.dtype for term in terms} == {torch.float32} and all(term.raw.isfinite() for term in terms)
    assert raws(terms) == raws(loss(scene_of({"P3": maps["P3"].float()}), {"P3": teacher["P3"].float()}))


@pytest.mark.parametrize("preset", sorted(FBKD_PRESETS))
def test_one_step_under_a_distiller(preset, batch):
    student, teacher = build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)
    loss = FBKDLoss(student.levels, student.backbone.out_channels, teacher.backbone.out_channels, FBKD_PRESETS[preset])
    distiller = Distiller(student, teacher, loss).train()
    terms = [term for term in distiller(*batch) if term.level != "all"]  # the second image has no box
    assert [(term.name, term.level) for term in terms] == [(part, level) for level in student.levels for part in PARTS]
    assert all(term.raw.isfinite() and term.raw > 0 for term in terms)
    total(terms).backward()
    assert all(p.grad.isfinite().all() for p in distiller.parameters() if p.grad is not None)
    assert student.backbone.stem[0].weight.grad.abs().amax() > 0
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "loss"}
