"""How loud a distillation speaks beside the detector's own loss: by a factor, or by a share measured on the first steps.

Coefficients of different methods cannot be compared: a sum over all cells and a mean over all cells differ by their number. What can
be compared is the share of the optimised loss that a term starts with.
"""
from collections.abc import Callable

from torch import nn

from .terms import Term, rows

FIRST_STEPS = 50


class Balance(nn.Module):
    """Terms with other weights: ``strength`` times their own, or such that the distillation starts at ``loss_ratio`` of the detector's loss.

    With a share, all weights are multiplied by one factor, so that over the first steps the sum of the terms is ``loss_ratio`` times the sum
    of the detector's own losses; after these steps the factor stays. ``equal_terms`` gives each name of a term its own factor and an equal
    part of the share instead. The proportion between levels is the method's in both. Terms that are all 0 keep their weights.

    Args:
        strength: factor on every weight, >= 0.
        loss_ratio: > 0 brings the distillation to that share of the detector's own loss; 0 leaves the method's coefficients.
        equal_terms: divide the ratio equally among the names.
        steps: how many steps are measured.
    """

    def __init__(self, strength: float = 1.0, loss_ratio: float = 0.0, equal_terms: bool = False, steps: int = FIRST_STEPS):
        super().__init__()
        self.strength, self.loss_ratio, self.equal_terms, self.steps = strength, loss_ratio, equal_terms, steps
        self.seen, self.own, self.sums = 0, 0.0, {}
        self.pooled: Callable[[list[float]], list[float]] = list     # where several processes share a batch: the mean over them, so that all have one factor

    def forward(self, own: list[Term], terms: list[Term]) -> list[Term]:
        """The distillation's terms with their weights in balance with the detector's ``own``."""
        if self.loss_ratio and self.seen < self.steps:
            self.measure(own, terms)
        return [term._replace(weight=term.weight * self.factor(term.name)) for term in terms]

    def measure(self, own: list[Term], terms: list[Term]) -> None:
        self.seen += 1
        of_own, *of_terms = self.pooled([sum(row["weighted"] for row in rows(0, own)), *(row["weighted"] for row in rows(0, terms))])
        self.own += of_own
        for term, weighted in zip(terms, of_terms, strict=True):
            self.sums[term.name] = self.sums.get(term.name, 0.0) + weighted

    def factor(self, name: str) -> float:
        """What a name's weights are multiplied by."""
        measured = self.sums.get(name, 0.0) * len(self.sums) if self.equal_terms else sum(self.sums.values())
        return self.strength * (self.loss_ratio * self.own / measured if self.loss_ratio and measured else 1.0)

    def get_extra_state(self) -> dict:
        """What was measured, so that a resumed run goes on with the same weights."""
        return {"seen": self.seen, "own": self.own, "sums": dict(self.sums)}

    def set_extra_state(self, state: dict) -> None:
        self.seen, self.own, self.sums = state["seen"], state["own"], dict(state["sums"])
