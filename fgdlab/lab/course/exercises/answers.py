"""Check a reader's answer to an exercise: call it on small cases and compare with known results.

    answer (a function) --check_answer--> Verdict, shown in a notebook as one line
"""
import traceback
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from html import escape
from inspect import signature

import torch
from torch import Tensor

COLOURS = {"right": "#1a7f37", "not yet": "#666666", "not right": "#b35900"}


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
        return f'<b style="color:{COLOURS[self.word]}">{self.word}</b>: {escape(self.message)}'

    @property
    def word(self) -> str:
        return "right" if self.right else "not right" if self.written else "not yet"


def exercise(cases: dict[str, tuple], wrap: Callable | None = None, rtol: float = 1e-5, atol: float = 1e-7):
    """Turn a solution into the check of an exercise, ``check(answer) -> Verdict``.

    Args:
        cases: {name: (*arguments, hint)}; the hint is shown where an answer differs from the solution.
        wrap: makes from an answer the function that is compared, where it has other arguments than the solution.
    """
    def decorate(solution: Callable) -> Callable:
        def check(answer) -> Verdict:
            known = {name: (deepcopy(args), solution(*args), hint) for name, (*args, hint) in cases.items()}
            return check_answer(wrap(answer) if wrap else answer, known, rtol, atol)

        check.__name__, check.__module__ = solution.__name__, solution.__module__
        check.__doc__ = solution.__doc__ if wrap else f"answer{signature(solution)}: {solution.__doc__}"
        return check

    return decorate


def check_answer(answer: Callable, cases: dict[str, tuple], rtol: float = 1e-5, atol: float = 1e-7) -> Verdict:
    """Call ``answer`` on each case {name: (arguments, expected result, hint)} and stop at the first that is wrong.

    Never ends in a traceback.
    """
    for name, (args, expected, hint) in cases.items():
        try:
            got = answer(*args)
        except NotImplementedError:
            message = "not yet written; replace the line that raises, then run the cell again"
            return Verdict(False, message, written=False)
        except Exception as error:  # the reader's code may raise anything
            line = traceback.extract_tb(error.__traceback__)[-1]
            message = f"{name}: {type(error).__name__}: {error} (in {line.name}, line {line.lineno})"
            return Verdict(False, message)
        wrong = difference(got, expected, rtol, atol)
        if wrong:
            return Verdict(False, f"{name}: {wrong}" + (f" Hint: {hint}" if hint else ""))
    return Verdict(True, f"{len(cases)} cases agree")


def random_maps(seed: int, *shape: int) -> Tensor:
    """Maps (N, C, H, W) of both signs whose channels differ in scale and mean."""
    noise = torch.randn(*shape, generator=torch.Generator().manual_seed(seed))
    scale, mean = torch.linspace(0.5, 2.0, shape[1]), torch.linspace(-1.0, 1.0, shape[1])
    return noise * scale[:, None, None] + mean[:, None, None]


def difference(got, expected, rtol: float, atol: float) -> str:
    """How a result differs from what is expected, in words; empty if it does not."""
    def first(parts: Iterable[tuple[str, object, object]]) -> str:
        found = ((name, difference(part, value, rtol, atol)) for name, part, value in parts)
        return next((f"{name}: {wrong}" for name, wrong in found if wrong), "")

    if got is None:
        return "the function returned None; it must return its result."
    if isinstance(expected, (bool, str)):
        return "" if type(got) is type(expected) and got == expected else f"expected {expected!r}, got {got!r}."
    if isinstance(expected, dict):
        if not isinstance(got, dict) or got.keys() != expected.keys():
            keys = ", ".join(map(str, got)) if isinstance(got, dict) else type(got).__name__
            return f"expected a dict with the keys {', '.join(map(str, expected))}, got {keys}."
        return first((str(key), got[key], value) for key, value in expected.items())
    if isinstance(expected, (list, tuple)) and not all(isinstance(value, (int, float)) for value in expected):
        if not isinstance(got, (list, tuple)) or len(got) != len(expected):
            count = len(got) if isinstance(got, (list, tuple)) else type(got).__name__
            return f"expected {len(expected)} values, got {count}."
        return first((f"value {i}", got[i], value) for i, value in enumerate(expected))
    try:
        got, expected = (torch.as_tensor(value).detach().double().cpu() for value in (got, expected))
    except (TypeError, ValueError, RuntimeError):
        return f"expected a number or a tensor, got {type(got).__name__}."
    if got.shape != expected.shape:
        return f"expected shape {tuple(expected.shape)}, got {tuple(got.shape)}."
    off = ~torch.isclose(got, expected, rtol=rtol, atol=atol)
    if not off.any():
        return ""
    where = tuple(off.nonzero()[0].tolist())
    at = f" at {where if len(where) > 1 else where[0]}" if where else ""
    count = f"; {int(off.sum())} of {off.numel()} values differ." if off.numel() > 1 else "."
    return f"expected {expected[where]:.6g}{at}, got {got[where]:.6g}{count}"
