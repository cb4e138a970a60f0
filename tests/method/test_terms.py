"""One term = one row."""
import json

import pytest
import torch

from fgdlab.terms import Term, check_finite, rows, total

TERMS = [Term("fg", "P3", torch.tensor(2.0), 0.5), Term("classification", "all", torch.tensor(3.0))]


def test_total_is_the_weighted_sum():
    assert total(TERMS) == 0.5 * 2 + 3


def test_total_of_nothing_is_zero():
    assert total([]) == 0


def test_total_passes_each_term_its_weight_as_gradient():
    raw = torch.tensor([2.0, 3.0], requires_grad=True)
    total([Term("fg", "P3", raw[0], 0.25), Term("bg", "P3", raw[1], 0.5)]).backward()
    assert raw.grad.tolist() == [0.25, 0.5]


def test_total_of_mixed_precision_is_float32():
    assert (
        total([Term("a", "all", torch.tensor(1.0, dtype=torch.bfloat16)), Term("b", "all", torch.tensor(1.0))]).dtype
        == torch.float32
    )


def test_rows_are_plain_numbers():
    written = json.loads(json.dumps(rows(7, TERMS)))
    assert written[0] == {"step": 7, "name": "fg", "level": "P3", "raw": 2.0, "weighted": 1.0}
    assert [row["weighted"] for row in written] == [1.0, 3.0]


def test_rows_of_nothing_are_none():
    assert rows(0, []) == []


def test_finite_terms_pass():
    check_finite(0, TERMS)


@pytest.mark.parametrize("value", ["nan", "inf", "-inf"])
def test_a_term_that_is_not_finite_is_named_with_level_and_step(value):
    with pytest.raises(FloatingPointError, match=f"'bg' on P4 must be finite, got {value} at step 12"):
        check_finite(12, [*TERMS, Term("bg", "P4", torch.tensor(float(value)))])
