"""From the setting ``method`` to a loss: every name builds, parts can be chosen, custom losses need no registration."""

import inspect
import json

import pytest
import torch

from fgdlab.distill import Distiller
from fgdlab.fgd import FGDLoss
from fgdlab.fused.loss import FusedFGDLoss
from fgdlab.lab.commands.validate_config import validate_config
from fgdlab.lab.config.active_fields import distils
from fgdlab.lab.config.run_config import METHODS
from fgdlab.lab.detectors.builder import build
from fgdlab.lab.run import run
from fgdlab.lab.sweeps.planning import plan
from fgdlab.lab.sweeps.spec import parse_sweep
from fgdlab.lab.training.custom_loss import custom_loss_hash
from fgdlab.lab.training.losses import fgd_implementation, make_balance, make_loss
from fgdlab.methods import METHOD_CLASSES, method_class
from fgdlab.methods.fbkd import FBKDLoss
from fgdlab.terms import total

TWO_STAGE = {"mimick"}  # refuses the detectors of the laptop, and says what it needs
OWN = '''
from fgdlab.pyramid import PyramidLoss
from fgdlab.terms import Term


class Plain(PyramidLoss):
    """Mean squared difference."""

    def on_level(self, level, scene, teacher):
        return [Term("plain", level, (teacher - self.aligned(scene, level)).square().mean(), 2.0)]
'''


@pytest.fixture(scope="module")
def detectors():
    torch.manual_seed(0)
    return build("retinanet", "compact_s", 10), build("retinanet", "compact_t", 10)


@pytest.fixture
def custom_loss_file(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(OWN)
    return path


def built(config, detectors):
    return make_loss(config, ("P3", "P4", "P5"), *detectors)


def pair(name):
    """Student and teacher for a method: LD distils the boxes of GFL."""
    gfl = name in ("ld", "fgd_ld")
    return [build(*("gfl", f"small_{each}") if gfl else ("retinanet", f"compact_{each}"), 10) for each in "st"]


def images():
    torch.manual_seed(1)
    targets = [
        {"boxes": torch.tensor([[10.0, 12.0, 40.0, 60.0]]), "labels": torch.tensor([3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]
    return list(torch.rand(2, 3, 64, 64)), targets


@pytest.mark.parametrize("name", [name for name in METHODS if name not in {"none", *TWO_STAGE}])
def test_every_method_gives_a_finite_loss_whose_gradient_reaches_the_student(name, tiny_config):
    torch.manual_seed(2)
    student, teacher = pair(name)
    distiller = Distiller(student, teacher, built(tiny_config(method=name), (student, teacher))).train()
    task = student(*images())
    terms = [term for term in distiller(*images()) if term.name not in task]
    total(terms).backward()
    reached = sum(float(each.grad.abs().sum()) for each in student.backbone.parameters() if each.grad is not None)
    assert terms and 0 < float(total(terms).detach()) < float("inf") and 0 < reached < float("inf")
    assert all(each.grad is None for each in teacher.parameters())


@pytest.mark.parametrize("name", TWO_STAGE)
def test_a_method_of_proposals_refuses_a_one_stage_detector_in_one_line(name, detectors, tiny_config, refusal):
    text = refusal(built, tiny_config(method=name), detectors)
    assert text.startswith(f"method {name}: ")


@pytest.mark.parametrize("name", ["fbkd", *METHOD_CLASSES])
def test_leaving_parts_out_removes_their_terms(name, tiny_config):
    method = FBKDLoss if name == "fbkd" else method_class(name)
    detectors = pair(name)
    task = detectors[0].train()(*images()).keys()
    for part in method.PARTS if name not in TWO_STAGE else ():
        loss = built(tiny_config(method=name, method_parts=part), detectors)
        names = {term.name for term in Distiller(*detectors, loss).train()(*images())} - task
        assert names == {part}


def test_an_unknown_part_is_told_which_there_are(detectors, tiny_config, refusal):
    assert "did you mean 'channel'?" in refusal(built, tiny_config(method="fbkd", method_parts="chanel"), detectors)
    assert "no parts" in refusal(built, tiny_config(method="fgd", method_parts="fg"), detectors)


def test_fgd_is_built_with_its_own_settings(detectors, tiny_config):
    loss = built(tiny_config(method="fgd", alpha=3e-3, area="fg"), detectors)
    assert isinstance(loss, FGDLoss) and loss.config.alpha == 3e-3 and loss.config.area == "fg"


def test_fgd_beside_ld_has_its_own_settings(tiny_config):
    loss = built(tiny_config(method="fgd_ld", alpha=3e-3, gamma=0), pair("fgd_ld"))
    assert loss.fgd.config.alpha == 3e-3 and loss.fgd.config.gamma == 0


@pytest.mark.parametrize(
    "asked, device, applies, answer",
    [
        ("auto", "cpu", True, True),
        ("auto", "cpu", False, False),
        ("auto", "cuda", True, True),
        ("auto", "cuda", False, False),
        ("on", "cuda", True, True),
        ("on", "cpu", True, True),
        ("off", "cpu", True, False),
    ],
)
def test_fgd_is_fused_where_that_applies(asked, device, applies, answer, detectors, tiny_config, monkeypatch):
    asked_for = []
    monkeypatch.setattr(
        "fgdlab.lab.training.losses.why_readable",
        lambda config, *given: asked_for.append(given) or (None if applies else "numba is not there"),
    )
    loss = make_loss(tiny_config(method="fgd", fused=asked, precision="bf16"), ("P3",), *detectors, device=device)
    assert isinstance(loss, FusedFGDLoss) is answer
    assert asked_for == [(device, torch.bfloat16, torch.channels_last)] or asked == "off"
    assert (
        fgd_implementation(loss) == {"fgd_sums": "fused" if answer else "readable"} and fgd_implementation(None) == {}
    )


@pytest.mark.parametrize("speedup, runs", [(3.0, "fused"), (0.9, "readable"), (0.0, "readable")])
def test_what_the_first_maps_decided_stands_in_the_result(speedup, runs):
    loss = FusedFGDLoss(("P3",), 4, 4)
    loss.trial = {"fused_difference": 1e-6, "fused_speedup": speedup}
    assert fgd_implementation(loss) == {"fgd_sums": runs, **loss.trial}


def test_a_fused_form_that_does_not_apply_is_refused_where_it_was_asked_for(detectors, tiny_config, refusal):
    line = refusal(make_loss, tiny_config(method="fgd", relation="nonlocal", fused="on"), ("P3",), *detectors)
    assert (
        "fused=on must find a fused implementation that applies, but relation nonlocal compares" in line
        and "fused=auto" in line
    )


@pytest.mark.parametrize("name", [name for name in METHOD_CLASSES if method_class(name).PIXELS])
def test_sizes_in_pixels_follow_the_students_smallest_anchor(name, detectors, tiny_config):
    usual = build("retinanet", "resnet18", 10)
    for size in method_class(name).PIXELS:
        authors = inspect.signature(method_class(name)).parameters[size].default
        assert getattr(built(tiny_config(method=name), (usual, usual)), size) == authors
        assert getattr(built(tiny_config(method=name), detectors), size) == pytest.approx(authors * 14 / 32)


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"method": "none"}, False),
        ({"method": "fgd"}, True),
        ({"method": "fgd", "area": "none", "gamma": 0, "lambda_": 0}, False),
        ({"method": "cwd"}, True),
        ({"method": "cwd", "strength": 0}, False),
        ({"method": "fgd", "area": "none", "lambda_": 0}, True),
        ({"method": "fgd", "area": "none", "gamma": 0}, True),
    ],
)
def test_a_teacher_runs_only_where_something_is_distilled(tiny_config, settings, answer):
    assert distils(tiny_config(**settings)) is answer


def test_balance_is_made_only_where_it_changes_something(tiny_config):
    assert make_balance(tiny_config()) is None
    assert (
        make_balance(tiny_config(strength=2.0)).strength == 2.0
        and make_balance(tiny_config(loss_ratio=0.5)).loss_ratio == 0.5
    )


# ---- a loss of one's own ---------------------------------------------------------------------------------------------

def test_a_loss_in_a_file_runs_without_registration_and_the_run_keeps_its_text(
    custom_loss_file, tmp_path, tiny_config, scene_cache, monkeypatch
):
    monkeypatch.setenv("FGDLAB_HOME", str(scene_cache))
    result = run(tiny_config(method=f"{custom_loss_file}:Plain", epochs=1), tmp_path / "run", progress="off")
    names = {json.loads(line)["name"] for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()}
    assert "plain" in names and (tmp_path / "run" / "method.py").read_text() == OWN
    assert result["provenance"]["method"] == custom_loss_hash(tiny_config(method=f"{custom_loss_file}:Plain"))["method"]


def test_changing_the_file_changes_the_id_of_the_run(custom_loss_file):
    sweep = parse_sweep(
        "mine",
        {
            "title": "t",
            "question": "q",
            "baseline": "plain",
            "rows": {"plain": {"set": {"method": f"{custom_loss_file}:Plain"}}},
            "seeds": [0],
        },
    )
    before = plan(sweep)[0].id
    assert plan(sweep)[0].id == before
    custom_loss_file.write_text(OWN.replace("2.0", "3.0"))
    assert plan(sweep)[0].id != before


def test_mistakes_in_a_file_of_ones_own_are_one_line(custom_loss_file, tmp_path, detectors, tiny_config, refusal):
    def method(word):
        return refusal(built, tiny_config(method=word), detectors)

    assert "did you mean 'Plain'?" in method(f"{custom_loss_file}:Plan")
    assert "which is none" in method(f"{tmp_path / 'other.py'}:Plain")
    (tmp_path / "broken.py").write_text("1/0")
    assert "ZeroDivisionError" in method(f"{tmp_path / 'broken.py'}:Plain")
    (tmp_path / "number.py").write_text("Plain = 3")
    assert "torch.nn.Module" in method(f"{tmp_path / 'number.py'}:Plain")
    custom_loss_file.write_text(OWN + "    def __init__(self, width): super().__init__()")
    assert "__init__() takes 2 positional arguments but 4 were given" in method(f"{custom_loss_file}:Plain")


@pytest.mark.parametrize("where", ["run", "the doctor"])
def test_a_loss_whose_terms_have_no_gradient_is_refused_in_one_line(
    custom_loss_file, tmp_path, tiny_config, scene_cache, monkeypatch, refusal, where
):
    monkeypatch.setenv("FGDLAB_HOME", str(scene_cache))
    custom_loss_file.write_text(OWN.replace("self.aligned(scene, level)", "self.aligned(scene, level).detach()"))
    config = tiny_config(method=f"{custom_loss_file}:Plain", epochs=1)
    last = list(validate_config(config))[-1] if where == "the doctor" else None
    said = str(last) if last else refusal(run, config, tmp_path / "run", progress="off")
    assert "the loss term 'plain' on P3 must have a gradient to the student, got a constant; take" in said
    assert last is None or last.passed is False


def test_a_run_with_a_loss_that_returns_no_terms_is_refused_in_one_line(
    custom_loss_file, tmp_path, tiny_config, scene_cache, monkeypatch, refusal
):
    monkeypatch.setenv("FGDLAB_HOME", str(scene_cache))
    custom_loss_file.write_text(OWN + "    def forward(self, scene, teacher): return {'loss': 1}")
    config = tiny_config(method=f"{custom_loss_file}:Plain", epochs=1)
    said = refusal(run, config, tmp_path / "run", progress="off")
    assert "the loss must return a list of Terms with scalars, got {'loss': 1}; see terms.py" in said
