"""The fused implementation of CUDA: its formulas on the CPU, the self-check, and on a GPU the compiled sums."""
from dataclasses import replace

import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.testing import assert_close

from fgdlab import FGDConfig, FusedFGDLoss
from fgdlab.fgd import term_sums
from fgdlab.fused.cuda import algebra, self_check
from fgdlab.fused.dispatch import why_readable
from fgdlab.masks import focal_masks
from fgdlab.relation import RelationTerm
from fgdlab.terms import total
from tests.fused.test_fused import FUSED, agree, case, name_of

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

    def sums_of_levels(students, teachers, masks, relations, config):
        levels = zip(students, teachers, masks or [None] * len(students), relations, strict=True)
        return [algebra.level_sums(*level, config) for level in levels]

    monkeypatch.setattr("fgdlab.fused.loss.sums_of_levels", sums_of_levels)


@pytest.fixture
def not_compiled(monkeypatch):
    """The self-check compares the formulas as they are."""
    monkeypatch.setattr(algebra, "compiled_level_sums", algebra.level_sums)
    self_check.failure.cache_clear()
    yield
    self_check.failure.cache_clear()


def one_level(shape=(2, 6, 5, 9), dtype=torch.float64, scale=1.0, kind="gc"):
    """Maps, masks and R of one level."""
    torch.manual_seed(0)
    student, teacher = ((scale * torch.randn(shape)).to(dtype) for _ in range(2))
    precision = torch.promote_types(dtype, torch.float32)
    frames = [(8 * shape[2], 8 * shape[3])] * shape[0]
    masks = focal_masks([torch.tensor([[8.0, 8.0, 50.0, 30.0]])] * shape[0], frames, shape[2:], dtype=precision)
    relation = RelationTerm(shape[1], kind).to(precision)
    for parameter in relation.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return student.requires_grad_(), teacher, masks, relation


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
        agree(loss, replace(scene, features=student), teacher, tolerance)


@pytest.mark.parametrize("kind", ["gc", "mse", "centred"])
def test_the_gradient_of_the_global_sum_is_its_numerical_derivative(kind):
    student, teacher, _, relation = one_level((2, 4, 2, 3), kind=kind)
    assert torch.autograd.gradcheck(
        lambda maps, *parameters: algebra.global_sum(relation, maps, teacher), (student, *relation.parameters())
    )


@pytest.mark.parametrize("attention_of", ["teacher", "student", "mean"])
def test_the_gradient_of_all_sums_is_their_numerical_derivative(attention_of):
    """The weights of eq. 9 are constants, so only the other terms follow the student's attention."""
    student, teacher, masks, relation = one_level((2, 4, 2, 3))
    weights = {"alpha": 0, "beta": 0} if attention_of != "teacher" else {}
    config = FGDConfig(attention_of=attention_of, **weights)
    assert torch.autograd.gradcheck(
        lambda maps: tuple(algebra.level_sums(maps, teacher, masks, relation, config).values()), (student,)
    )


@pytest.mark.parametrize("dtype", HALF)
def test_maps_of_half_precision_are_summed_in_float32(dtype):
    student, teacher, masks, relation = one_level(dtype=dtype, scale=3.0)
    wide = student.detach().float().requires_grad_()
    halves = algebra.level_sums(student, teacher, masks, relation, FGDConfig())
    floats = term_sums(wide, teacher.float(), masks, relation, FGDConfig())
    for name, value in floats.items():
        assert halves[name].dtype == torch.float32
        assert_close(halves[name], value, rtol=1e-5, atol=0)
    (ours,), (expected,) = (
        torch.autograd.grad(1e-3 * sum(sums.values()), maps) for sums, maps in ((halves, student), (floats, wide))
    )
    assert ours.dtype == dtype
    assert_close(ours.float(), expected, rtol=torch.finfo(dtype).eps, atol=1e-5)


def test_every_parameter_has_a_gradient_and_the_teacher_none(formulas, random_scene, shake):
    loss, scene, teacher = case(random_scene, shake, FGDConfig())
    teacher = {level: each.requires_grad_() for level, each in teacher.items()}
    total(loss(scene, teacher)).backward()
    assert all(each.grad is not None for each in loss.parameters())
    assert all(each.grad is None for each in teacher.values())


def test_all_levels_are_one_graph_without_a_value_that_the_host_reads():
    """A graph that is whole has no .item() and no shape that depends on data."""
    counter = CompileCounter()
    compiled = torch.compile(algebra.level_sums, dynamic=True, fullgraph=True, backend=counter)
    torch._dynamo.reset()
    for grid in ((25, 42), (13, 21), (7, 11), (4, 6)):
        student, teacher, masks, relation = one_level((2, 8, *grid), torch.float32)
        compiled(student, teacher, masks, relation, FGDConfig())
    assert counter.frame_count == 1


# ---- the self-check ----

@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *HALF])
def test_the_self_check_passes_in_every_precision_and_leaves_the_random_state(dtype, not_compiled):
    before = torch.get_rng_state()
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        for config in FUSED:
            assert self_check.failure("cpu", dtype, config) is None
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("wrong", ["value", "gradient", "nan"])
def test_the_self_check_finds_a_wrong_result(wrong, not_compiled, monkeypatch):
    right = algebra.level_sums

    def spoilt(student, *rest):
        if wrong == "gradient":
            student = 1.001 * student - 0.001 * student.detach()
        factor = {"value": 1.001, "gradient": 1.0, "nan": float("nan")}[wrong]
        return {name: value * factor for name, value in right(student, *rest).items()}

    monkeypatch.setattr(algebra, "compiled_level_sums", spoilt)
    assert "fused and readable implementation differ by" in self_check.failure("cpu", torch.float32, FGDConfig())


def test_a_compiler_that_fails_is_named_and_asked_once(not_compiled, monkeypatch):
    def fails(*args):
        raise RuntimeError("no ptxas\nand a long log")

    monkeypatch.setattr(algebra, "compiled_level_sums", fails)
    reason = self_check.failure("cpu", torch.float32, FGDConfig())
    assert reason == "the fused implementation does not run on cpu: RuntimeError: no ptxas"
    monkeypatch.setattr(self_check, "worst_difference", None)
    assert self_check.failure("cpu", torch.float32, FGDConfig()) is reason


@pytest.mark.slow
def test_the_compiled_sums_pass_the_self_check_on_the_cpu():
    self_check.failure.cache_clear()
    assert self_check.failure("cpu", torch.bfloat16, FGDConfig()) is None


# ---- dispatch ----

def test_a_gpu_is_used_only_where_the_self_check_passes(monkeypatch):
    monkeypatch.setattr(self_check, "failure", lambda device, dtype, config: f"{device} is wrong with {dtype}")
    assert why_readable(FGDConfig(), "cuda") == "cuda is wrong with torch.float32"
    assert why_readable(FGDConfig(), "cuda", torch.bfloat16) == "cuda is wrong with torch.bfloat16"
    monkeypatch.setattr(self_check, "failure", lambda *args: None)
    assert why_readable(FGDConfig(), "cuda") is None and why_readable(FGDConfig(relation="nonlocal"), "cuda")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without a GPU")
def test_without_a_gpu_the_reason_is_given():
    self_check.failure.cache_clear()
    assert "the fused implementation does not run on cuda: " in why_readable(FGDConfig(), "cuda")


# ---- on a GPU ----

@pytest.fixture
def exact_convolutions(monkeypatch):
    """The readable implementation on a GPU computes its convolutions in TF32 by default."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


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
    config, not_compiled, exact_convolutions, random_scene, shake
):
    assert why_readable(config, "cuda") is None and why_readable(config, "cuda", torch.float64) is None
    agree(*on_gpu(*case(random_scene, shake, config)), 1e-10)
    agree(*on_gpu(*case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32)), 1e-4)


@pytest.mark.cuda
@pytest.mark.parametrize("config", COMPILED, ids=name_of)
def test_on_a_gpu_the_compiled_sums_are_the_readable_implementation(config, exact_convolutions, random_scene, shake):
    """Compilation takes seconds per configuration, so these few have every switch among them."""
    torch._dynamo.reset()
    assert why_readable(config, "cuda") is None
    agree(*on_gpu(*case(random_scene, shake, config, seed=4, channels=16, wide=16, dtype=torch.float32)), 1e-4)


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
