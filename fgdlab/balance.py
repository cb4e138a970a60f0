"""Scales the distillation: by a factor, or to a ratio of the task loss that is measured on the first steps.

Coefficients of different methods cannot be compared: one method sums over all cells, another takes the mean. The ratio
of the distillation to the task loss at the start of training can be compared.
"""
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from itertools import islice
from typing import Any

import torch
from torch import nn

from .config import TERMS, FGDConfig, check_positive, check_weights
from .terms import Term, rows

FIRST_STEPS = 50


class Balance(nn.Module):
    """Changes the weights of the distillation's terms; the proportion between levels stays.

    With ``loss_ratio``, one factor for all weights makes the terms sum to ``loss_ratio`` times the task loss over the
    first steps. After these steps the factor stays. With ``equal_terms``, each term has its own factor and an equal
    part of the ratio. Terms that are all 0 keep their weights.

    >>> loss = FGDLoss(("P3",), 256, 256)
    >>> distiller = Distiller(student, teacher, loss, balance=Balance(loss_ratio=1.0))

    Args:
        strength: factor on every weight, >= 0.
        loss_ratio: ratio of the distillation to the task loss; 0 keeps the method's coefficients.
        steps: number of steps that are measured, at least 1.
    Raises:
        ValueError: a number outside its range.
    """

    def __init__(
        self, strength: float = 1.0, loss_ratio: float = 0.0, equal_terms: bool = False, steps: int = FIRST_STEPS,
    ):
        super().__init__()
        check_weights(strength=strength, loss_ratio=loss_ratio)
        check_positive(steps=steps)
        self.strength, self.loss_ratio, self.equal_terms, self.steps = strength, loss_ratio, equal_terms, steps
        self.seen, self.own = 0, 0.0  # steps measured, sum of the task loss
        self.sums: dict[str, float] = {}  # per term name
        # With several ranks: the mean of values over the ranks, so that all use the same factor.
        self.mean_over_ranks: Callable[[list[float]], list[float]] = list

    def forward(self, task_terms: list[Term], terms: list[Term]) -> list[Term]:
        """The distillation's ``terms`` with their new weights."""
        if self.loss_ratio and self.seen < self.steps:
            self.measure(task_terms, terms)
        return [term._replace(weight=term.weight * self.factor(term.name)) for term in terms]

    def measure(self, task_terms: list[Term], terms: list[Term]) -> None:
        task_loss = sum(row["weighted"] for row in rows(0, task_terms))
        task_loss, *weighted = self.mean_over_ranks([task_loss, *(row["weighted"] for row in rows(0, terms))])
        if not all(map(math.isfinite, (task_loss, *weighted))):
            return  # as under too large a float16 scale
        if task_loss <= 0:
            raise ValueError(f"loss_ratio must have a task loss above 0, got {task_loss:g}; set a strength instead")
        self.seen += 1
        self.own += task_loss
        for term, value in zip(terms, weighted, strict=True):
            self.sums[term.name] = self.sums.get(term.name, 0.0) + value

    def factor(self, name: str) -> float:
        """The factor on the weights of one term name."""
        measured = self.sums.get(name, 0.0) * len(self.sums) if self.equal_terms else sum(self.sums.values())
        return self.strength * (self.loss_ratio * self.own / measured if self.loss_ratio and measured else 1.0)

    def get_extra_state(self) -> dict[str, Any]:
        """The measured values, so that a resumed run keeps its weights."""
        return {"seen": self.seen, "own": self.own, "sums": dict(self.sums)}

    def set_extra_state(self, state: dict[str, Any]) -> None:
        self.seen, self.own, self.sums = state["seen"], state["own"], dict(state["sums"])


def calibrate(
    distiller: Any, loader: Iterable[Any], batches: int = 8, loss_ratio: float = 1.0,
) -> dict[str, float]:
    """Print each term's share of the task loss on the first batches, and propose weights. Nothing else changes.

    Args:
        loader: tuples of the distiller's arguments, or one argument each.
        loss_ratio: wanted ratio of the distillation to the task loss; each term gets an equal part.
    Returns:
        {term: weight}; of FGD {setting: weight}, for ``dataclasses.replace(config, **calibrate(...))``.
    Raises:
        ValueError: a distiller without a loss, no batch, or a ``loss_ratio`` that is not above 0.
    """
    check_positive(loss_ratio=loss_ratio)
    balance, kept = Balance(loss_ratio=loss_ratio, equal_terms=True, steps=batches), distiller.balance
    terms: list[Term] = []
    with state_restored(distiller), torch.no_grad():
        try:
            distiller.train().balance = balance
            for batch in islice(loader, batches):
                terms = distiller(*batch) if isinstance(batch, (tuple, list)) else distiller(batch)
        finally:
            distiller.balance = kept
    if not balance.sums:
        raise ValueError("calibrate must measure terms of a distillation, got none; give it a loss and batches")
    proposed = {term.name: term.weight for term in terms if term.name in balance.sums}
    for name, weight in proposed.items():
        share, now = balance.sums[name] / max(balance.own, 1e-30), weight / balance.factor(name)
        print(f"{name}: {share:.3g} of the task loss with weight {now:.3g}; propose weight {weight:.3g}")
    names = TERMS if isinstance(getattr(distiller.loss, "config", None), FGDConfig) else {}
    return {names.get(name, name): weight for name, weight in proposed.items()}


@contextmanager
def state_restored(distiller: nn.Module) -> Iterator[None]:
    """Afterwards running statistics, the balance's measurements, random numbers and modes are what they were."""
    state, modes = deepcopy(distiller.state_dict()), {module: module.training for module in distiller.modules()}
    gpus = [torch.cuda.current_device()] if any(parameter.is_cuda for parameter in distiller.parameters()) else []
    try:
        with torch.random.fork_rng(devices=gpus):
            yield
    finally:
        distiller.load_state_dict(state)
        for module, mode in modes.items():
            module.training = mode
