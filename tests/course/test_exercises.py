"""The judge of the notebooks' exercises: right only where every value of every case is right, and never a traceback.

What holds for every checker of every notebook stands here once; right answers and near misses stand in test_exercises_TOPIC.py.
"""
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

from fgdlab.lab.course import exercises
from fgdlab.lab.course.exercises.judge import Case, Verdict, judge

MODULES = [import_module(f"{exercises.__name__}.{each.name}") for each in pkgutil.iter_modules(exercises.__path__)]
CHECKERS = {
    f"{module.__name__.rpartition('.')[2]}.{name}": found for module in MODULES for name, found in inspect.getmembers(module, inspect.isfunction)
    if found.__module__ == module.__name__ and inspect.signature(found).return_annotation is Verdict
}


def twice(expected=None, **options):
    return [Case("2 and 3", (torch.tensor([2.0, 3.0]),), torch.tensor([4.0, 6.0]) if expected is None else expected, **options)]


def test_a_right_answer_is_right_and_says_how_many_cases_agreed():
    verdict = judge(lambda x: 2 * x, twice())
    assert verdict and verdict.right and repr(verdict) == "right: 1 cases agree"


def test_one_wrong_value_among_right_ones_is_wrong():
    verdict = judge(lambda x: torch.tensor([4.0, 6.001]), twice(hint="double it"))
    assert not verdict and "expected 6 at 1, got 6.001" in verdict.message and verdict.message.endswith("Hint: double it")


def test_a_later_case_is_judged_too():
    cases = [*twice(), Case("five", (torch.tensor(5.0),), 10.0)]
    assert not judge(lambda x: 2 * x if x.ndim else x, cases) and judge(lambda x: 2 * x, cases)


@pytest.mark.parametrize(("answer", "said"), [
    (lambda x: None, "returned None"),
    (lambda x: (2 * x)[None], "expected shape (2,), got (1, 2)"),
    (lambda x: "4, 6", "expected a number or a tensor, got str"),
    (lambda x: x / 0 * float("nan"), "got nan"),
    (lambda x: x @ torch.ones(3), "RuntimeError"),
    (lambda: 1, "TypeError"),
])
def test_what_is_wrong_is_said_in_words(answer, said):
    verdict = judge(answer, twice())
    assert not verdict and verdict.written and said in verdict.message


def test_a_stub_is_not_yet_written_rather_than_wrong():
    def stub(x):
        raise NotImplementedError

    verdict = judge(stub, twice())
    assert not verdict and not verdict.written and verdict.word == "not yet"


def test_lists_dicts_words_and_truth_are_compared_by_part():
    expected = {"level": "P3", "shares": [0.25, 0.75], "helps": True, "pair": [torch.ones(2), "x"]}
    right = lambda: {"level": "P3", "shares": (0.25, 0.75), "helps": True, "pair": (torch.ones(2), "x")}    # noqa: E731
    cases = [Case("a row", (), expected)]
    assert judge(right, cases)
    for change in ({"level": "P4"}, {"shares": [0.25, 0.76]}, {"shares": [1.0]}, {"helps": 1}, {"pair": [torch.ones(2), "y"]}, {"pair": [torch.ones(3), "x"]}):
        assert not judge(lambda change=change: right() | change, cases), change
    assert not judge(lambda: {"level": "P3"}, cases)


def test_tolerance_is_the_case_s():
    assert judge(lambda x: 2.01 * x, twice(rtol=0.01)) and not judge(lambda x: 2.01 * x, twice(rtol=1e-3))


def test_the_line_in_a_notebook_is_escaped():
    assert "&lt;b&gt;" in Verdict(False, "<b>")._repr_html_()


# ---- every checker of every notebook -----------------------------------------------------------------------------------------------

def test_every_notebook_has_its_checkers():
    assert len(MODULES) == 11 and len(CHECKERS) == 34


@pytest.mark.parametrize("name", CHECKERS)
def test_a_stub_is_not_yet_written(name):
    def stub(*args):
        raise NotImplementedError

    verdict = CHECKERS[name](stub)
    assert not verdict.right and not verdict.written and "not yet written" in verdict.message


def shapes_apart(*args):
    return torch.zeros(2) @ torch.zeros(3)


def key_missing(*args):
    raise KeyError("no such thing")


def division_by_zero(*args):
    return 1 / 0


@pytest.mark.parametrize(("broken", "error"), [(shapes_apart, "RuntimeError"), (key_missing, "KeyError"), (division_by_zero, "ZeroDivisionError")])
@pytest.mark.parametrize("name", CHECKERS)
def test_an_answer_that_fails_is_told_without_a_traceback(name, broken, error):
    verdict = CHECKERS[name](broken)
    assert not verdict.right and verdict.written and error in verdict.message and broken.__name__ in verdict.message
