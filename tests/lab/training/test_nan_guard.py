"""NaN and infinity in any term, gradient or weight: the run stops with a name, and the last good checkpoint stays."""
import math

import pytest
import torch
from torch import nn

from fgdlab.balance import Balance
from fgdlab.distill import Distiller
from fgdlab.lab.training import loop as lab_train
from fgdlab.lab.training.nan_guard import NanGuard, check_weights
from fgdlab.terms import Term

OF_FGD = [(name, level) for name in ("fg", "bg", "attention", "global") for level in ("P3", "P4", "P5")]
TERMS = [("classification", "all"), ("bbox_regression", "all"), *OF_FGD]


def poison(monkeypatch, name: str, level: str, at_step: int, value: float) -> None:
    """Make this term of every distiller take this value in this step, counted from 1."""
    forward, calls = Distiller.forward, []

    def poisoned(self, images, targets):
        calls.append(1)
        terms = forward(self, images, targets)
        hit = [term for term in terms if (term.name, term.level) == (name, level)]
        assert len(hit) == 1
        return [
            term._replace(raw=term.raw + value) if term is hit[0] and len(calls) == at_step else term for term in terms
        ]

    monkeypatch.setattr(Distiller, "forward", poisoned)


@pytest.mark.parametrize("name, level", TERMS)
def test_a_bad_term_stops_the_run_with_name_level_and_step_and_the_last_good_checkpoint_stays(
    tiny_config, tiny_scenes, tiny_distiller, tmp_path, monkeypatch, name, level
):
    value = math.nan if TERMS.index((name, level)) % 2 else math.inf
    poison(monkeypatch, name, level, 3, value)
    with pytest.raises(
        FloatingPointError, match=rf"loss term '{name}' on {level} must be finite, got {value} at step 3; lower"
    ):
        lab_train.train(tiny_distiller(), tiny_scenes(), tiny_config(checkpoint_every=1), tmp_path, progress="off")
    kept = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert kept["step"] == 2 and all(each.isfinite().all() for each in kept["distiller"].values())
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint.pt", "metrics.jsonl"]
    monkeypatch.undo()                                               # without the fault the run resumes
    done = lab_train.train(tiny_distiller(), tiny_scenes(), tiny_config(checkpoint_every=1), tmp_path, progress="off")
    assert done["resumed_at"] == 2 and done["steps"] == 9


def test_weights_that_a_finite_gradient_made_infinite_are_not_kept(
    tiny_config, tiny_scenes, tiny_distiller, tmp_path, monkeypatch
):
    """Every term of the step and its gradient are finite; only the learning rate is too large."""
    monkeypatch.setattr(lab_train, "learning_rate", lambda step, steps, config: math.inf)
    config = tiny_config(optimizer="sgd", checkpoint_every=1)
    with pytest.raises(
        FloatingPointError,
        match=r"weights must be finite, got NaN or infinity in 'student\..*' after step 1; lower the learning rate",
    ):
        lab_train.train(tiny_distiller(0, None), tiny_scenes(), config, tmp_path, progress="off")
    assert not (tmp_path / "checkpoint.pt").exists()


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(float(value))


def record(guard: NanGuard, step: int, first: float, second: float, norm: float = 1.0) -> None:
    guard.record(
        step,
        [Term("fg", "P3", scalar(first)), Term("bg", "P4", scalar(second), 0.5)],
        scalar(first + 0.5 * second),
        scalar(norm),
    )


def test_a_check_after_many_steps_names_the_first_bad_one():
    """As on CUDA, where only some steps are checked."""
    guard = NanGuard()
    for step in range(1, 11):
        record(guard, step, math.nan if step > 6 else 1.0, math.inf if step > 4 else 1.0)
    with pytest.raises(FloatingPointError, match="'bg' on P4 must be finite, got inf at step 5"):
        guard.check()


def test_a_check_of_good_steps_passes_and_forgets_them():
    guard = NanGuard()
    guard.check()
    record(guard, 1, 1.0, 2.0)
    guard.check()
    assert guard.steps == []


def test_a_bad_gradient_of_good_terms_is_named_with_its_step():
    guard = NanGuard()
    record(guard, 7, 1.0, 1.0)
    record(guard, 8, 1.0, 1.0, norm=math.inf)
    with pytest.raises(FloatingPointError, match="the gradient's norm must be finite, got inf at step 8"):
        guard.check()


def test_a_guard_holds_no_graph():
    guard = NanGuard()
    loss = scalar(1.0).requires_grad_() * 2
    guard.record(1, [Term("fg", "P3", loss)], loss, loss)
    (_, terms, *rest), = guard.steps
    assert not any(each.requires_grad for each in (terms[0].raw, *rest))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_weights_and_running_statistics_are_checked(value):
    module = nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1))
    check_weights(3, module)
    module[1].running_var.fill_(value)
    with pytest.raises(FloatingPointError, match=r"in '1\.running_var' after step 3"):
        check_weights(3, module)


def test_a_distillation_in_balance_is_checked_like_any_other():
    module = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), Balance(loss_ratio=1.0))
    check_weights(3, module)
    module[1].running_mean[0] = float("inf")
    with pytest.raises(FloatingPointError, match="1.running_mean"):
        check_weights(3, module)
