"""Balance: a factor on a method's weights, or a ratio of the task loss, measured on the first steps and then kept."""
import pytest
import torch

from fgdlab.balance import Balance
from fgdlab.terms import Term, total


def terms(**raws):
    return [
        Term(name, level, torch.tensor(raw * scale), 0.5)
        for name, raw in raws.items()
        for level, scale in (("P3", 1.0), ("P4", 3.0))
    ]


def own(loss=2.0):
    return [
        Term("classification", "all", torch.tensor(loss / 2)),
        Term("bbox_regression", "all", torch.tensor(loss / 2)),
    ]


def test_strength_multiplies_every_weight_and_no_sum():
    balanced = Balance(strength=3.0)(own(), terms(fg=1.0, bg=2.0))
    assert [term.weight for term in balanced] == [1.5] * 4 and [float(term.raw) for term in balanced] == [
        1.0,
        3.0,
        2.0,
        6.0,
    ]


def test_a_loss_ratio_scales_the_terms_to_that_ratio_of_the_task_loss_and_keeps_proportions():
    before = terms(fg=1.0, bg=40.0)
    balanced = Balance(loss_ratio=0.25)(own(2.0), before)
    assert float(total(balanced)) == pytest.approx(0.5)
    assert len({after.weight / term.weight for after, term in zip(balanced, before, strict=True)}) == 1


def test_equal_terms_give_each_name_an_equal_part():
    balanced = Balance(loss_ratio=0.5, equal_terms=True)(own(2.0), terms(fg=1.0, bg=40.0))
    for name in ("fg", "bg"):
        assert float(total([term for term in balanced if term.name == name])) == pytest.approx(0.5)


@pytest.mark.parametrize("settings", [
    {"strength": -1.0}, {"strength": float("nan")}, {"loss_ratio": -1.0}, {"loss_ratio": float("inf")}, {"steps": 0}])
def test_a_number_out_of_its_range_is_refused(settings):
    (name, value), = settings.items()
    with pytest.raises(ValueError, match=rf"{name} .*must be .*got.* {value}"):
        Balance(**settings)


def test_levels_keep_their_proportion():
    fine, coarse = Balance(loss_ratio=0.25, equal_terms=True)(own(), terms(fg=1.0))
    assert float(coarse.weight * coarse.raw / (fine.weight * fine.raw)) == pytest.approx(3.0)


def test_after_the_measured_steps_the_factor_stays():
    balance = Balance(loss_ratio=0.5, steps=2)
    for raw in (1.0, 3.0):
        balance(own(4.0), terms(fg=raw))
    kept = balance.factor("fg")
    assert kept == pytest.approx(0.5 * 8.0 / (0.5 * 4 * 1.0 + 0.5 * 4 * 3.0))
    balance(own(100.0), terms(fg=50.0))
    assert balance.factor("fg") == kept


def test_the_factor_is_a_constant_to_the_gradient():
    raw = torch.tensor(2.0, requires_grad=True)
    (term,) = Balance(loss_ratio=0.5)(own(), [Term("fg", "P3", raw, 1.0)])
    (term.weight * term.raw).backward()
    assert isinstance(term.weight, float) and float(raw.grad) == pytest.approx(term.weight)


def test_terms_that_are_all_0_keep_their_weights():
    assert [term.weight for term in Balance(loss_ratio=0.5)(own(), terms(fg=0.0))] == [0.5, 0.5]
    assert [term.weight for term in Balance(loss_ratio=0.5, equal_terms=True)(own(), terms(fg=0.0, bg=1.0))][:2] == [
        0.5,
        0.5,
    ]


@pytest.mark.parametrize("lost", [(float("nan"), 1.0), (2.0, float("inf"))])
def test_a_step_that_is_not_finite_is_not_measured(lost):
    balance = Balance(loss_ratio=0.5, steps=2)
    balance(own(lost[0]), terms(fg=lost[1]))
    before = [term.weight for term in balance(own(2.0), terms(fg=1.0))]
    assert before == [term.weight for term in Balance(loss_ratio=0.5)(own(2.0), terms(fg=1.0))] and balance.seen == 1


@pytest.mark.parametrize("loss", [0.0, -2.0])
def test_a_task_loss_that_is_not_above_0_has_no_ratio(loss):
    with pytest.raises(ValueError, match="loss_ratio must have a task loss above 0, got .*; set a strength instead"):
        Balance(loss_ratio=0.5)(own(loss), terms(fg=1.0))


def test_a_restored_balance_keeps_its_measurement():
    first, second = Balance(loss_ratio=0.5, steps=3), Balance(loss_ratio=0.5, steps=3)
    first(own(6.0), terms(fg=1.0))
    second.load_state_dict(first.state_dict())
    assert second.factor("fg") == first.factor("fg") != 1.0
    for balance in (first, second):
        balance(own(1.0), terms(fg=7.0))
    assert second.factor("fg") == first.factor("fg") and second.seen == 2
