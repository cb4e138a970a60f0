"""Scales the distillation: by a factor, or to a ratio of the task loss that is measured on the first steps.

Coefficients of different methods cannot be compared: one method sums over all cells, another takes the mean. The ratio
of the distillation to the task loss at the start of training can be compared.
"""
from collections.abc import Callable

from torch import nn

from .terms import Term, rows

FIRST_STEPS = 50


class Balance(nn.Module):
    """Changes the weights of the distillation's terms; the proportion between levels stays.

    With ``loss_ratio``, one factor for all weights makes the terms sum to ``loss_ratio`` times the task loss over the
    first steps. After these steps the factor stays. With ``equal_terms``, each term has its own factor and an equal
    part of the ratio. Terms that are all 0 keep their weights.

    Args:
        strength: factor on every weight, >= 0.
        loss_ratio: ratio of the distillation to the task loss; 0 keeps the method's coefficients.
        equal_terms: divide the ratio equally among the term names.
        steps: number of steps that are measured.
    """

    def __init__(
        self, strength: float = 1.0, loss_ratio: float = 0.0, equal_terms: bool = False, steps: int = FIRST_STEPS,
    ):
        super().__init__()
        self.strength, self.loss_ratio, self.equal_terms, self.steps = strength, loss_ratio, equal_terms, steps
        self.seen, self.own, self.sums = 0, 0.0, {}  # steps measured, sum of the task loss, sum per term name
        # With several ranks: the mean of values over the ranks, so that all use the same factor.
        self.mean_over_ranks: Callable[[list[float]], list[float]] = list

    def forward(self, task_terms: list[Term], terms: list[Term]) -> list[Term]:
        """The distillation's ``terms`` with their new weights."""
        if self.loss_ratio and self.seen < self.steps:
            self.measure(task_terms, terms)
        return [term._replace(weight=term.weight * self.factor(term.name)) for term in terms]

    def measure(self, task_terms: list[Term], terms: list[Term]) -> None:
        self.seen += 1
        task_loss = sum(row["weighted"] for row in rows(0, task_terms))
        task_loss, *weighted = self.mean_over_ranks([task_loss, *(row["weighted"] for row in rows(0, terms))])
        self.own += task_loss
        for term, value in zip(terms, weighted, strict=True):
            self.sums[term.name] = self.sums.get(term.name, 0.0) + value

    def factor(self, name: str) -> float:
        """The factor on the weights of one term name."""
        measured = self.sums.get(name, 0.0) * len(self.sums) if self.equal_terms else sum(self.sums.values())
        return self.strength * (self.loss_ratio * self.own / measured if self.loss_ratio and measured else 1.0)

    def get_extra_state(self) -> dict:
        """The measured values, so that a resumed run keeps its weights."""
        return {"seen": self.seen, "own": self.own, "sums": dict(self.sums)}

    def set_extra_state(self, state: dict) -> None:
        self.seen, self.own, self.sums = state["seen"], state["own"], dict(state["sums"])
