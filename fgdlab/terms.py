"""One loss term = one row of every log, table and figure."""
from typing import Any, NamedTuple

import torch
from torch import Tensor


class Term(NamedTuple):
    """``raw`` is the sum that the paper writes before its coefficient; ``weight * raw`` is optimised.

    >>> total([Term("fg", "P3", torch.tensor(6.0), 0.5)])
    tensor(3.)
    """

    name: str    # "fg", "bg", "attention", "global", or a detector loss such as "bbox_regression"
    level: str   # "P3".., or "all" for a term of no level
    raw: Tensor  # scalar
    weight: float = 1.0


def total(terms: list[Term]) -> Tensor:
    """The loss: the sum of weight * raw over all terms (eq. 14). A scalar; 0 for an empty list."""
    if not terms:
        return torch.zeros(())
    raws = torch.stack([term.raw for term in terms])
    # Pinned memory: the host need not wait for the copy.
    weights = torch.tensor([term.weight for term in terms], dtype=raws.dtype, pin_memory=raws.is_cuda)
    return (weights.to(raws.device, non_blocking=True) * raws).sum()


def rows(step: int, terms: list[Term]) -> list[dict[str, Any]]:
    """Plain numbers for JSON and pandas: one dict per term with step, name, level, raw, weighted."""
    raws = torch.stack([term.raw.detach().float() for term in terms]).tolist() if terms else []  # one copy to the host
    return [
        {"step": step, "name": term.name, "level": term.level, "raw": raw, "weighted": term.weight * raw}
        for term, raw in zip(terms, raws, strict=True)
    ]


def check_finite(step: int, terms: list[Term]) -> None:
    """Raises:
        FloatingPointError: a term is NaN or infinite, with its name, level, step and value.
    """
    for row in rows(step, terms):
        if not abs(row["raw"]) < float("inf"):
            raise FloatingPointError(
                f"loss term {row['name']!r} on {row['level']} must be finite, got {row['raw']} at step {step}; "
                "lower the learning rate or the term's weight"
            )
