"""Checkers for the notebooks' exercises: what the reader wrote is called on small cases and compared with known answers.

    answer (a function) --judge(answer, cases)--> Verdict, which shows itself as one line

A checker says what was wrong in the reader's terms and never ends in a traceback; its own tests hand it near misses.
"""
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from html import escape

import torch


@dataclass(frozen=True)
class Case:
    """One call of an answer: ``answer(*args)`` must give ``expected`` to the tolerances. ``name`` and ``hint`` are told where it does not."""

    name: str
    args: tuple
    expected: object
    rtol: float = 1e-5
    atol: float = 1e-7
    hint: str = ""


@dataclass(frozen=True)
class Verdict:
    """right, wrong, or not yet written; true only when right."""

    right: bool
    message: str
    written: bool = True

    def __bool__(self) -> bool:
        return self.right

    def __repr__(self) -> str:
        return f"{self.word}: {self.message}"

    def _repr_html_(self) -> str:
        colour = {"right": "#1a7f37", "not yet": "#666666", "not right": "#b35900"}[self.word]
        return f'<b style="color:{colour}">{self.word}</b>: {escape(self.message)}'

    @property
    def word(self) -> str:
        return "right" if self.right else "not right" if self.written else "not yet"


def judge(answer: Callable, cases: list[Case]) -> Verdict:
    """Call ``answer`` on every case and stop at the first that is wrong."""
    for case in cases:
        try:
            got = answer(*case.args)
        except NotImplementedError:
            return Verdict(False, "not yet written; replace the line that raises, then run the cell again", written=False)
        except Exception as error:                                   # the reader's code may fail in any way; the cell must go on
            line = traceback.extract_tb(error.__traceback__)[-1]
            return Verdict(False, f"{case.name}: {type(error).__name__}: {error} (in {line.name}, line {line.lineno})")
        wrong = difference(got, case)
        if wrong:
            return Verdict(False, f"{case.name}: {wrong}" + (f" Hint: {case.hint}" if case.hint else ""))
    return Verdict(True, f"{len(cases)} cases agree")


def difference(got, case: Case) -> str:
    """What is wrong with a value, in words; empty where it is right."""
    expected = case.expected
    if got is None:
        return "the function returned None; it must return its result."
    if isinstance(expected, (bool, str)):
        return "" if type(got) is type(expected) and got == expected else f"expected {expected!r}, got {got!r}."
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            return f"expected a dict with the keys {', '.join(map(str, expected))}, got {', '.join(map(str, got)) if isinstance(got, dict) else type(got).__name__}."
        return next((f"{key}: {wrong}" for key in expected if (wrong := difference(got[key], part(case, expected[key])))), "")
    if isinstance(expected, (list, tuple)) and not all(isinstance(each, (int, float)) for each in expected):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            return f"expected {len(expected)} values, got {len(got) if isinstance(got, (list, tuple)) else type(got).__name__}."
        return next((f"value {i}: {wrong}" for i, each in enumerate(expected) if (wrong := difference(got[i], part(case, each)))), "")
    try:
        got, expected = (torch.as_tensor(each).detach().double().cpu() for each in (got, expected))
    except (TypeError, ValueError, RuntimeError):
        return f"expected a number or a tensor, got {type(got).__name__}."
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}."
    off = ~torch.isclose(got, expected, rtol=case.rtol, atol=case.atol)
    if not off.any():
        return ""
    where = tuple(int(i) for i in off.nonzero()[0])
    at = f" at {where if len(where) > 1 else where[0]}" if where else ""
    return f"expected {expected[where]:.6g}{at}, got {got[where]:.6g}" + (f"; {int(off.sum())} of {off.numel()} values differ." if off.numel() > 1 else ".")


def part(case: Case, expected) -> Case:
    return Case(case.name, case.args, expected, case.rtol, case.atol)
