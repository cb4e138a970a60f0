"""A student, a frozen teacher and a loss."""
import pytest
import torch

from fgdlab.config import FGDConfig
from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.scene import Tap, look
from fgdlab.terms import Term, total

LEVELS = ("P3", "P4", "P5")
LOUD = FGDConfig(1.0, 1.0, 1.0, 1e-3)  # loud enough for one step to show


@pytest.fixture
def distiller(retinanet):
    """A student of 8 channels and a teacher of 12, so that align layers exist."""
    return Distiller(retinanet(8), retinanet(12), FGDLoss(LEVELS, 8, 12, LOUD)).train()


def bits(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def step(distiller, batch, rate=0.01):
    optimiser = torch.optim.SGD(distiller.parameters(), lr=rate)
    loss = total(distiller(*batch))
    loss.backward()
    optimiser.step()
    return loss.item()


def values(terms):
    return {(term.name, term.level): term.raw.item() for term in terms}


# ---- the teacher ----

def test_the_teacher_is_no_parameter_no_state_and_no_submodule(distiller):
    assert {name.split(".")[0] for name in distiller.state_dict()} == {"student", "loss"}
    of_teacher = {id(p) for p in distiller.teacher.parameters()}
    assert of_teacher and not of_teacher & {id(p) for p in distiller.parameters()}
    assert distiller.teacher not in list(distiller.modules())


def test_the_teacher_moves_with_the_distiller(distiller):
    distiller.to(torch.float64)
    assert {
        p.dtype for module in (distiller.student, distiller.loss, distiller.teacher) for p in module.parameters()
    } == {torch.float64}
    assert distiller.teacher.backbone.body.stem[1].running_mean.dtype == torch.float64


def test_the_teacher_stays_in_eval_and_frozen(distiller):
    distiller.train().requires_grad_(True)
    assert distiller.student.training
    assert not any(module.training for module in distiller.teacher.modules())
    assert not any(p.requires_grad for p in distiller.teacher.parameters())


def test_the_teacher_is_bit_unchanged_after_steps_and_the_student_is_not(distiller, batch):
    teacher, student = bits(distiller.teacher), bits(distiller.student)
    for _ in range(3):
        step(distiller, batch)
    assert all(torch.equal(now, teacher[name]) for name, now in distiller.teacher.state_dict().items())
    assert any(not torch.equal(now, student[name]) for name, now in distiller.student.state_dict().items())


def test_a_checkpoint_of_the_distiller_loads_without_a_teacher(distiller, retinanet):
    alone = Distiller(retinanet(8), loss=FGDLoss(LEVELS, 8, 12, LOUD), recall=lambda ids: {})
    alone.load_state_dict(distiller.state_dict())
    assert torch.equal(alone.loss.align["P3"].weight, distiller.loss.align["P3"].weight)


def test_the_teacher_reads_the_same_pixels_as_the_student(distiller, batch):
    read = {}
    for who in ("student", "teacher"):
        getattr(distiller, who).backbone.register_forward_pre_hook(
            lambda module, args, who=who: read.update({who: args[0]})
        )
    distiller(*batch)
    assert read["teacher"] is read["student"]


def test_the_teachers_maps_are_those_of_its_own_look(distiller, batch):
    with Tap(distiller.student) as tap:
        distiller.student(*batch)
    maps = distiller.teacher_maps(tap.scene.pixels, batch[1])
    own = look(distiller.teacher, *batch).features
    assert all(torch.equal(maps[level], own[level]) for level in own)


def test_the_teacher_records_no_graph_even_for_pixels_with_gradient(distiller):
    maps = distiller.teacher_maps(torch.rand(1, 3, 64, 64, requires_grad=True), [])
    assert maps and not any(each.requires_grad for each in maps.values())


# ---- the terms ----

def test_the_task_losses_come_first_and_unchanged(distiller, batch):
    own = distiller.student(*batch)
    terms = distiller(*batch)
    assert [term.name for term in terms[:2]] == list(own) and all(
        torch.equal(term.raw, own[term.name]) for term in terms[:2]
    )
    assert {term.level for term in terms[2:]} == set(LEVELS)


def test_without_a_teacher_only_the_task_losses_remain(retinanet, batch):
    assert [(term.level, term.weight) for term in Distiller(retinanet())(*batch)] == [("all", 1.0)] * 2


def test_every_parameter_gets_a_gradient_from_the_distillation(distiller, batch):
    terms = distiller(*batch)
    total(terms).backward()
    assert all(p.grad is not None for p in distiller.parameters())
    assert all(layer.weight.grad.any() for layer in distiller.loss.align.values())


def test_training_on_the_distillation_alone_brings_the_student_nearer(distiller, batch):
    optimiser = torch.optim.Adam(distiller.parameters(), lr=0.01)
    course = []
    for _ in range(10):
        loss = total([term for term in distiller(*batch) if term.level != "all"])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        course.append(loss.item())
    assert course[-1] < 0.8 * course[0]


def test_terms_are_float32_under_autocast(distiller, batch):
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = distiller(*batch)
        # What the detector itself works in.
        assert (look(distiller.student, *batch).features["P3"].dtype == torch.bfloat16)
    assert {term.raw.dtype for term in terms if term.level != "all"} == {torch.float32}


def test_any_loss_gets_float32_maps_and_no_autocast(retinanet, batch):
    seen = {}

    class Spy(torch.nn.Module):
        def forward(self, scene, teacher):
            seen.update(
                autocast=torch.is_autocast_enabled("cpu"),
                dtypes={each.dtype for maps in (scene.features, teacher) for each in maps.values()},
            )
            return []

    with torch.autocast("cpu", dtype=torch.bfloat16):
        Distiller(retinanet(), retinanet(), Spy())(*batch)
    assert seen == {"autocast": False, "dtypes": {torch.float32}}


def test_a_pyramid_loss_gets_maps_as_the_networks_made_them_and_sums_them_in_float32(retinanet, batch):
    seen = set()

    class Spy(FGDLoss):
        def forward(self, scene, teacher):
            seen.update(each.dtype for maps in (scene.features, teacher) for each in maps.values())
            return super().forward(scene, teacher)

    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = Distiller(retinanet(), retinanet(), Spy(("P3",), 8, 8))(*batch)
    assert seen == {torch.bfloat16} and {term.raw.dtype for term in terms if term.level == "P3"} == {torch.float32}


@pytest.mark.parametrize("returned", [None, torch.tensor(1.0), {"loss": torch.tensor(1.0)}, [torch.tensor(1.0)], [
    Term("mine", "P3", torch.ones(2))], [Term("mine", "P3", 1.0)]])
def test_a_loss_that_returns_no_terms_says_what_it_must_return(retinanet, batch, returned):
    class Loss(torch.nn.Module):
        def forward(self, scene, teacher_maps):
            return returned

    with pytest.raises(ValueError, match="the loss must return a list of Terms with scalars, got .*; see terms.py"):
        Distiller(retinanet(), retinanet(), Loss()).train()(*batch)


# ---- the cache ----

def test_recall_stands_in_for_the_teacher(distiller, batch):
    from_teacher, asked = values(distiller(*batch)), []
    maps = look(distiller.teacher, *batch).features

    def recall(image_ids):
        asked.append(image_ids)
        return {level: each.detach() for level, each in maps.items()}

    cached = Distiller(distiller.student, loss=distiller.loss, recall=recall)
    assert cached.teacher is None
    assert values(cached(*batch)) == from_teacher
    assert asked == [[7, 8]]


def test_with_a_cache_the_teacher_does_not_run(distiller, batch):
    maps = look(distiller.teacher, *batch).features
    cached = Distiller(distiller.student, distiller.teacher, distiller.loss, recall=lambda ids: maps)
    runs = []
    distiller.teacher.backbone.register_forward_hook(lambda *call: runs.append(call))
    cached(*batch)
    assert runs == []


# ---- errors ----

def test_a_loss_and_a_teacher_need_each_other(retinanet):
    with pytest.raises(ValueError, match="a loss and a teacher .* or neither"):
        Distiller(retinanet(), teacher=retinanet())
    with pytest.raises(ValueError, match="a loss and a teacher .* or neither"):
        Distiller(retinanet(), loss=FGDLoss(LEVELS, 8, 8))


def test_a_cache_without_image_ids_says_what_it_needs(distiller, batch):
    images, targets = batch
    cached = Distiller(distiller.student, loss=distiller.loss, recall=lambda ids: {})
    with pytest.raises(ValueError, match="image_id"):
        cached(images, [{name: t[name] for name in ("boxes", "labels")} for t in targets])
