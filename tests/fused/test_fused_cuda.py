"""The fused implementation of CUDA: formulas on the CPU, self-check, trial, and on a GPU the compiled sums."""
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from fgdlab import FGDConfig, FGDLoss, FusedFGDLoss, Scene, masks_of
from fgdlab.fgd import term_sums
from fgdlab.fused.cuda import algebra, self_check
from fgdlab.fused.dispatch import why_readable
from fgdlab.relation import RelationTerm
from fgdlab.terms import total
from tests.fused.test_fused import FUSED, agree, case, name_of, readable

HALF = (torch.float16, torch.bfloat16)
COMPILED = [
    FGDConfig(),
    FGDConfig(relation="centred", attention_of="mean", area="both"),
    FGDConfig(relation="mse", attention_of="student", area="fg", spatial_attention=False),
    FGDConfig(relation="none", area="bg", channel_attention=False),
    FGDConfig(area="none"),
]


@pytest.fixture
def formulas(monkeypatch):
    """FusedFGDLoss takes the formulas, not compiled, instead of the CPU's loops."""
    monkeypatch.setattr(algebra, "compiled", lambda: algebra.pyramid_sums)
    monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", algebra.sums_of_levels)
    self_check.failure.cache_clear()
    yield
    self_check.failure.cache_clear()


def one_level(shape=(2, 6, 5, 9), dtype=torch.float64, scale=1.0, kind="gc"):
    """Maps, scene and R of one level; the second image has no box."""
    torch.manual_seed(0)
    student, teacher = ((scale * torch.randn(shape)).to(dtype) for _ in range(2))
    precision, size = torch.promote_types(dtype, torch.float32), (8 * shape[2], 8 * shape[3])
    boxes = [torch.tensor([[8.0, 8.0, 50.0, 30.0]]).to(precision), torch.zeros(0, 4).to(precision)]
    relation = RelationTerm(shape[1], kind).to(precision)
    for parameter in relation.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return student.requires_grad_(), teacher, Scene(torch.zeros(1).expand(2, 3, *size), boxes, [size] * 2, {}), relation


def sums(student, teacher, scene, relation, config):
    return algebra.sums_of_levels([student], [teacher], scene, [relation], config)[0]


# ---- the formulas on the CPU ----

@pytest.mark.parametrize("order", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_values_and_gradients_of_the_formulas_are_those_of_the_readable_implementation(
    config, order, formulas, random_scene, shake
):
    for tolerance, settings in (
        (1e-11, {}),
        (1e-5, {"seed": 4, "channels": 16, "wide": 16, "dtype": torch.float32}),
    ):
        loss, scene, teacher = case(random_scene, shake, config, **settings)
        student, teacher = (
            {level: each.contiguous(memory_format=order) for level, each in maps.items()}
            for maps in (scene.features, teacher)
        )
        agree(loss, replace(scene, features=student), teacher, tolerance, zeros=True)


@pytest.mark.parametrize("kind", ["gc", "mse", "centred"])
@pytest.mark.parametrize("attention_of", ["teacher", "student", "mean"])
def test_the_gradient_of_all_sums_is_their_numerical_derivative(attention_of, kind, formulas):
    """The weights of eq. 9 are constants, so only the other terms follow the student's attention."""
    student, teacher, scene, relation = one_level((2, 4, 2, 3), kind=kind)
    weights = {"alpha": 0, "beta": 0} if attention_of != "teacher" else {}
    config = FGDConfig(attention_of=attention_of, relation=kind, **weights)
    assert torch.autograd.gradcheck(
        lambda maps, *parameters: tuple(sums(maps, teacher, scene, relation, config).values()),
        (student, *relation.parameters()),
    )


@pytest.mark.parametrize("dtype", HALF)
def test_maps_of_half_precision_are_summed_in_float32(dtype, formulas):
    student, teacher, scene, relation = one_level(dtype=dtype, scale=3.0)
    wide = student.detach().float().requires_grad_()
    masks = masks_of(FGDConfig(), scene, teacher)
    halves = sums(student, teacher, scene, relation, FGDConfig())
    floats = term_sums(wide, teacher.float(), masks, relation, FGDConfig())
    for name, value in floats.items():
        assert halves[name].dtype == torch.float32
        assert_close(halves[name], value, rtol=1e-5, atol=0)
    (ours,), (expected,) = (
        torch.autograd.grad(1e-3 * sum(terms.values()), maps) for terms, maps in ((halves, student), (floats, wide))
    )
    assert ours.dtype == dtype
    assert_close(ours.float(), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_every_parameter_has_a_gradient_and_the_teacher_none(formulas, random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    teacher = {level: each.requires_grad_() for level, each in teacher.items()}
    total(loss(scene, teacher)).backward()
    assert all(each.grad is not None for each in loss.parameters())
    assert all(each.grad is None for each in teacher.values())


@pytest.mark.parametrize("config", [FGDConfig(), FGDConfig(axes="yx", rounding="exact", frame="image")], ids=name_of)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.int64])
def test_masks_are_those_of_the_readable_implementation_to_the_last_bit(config, dtype, random_scene):
    for seed in range(10):
        scene = random_scene(seed)
        scene = replace(scene, boxes=[each.to(dtype) for each in scene.boxes])
        for grid in ((7, 13), (16, 16), (1, 5), (1, 1)):
            maps = torch.zeros(len(scene.boxes), 1, *grid, dtype=torch.float64)
            expected = masks_of(config, scene, maps)
            ours = algebra.masks_on(grid, *algebra.located(scene, config.frame), config, torch.float64)
            assert torch.equal(ours.fg, expected.fg) and torch.equal(ours.bg, expected.bg), (seed, grid)


def test_a_batch_without_boxes_and_one_with_many_fit_the_table():
    size = (16, 24)
    for counts in ([0, 0], [1, 0], [0, 70]):
        boxes = [torch.rand(count, 4).cumsum(1) for count in counts]
        located, table = algebra.located(Scene(torch.zeros(2, 3, *size), boxes, [size] * 2, {}), "canvas")
        assert table.shape == (2, 2 + max(2, *counts)) and table[:, :2].tolist() == [list(size)] * 2
        for of_image, row in zip(boxes, table, strict=True):
            count = len(of_image)
            assert torch.equal(located[row[2:2 + count]], of_image) and (row[2 + count:] == -1).all()


def test_a_scene_without_boxes_for_every_image_is_refused(formulas):
    student, teacher, scene, relation = one_level()
    with pytest.raises(ValueError, match="boxes for each of the 2 images, got boxes for 1"):
        sums(student, teacher, replace(scene, boxes=scene.boxes[:1]), relation, FGDConfig())


def test_all_levels_are_one_graph_whose_shapes_may_change_without_a_value_that_the_host_reads(random_scene):
    """A graph that is whole has no .item() and no shape that depends on data."""
    torch._dynamo.reset()
    counter = CompileCounter()
    compiled = torch.compile(algebra.pyramid_sums, fullgraph=True, backend=counter)
    for grid in ((25, 42), (13, 21), (7, 11)):
        student, teacher, scene, relation = one_level((2, 8, *grid), torch.float32)
        boxes, table = algebra.located(scene, "canvas")
        blocks = torch.nn.ModuleList([relation.student, relation.teacher])
        layers = torch.nn.utils.parameters_to_vector(blocks.parameters()).view(2, 1, -1).repeat_interleave(2, 0)
        compiled([student, student[..., 2:]], [teacher, teacher[..., 2:]], boxes, table, layers, FGDConfig())
    assert counter.frame_count == 2  # for the first shape, and for all others


# ---- the self-check ----

FAST = FGDConfig(), FGDConfig(relation="centred", attention_of="mean", area="both"), FGDConfig(relation="none")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_the_self_check_passes_in_every_precision_and_leaves_the_random_state(dtype, layout, formulas):
    before = torch.get_rng_state()
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        for config in FAST:
            assert self_check.failure("cpu", dtype, layout, config) is None
    assert torch.equal(torch.get_rng_state(), before)


def part(maps, channels, cells):
    """Maps that are 0 outside their first channels and cells, as a kernel sees them that reads one tile."""
    kept = torch.zeros_like(maps)
    flat = torch.arange(maps.shape[2] * maps.shape[3]).view(maps.shape[2:]) < cells
    kept[:, :channels] = flat.to(maps.dtype)
    return maps * kept


def gross_error(mutant, maps):
    """What a kernel with one gross error reads; each is right on one small contiguous map."""
    cells = maps.shape[2] * maps.shape[3]
    if mutant == "reads one tile of channels":
        return part(maps, 32, cells)
    if mutant == "reads one tile of cells":
        return part(maps, maps.shape[1], 64)
    if mutant == "writes one tile of the gradient":
        inside = part(maps, 32, cells)
        return inside + (maps - inside).detach()
    if mutant == "every tile is the first":
        return maps.flatten(2)[..., torch.arange(cells) % 64].view_as(maps)
    if mutant == "takes the stride of cells for 1":
        return maps.as_strided(maps.shape, torch.empty(maps.shape, device="meta").stride())
    return maps[:1].expand_as(maps)  # takes all images for the first


MUTANTS = [
    "reads one tile of channels", "reads one tile of cells", "writes one tile of the gradient",
    "every tile is the first", "takes the stride of cells for 1", "takes all images for the first",
]


@pytest.mark.parametrize("mutant", MUTANTS)
@pytest.mark.parametrize("level", [0, 1])
def test_the_self_check_finds_every_gross_error_of_a_kernel_on_any_level(mutant, level, formulas, monkeypatch):
    right = algebra.pyramid_sums

    def wrong(students, teachers, *rest):
        students, teachers = list(students), list(teachers)
        students[level], teachers[level] = (gross_error(mutant, each[level]) for each in (students, teachers))
        return right(students, teachers, *rest)

    monkeypatch.setattr(algebra, "compiled", lambda: wrong)
    found = self_check.failure("cpu", torch.bfloat16, torch.channels_last, FGDConfig())
    assert "fused and readable implementation differ by" in (found or "")


@pytest.mark.parametrize("wrong", ["value", "gradient", "nan", "masks"])
def test_the_self_check_finds_a_wrong_result(wrong, formulas, monkeypatch):
    right = algebra.pyramid_sums

    def spoilt(students, teachers, boxes, *rest):
        if wrong == "gradient":
            students = [1.001 * each - 0.001 * each.detach() for each in students]
        factor = {"value": 1.001, "nan": float("nan")}.get(wrong, 1.0)
        return right(students, teachers, boxes + 8 * (wrong == "masks"), *rest) * factor

    monkeypatch.setattr(algebra, "compiled", lambda: spoilt)
    found = self_check.failure("cpu", torch.float32, torch.channels_last, FGDConfig())
    assert "fused and readable implementation differ by" in (found or "")


def test_a_compiler_that_fails_is_named_and_asked_once(formulas, monkeypatch):
    def fails():
        raise RuntimeError("no ptxas\nand a long log")

    monkeypatch.setattr(algebra, "compiled", fails)
    asked = "cpu", torch.float32, torch.channels_last, FGDConfig()
    reason = self_check.failure(*asked)
    assert reason == "the fused implementation does not run on cpu: RuntimeError: no ptxas"
    monkeypatch.setattr(self_check, "difference", None)
    assert self_check.failure(*asked) is reason


@pytest.mark.slow
def test_the_compiled_sums_pass_the_self_check_on_the_cpu(monkeypatch):
    monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", algebra.sums_of_levels)
    self_check.failure.cache_clear()
    assert self_check.failure("cpu", torch.bfloat16, torch.channels_last, FGDConfig()) is None
    self_check.failure.cache_clear()


# ---- the trial ----

@pytest.fixture
def tried_here(formulas, monkeypatch):
    """The CPU counts as a device on which the first maps decide; what seconds() says is given."""
    monkeypatch.setattr("fgdlab.fused.loss.TRIED", {"cpu"})

    def given(readable, fused):
        monkeypatch.setattr(self_check, "seconds", lambda form, *rest: readable if form is FGDLoss.forward else fused)

    given(3.0, 2.0)
    return given


@pytest.mark.parametrize("fused, runs", [(2.0, "fused"), (6.0, "readable")])
def test_the_faster_implementation_stays_and_the_trial_is_recorded(fused, runs, tried_here, random_scene, shake):
    tried_here(3.0, fused)
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    before = torch.get_rng_state()
    terms = loss(scene, teacher)
    assert torch.equal(torch.get_rng_state(), before) and all(each.grad is None for each in loss.parameters())
    assert loss.trial["fused_speedup"] == 3.0 / fused and 0 < loss.trial["fused_difference"] < 1e-5
    expected = loss.fused(scene, teacher) if runs == "fused" else readable(loss, scene, teacher)
    assert [term.raw for term in terms] == [term.raw for term in expected]


def test_the_first_maps_decide_once_and_only_where_gradients_are_needed(tried_here, random_scene, shake, monkeypatch):
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    with torch.no_grad():
        assert loss(scene, teacher) and loss.trial is None
    loss(scene, teacher)
    monkeypatch.setattr(self_check, "difference", None)
    assert loss(scene, teacher) and loss.trial["fused_speedup"] == 1.5


def test_an_implementation_that_differs_on_real_maps_is_left_with_a_warning(
    tried_here, random_scene, shake, monkeypatch
):
    monkeypatch.setattr(self_check, "difference", lambda *given: 0.01)
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    with pytest.warns(UserWarning, match="readable implementation: they differ by 1.0e-02"):
        terms = loss(scene, teacher)
    assert [term.raw for term in terms] == [term.raw for term in readable(loss, scene, teacher)]
    assert loss.trial == {"fused_difference": 0.01, "fused_speedup": 0.0}


def test_at_the_start_of_training_where_r_is_the_identity_both_agree(tried_here, random_scene):
    scene = random_scene(3)
    scene = replace(scene, features={level: each.float() for level, each in scene.features.items()})
    loss = FusedFGDLoss(("P3",), 4, 4)
    loss(scene, {level: each + 1 for level, each in scene.features.items()})
    assert loss.trial["fused_difference"] < 1e-5


# ---- dispatch ----

def test_a_gpu_is_used_only_where_the_self_check_passes(monkeypatch):
    monkeypatch.setattr(self_check, "failure", lambda device, dtype, layout, config: f"{device}, {dtype}, {layout}")
    assert why_readable(FGDConfig(), "cuda") == "cuda, torch.float32, torch.channels_last"
    asked = torch.bfloat16, torch.contiguous_format
    assert why_readable(FGDConfig(), "cuda", *asked) == "cuda, torch.bfloat16, torch.contiguous_format"
    monkeypatch.setattr(self_check, "failure", lambda *args: None)
    assert why_readable(FGDConfig(), "cuda") is None and why_readable(FGDConfig(relation="nonlocal"), "cuda")


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_what_is_checked_has_precision_and_layout_of_the_maps(layout, random_scene, shake, monkeypatch):
    asked = []
    monkeypatch.setattr("fgdlab.fused.loss.why_readable", lambda *given: asked.append(given[1:]))
    loss, scene, teacher = case(random_scene, shake, FGDConfig(), dtype=torch.float32)
    loss(scene, {level: each.bfloat16().contiguous(memory_format=layout) for level, each in teacher.items()})
    assert asked == [("cpu", torch.bfloat16, layout)]


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_reason_is_given():
    self_check.failure.cache_clear()
    assert "the fused implementation does not run on cuda: " in why_readable(FGDConfig(), "cuda")


# ---- on a GPU ----

@pytest.fixture
def exact_convolutions(monkeypatch):
    """The readable implementation on a GPU computes its convolutions in TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def at_once(monkeypatch):
    """The compiled sums run without self-check and trial, which compile more and have tests of their own."""
    monkeypatch.setattr("fgdlab.fused.loss.why_readable", lambda *given: None)
    monkeypatch.setattr("fgdlab.fused.loss.TRIED", set())


def on_gpu(loss, scene, teacher):
    scene = replace(
        scene,
        pixels=scene.pixels.cuda(),
        boxes=[each.cuda() for each in scene.boxes],
        features={k: v.cuda() for k, v in scene.features.items()},
    )
    return loss.cuda(), scene, {level: each.cuda() for level, each in teacher.items()}


@pytest.mark.cuda
@pytest.mark.parametrize("config", FUSED, ids=name_of)
def test_on_a_gpu_the_formulas_are_the_readable_implementation(
    config, formulas, exact_convolutions, random_scene, shake
):
    assert why_readable(config, "cuda") is None and why_readable(config, "cuda", torch.float64) is None
    agree(*on_gpu(*case(random_scene, shake, config)), 1e-10, zeros=True)
    single = case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32)
    agree(*on_gpu(*single), 1e-4, zeros=True)


@pytest.mark.cuda
@pytest.mark.parametrize("config", COMPILED, ids=name_of)
def test_on_a_gpu_the_compiled_sums_are_the_readable_implementation(
    config, at_once, exact_convolutions, random_scene, shake
):
    """Compilation takes a quarter of a minute per configuration, so these few have every switch among them."""
    torch._dynamo.reset()
    single = case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32)
    agree(*on_gpu(*single), 1e-4, zeros=True)


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", HALF)
def test_on_a_gpu_the_self_check_passes_in_half_precision(dtype):
    assert why_readable(FGDConfig(), "cuda", dtype) is None


@pytest.mark.cuda
def test_a_step_on_a_gpu_never_makes_the_host_wait(random_scene, shake):
    loss, scene, teacher = on_gpu(*case(random_scene, shake, FGDConfig(), dtype=torch.float32))
    scene.features.update({level: each.detach().requires_grad_() for level, each in scene.features.items()})
    assert isinstance(loss, FusedFGDLoss) and why_readable(loss.config, "cuda") is None
    total(loss(scene, teacher)).backward()  # compiles for these shapes
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        total(loss(scene, teacher)).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")
