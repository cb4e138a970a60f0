"""Exercises of the notebooks: right answers pass, near misses fail, and no answer ends in a traceback.

The answers are in exercise_cases/, one file per notebook.
"""
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

from fgdlab.lab.course import exercises
from fgdlab.lab.course.exercises.answers import Verdict, check_answer

from . import exercise_cases

MODULES = [import_module(f"{exercises.__name__}.{info.name}") for info in pkgutil.iter_modules(exercises.__path__)]
EXERCISES = {
    (module.__name__.rpartition(".")[2], name): function
    for module in MODULES for name, function in inspect.getmembers(module, inspect.isfunction)
    if function.__module__ == module.__name__ and list(inspect.signature(function).parameters) == ["answer"]
    and inspect.signature(function).return_annotation is Verdict
}
ANSWERS = {info.name: import_module(f"{exercise_cases.__name__}.{info.name}")
           for info in pkgutil.iter_modules(exercise_cases.__path__)}
NEAR_MISSES = {
    (notebook, name, mistake): answer for notebook, cases in ANSWERS.items()
    for name, answers in cases.NEAR_MISSES.items() for mistake, answer in answers.items()
}


def ids(key) -> str:
    return ".".join(key)


RAISING = {"paired"}  # exercises with near misses that raise
every_exercise = pytest.mark.parametrize("exercise", EXERCISES, ids=ids)


def test_every_exercise_has_a_right_answer_and_two_near_misses():
    assert len(ANSWERS) == 11 and all(
        len(misses) >= 2 for cases in ANSWERS.values() for misses in cases.NEAR_MISSES.values())
    for table in ("RIGHT", "NEAR_MISSES"):
        names = {(notebook, name) for notebook, cases in ANSWERS.items() for name in getattr(cases, table)}
        assert names == set(EXERCISES)


@every_exercise
def test_a_right_answer_is_right(exercise):
    notebook, name = exercise
    verdict = EXERCISES[exercise](ANSWERS[notebook].RIGHT[name])
    assert verdict.right, verdict.message


@pytest.mark.parametrize("case", NEAR_MISSES, ids=ids)
def test_a_near_miss_is_not_right(case):
    *exercise, _ = case
    verdict = EXERCISES[tuple(exercise)](NEAR_MISSES[case])
    assert not verdict.right and verdict.written and verdict.message
    assert exercise[1] in RAISING or "Error" not in verdict.message


@every_exercise
def test_a_stub_is_not_yet_written(exercise):
    def stub(*args):
        raise NotImplementedError

    verdict = EXERCISES[exercise](stub)
    assert not verdict.right and not verdict.written and "not yet written" in verdict.message


@every_exercise
def test_an_answer_without_return_is_not_right(exercise):
    verdict = EXERCISES[exercise](lambda *args: None)
    assert not verdict.right and verdict.written and "None" in verdict.message


def matmul_of_different_lengths(*args):
    return torch.zeros(2) @ torch.zeros(3)


def missing_key(*args):
    raise KeyError("no such key")


def division_by_zero(*args):
    return 1 / 0


@pytest.mark.parametrize(("broken", "error"), [
    (matmul_of_different_lengths, "RuntimeError"), (missing_key, "KeyError"), (division_by_zero, "ZeroDivisionError"),
])
@every_exercise
def test_an_answer_that_raises_is_reported_without_a_traceback(exercise, broken, error):
    verdict = EXERCISES[exercise](broken)
    assert not verdict.right and verdict.written
    assert error in verdict.message and broken.__name__ in verdict.message


# ---- check_answer ----------------------------------------------------------------------------------------------------

TWICE = {"2 and 3": ((torch.tensor([2.0, 3.0]),), torch.tensor([4.0, 6.0]), "double it")}


def test_a_right_answer_says_how_many_cases_agree():
    verdict = check_answer(lambda x: 2 * x, TWICE)
    assert verdict and verdict.right and repr(verdict) == "right: 1 cases agree"


def test_one_wrong_value_among_right_ones_is_wrong():
    verdict = check_answer(lambda x: torch.tensor([4.0, 6.001]), TWICE)
    assert not verdict and "expected 6 at 1, got 6.001" in verdict.message
    assert verdict.message.endswith("Hint: double it")


def test_every_case_is_checked():
    cases = TWICE | {"five": ((torch.tensor(5.0),), 10.0, "")}
    assert not check_answer(lambda x: 2 * x if x.ndim else x, cases) and check_answer(lambda x: 2 * x, cases)


@pytest.mark.parametrize(("answer", "message"), [
    (lambda x: None, "returned None"),
    (lambda x: (2 * x)[None], "expected shape (2,), got (1, 2)"),
    (lambda x: "4, 6", "expected a number or a tensor, got str"),
    (lambda x: x / 0 * float("nan"), "got nan"),
    (lambda x: x @ torch.ones(3), "RuntimeError"),
    (lambda: 1, "TypeError"),
])
def test_the_message_says_what_is_wrong(answer, message):
    verdict = check_answer(answer, TWICE)
    assert not verdict and verdict.written and message in verdict.message


def test_lists_dicts_words_and_truth_values_are_compared_by_part():
    expected = {"level": "P3", "parts": [0.25, 0.75], "helps": True, "pair": [torch.ones(2), "x"]}
    right = {"level": "P3", "parts": (0.25, 0.75), "helps": True, "pair": (torch.ones(2), "x")}
    cases = {"a row": ((), expected, "")}
    assert check_answer(lambda: right, cases)
    for change in ({"level": "P4"}, {"parts": [0.25, 0.76]}, {"parts": [1.0]}, {"helps": 1},
                   {"pair": [torch.ones(2), "y"]}, {"pair": [torch.ones(3), "x"]}):
        assert not check_answer(lambda change=change: right | change, cases), change
    assert not check_answer(lambda: {"level": "P3"}, cases)


def test_the_tolerance_can_be_set():
    assert check_answer(lambda x: 2.01 * x, TWICE, rtol=0.01) and not check_answer(lambda x: 2.01 * x, TWICE, rtol=1e-3)


def test_the_line_in_a_notebook_is_escaped():
    assert "&lt;b&gt;" in Verdict(False, "<b>")._repr_html_()
