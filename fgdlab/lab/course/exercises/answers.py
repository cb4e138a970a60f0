"""Check a reader's answer to an exercise: call it on small cases and compare with known results.

    answer (a function) --check_answer(answer, cases)--> Verdict, shown in a notebook as one line

A verdict names the first case that fails and never ends in a traceback.
"""
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from html import escape

import torch
from torch import Tensor


@dataclass(frozen=True)
class Case:
    """``answer(*args)`` must equal ``expected`` within the tolerances; ``hint`` is shown where it does not."""

    name: str
    args: tuple
    expected: object
    rtol: float = 1e-5
    atol: float = 1e-7
    hint: str = ""


@dataclass(frozen=True)
class Verdict:
    """right, not right, or not yet written; true only when right."""

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


def check_answer(answer: Callable, cases: list[Case]) -> Verdict:
    """Call ``answer`` on each case and stop at the first that is wrong."""
    for case in cases:
        try:
            got = answer(*case.args)
        except NotImplementedError:
            message = "not yet written; replace the line that raises, then run the cell again"
            return Verdict(False, message, written=False)
        except Exception as error:  # the reader's code may raise anything
            line = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{case.name}: {type(error).__name__}: {error} (in {line.name}, line {line.lineno})"
            return Verdict(False, message)
        wrong = difference(got, case)
        if wrong:
            return Verdict(False, f"{case.name}: {wrong}" + (f" Hint: {case.hint}" if case.hint else ""))
    return Verdict(True, f"{len(cases)} cases agree")


def random_maps(seed: int, *shape: int) -> Tensor:
    """Maps (N, C, H, W) of both signs whose channels differ in scale and mean."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    scale, mean = torch.linspace(0.5, 2.0, shape[1]), torch.linspace(-1.0, 1.0, shape[1])
    return noise * scale[:, None, None] + mean[:, None, None]


def difference(got, case: Case) -> str:
    """How a result differs from ``case.expected``, in words; empty if it does not."""
    expected = case.expected
    if got is None:
        return "the function returned None; it must return its result."
    if isinstance(expected, (bool, str)):
        return "" if type(got) is type(expected) and got == expected else f"expected {expected!r}, got {got!r}."
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            keys = ", ".join(map(str, got)) if isinstance(got, dict) else type(got).__name__
            return f"expected a dict with the keys {', '.join(map(str, expected))}, got {keys}."
        return first_difference({f"{key}": (got[key], value) for key, value in expected.items()}, case)
    if isinstance(expected, (list, tuple)) and not all(isinstance(value, (int, float)) for value in expected):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            count = len(got) if isinstance(got, (list, tuple)) else type(got).__name__
            return f"expected {len(expected)} values, got {count}."
        return first_difference({f"value {i}": (got[i], value) for i, value in enumerate(expected)}, case)
    try:
        got, expected = (torch.as_tensor(value).detach().double().cpu() for value in (got, expected))
    except (TypeError, ValueError, RuntimeError):
        return f"expected a number or a tensor, got {type(got).__name__}."
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}."
    off = ~torch.isclose(got, expected, rtol=case.rtol, atol=case.atol)
    if not off.any():
        return ""
    where = tuple(int(i) for i in off.nonzero()[0])
    at = f" at {where if len(where) > 1 else where[0]}" if where else ""
    count = f"; {int(off.sum())} of {off.numel()} values differ." if off.numel() > 1 else "."
    return f"expected {expected[where]:.6g}{at}, got {got[where]:.6g}{count}"


def first_difference(parts: dict[str, tuple], case: Case) -> str:
    """The first part (got, expected) that differs, with its name."""
    for name, (got, expected) in parts.items():
        if wrong := difference(got, replace(case, expected=expected)):
            return f"{name}: {wrong}"
    return ""
